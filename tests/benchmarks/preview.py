"""Frames a second of the preview, as the page gets it, while the whole pipeline looks at each frame of a clip.

`python -m tests.benchmarks.preview CLIP.mp4`: the clip plays at its own pace, over and over, for ten seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import threading
import time
from pathlib import Path

import httpx

from edge.config import DEFAULT_PACK, CameraSettings, KioskSettings
from edge.drivers.camera import open_source
from edge.terminal.display import Display, Preview
from edge.terminal.kiosk import KioskServer
from edge.vision.pack import Pack
from edge.vision.pipeline import Pipeline

SECONDS = 10.0


def main(clip: str) -> None:
    preview, ending = Preview(), threading.Event()
    server = KioskServer(KioskSettings(port=0), Display(), preview, lambda _press: None)
    server.start()
    shown: list[float] = []
    watcher = threading.Thread(target=_watch, args=(server.url, shown, ending))
    watcher.start()
    looked = _look(clip, preview)
    ending.set()
    watcher.join()
    server.stop()
    first, last = shown[0], shown[-1]
    print(f"pipeline {looked / SECONDS:.1f} frames a second, preview {(len(shown) - 1) / (last - first):.1f}")


def _look(clip: str, preview: Preview) -> int:
    pipeline = Pipeline(Pack.load(DEFAULT_PACK), threads=1)
    until, looked, source = time.monotonic() + SECONDS, 0, None
    while time.monotonic() < until:
        source = source or open_source(CameraSettings(source=f"file:{Path(clip).resolve()}"))
        frame = source.read(2.0)
        if frame is None:
            source.close()
            source = None
            continue
        preview.offer(frame.image, mirrored=True)
        pipeline.process(frame.image, frame.info, bona_fide=looked % 3 == 0)
        looked += 1
    return looked


def _watch(url: str, shown: list[float], ending: threading.Event) -> None:
    with (
        contextlib.suppress(httpx.HTTPError),  # the film is over
        httpx.stream("GET", f"{url}preview.mjpg", timeout=2.0, trust_env=False) as answer,
    ):
        for part in answer.iter_bytes():
            shown += [time.monotonic()] * part.count(b"--vouch-frame")
            if ending.is_set():
                return


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", metavar="CLIP.mp4")
    main(parser.parse_args().clip)
