"""An observation as the record that `vouch observe` prints; its keys and signs are part of the stable interface."""

from __future__ import annotations

from dataclasses import asdict

from edge.session.observation import Observation

Record = dict[str, object]


def record_of(seen: Observation) -> Record:
    """`t_s, face, box, yaw_deg, pitch_deg, roll_deg, eye_openness, mouth_openness, quality, bona_fide`.

    `box` is x, y, width, height in pixels; `eye_openness` is the subject's own left, right. All but the first two are
    null where no face is found.
    """
    face = seen.face
    if face is None:
        absent = ("box", "yaw_deg", "pitch_deg", "roll_deg", "eye_openness", "mouth_openness", "quality", "bona_fide")
        return {"t_s": round(seen.frame.t_s, 4), "face": False, **dict.fromkeys(absent)}
    right, left = face.eye_openness
    return {
        "t_s": round(seen.frame.t_s, 4),
        "face": True,
        "box": [round(v, 1) for v in face.box],
        "yaw_deg": round(face.pose.yaw_deg, 2),
        "pitch_deg": round(face.pose.pitch_deg, 2),
        "roll_deg": round(face.pose.roll_deg, 2),
        "eye_openness": [round(left, 3), round(right, 3)],
        "mouth_openness": round(face.mouth_openness, 3),
        "quality": {name: round(float(value), 4) for name, value in asdict(face.quality).items()},
        "bona_fide": None if face.bona_fide is None else round(face.bona_fide, 4),
    }


def line_of(seen: Observation) -> str:
    """The same for a person's eyes."""
    face = seen.face
    if face is None:
        return f"{seen.frame.t_s:8.3f} s  no face"
    right, left = face.eye_openness
    bona_fide = "-" if face.bona_fide is None else f"{face.bona_fide:.2f}"
    return (
        f"{seen.frame.t_s:8.3f} s  yaw {face.pose.yaw_deg:6.1f}  pitch {face.pose.pitch_deg:6.1f}  "
        f"roll {face.pose.roll_deg:6.1f}  eyes left {left:4.2f} right {right:4.2f}  mouth {face.mouth_openness:4.2f}  "
        f"bona fide {bona_fide}"
    )
