"""A known face stands before a real terminal; afterwards every byte written or sent is searched for it.

Written: all files of the terminal's folder, of its temporary folder, and every log. Sent: both directions of the Unix
socket, what the carrier receives, and the page's events. The page's preview is left out: it is for the person, on
loopback, and is tested to be mirrored and overwritten.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import threading
import time
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from edge.config import DEFAULT_PACK
from edge.evidence import messages
from edge.evidence.claims import Fresh
from edge.evidence.messages import Challenge
from edge.evidence.signer import KeyFile, load_private_key
from edge.session.observation import FrameInfo
from edge.vision.pack import Pack
from edge.vision.pipeline import Pipeline
from simulator.broker import mosquitto_path
from simulator.person import portrait
from tests.foreign_pack import write_foreign_pack
from tests.support.wires import TERMINAL_ID, CarrierEnd, Place, Process, enrolled, until

pytestmark = [
    pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed"),
    pytest.mark.timeout(300),
]
_WINDOW = 16
# The head of a picture file, long enough not to turn up in signed or encrypted bytes by chance.
_PICTURE = re.compile(rb"\xff\xd8\xff[\xdb\xe0\xe1\xfe]\x00|\x89PNG\r\n")


@pytest.fixture
def pack_dir(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Our own pack; before there is one, the public models."""
    if (DEFAULT_PACK / "pack.toml").exists():
        return DEFAULT_PACK
    return write_foreign_pack(tmp_path / "pack", request.getfixturevalue("data_dir") / "teachers")


class Tap:
    """Stands between uplink and terminal on the Unix socket and keeps what passes."""

    def __init__(self, here: Path, there: Path) -> None:
        here.parent.mkdir(exist_ok=True)
        self.passed = b""
        self._there = there
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(here))
        self._listener.listen(2)
        self._listener.settimeout(0.2)
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                try:
                    far.connect(str(self._there))
                except OSError:  # the terminal does not listen yet: the uplink tries again
                    near.close()
                    far.close()
                    continue
                for a, b in ((near, far), (far, near)):
                    thread = threading.Thread(target=self._carry, args=(a, b))
                    thread.start()
                    self._threads.append(thread)

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        source.settimeout(0.2)
        with source, contextlib.suppress(OSError):
            while not self._closing.is_set():
                with contextlib.suppress(TimeoutError):
                    data = source.recv(65536)
                    if not data:
                        sink.shutdown(socket.SHUT_WR)
                        return
                    self.passed += data
                    sink.sendall(data)


def needles(image: np.ndarray, jpeg: bytes, templates: list[np.ndarray]) -> dict[str, bytes]:
    """Short runs of bytes that would be there if a picture, its JPEG or a template were."""
    found: dict[str, bytes] = {}
    height, width = image.shape[:2]
    rgb, grey = image[..., ::-1], cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    for name, pixels in (("bgr", image), ("rgb", rgb), ("grey", grey), ("mirrored", image[:, ::-1])):
        for share in (0.35, 0.45, 0.55, 0.65):
            row = np.ascontiguousarray(pixels[int(height * share), width // 2 - 24 : width // 2 + 24]).tobytes()
            found[f"{name} row at {share}"] = row[:_WINDOW]
    start = jpeg.index(b"\xff\xda") + 16
    for offset in range(start, len(jpeg) - 64, max(64, (len(jpeg) - start) // 6)):
        found[f"JPEG scan at {offset}"] = jpeg[offset : offset + _WINDOW]
    for number, vector in enumerate(templates):
        for kind in (np.float32, np.float16, np.float64):
            found[f"template {number} as {kind.__name__}"] = vector[8:24].astype(kind).tobytes()[:_WINDOW]
        for scale in (127.0, 127.0 / np.abs(vector).max(), 255.0, 256.0):
            found[f"template {number} as int8 of {scale:.0f}"] = (
                np.clip(np.round(vector * scale), -128, 127).astype(np.int8).tobytes()[8 : 8 + _WINDOW]
            )
        found[f"template {number} as text"] = b"%.4f" % vector[9] + b", " + b"%.4f" % vector[10]
    for name, data in list(found.items()):
        found[f"{name}, in hexadecimal"] = data.hex().encode()
        for shift in range(3):
            found[f"{name}, in base64 at {shift}"] = base64.b64encode(bytes(shift) + data)[4:-4]
    return found


def hits(haystack: bytes, wanted: dict[str, bytes]) -> list[str]:
    return [name for name, data in wanted.items() if data in haystack]


def test_no_byte_written_or_sent_shows_the_face(tmp_path: Path, pack_dir: Path) -> None:
    place = enrolled(tmp_path, extra="\n[kiosk]\nport = 0\n")
    config = place.config
    config.write_text(f'pack_dir = "{pack_dir}"\n' + config.read_text())
    document = cv2.resize(portrait(7), (150, 185), interpolation=cv2.INTER_AREA)
    frame = np.full((480, 640, 3), 150, np.uint8)
    face = cv2.resize(portrait(7), (390, 480), interpolation=cv2.INTER_AREA)
    frame[:, 125:515] = face
    frame = np.clip(frame + np.random.default_rng(1).normal(0, 3, frame.shape), 0, 255).astype(np.uint8)
    jpeg = smallest_jpeg(document)
    wanted = needles(frame, jpeg, templates(pack_dir, frame, jpeg))
    portrait_pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    wanted |= {f"document: {name}": data for name, data in needles(portrait_pixels, jpeg, []).items()}
    for planted in (frame, frame[:, ::-1], portrait_pixels):  # neither face may hide the other's needles
        assert any("row" in name for name in hits(np.ascontiguousarray(planted).tobytes(), wanted))
    written, sent = run_session(place, frame, jpeg, tmp_path)
    assert b"session-ends" in written["terminal.log"]
    for name, data in (written | sent).items():
        assert hits(data, wanted) == [], name
        assert not _PICTURE.search(data), f"a JPEG or PNG in {name}"


def test_the_search_finds_what_it_looks_for() -> None:
    """Planted on purpose, each needle is found: a search that cannot fail proves nothing."""
    frame = np.random.default_rng(2).integers(0, 256, (480, 640, 3), np.uint8)
    jpeg = cv2.imencode(".jpg", frame)[1].tobytes()
    vector = np.random.default_rng(3).normal(size=128).astype(np.float32)
    vector /= np.linalg.norm(vector)
    wanted = needles(frame, jpeg, [vector])
    for planted, name in (
        (frame.tobytes(), "bgr row"),
        (np.ascontiguousarray(frame[:, ::-1]).tobytes(), "mirrored row"),
        (cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY).tobytes(), "grey row"),
        (jpeg, "JPEG scan"),
        (vector.tobytes(), "float32"),
        (np.round(vector * 127).astype(np.int8).tobytes(), "int8 of 127"),
        (vector.tobytes().hex().encode(), "in hexadecimal"),
        (base64.b64encode(b"x" + vector.tobytes()), "in base64"),
        (", ".join(f"{v:.4f}" for v in vector).encode(), "as text"),
    ):
        assert any(name in hit for hit in hits(b"before" + planted + b"after", wanted)), name
    assert _PICTURE.search(b"before" + jpeg)
    assert _PICTURE.search(b"before" + cv2.imencode(".png", frame)[1].tobytes())


def templates(pack_dir: Path, frame: np.ndarray, jpeg: bytes) -> list[np.ndarray]:
    """The templates that the terminal must have made: of the document, and of the frame."""
    pipeline = Pipeline(Pack.load(pack_dir))
    made = [pipeline.portrait(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)).vector]
    pipeline.reset()
    for index in range(6):
        seen = pipeline.process(frame.copy(), FrameInfo(index, index / 30, 640, 480), embed=True)
        assert seen.face is not None, "the pack must see the planted face"
        assert seen.face.template is not None
        made.append(seen.face.template.vector)
    return made


def smallest_jpeg(picture: np.ndarray) -> bytes:
    """Small enough for a challenge."""
    for quality in range(70, 10, -5):
        jpeg = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, quality))[1].tobytes()
        if len(jpeg) <= 3300:
            return jpeg
    raise AssertionError


def run_session(
    place: Place, frame: np.ndarray, jpeg: bytes, tmp_path: Path
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Everything written to the terminal's folders and logs, and everything sent, in one whole session."""
    home = place.config.parent
    np.save(tmp_path / "frame.npy", frame)
    temporary = home / "tmp"
    temporary.mkdir()
    tapped = home / "tapped.toml"
    tapped.write_text('run_dir = "tap"\n' + place.config.read_text().replace('run_dir = "run"\n', ""))
    tap = Tap(home / "tap" / "uplink.sock", place.settings.socket_path)
    log = home / "terminal.log"
    with (
        place.broker(),
        Process(
            *(str(place.config), str(tmp_path / "frame.npy")),
            log=log,
            module="tests.support.filmed",
            environment={"TMPDIR": str(temporary)},
        ) as terminal,
        Process("uplink", "--config", str(tapped), "--verbose", log=home / "uplink.log"),
        contextlib.closing(CarrierEnd(place)) as carrier,
        contextlib.closing(tap),
    ):
        until(lambda: any(event["event"] == "ready" for event in terminal.events()), 60)
        (url,) = [event["kiosk_url"] for event in terminal.events() if event["event"] == "ready"]
        page = Page(str(url))
        until(lambda: page.view.get("link") == "up", 60)
        carrier.send("challenge", challenge(place, jpeg))
        until(lambda: page.view.get("phase") == "consent", 30)
        page.consent()
        received = b""
        while True:
            topic, payload = carrier.receive(100)
            received += payload
            if topic.endswith("/result"):
                break
        until(lambda: page.view.get("phase") == "done", 10)
        time.sleep(0.5)
        shown = page.close()
        assert terminal.rss_mib() < 250, "what the terminal may take, after a whole session"
    written = {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    return written, {
        "sent: the Unix socket": tap.passed,
        "sent: to the carrier": received,
        "sent: the page's events": shown,
    }


class Page:
    """Reads the page's events, all of them, and can agree."""

    def __init__(self, url: str) -> None:
        self.view: dict[str, object] = {}
        self._url = url
        self._all = b""
        self._closing = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def consent(self) -> None:
        answer = httpx.post(f"{self._url}api/consent", json={"given": True, "language": "en"}, trust_env=False)
        assert answer.status_code == 204

    def close(self) -> bytes:
        self._closing = True
        return self._all

    def _read(self) -> None:
        with (
            contextlib.suppress(httpx.HTTPError),
            httpx.stream("GET", f"{self._url}events", trust_env=False, timeout=30) as response,
        ):
            for line in response.iter_lines():
                self._all += line.encode() + b"\n"
                if line.startswith("data: "):
                    self.view = json.loads(line[6:])
                if self._closing:
                    return


def challenge(place: Place, jpeg: bytes) -> bytes:
    nonce = b"n" * 32
    key = load_private_key(place.settings.keys.portrait_key).public_key()
    now = int(time.time())
    order = Challenge(
        terminal_id=bytes.fromhex(TERMINAL_ID),
        nonce=nonce,
        session_id=b"s" * 16,
        order="order-1",
        iat=now,
        exp=now + 600,
        ttl_s=300,
        fresh=Fresh.ONLINE,
        portrait=messages.seal_portrait(jpeg, key, context=nonce),
    )
    return messages.build_challenge(order, KeyFile(place.pki.signing_key))
