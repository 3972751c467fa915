"""Faces for training: pictures and teacher answers, cached once. No network of the product is defined or trained here.

Everything is kept as 128 x 128 RGB whose centre 112 x 112 is the ArcFace template; the border leaves room for jitter.
`python -m models.training.faces --out DIR` builds it: faces.npy, blends-NN.npy and the teacher's answers to them, for
the face and its mirror image: `.teacher.npy` (embeddings) and `.shares.npy` (what each place of the face adds to them).
"""

import argparse
import time
from pathlib import Path
from typing import Any

import cv2
import flatbuffers
import numpy as np
from numpy.typing import NDArray

CHIP_PX = 128
CROP_PX = 112
PART = 10_000  # blends in one file
DRAWN_FROM = 80_000  # seeds of people who are drawn nowhere else
# The five points of the ArcFace template at 112 x 112: left eye, right eye, nose, left and right mouth corner, as seen
# (Deng et al. 2019, insightface's `arcface_dst`).
TEMPLATE_PX = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
SHARE = 1 / 512  # unit of a cached share: a place adds -0.25 to 0.25 to a number of the unit embedding
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)

Image = NDArray[np.uint8]


class Aligner:
    """Finds the largest face with YuNet and turns it into a chip; None where no face is found."""

    def __init__(self, yunet: Path) -> None:
        self._detector = cv2.FaceDetectorYN.create(str(yunet), "", (320, 320), 0.5, 0.3, 50)

    def points(self, image_bgr: Image) -> NDArray[np.float32] | None:
        """Five points [5, 2] in pixels, in the order of TEMPLATE_PX, of the face nearest to the centre."""
        height, width = image_bgr.shape[:2]
        scale = 320 / max(height, width)
        resized = cv2.resize(image_bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        self._detector.setInputSize((resized.shape[1], resized.shape[0]))
        _, found = self._detector.detect(resized)
        if found is None:
            return None
        centres = found[:, :2] + found[:, 2:4] / 2
        away = np.linalg.norm(centres - np.array([resized.shape[1], resized.shape[0]]) / 2, axis=1)
        best = found[int(np.argmin(away / np.sqrt(found[:, 2] * found[:, 3])))]
        return (best[4:14].reshape(5, 2) / scale).astype(np.float32)

    def chip(self, image_bgr: Image) -> Image | None:
        """The aligned face, RGB uint8 [128, 128, 3]."""
        points = self.points(image_bgr)
        if points is None:
            return None
        matrix = similarity(points, TEMPLATE_PX + (CHIP_PX - CROP_PX) / 2)
        warped = cv2.warpAffine(
            image_bgr, matrix, (CHIP_PX, CHIP_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        return cv2.cvtColor(warped, cv2.COLOR_BGR2RGB)


def similarity(source: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float64]:
    """The least-squares similarity [2, 3] from points source [n, 2] to target [n, 2] (Umeyama 1991, no reflection)."""
    source_mean, target_mean = source.mean(0), target.mean(0)
    a = (source - source_mean) @ np.array([1, 1j])
    b = (target - target_mean) @ np.array([1, 1j])
    turn = np.vdot(a, b) / np.vdot(a, a).real
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.column_stack([linear, target_mean - linear @ source_mean])


class Teacher:
    """The public MobileFaceNet that labels faces, run by LiteRT: three times as quick as torch. It is never shipped.

    Its last steps are linear: each of 49 places of a 7 x 7 map is weighted by channel and then multiplied by a matrix.
    So its answer is a sum over places (and a constant), and a student can be taught what every place says of a face.
    """

    def __init__(self, path: Path) -> None:
        from ai_edge_litert import schema_py_generated as schema
        from ai_edge_litert.interpreter import Interpreter

        model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))
        graph = model.subgraphs[0]
        weigh, multiply = graph.operators[-3:-1]  # the depthwise convolution over the whole map, and the matrix
        self._where = _half_weights(model, weigh.inputs[1]).reshape(49, 512)
        self._matrix = _half_weights(model, multiply.inputs[1]).reshape(128, 512).T
        graph.outputs = [*graph.outputs, weigh.inputs[0]]
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), b"TFL3")
        self._interpreter = Interpreter(model_content=bytes(builder.Output()), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [detail["index"] for detail in self._interpreter.get_output_details()]

    def answer(self, chips: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Unit embeddings [n, 128] of chips [n, 128, 128, 3]; shares of the 49 places in them [n, 49, 128] (SHARE)."""
        margin = (CHIP_PX - CROP_PX) // 2
        answers, maps = np.zeros((len(chips), 128), np.float32), np.zeros((len(chips), 49, 512), np.float32)
        for index, chip in enumerate(chips):
            crop = chip[margin:-margin, margin:-margin].astype(np.float32)
            self._interpreter.set_tensor(self._input, ((crop / 255 - IMAGENET_MEAN) / IMAGENET_STD)[None])
            self._interpreter.invoke()
            answers[index] = self._interpreter.get_tensor(self._outputs[0])[0]
            maps[index] = self._where * self._interpreter.get_tensor(self._outputs[1]).reshape(49, 512)
        length = np.linalg.norm(answers, axis=1, keepdims=True)
        shares = (maps.reshape(-1, 512) @ self._matrix).reshape(-1, 49, 128) / (length[..., None] * SHARE)
        return answers / length, shares.round().clip(-127, 127).astype(np.int8)


def _half_weights(model: Any, tensor: int) -> NDArray[np.float32]:
    """Weights that the file keeps in half precision and dequantises before `tensor`."""
    graph = model.subgraphs[0]
    kept = next(operator.inputs[0] for operator in graph.operators if operator.outputs[0] == tensor)
    data = bytes(model.buffers[graph.tensors[kept].buffer].data)
    return np.frombuffer(data, np.float16).astype(np.float32)


def held_out(count: int) -> int:
    """So many of a cache's `count` faces, the first ones, are for validation: never trained on, never blended."""
    return min(1000, count // 8)


def read_chips(folder: Path, only: str, aligner: Aligner) -> list[Image]:
    """All faces below `folder/only*` as chips."""
    read = (read_chip(path, aligner) for path in sorted(folder.glob(f"{only}*/**/*.jpg")))
    return [chip for chip in read if chip is not None]


def read_chip(path: Path, aligner: Aligner) -> Image | None:
    """One picture as a chip: of 128 px it is aligned already, others are aligned here. None where no face is found."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        return None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.shape[:2] == (CHIP_PX, CHIP_PX) else aligner.chip(image)


def read_sources(data: Path, only: str, count: int, seed: int) -> list[NDArray[np.uint8]]:
    """Up to `count` chips [n, 128, 128, 3] of every folder `faces/train/only*`, drawn by `seed`."""
    aligner, rng, sets = Aligner(data / "teachers/yunet_n_320_320.onnx"), np.random.default_rng(seed), []
    for folder in sorted(path for path in (data / "faces/train").glob(f"{only}*") if path.is_dir()):
        files = sorted(folder.rglob("*.jpg"))
        drawn = (read_chip(files[i], aligner) for i in rng.permutation(len(files))[:count])
        if chips := [chip for chip in drawn if chip is not None]:
            sets.append(np.stack(chips))
    return sets


def draw_chips(count: int, aligner: Aligner) -> list[Image]:
    """Faces of `count` drawn people before the simulated camera, two frames of each where the aligner finds them."""
    from models.training.scenes import rendered_live

    frames = (frame for seed in range(DRAWN_FROM, DRAWN_FROM + count) for frame, *_ in rendered_live(seed, 2))
    return [chip for frame in frames if (chip := aligner.chip(frame[..., ::-1])) is not None]


def blend(a: Image, b: Image, rng: np.random.Generator) -> Image:
    """A face between two faces: mixed by a smooth random field, then bent a little, so the pool has more people."""
    field = rng.normal(rng.uniform(-1.0, 1.0), 1.0, (4, 4)).astype(np.float32)
    weight = cv2.resize(1 / (1 + np.exp(-1.5 * field)), (CHIP_PX, CHIP_PX), interpolation=cv2.INTER_CUBIC).clip(0, 1)[
        ..., None
    ]
    mixed = (a * weight + b * (1 - weight)).astype(np.uint8)
    bend = cv2.resize(
        rng.normal(0, 2.2, (5, 5, 2)).astype(np.float32), (CHIP_PX, CHIP_PX), interpolation=cv2.INTER_CUBIC
    )
    rows, columns = np.mgrid[:CHIP_PX, :CHIP_PX].astype(np.float32)
    return cv2.remap(
        mixed, columns + bend[..., 0], rows + bend[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def build(data: Path, out: Path, blends: int, seed: int, only: str = "", drawn: int = 0) -> None:
    """Writes the cache: the faces with the teacher's answers, then blends in parts, usable early."""
    out.mkdir(parents=True, exist_ok=True)
    teacher = Teacher(data / "teachers/mobilefacenet_fp16.tflite")
    if not (out / "faces.npy").exists():
        aligner = Aligner(data / "teachers/yunet_n_320_320.onnx")
        chips = np.stack(read_chips(data / "faces/train", only, aligner) + draw_chips(drawn, aligner))
        np.save(out / "faces.npy", chips[np.random.default_rng(seed).permutation(len(chips))])
    chips = np.load(out / "faces.npy", mmap_mode="r")
    if not (out / "faces.teacher.npy").exists():
        label(teacher, chips, out / "faces")
    for part in range(blends // PART):
        if (out / f"blends-{part:02d}.teacher.npy").exists():
            continue
        rng = np.random.default_rng([seed, part])
        pairs = rng.integers(held_out(len(chips)), len(chips), (PART, 2))
        mixed = np.stack([blend(chips[first], chips[second], rng) for first, second in pairs])
        np.save(out / f"blends-{part:02d}.npy", mixed)
        label(teacher, mixed, out / f"blends-{part:02d}")


def label(teacher: Teacher, chips: NDArray[np.uint8], stem: Path) -> None:
    """Writes the teacher's answers to faces plain and mirrored: unit embeddings [n, 2, 128], shares [n, 2, 49, 128]."""
    started = time.monotonic()
    answers, shares = np.zeros((len(chips), 2, 128), np.float32), np.zeros((len(chips), 2, 49, 128), np.int8)
    for start in range(0, len(chips), 1000):
        some = slice(start, start + 1000)
        answers[some, 0], shares[some, 0] = teacher.answer(chips[some])
        answers[some, 1], shares[some, 1] = teacher.answer(chips[some, :, ::-1])
    np.save(f"{stem}.shares.npy", shares)
    np.save(f"{stem}.teacher.npy", answers)  # last: whoever sees it may read the others
    print(f"{stem.name}: {len(chips)} labelled, {len(chips) / (time.monotonic() - started):.0f} a second", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path(".runs/faces"))
    parser.add_argument("--blends", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", default="", help="folders whose names begin so (extra-fairface: open licence)")
    parser.add_argument("--drawn", type=int, default=0, help="and so many people of the simulator's")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    build(arguments.data, arguments.out, arguments.blends, arguments.seed, arguments.only, arguments.drawn)


if __name__ == "__main__":
    main()
