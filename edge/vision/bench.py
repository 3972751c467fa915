"""Measures milliseconds by stage on this machine; what a stage does belongs to its own file."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge.session.comparison import Template, compare, match_band, mean_template
from edge.session.decision import ChallengeKind, ChallengeRecord, Evidence, Policy, SessionResult, decide
from edge.session.observation import FrameInfo
from edge.session.pad import PadEvidence, judge
from edge.vision import crops
from edge.vision.pack import Pack
from edge.vision.peers import peer_tasks
from edge.vision.picture import Image, Levels
from edge.vision.pipeline import Pipeline, Stages

Task = Callable[[int], object]  # takes the number of the round

ROUNDS = 60
_WARM_UP = 5


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one stage over the rounds."""

    median_ms: float
    quarter_ms: float  # 25th percentile
    three_quarters_ms: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """Our stages against the peers that do the same work, in the same run; under 1 is faster than they."""

    what: str
    ours_ms: float
    peers_ms: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Run:
    """All timings with one number of threads."""

    threads: int
    stages: dict[str, Timing]
    peers: dict[str, Timing]
    ratios: tuple[Ratio, ...]


@dataclass(frozen=True, slots=True)
class Bench:
    """What `vouch bench` prints."""

    frame_px: tuple[int, int]
    face_found: bool
    load_ms: float  # pack read, verified, and its models opened
    rss_mb: float
    peak_rss_mb: float
    peers: str  # the folder, or why there are none
    runs: tuple[Run, ...]

    def as_record(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def bench(pack_folder: Path, frames: list[Image], peers: Path | None, *, rounds: int = ROUNDS) -> Bench:
    """Measure with one thread and with two. `frames` (height, width, 3) are shown in turn.

    Ours and the peers alternate within each round, so that whatever else the machine does hits both alike.
    """
    began = time.perf_counter()
    pack = Pack.load(pack_folder)
    Stages.open(pack)
    load_ms = (time.perf_counter() - began) * 1000
    before = cv2.getNumThreads()
    folder = peers if peers is not None and peers.is_dir() else None
    try:
        cv2.setNumThreads(1)
        pipeline = Pipeline(pack)
        seen = [pipeline.process(f, _info(f, k), embed=True, bona_fide=True) for k, f in enumerate(frames)]
        found = all(s.face is not None for s in seen)
        rss_mb, peak_mb = _rss_mb(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # before any peer
        runs = tuple(_run(pack, frames, folder, threads, rounds) for threads in (1, 2))
    finally:
        cv2.setNumThreads(before)
    height, width = frames[0].shape[:2]
    told = str(folder) if folder else f"absent ({peers or 'no folder named'})"
    return Bench((width, height), found, load_ms, rss_mb, peak_mb, told, runs)


def lines_of(result: Bench) -> list[str]:
    """For a person's eyes."""
    lines = [
        f"frame {result.frame_px[0]} x {result.frame_px[1]}, face {'found' if result.face_found else 'NOT found'}",
        f"pack opened in {result.load_ms:.0f} ms; resident {result.rss_mb:.0f} MB, peak {result.peak_rss_mb:.0f} MB",
        f"peers: {result.peers}",
    ]
    for run in result.runs:
        lines.append(f"\n{run.threads} thread(s)                  median ms   quartiles")
        for name, timing in (*run.stages.items(), *run.peers.items()):
            lines.append(
                f"  {name:<26} {timing.median_ms:8.2f}   {timing.quarter_ms:.2f} .. {timing.three_quarters_ms:.2f}"
            )
        lines += [
            f"  {r.what}: {r.ours_ms:.2f} / {r.peers_ms:.2f} = {r.ratio:.2f} of the peers' time" for r in run.ratios
        ]
    return lines


def _run(pack: Pack, frames: list[Image], peers: Path | None, threads: int, rounds: int) -> Run:
    cv2.setNumThreads(threads)
    ours = _our_tasks(pack, frames, threads)
    theirs = {} if peers is None else peer_tasks(peers, frames, threads)
    timings = _time(ours | theirs, rounds)
    return Run(
        threads,
        {name: timings[name] for name in ours},
        {name: timings[name] for name in theirs},
        _ratios(timings) if theirs else (),
    )


def _our_tasks(pack: Pack, frames: list[Image], threads: int) -> dict[str, Task]:
    """A task for each stage. Where no face is in the frames, the tracking frame times a search."""
    stages, pipeline = Stages.open(pack, threads=threads), Pipeline(pack, threads=threads)
    seen = pipeline.process(frames[0], _info(frames[0], 0), embed=True)
    points = _assumed_points(frames[0]) if seen.face is None else crops.keypoints_from_landmarks(seen.face.points)
    template = stages.embedder.template(_levels(frames[0]), points)
    threshold = pack.manifest.embedder.match[0].score
    return {
        "detect": lambda k: stages.detector.detect(frames[k % len(frames)]),
        "landmarks": lambda k: stages.finder.find(_levels(frames[k % len(frames)]), points),
        "antispoof": lambda k: stages.antispoof.bona_fide(_levels(frames[k % len(frames)]), points),
        "embed": lambda k: stages.embedder.template(_levels(frames[k % len(frames)]), points),
        "tracking frame": lambda k: pipeline.process(
            frames[k % len(frames)], _info(frames[k % len(frames)], k + 1), bona_fide=True
        ),
        "decision": lambda _: _conclude(template, threshold),
    }


def _conclude(template: Template, threshold: float) -> SessionResult:
    """All that the rules compute after a session's last frame: attack check, mean template, comparison, decision."""
    policy = Policy("bench", 1, bytes(32), challenges=(ChallengeKind.TURN_LEFT,), challenge_count=1)
    several = (template,) * 5
    gathered = PadEvidence((0.9,) * 30, (0.9,) * 60, (0.5,), several, (several,), several)
    verdict = judge(gathered, policy, threshold)
    score = compare(mean_template(several), template)
    evidence = Evidence(
        consent_given=True,
        consent_at_s=1.0,
        challenges=(ChallengeRecord(ChallengeKind.TURN_LEFT, True),),
        pad=verdict.outcome,
        pad_band=verdict.band,
        pad_reasons=verdict.reasons,
        injection=verdict.injection,
        score=score,
        match_threshold=threshold,
        match_band=match_band(score, threshold),
    )
    return decide(evidence, policy)


def _ratios(timings: dict[str, Timing]) -> tuple[Ratio, ...]:
    pairs = (
        ("detector against YuNet", ("detect",), ("YuNet 320 (OpenCV)",)),
        ("landmarks against the 468-point mesh", ("landmarks",), ("468-point mesh",)),
        ("antispoof against both MiniFASNets", ("antispoof",), ("MiniFASNet V2 (OpenCV)", "MiniFASNet V1SE (OpenCV)")),
        ("embedder against MobileFaceNet float", ("embed",), ("MobileFaceNet float",)),
        (
            "all four against all four",
            ("detect", "landmarks", "antispoof", "embed"),
            (
                "YuNet 320 (OpenCV)",
                "468-point mesh",
                "MiniFASNet V2 (OpenCV)",
                "MiniFASNet V1SE (OpenCV)",
                "MobileFaceNet float",
            ),
        ),
    )
    found = []
    for what, ours, theirs in pairs:
        own, peer = sum(timings[n].median_ms for n in ours), sum(timings[n].median_ms for n in theirs)
        found.append(Ratio(what, own, peer, own / peer))
    return tuple(found)


def _time(tasks: dict[str, Task], rounds: int) -> dict[str, Timing]:
    spent: dict[str, list[float]] = {name: [] for name in tasks}
    for k in range(_WARM_UP + rounds):
        for name, task in tasks.items():
            began = time.perf_counter()
            task(k)
            if k >= _WARM_UP:
                spent[name].append((time.perf_counter() - began) * 1000)
    return {
        name: Timing(*(round(float(q), 4) for q in np.percentile(values, (50, 25, 75))))
        for name, values in spent.items()
    }


def _levels(frame: Image) -> Levels:
    levels = Levels()
    levels.show(frame)
    return levels


def _info(frame: Image, index: int) -> FrameInfo:
    return FrameInfo(index, index / 30, frame.shape[1], frame.shape[0])


def _assumed_points(frame: Image) -> npt.NDArray[np.float64]:
    """Where a face would be if there were one: the cost of a stage does not depend on what it sees."""
    height, width = frame.shape[:2]
    face = np.array(crops.ARCFACE_TEMPLATE) - 56.0
    return np.asarray(face * (height / 240) + (width / 2, height / 2), np.float64)


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
