"""The model pack: a manifest and the model files that it vouches for; running them belongs to runtime.

Procedure of `Pack.load`, each step refusing with PackError:

1. read pack.toml (bounded, no symbolic link) and check its form: unknown keys, missing licences, bad names;
2. read each model file (bounded by the size that the manifest states, no symbolic link);
3. compare its size and SHA-256 with the manifest: nothing parses the bytes before that.

The tensors inside are compared with the manifest when runtime opens them, from the very bytes that were checked here.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from edge.errors import PackError
from edge.session.points import POINT_COUNT

MANIFEST_NAME = "pack.toml"
FORMAT = 1

_MANIFEST_MAX_BYTES = 65_536
_NAMED = 5  # faults of a manifest in one message; `survey` gives them all
MODEL_LIMIT = 32_000_000  # bytes


def _text(pattern: str, words: str) -> AfterValidator:
    """A string of this form, which the maker of a pack is told in words."""

    def check(given: str) -> str:
        if not re.fullmatch(pattern, given):
            raise ValueError(f"must be {words}")
        return given

    return AfterValidator(check)


def _not_zero(given: float) -> float:
    if given == 0:
        raise ValueError("must not be 0: every pixel would become the same value")
    return given


FileName = Annotated[
    str,
    _text(
        r"[A-Za-z0-9][A-Za-z0-9_.-]{0,80}\.tflite",
        "the name of a .tflite file in the pack's own folder: no path; letters, digits, `_`, `.` and `-`",
    ),
]
Sha256 = Annotated[str, _text(r"[0-9a-f]{64}", "64 small hexadecimal digits")]
Licence = Annotated[
    str,
    _text(
        r"[A-Za-z0-9 .+()-]{2,64}",
        "an SPDX expression, or LicenseRef-NAME: 2 to 64 letters, digits, spaces, `.`, `+`, `-`, `(` and `)`",
    ),
]
Name = Annotated[
    str, _text(r"[a-z0-9][a-z0-9-]{0,40}", "1 to 41 small letters, digits and `-`, and must not begin with `-`")
]
Version = Annotated[str, _text(r"[0-9]+(\.[0-9]+){1,3}", "2 to 4 numbers with points between them, such as 1.0")]
Dimension = Annotated[int, Field(ge=1, le=65_536)]
Shape = Annotated[tuple[Dimension, ...], Field(min_length=1, max_length=4)]
DType = Literal["int8", "uint8", "float32"]
Probability = Annotated[float, Field(ge=0, le=1)]
Scale = Annotated[FiniteFloat, AfterValidator(_not_zero)]


class Role(Enum):
    """What a model of the pack is for; the value is its table in the manifest."""

    DETECTOR = "detector"
    LANDMARKS = "landmarks"
    ANTISPOOF = "antispoof"
    EMBEDDER = "embedder"


class Meaning(Enum):
    """What a run of columns of an output tensor means."""

    SCORE = "score"  # detector: face or not, one column a cell
    BOX = "box"  # detector: four columns, see BoxForm
    KEYPOINTS = "keypoints"  # detector: x, y of each keypoint, relative to the cell's centre
    POINTS = "points"  # landmarks: x, y (or x, y, z) of each point
    PRESENCE = "presence"  # landmarks: whether the crop shows a face
    OPENNESS = "openness"  # landmarks: right eye, left eye, mouth; 0 closed, 1 open in the population's mean
    BONA_FIDE = "bona_fide"  # antispoof: one column, or one a class
    EMBEDDING = "embedding"
    COHORT = "cohort"  # embedder: dot products of the embedding with unit vectors, one a face of a cohort


class Activation(Enum):
    """How a column becomes a probability."""

    LOGIT = "logit"  # sigmoid of the column
    SOFTMAX = "softmax"  # softmax over the columns
    PROBABILITY = "probability"  # already is one


def _single(activation: Activation) -> Activation:
    if activation is Activation.SOFTMAX:
        raise ValueError("softmax needs several columns: over one it is always 1")
    return activation


SingleActivation = Annotated[Activation, AfterValidator(_single)]


class BoxForm(Enum):
    EDGES = "edges"  # distances from the cell's centre to left, top, right, bottom
    CENTRE_SIZE = "centre-size"  # offset of the box's centre from the cell's, then width and height


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputSpec(_Table):
    """The one input: [1, height, width, 3]. A pixel p (0..255) becomes the real value p * scale + offset."""

    shape: tuple[Literal[1], Dimension, Dimension, Literal[3]]
    dtype: DType
    colour: Literal["rgb", "bgr"]
    scale: tuple[Scale, Scale, Scale]
    offset: tuple[FiniteFloat, FiniteFloat, FiniteFloat]

    @property
    def height_px(self) -> int:
        return self.shape[1]

    @property
    def width_px(self) -> int:
        return self.shape[2]


class Part(_Table):
    """`count` columns of a tensor's last axis, from `first` on."""

    meaning: Meaning
    first: int = Field(default=0, ge=0)
    count: Dimension


class OutputSpec(_Table):
    """An output tensor by its position in the model, and what its last axis holds."""

    tensor: int = Field(ge=0, le=15)
    shape: Shape
    dtype: DType
    holds: Annotated[tuple[Part, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        for part in self.holds:
            if part.first + part.count > self.shape[-1]:
                raise ValueError(f"{part.meaning.value} ends after the last of {self.shape[-1]} columns")
        return self


class ModelSpec(_Table):
    """What every model has. A meaning in several outputs is their rows one below the other, so of equal width."""

    meanings: ClassVar[frozenset[Meaning]] = frozenset(Meaning)  # that the code of this role reads

    file: FileName
    sha256: Sha256
    size_bytes: int = Field(ge=1, le=MODEL_LIMIT)
    licence: Licence
    input: InputSpec
    outputs: Annotated[tuple[OutputSpec, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _meanings_are_plain(self) -> Self:
        for output in self.outputs:
            named = [part.meaning for part in output.holds]
            for meaning in dict.fromkeys(named):
                if meaning not in self.meanings:
                    raise ValueError(
                        f"output {output.tensor} holds `{meaning.value}`, which no model of this role is asked for: "
                        f"leave it out; known here: {', '.join(m.value for m in Meaning if m in self.meanings)}"
                    )
                if named.count(meaning) > 1:
                    raise ValueError(
                        f"output {output.tensor} names `{meaning.value}` {named.count(meaning)} times: "
                        "name it once, with the `count` of all its columns"
                    )
        for meaning in Meaning:
            counts = {part.count for part in self._parts(meaning)}
            if len(counts) > 1:
                told = ", ".join(map(str, sorted(counts)))
                raise ValueError(
                    f"`{meaning.value}` has {told} columns in several outputs: "
                    "only a detector may answer in several, and with equally many columns in each"
                )
        return self

    def columns(self, meaning: Meaning) -> int:
        """How many columns hold `meaning`; 0 where the model does not say it."""
        return next((part.count for part in self._parts(meaning)), 0)

    def _parts(self, meaning: Meaning) -> list[Part]:
        return [part for output in self.outputs for part in output.holds if part.meaning is meaning]

    def _demand(self, meaning: Meaning, *counts: int) -> None:
        found = self.columns(meaning)
        if not found or (counts and found not in counts):
            wanted = " or ".join(map(str, counts)) or "some"
            raise ValueError(f"outputs must hold {wanted} column(s) of `{meaning.value}`, but hold {found}")


class SquareSpec(ModelSpec):
    """A model that sees a crop: its input is square, and it answers in one row, each meaning once."""

    @model_validator(mode="after")
    def _is_square(self) -> Self:
        if self.input.height_px != self.input.width_px:
            raise ValueError("the input of a crop's model must be square")
        return self

    @model_validator(mode="after")
    def _answers_once(self) -> Self:
        for meaning in Meaning:
            if len(self._parts(meaning)) > 1:
                raise ValueError(
                    f"`{meaning.value}` stands in {len(self._parts(meaning))} outputs, and only one would be used: "
                    "keep the one that is meant; only a detector may answer in several"
                )
        for output in self.outputs:
            if _rows(output.shape) != 1:
                raise ValueError(
                    f"output {output.tensor} has {_rows(output.shape)} rows, and only the first would be used: "
                    "reshape it to one row in the model, as [1, columns]"
                )
        return self


class Grid(_Table):
    """Cells of one stride, row by row; `anchors` cells at every place."""

    stride_px: int = Field(ge=1, le=256)
    anchors: int = Field(default=1, ge=1, le=16)


class DetectorSpec(ModelSpec):
    """The letterboxed frame -> cells. `keypoints` picks, in order: the subject's right eye, left eye, nose tip, right
    and left corner of the mouth (a model that knows only the mouth's centre names it twice).
    """

    meanings: ClassVar[frozenset[Meaning]] = frozenset({Meaning.SCORE, Meaning.BOX, Meaning.KEYPOINTS})

    grids: Annotated[tuple[Grid, ...], Field(min_length=1)]
    box: BoxForm
    unit: Literal["stride", "pixel"]  # of boxes and keypoints
    keypoints: tuple[int, int, int, int, int]
    score: SingleActivation
    score_min: Probability
    overlap_max: Probability  # share of the smaller box above which the weaker of two boxes is dropped

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self._demand(Meaning.SCORE, 1)
        self._demand(Meaning.BOX, 4)
        self._demand(Meaning.KEYPOINTS)
        if min(self.keypoints) < 0 or 2 * (max(self.keypoints) + 1) > self.columns(Meaning.KEYPOINTS):
            raise ValueError("keypoints names a point that the model does not give")
        cells = sum(
            (self.input.height_px // g.stride_px) * (self.input.width_px // g.stride_px) * g.anchors for g in self.grids
        )
        for meaning in (Meaning.SCORE, Meaning.BOX, Meaning.KEYPOINTS):
            rows = sum(_rows(o.shape) for o in self.outputs for p in o.holds if p.meaning is meaning)
            if rows != cells:
                raise ValueError(f"the grids have {cells} cells, but `{meaning.value}` has {rows} rows")
        return self


class LandmarksSpec(SquareSpec):
    """The face crop -> points. `points` maps the model's points to the 138 of edge.session.points, by index."""

    meanings: ClassVar[frozenset[Meaning]] = frozenset({Meaning.POINTS, Meaning.PRESENCE, Meaning.OPENNESS})

    unit: Literal["crop", "pixel"]  # points are 0..1 of the crop, or its pixels
    dimensions: Literal[2, 3] = 2
    points: tuple[int, ...] | None = None  # None: the model gives the 138 points themselves
    presence: SingleActivation
    presence_min: Probability

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self._demand(Meaning.POINTS)
        self._demand(Meaning.PRESENCE, 1)
        if self.columns(Meaning.OPENNESS) not in (0, 3):
            raise ValueError("openness must be right eye, left eye and mouth")
        count = self.columns(Meaning.POINTS) // self.dimensions
        mapped = self.points if self.points is not None else tuple(range(count))
        if len(mapped) != POINT_COUNT or min(mapped) < 0 or max(mapped) >= count:
            raise ValueError(f"points must map to {POINT_COUNT} of the model's {count} points")
        return self


class AntispoofSpec(SquareSpec):
    """The wide face crop -> probability of a bona fide presentation. `bona_fide_min` is the maker's own threshold."""

    meanings: ClassVar[frozenset[Meaning]] = frozenset({Meaning.BONA_FIDE})

    activation: Activation
    bona_fide_class: int = Field(default=0, ge=0)
    bona_fide_min: Probability

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self._demand(Meaning.BONA_FIDE)
        if self.activation is Activation.SOFTMAX and self.columns(Meaning.BONA_FIDE) < 2:
            raise ValueError("softmax needs several columns: over one it is always 1")
        if self.bona_fide_class >= self.columns(Meaning.BONA_FIDE):
            raise ValueError("bona_fide_class names a class that the model does not give")
        return self


class MatchThreshold(_Table):
    """At this comparison score and above, `fmr_ppm` impostor comparisons in a million match."""

    fmr_ppm: int = Field(ge=1, le=1_000_000)
    score: float = Field(ge=-1, le=1)


class EmbedderSpec(SquareSpec):
    """The aligned face -> embedding. `match` goes from loose to strict.

    `cohort_nearest`: so many faces of the cohort, the nearest ones, tell how alike a face is to faces at large.
    """

    meanings: ClassVar[frozenset[Meaning]] = frozenset({Meaning.EMBEDDING, Meaning.COHORT})

    match: Annotated[tuple[MatchThreshold, ...], Field(min_length=1)]
    cohort_nearest: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self._demand(Meaning.EMBEDDING)
        faces = self.columns(Meaning.COHORT)
        if (self.cohort_nearest is None) is not (faces == 0) or (self.cohort_nearest or 0) > faces:
            raise ValueError(
                f"cohort_nearest is {self.cohort_nearest}, and the outputs hold {faces} column(s) of `cohort`: "
                "give both, the first not above the second, or neither"
            )
        for loose, strict in zip(self.match, self.match[1:], strict=False):
            if not (strict.fmr_ppm < loose.fmr_ppm and strict.score >= loose.score):
                raise ValueError("match must go from loose to strict: fmr_ppm falls, score does not")
        return self


class Manifest(_Table):
    """The whole of pack.toml."""

    format: Literal[1]
    name: Name
    version: Version
    licence: Licence
    detector: DetectorSpec
    landmarks: LandmarksSpec
    antispoof: AntispoofSpec
    embedder: EmbedderSpec

    def spec(self, role: Role) -> ModelSpec:
        spec: ModelSpec = getattr(self, role.value)
        return spec


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack whose files fit its manifest. `digest` is the SHA-256 of pack.toml, which holds the models' hashes."""

    manifest: Manifest
    digest: bytes
    contents: Mapping[Role, bytes] = field(repr=False)

    @classmethod
    def load(cls, folder: Path) -> Pack:
        """Read and verify the pack in `folder`; PackError says what does not fit and what to do."""
        raw = _read(folder / MANIFEST_NAME, _MANIFEST_MAX_BYTES)
        manifest = parse_manifest(raw)
        contents = {role: _verified(folder, manifest.spec(role)) for role in Role}
        return cls(manifest, hashlib.sha256(raw).digest(), contents)

    def match_threshold(self, fmr_ppm: int) -> float:
        """The score for a false match rate of `fmr_ppm` per million: that entry, else the next stricter one.

        PackError where the pack has none that is strict enough.
        """
        for entry in self.manifest.embedder.match:
            if entry.fmr_ppm <= fmr_ppm:
                return entry.score
        raise PackError(
            f"the pack has no threshold for a false match rate of {fmr_ppm} in a million",
            todo=f"ask for {self.manifest.embedder.match[-1].fmr_ppm} or more, or install a stricter pack",
        )


def parse_manifest(raw: bytes) -> Manifest:
    """The manifest's text, checked; PackError names the key that does not fit."""
    table = _table_of(raw)
    try:
        return Manifest.model_validate(table)
    except ValidationError as exc:
        wrong = _wrong(exc)
        more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise PackError(
            f"{MANIFEST_NAME}: {'; '.join(wrong[:_NAMED])}{more}",
            todo="install a pack of this format, or mend the manifest that you made",
        ) from exc


def survey(folder: Path) -> Iterator[PackError | tuple[ModelSpec, bytes]]:
    """Everything that is wrong with manifest and files, one PackError each, and every model whose file fits its table.

    For who makes or chooses a pack and wants to hear it all at once; a terminal stops at the first (`Pack.load`).
    """
    maker = f"; or, if you changed it yourself, run `python -m models.training.seal {folder}`"
    try:
        table = _table_of(_read(folder / MANIFEST_NAME, _MANIFEST_MAX_BYTES))
    except PackError as exc:
        yield exc
        return
    try:
        Manifest.model_validate(table)
    except ValidationError as exc:
        for wrong in _wrong(exc):
            yield PackError(
                f"{MANIFEST_NAME}: {wrong}", todo="mend the manifest that you made, or install another pack"
            )
    for role in Role:
        kind: type[ModelSpec] = Manifest.model_fields[role.value].annotation  # type: ignore[assignment]
        try:
            spec = kind.model_validate(table.get(role.value))
        except ValidationError:
            # What is wrong with it was said above; its file may be wrong too.
            try:
                common = {name: value for name, value in table[role.value].items() if name in ModelSpec.model_fields}
                spec = ModelSpec.model_validate({**common, "licence": "none"})
            except (ValidationError, KeyError, AttributeError):
                continue
        try:
            yield spec, _verified(folder, spec, maker)
        except PackError as exc:
            yield exc


def _table_of(raw: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as exc:  # ValueError: also an integer of more digits than Python converts
        raise PackError(
            f"{MANIFEST_NAME} is no TOML that can be read: {exc}",
            todo="install the pack again, or mend the manifest that you made",
        ) from exc


def _wrong(exc: ValidationError) -> list[str]:
    return [
        f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}"
        for e in exc.errors(include_input=False)
    ]


def _verified(folder: Path, spec: ModelSpec, maker: str = "") -> bytes:
    """`maker`: what else to do about a file that is not the one of the manifest, for who makes packs."""
    content = _read(folder / spec.file, spec.size_bytes, maker)
    if len(content) != spec.size_bytes:
        raise PackError(
            f"{spec.file} has {len(content)} bytes, its manifest says {spec.size_bytes}: it is truncated",
            todo=f"install the pack again{maker}",
        )
    found = hashlib.sha256(content).hexdigest()
    if found != spec.sha256:
        raise PackError(
            f"{spec.file} has SHA-256 {found}, its manifest says {spec.sha256}: it was altered",
            todo="install the pack again; if that does not help, take the terminal out of service and report it"
            + maker,
        )
    return content


def _read(path: Path, max_bytes: int, maker: str = "") -> bytes:
    """At most `max_bytes` bytes of a plain file; PackError where it is longer, a link, or cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as exc:
        raise PackError(
            f"{path} cannot be read: {exc.strerror}",
            todo="install the pack there (plain files, no links), or set pack_dir to where it is",
        ) from exc
    if len(content) > max_bytes:
        raise PackError(f"{path} is longer than {max_bytes} bytes", todo=f"install the pack again{maker}")
    return content


def _rows(shape: tuple[int, ...]) -> int:
    rows = 1
    for size in shape[:-1]:
        rows *= size
    return rows
