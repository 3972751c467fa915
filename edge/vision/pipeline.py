"""Frame -> observation, and still picture -> template: the models in their order; no rule about people lives here.

While tracking, a face costs one small model a frame: its next crop comes from its last landmarks. The detector runs
when there is nothing to follow, when following fails, and twice a second to see whether somebody else has come.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge.errors import CameraError, CaptureError, CaptureFault
from edge.session import geometry
from edge.session.comparison import Template
from edge.session.observation import FaceSeen, FrameInfo, Observation
from edge.vision import crops, measure
from edge.vision.antispoof import Antispoof
from edge.vision.detector import Detection, Detector, overlap
from edge.vision.embedder import Embedder
from edge.vision.landmarks import LandmarkFinder, Landmarks
from edge.vision.pack import Pack, Role
from edge.vision.picture import Image, Levels
from edge.vision.runtime import Model
from edge.vision.still import StillFace, StillSearch, as_bgr, box_of, refine

Box = tuple[float, float, float, float]
Points = npt.NDArray[np.float64]

DETECT_EVERY_S = 0.5
# The landmark model follows a head further back or aside than the detector knows faces; it may, for the time of a turn.
UNCONFIRMED_MAX_S = 3.0
# A face under this share of the widest one's width is a passer-by, not a second person at the counter: at three times
# the distance nobody stands in front of the same terminal.
SECOND_FACE_SHARE = 0.4
# Between two frames 1/15 s apart a head moves by less than this; more is a jump to something else.
_UNIT_CHANGE_MAX = 1.5
_STEP_MAX_UNITS = 1.2
_SMALLEST_UNIT_PX = 8.0
# A 102 x 126 pixel ID portrait has about 30; under half of that a face has lost what tells people apart.
PORTRAIT_UNIT_MIN_PX = 14.0
# Another face must be this much wider than the followed one to take its place.
_WIDER = 1.3


@dataclass(frozen=True, slots=True, eq=False)
class Stages:
    """The pack's models, opened."""

    detector: Detector
    finder: LandmarkFinder
    antispoof: Antispoof
    embedder: Embedder

    @classmethod
    def open(cls, pack: Pack, *, threads: int = 1) -> Stages:
        """PackError where a model's tensors are not what its manifest says."""
        told = pack.manifest

        def model(role: Role) -> Model:
            return Model(told.spec(role), pack.contents[role], threads=threads)

        return cls(
            Detector(told.detector, model(Role.DETECTOR)),
            LandmarkFinder(told.landmarks, model(Role.LANDMARKS)),
            Antispoof(told.antispoof, model(Role.ANTISPOOF)),
            Embedder(told.embedder, model(Role.EMBEDDER)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Track:
    """The face that is followed."""

    keypoints: Points
    detector_score: float  # when the detector last confirmed it
    looked_s: float  # when the detector last looked
    confirmed_s: float  # and when it last saw this face


class Pipeline:
    """All vision of one terminal. Not thread-safe; one camera at a time. Close it: buffers are overwritten then."""

    def __init__(self, pack: Pack, *, threads: int = 1) -> None:
        """PackError where a model's tensors are not what its manifest says."""
        stages = Stages.open(pack, threads=threads)
        self._detector, self._finder = stages.detector, stages.finder
        self._antispoof, self._embedder = stages.antispoof, stages.embedder
        self._presence_min = pack.manifest.landmarks.presence_min
        self._levels = Levels()
        self._still = StillSearch(self._detector, self._finder, self._presence_min)
        self._track: _Track | None = None
        self._face_count = 0
        self._last_s = float("-inf")

    def process(
        self, image_bgr: Image, info: FrameInfo, *, embed: bool = False, bona_fide: bool = False
    ) -> Observation:
        """What one frame says: (height, width, 3) BGR uint8; CameraError where it has another shape.

        `embed` and `bona_fide` ask for the template and the passive model's probability on this frame.
        """
        _check_frame(image_bgr)
        if info.t_s < self._last_s:
            self.reset()  # another source, or the file began again
        self._last_s = info.t_s
        self._levels.show(image_bgr)
        small = self._levels.level(2)
        frame_luma = measure.luma(small)
        found = self._follow(info.t_s, image_bgr) or self._search(info.t_s, image_bgr)
        if found is None:
            return Observation(info, 0, None, frame_luma)
        landmarks, track = found
        self._track = track
        box = box_of(landmarks)
        aligned = self._levels.cut(crops.embedding_crop(track.keypoints))
        quarter = (box[0] / 4, box[1] / 4, box[2] / 4, box[3] / 4)
        points = landmarks.points.astype(np.float32)
        right, left, mouth = _openness(landmarks)
        face = FaceSeen(
            box=box,
            detector_score=track.detector_score,
            presence=landmarks.presence,
            points=points,
            pose=geometry.head_pose(points),
            eye_openness=(right, left),
            mouth_openness=mouth,
            quality=measure.quality(aligned, small, frame_luma, quarter),
            bona_fide=self._antispoof.bona_fide(self._levels, track.keypoints) if bona_fide else None,
            template=self._embedder.template(self._levels, track.keypoints) if embed else None,
        )
        return Observation(info, self._face_count, face, frame_luma)

    def portrait(self, image: Image) -> Template:
        """Template of the one face of a still picture: BGR, BGRA or grey, uint8, any size.

        CaptureError: UNREADABLE (no such picture), NO_FACE, SEVERAL_FACES, TOO_SMALL.
        """
        picture = as_bgr(image)
        faces = self._still.find(picture)
        large = [face for face in faces if face.box[2] >= SECOND_FACE_SHARE * faces[0].box[2]]
        if len(large) > 1:
            raise CaptureError(
                CaptureFault.SEVERAL_FACES, "the picture shows several faces", todo="cut the picture to the one person"
            )
        return self._template_of(picture, large)

    def central_portrait(self, image: Image) -> Template:
        """As `portrait`, but of several faces the one nearest to the centre: for data sets whose pictures are centred
        on their subject. A terminal never uses it.
        """
        picture = as_bgr(image)
        middle = np.array([picture.shape[1], picture.shape[0]]) / 2

        def away(face: StillFace) -> float:
            x, y, width, height = face.box
            return float(np.hypot(*(middle - (x + width / 2, y + height / 2)))) / max(width, 1.0)

        return self._template_of(picture, sorted(self._still.find(picture), key=away))

    def faces(self, image: Image) -> list[Box]:
        """Boxes (x, y, width, height) of the faces of a still picture, widest first."""
        return [face.box for face in self._still.find(as_bgr(image))]

    def reset(self) -> None:
        """Forget the face that is followed: a new session begins."""
        self._track = None
        self._face_count = 0
        self._last_s = float("-inf")

    def close(self) -> None:
        """Overwrite every buffer that saw a face. The pipeline may be used again afterwards."""
        self.reset()
        self._levels.wipe()
        self._still.wipe()
        for model in (self._detector, self._finder, self._antispoof, self._embedder):
            model.wipe()

    def _follow(self, t_s: float, image_bgr: Image) -> tuple[Landmarks, _Track] | None:
        """The followed face in this frame; None where there is none, it is lost, or another one must be looked at."""
        track = self._track
        if track is None:
            return None
        landmarks = self._finder.find(self._levels, track.keypoints)
        keypoints = crops.keypoints_from_landmarks(landmarks.points)
        # Half of what is asked of a new face: one that was seen a frame ago is still there, merely turned away.
        if landmarks.presence < self._presence_min / 2 or not _plausible(track.keypoints, keypoints, image_bgr):
            return None
        if t_s - track.looked_s < DETECT_EVERY_S:
            return landmarks, replace(track, keypoints=keypoints)
        detections = self._detector.detect(image_bgr)
        own = box_of(landmarks)
        if detections and detections[0].box[2] > _WIDER * own[2] and overlap(detections[0].box, own) < 0.3:
            return None
        mine = [d for d in detections if overlap(d.box, own) >= 0.3]
        self._face_count = 1 + self._others([d for d in detections if overlap(d.box, own) < 0.3], own[2])
        if mine:
            return landmarks, _Track(keypoints, max(d.score for d in mine), t_s, t_s)
        if t_s - track.confirmed_s > UNCONFIRMED_MAX_S:
            return None
        return landmarks, replace(track, keypoints=keypoints, looked_s=t_s)

    def _search(self, t_s: float, image_bgr: Image) -> tuple[Landmarks, _Track] | None:
        """The widest face that the detector and the landmark model agree on."""
        self._track, self._face_count = None, 0
        detections = self._detector.detect(image_bgr)
        for place, detection in enumerate(detections):
            landmarks = self._agreed(detection)
            if landmarks is None:
                continue
            self._face_count = 1 + self._others(detections[place + 1 :], detection.box[2])
            keypoints = crops.keypoints_from_landmarks(landmarks.points)
            return landmarks, _Track(keypoints, detection.score, t_s, t_s)
        return None

    def _agreed(self, detection: Detection) -> Landmarks | None:
        """What the landmark model says of a find; None where it sees no face there."""
        return refine(self._finder, self._levels, detection.keypoints, self._presence_min)

    def _others(self, detections: list[Detection], own_width: float) -> int:
        """How many further people stand there: the detector alone now and then takes a lamp for somebody."""
        near = [d for d in detections if d.box[2] >= SECOND_FACE_SHARE * own_width]
        return sum(self._agreed(d) is not None for d in near)

    def _template_of(self, picture: Image, faces: list[StillFace]) -> Template:
        if not faces:
            raise CaptureError(
                CaptureFault.NO_FACE, "no face is found in the picture", todo="use a picture of one face from the front"
            )
        keypoints = faces[0].keypoints
        unit = crops.face_unit(keypoints)
        if unit < PORTRAIT_UNIT_MIN_PX:
            raise CaptureError(
                CaptureFault.TOO_SMALL,
                f"the face has {unit:.0f} pixels between the eyes, {PORTRAIT_UNIT_MIN_PX:.0f} are needed",
                todo="use a larger picture",
            )
        self._levels.show(picture)
        return self._embedder.template(self._levels, keypoints)


def _check_frame(image_bgr: Image) -> None:
    if image_bgr.dtype != np.uint8 or image_bgr.ndim != 3 or image_bgr.shape[2] != 3 or min(image_bgr.shape[:2]) < 64:
        raise CameraError(
            f"a frame is {image_bgr.shape} {image_bgr.dtype}, not (height, width, 3) uint8 of 64 pixels or more",
            todo="check the camera's settings in terminal.toml",
        )


def _plausible(before: Points, after: Points, image_bgr: Image) -> bool:
    """Whether the face that was at `before` can be the one at `after`, one frame later."""
    old, new = crops.face_unit(before), crops.face_unit(after)
    if new < _SMALLEST_UNIT_PX or not 1 / _UNIT_CHANGE_MAX < new / old < _UNIT_CHANGE_MAX:
        return False
    old_middle, middle = before.mean(axis=0), after.mean(axis=0)
    inside = bool((middle > 0).all() and middle[0] < image_bgr.shape[1] and middle[1] < image_bgr.shape[0])
    return inside and float(np.hypot(*(middle - old_middle))) < _STEP_MAX_UNITS * old


def _openness(landmarks: Landmarks) -> tuple[float, float, float]:
    """Right eye, left eye, mouth: the model's own answer where it has one, else from the points."""
    if landmarks.openness is not None:
        return landmarks.openness
    return (*geometry.eye_openness(landmarks.points), geometry.mouth_openness(landmarks.points))
