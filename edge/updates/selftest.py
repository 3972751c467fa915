"""What a model pack must answer to the bundled pictures before a person stands before it; in a process of its own.

The pictures show the simulator's people (`vouch-sim test-pictures` made them): they prove that detector, landmarks,
anti-spoofing and embedder do what they are for, wired up as the manifest says; how well, the model card says. A model
that hangs or crashes takes only this process along. No score leaves it: a check passes or not.

    python -m edge.updates.selftest PACK_DIR      JSON on standard output; exit 0 passed, 1 failed
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.drivers.document import from_file
from edge.errors import CaptureError, PackError, UpdateError, UpdateFault, VouchError
from edge.session.comparison import Template, compare
from edge.session.observation import FaceSeen, FrameInfo
from edge.session.points import LEFT_EYE, RIGHT_EYE
from edge.vision.pack import Pack
from edge.vision.pipeline import Pipeline

PICTURES = Path(__file__).resolve().parent / "pictures"
CPU_LIMIT_S = 60  # 0.7 s on an x86 core: a model that needs a hundred times that serves nobody
TIME_LIMIT_S = 400.0  # on the wall: then the machine is busy or the model waits for ever
_FMR_PPM = 1000
_OVERLAP_MIN = 0.4  # intersection over union with the drawn face
_POINT_ERROR_MAX = 0.2  # mean, of the distance between the eyes: public meshes reach 0.14 on drawn faces
_YAW_MIN_DEG, _YAW_MAX_DEG = 15.0, 50.0  # of a head turned by 26: the sign and about the size
_STRAIGHT_MAX_DEG = 14.0
_SHUT_SHARE_MAX = 0.7  # of the same person's open eyes
_STRANGERS_TAKEN_MAX = 1  # of eight comparisons: drawn people are more alike than real ones
_STEP_S = 1 / 30


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report. Not `grave`: a pack that a person chose may lack it, one that comes by itself may not."""

    name: str
    passed: bool
    detail: str
    grave: bool = True


def examine(
    folder: Path, *, by_hand: bool = False, time_limit_s: float = TIME_LIMIT_S, command: tuple[str, ...] = ()
) -> list[str]:
    """Test the pack in `folder` in a child process. UpdateError (SELF_TEST) says which checks failed, or how it ended.

    Returns what failed but is not grave, where the pack was chosen `by_hand`; else nothing may fail. `command` replaces
    ours, for tests of what a child may do.
    """
    run = command or (sys.executable, "-m", "edge.updates.selftest", str(folder))
    todo = "take a pack that passes" if by_hand else "the carrier must publish a pack that passes"
    todo += "; the pack in force goes on"
    try:
        child = subprocess.run(run, capture_output=True, timeout=time_limit_s, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as exc:
        # Which of the two it was is not known: the release is not blamed for good, but tried again.
        raise UpdateError(
            UpdateFault.SLOW,
            f"the pack's self-test took longer than {time_limit_s:g} s",
            todo="try it again when the machine has less to do" if by_hand else "it is tried again later",
        ) from exc
    except OSError as exc:
        raise UpdateError(UpdateFault.SELF_TEST, f"the self-test cannot be started: {exc.strerror}", todo=todo) from exc
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        raise UpdateError(UpdateFault.SELF_TEST, f"the pack's self-test was ended by {name}", todo=todo)
    try:
        failed = [Check(**fields) for fields in json.loads(child.stdout) if not fields["passed"]]
    except (ValueError, TypeError, KeyError) as exc:
        raise UpdateError(
            UpdateFault.SELF_TEST, f"the pack's self-test ended with {child.returncode} and no report", todo=todo
        ) from exc
    lines = [f"{check.name}: {check.detail}" for check in failed]
    if any(check.grave or not by_hand for check in failed) or (child.returncode != 0 and not failed):
        raise UpdateError(UpdateFault.SELF_TEST, f"the pack fails its self-test: {'; '.join(lines)}", todo=todo)
    return lines


def run_checks(folder: Path, pictures: Path = PICTURES) -> list[Check]:
    """Every check of the pack in `folder`. VouchError where the bundled pictures are not there."""
    try:
        told = json.loads((pictures / "pictures.json").read_bytes())
    except (OSError, ValueError) as exc:
        raise VouchError("the pictures of the self-test are missing", todo="install the software again") from exc
    try:
        pack = Pack.load(folder)
        pipeline = Pipeline(pack)
        threshold = pack.match_threshold(_FMR_PPM)
    except PackError as exc:
        return [Check("pack", passed=False, detail=exc.message)]
    try:
        return list(_Judge(pipeline, pictures, threshold, pack.manifest.antispoof.bona_fide_min).checks(told))
    except PackError as exc:
        return [Check("models", passed=False, detail=exc.message)]
    finally:
        pipeline.close()


class _Judge:
    def __init__(self, pipeline: Pipeline, pictures: Path, threshold: float, bona_fide_min: float) -> None:
        self._pipeline = pipeline
        self._pictures = pictures
        self._threshold = threshold
        self._bona_fide_min = bona_fide_min

    def checks(self, told: dict[str, Any]) -> Iterator[Check]:
        """1. Faces and none. 2. Landmarks. 3. Pose. 4. Eyelids. 5. Live and printed. 6. Same and different people."""
        lives = [person["live"] for person in told["people"]]
        known = [*lives, *told["turned"], told["shut"]]
        seen = {live["file"]: self._look(live["file"]) for live in known}
        missed = [n for n, face in seen.items() if face is None]
        stray = [
            live["file"] for live in known if (f := seen[live["file"]]) and _overlap(f.box, live["box"]) < _OVERLAP_MIN
        ]
        yield _check("faces are found", not missed and not stray, f"missed {missed}, elsewhere {stray}")
        nobody = self._look(told["empty"]) is None
        yield _check("no face in an empty room", nobody, f"a face in {told['empty']}")
        faces = [(live, face) for live in known if (face := seen[live["file"]]) is not None]
        wide = [live["file"] for live, face in faces if _error(face, live["points"]) > _POINT_ERROR_MAX]
        yield _check("landmarks lie on the face", bool(faces) and not wide, f"wrong in {wide}")
        turned = [live["file"] for live, face in faces if not _turned_as(live["yaw_deg"], face.pose.yaw_deg)]
        yield _check("turns of the head are seen", bool(faces) and not turned, f"wrong in {turned}")
        opened, shut = seen[lives[0]["file"]], seen[told["shut"]["file"]]
        lids = opened is not None and shut is not None
        lids = lids and sum(shut.eye_openness) < _SHUT_SHARE_MAX * sum(opened.eye_openness)  # type: ignore[union-attr]
        yield replace(_check("shut eyes are told from open ones", lids, "no blink can be asked for"), grave=False)
        yield self._bona_fide(lives, seen, told["prints"])
        yield from self._identities(told["people"], [seen[live["file"]] for live in lives])

    def _bona_fide(self, lives: list[dict[str, Any]], seen: dict[str, FaceSeen | None], prints: list[str]) -> Check:
        refused = [
            live["file"] for live in lives if (f := seen[live["file"]]) and (f.bona_fide or 0.0) < self._bona_fide_min
        ]
        # A print in which no face is found is refused too, only earlier.
        passed = [n for n in prints if (f := self._look(n)) and (f.bona_fide or 0.0) >= self._bona_fide_min]
        return _check(
            "people pass and prints do not", not refused and not passed, f"refused {refused}, prints passed {passed}"
        )

    def _identities(self, people: list[dict[str, Any]], faces: list[FaceSeen | None]) -> Iterator[Check]:
        documents = [self._document(person["document"]) for person in people]
        probes = [face.template if face else None for face in faces]
        same = [self._match(d, p) for d, p in zip(documents, probes, strict=True)]
        yield _check("a person is taken for the holder", all(same), f"{same.count(False)} of {len(same)} are not")
        after = [*range(1, len(people)), 0]
        pairs = [(k, after[k]) for k in range(len(people))]
        taken = [self._match(documents[a], probes[b]) for one, two in pairs for a, b in ((one, two), (two, one))]
        yield _check(
            "strangers are not", taken.count(True) <= _STRANGERS_TAKEN_MAX, f"{taken.count(True)} of {len(taken)} are"
        )

    def _match(self, document: Template | None, probe: Template | None) -> bool:
        if document is None or probe is None:
            return False
        score = compare(document, probe)
        return bool(np.isfinite(score)) and score >= self._threshold

    def _look(self, name: str) -> FaceSeen | None:
        image = from_file(self._pictures / name)
        self._pipeline.reset()
        info = FrameInfo(0, _STEP_S, image.shape[1], image.shape[0])
        face = self._pipeline.process(image, info, embed=True, bona_fide=True).face
        return face if face is None or np.isfinite(face.points).all() else None

    def _document(self, name: str) -> Template | None:
        try:
            return self._pipeline.portrait(from_file(self._pictures / name))
        except CaptureError:
            return None


def _check(name: str, passed: bool, detail: str) -> Check:
    return Check(name, bool(passed), "" if passed else detail)


def _turned_as(drawn_deg: float, seen_deg: float) -> bool:
    if drawn_deg == 0.0:
        return abs(seen_deg) <= _STRAIGHT_MAX_DEG
    return _YAW_MIN_DEG <= (seen_deg if drawn_deg > 0 else -seen_deg) <= _YAW_MAX_DEG


def _overlap(a: tuple[float, float, float, float], b: list[float]) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0.0, wide) * max(0.0, high)
    return shared / max(a[2] * a[3] + b[2] * b[3] - shared, 1e-6)


def _error(face: FaceSeen, points: list[list[float]]) -> float:
    """Mean distance to the drawn points, of the distance between the eyes' middles."""
    known = np.asarray(points, np.float64)
    unit = float(np.hypot(*(known[RIGHT_EYE].mean(axis=0) - known[LEFT_EYE].mean(axis=0))))
    return float(np.hypot(*(face.points - known).T).mean()) / max(unit, 1.0)


def main(arguments: list[str]) -> int:
    """The child's whole life."""
    with contextlib.suppress(OSError, ValueError):  # the sandbox may not let us; the wall's limit holds anyway
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
    checks = run_checks(Path(arguments[0]))
    print(json.dumps([asdict(check) for check in checks]))
    return 0 if all(check.passed for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
