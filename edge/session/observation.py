"""What one frame said: frozen numbers, no pixels. Judging them belongs to the other files of this room."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.session.comparison import Template

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """Which frame it was and how the sensor took it. `exposure_us` and `gain` are None where the source cannot say."""

    index: int
    t_s: float  # sensor timestamp, seconds, monotonic within the source
    width: int
    height: int
    exposure_us: int | None = None
    gain: float | None = None


@dataclass(frozen=True, slots=True)
class HeadPose:
    """Degrees. yaw > 0: nose to the right of the unmirrored picture; pitch > 0: looks up; roll > 0: tilts clockwise."""

    yaw_deg: float
    pitch_deg: float
    roll_deg: float


@dataclass(frozen=True, slots=True)
class FaceQuality:
    """Measured on the face area of the frame, after ISO/IEC 29794-5; judged in quality.py."""

    brightness: float  # mean luma of the face, 0..1
    contrast: float  # standard deviation of that luma, 0..0.5
    sharpness: float  # variance of the Laplacian of the aligned 112 x 112 grey face, 0..inf
    saturated: float  # share of face pixels at the ends of the range, 0..1
    surround: float  # mean luma of the frame outside the face, 0..1
    side_light: float  # |left - right| mean luma of the face halves, 0..1
    lip_tint: float = 1.0  # redness where the lips are, by that of the skin below the eyes; 1 without enough colour


@dataclass(frozen=True, slots=True, eq=False)
class FaceSeen:
    """The largest face of the frame. Coordinates are pixels of the full frame."""

    box: tuple[float, float, float, float]  # x, y, width, height
    detector_score: float  # 0..1
    presence: float  # landmark model's probability that this is a face, 0..1
    points: FloatArray  # (138, 2), see points.py
    pose: HeadPose
    eye_openness: tuple[float, float]  # subject's right, left; 0 closed, 1 open in the population's mean
    mouth_openness: float  # 0 closed, about 1 wide open
    quality: FaceQuality
    bona_fide: float | None = None  # passive model's probability 0..1; None: not run on this frame
    template: Template | None = None  # None: not asked for on this frame


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One frame. `face_count` counts what the detector saw last; `face` is None where there is none."""

    frame: FrameInfo
    face_count: int
    face: FaceSeen | None
    luma: float = 0.0  # mean luma of the whole frame, 0..1: the sensor challenge reads it


def observations_to_jsonl(seen: Iterable[Observation]) -> str:
    """One line of JSON a frame, for tests that replay a clip. Templates are left out: they never become text."""
    return "".join(json.dumps(_to_json(o), separators=(",", ":")) + "\n" for o in seen)


def observations_from_jsonl(text: str) -> tuple[Observation, ...]:
    """What `observations_to_jsonl` wrote, points to a hundredth of a pixel. ValueError, KeyError or TypeError else."""
    return tuple(_from_json(json.loads(line)) for line in text.splitlines() if line)


def _to_json(seen: Observation) -> dict[str, Any]:
    face = seen.face
    return {
        "frame": asdict(seen.frame),
        "face_count": seen.face_count,
        "luma": round(seen.luma, 5),
        "face": None
        if face is None
        else {
            "box": [round(float(v), 2) for v in face.box],
            "detector_score": round(face.detector_score, 4),
            "presence": round(face.presence, 4),
            "points": [[round(float(x), 2), round(float(y), 2)] for x, y in face.points],
            "pose": asdict(face.pose),
            "eye_openness": list(face.eye_openness),
            "mouth_openness": face.mouth_openness,
            "quality": asdict(face.quality),
            "bona_fide": face.bona_fide,
        },
    }


def _from_json(line: dict[str, Any]) -> Observation:
    told = line["face"]
    face = None
    if told is not None:
        face = FaceSeen(
            box=(told["box"][0], told["box"][1], told["box"][2], told["box"][3]),
            detector_score=told["detector_score"],
            presence=told["presence"],
            points=np.asarray(told["points"], np.float32),
            pose=HeadPose(**told["pose"]),
            eye_openness=(told["eye_openness"][0], told["eye_openness"][1]),
            mouth_openness=told["mouth_openness"],
            quality=FaceQuality(**told["quality"]),
            bona_fide=told["bona_fide"],
        )
    return Observation(FrameInfo(**line["frame"]), line["face_count"], face, line["luma"])
