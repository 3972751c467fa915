"""How well the passive model tells people from attacks that it never saw; nothing is trained here.

`python -m models.training.antispoof_check models/antispoof.tflite --pool .runs/pool --drawn .runs/presentations`.
Three stills and six clips of real people say little; attacks made here say how well it knows our own generators. Read
none of it as APCER.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from edge.vision import crops
from models.training import presentations, scenes
from models.training.antispoof import Antispoof, crop_at, followed, sample
from models.training.detector import as_tensor

EVERY = 5  # of a clip's frames, every so many are put to the teachers and cut anew
GROWN = (0.8, 0.9, 1.1, 1.25)
Answer = Callable[[np.ndarray], float]


def runner(model: Path) -> Answer:
    """A function from a uint8 RGB crop to the probability of a bona fide presentation; .pt or .tflite."""
    if model.suffix == ".pt":
        network = Antispoof()
        network.load_state_dict(torch.load(model))
        network.eval().requires_grad_(requires_grad=False)
        return lambda crop: float(torch.sigmoid(network(as_tensor(crop)))[0, 0])
    from models.training.export import Runner

    file = Runner(model)
    return lambda crop: float(1 / (1 + np.exp(-file.run([crop[None].astype(np.float32) / 127.5 - 1])[0][0, 0])))


def check(model: Path, pool_dir: Path, drawn: Path | None) -> None:
    """Errors at 0.5 on made attacks from held-out faces and rooms; the stills; the clips; the simulator's attacks."""
    run = runner(model)
    pool, rng = scenes.load_pool(pool_dir), np.random.default_rng(13)
    indices, rooms = np.flatnonzero(pool.held_out), scenes.load_rooms(held_out=True)
    said: dict[float, list[float]] = {0.0: [], 1.0: []}
    for _ in range(1500):
        crop, label = sample(rng, pool, indices, rooms)
        said[label].append(run(crop))
    print(
        f"held out: attacks taken for bona fide {np.mean(np.array(said[0.0]) > 0.5):.3f} of {len(said[0.0])}, ", end=""
    )
    print(f"bona fide refused {np.mean(np.array(said[1.0]) <= 0.5):.3f} of {len(said[1.0])}")
    on_pictures(run)
    if drawn is not None:
        on_presentations(run, presentations.Crops.load(drawn).part(held_out=True))


def on_presentations(run: Answer, kept_out: presentations.Crops) -> None:
    """The simulator's people and attacks, by species and strength: crops of holders that were not learned from."""
    said = np.array([run(crop) for crop in kept_out.crops])
    print(f"{len(np.unique(kept_out.seed))} holders kept out")
    kinds = np.char.add(np.char.add(kept_out.species, " "), kept_out.strength)
    for kind in np.unique(kinds):
        report(str(kind).strip(), said[kinds == kind].tolist())


def on_pictures(run: Answer) -> None:
    """Stills and clips: our answer, the teachers' beside it, and ours for wider and narrower crops."""
    teachers = Teachers()
    apart: list[float] = []
    moved: dict[float, list[bool]] = {}
    files = sorted((scenes.data_dir() / "presentation-attack").glob("*.jpg"))
    for path in [*files, *sorted((scenes.data_dir() / "clips").glob("*.mp4"))]:
        still = path.suffix == ".jpg"
        pictures = [scenes.read_rgb(path)] if still else scenes.frames(path)
        answers, theirs = [], []
        for k, (picture, points) in enumerate(followed(pictures)):
            answers.append(run(crop_at(picture, points)))
            if k % EVERY:
                continue
            theirs.append(teachers.bona_fide(picture, points))
            if not still:
                apart.append(abs(answers[-1] - theirs[-1]))
            for grow in GROWN:
                changed = (run(crop_at(picture, points, grow)) > 0.5) != (answers[-1] > 0.5)
                moved.setdefault(grow, []).append(changed)
        report(path.name, answers)
        print(f"  the teachers: median {np.median(theirs):.2f}, over 0.5 in {np.mean(np.array(theirs) > 0.5):.3f}")
    print(f"from the teachers on real faces: {np.mean(apart):.3f} on average, of {len(apart)} frames of the clips")
    for grow, changed in moved.items():
        print(f"a crop {grow:g} times as wide changes the answer at 0.5 in {100 * np.mean(changed):.1f} %")


class Teachers:
    """MiniFASNetV2 and V1SE as their makers use them: two crops of the face's box, mean of the two probabilities."""

    FILES = (("MiniFASNetV2_2.7_80x80.onnx", 2.7), ("MiniFASNetV1SE_4.0_80x80.onnx", 4.0))
    REAL = 1  # index of their three answers

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        folder = scenes.data_dir() / "teachers"
        self._models = [
            (onnxruntime.InferenceSession(str(folder / name), options), scale) for name, scale in self.FILES
        ]

    def bona_fide(self, picture: np.ndarray, points: np.ndarray) -> float:
        """Probability for the face with these points in an RGB picture."""
        box = crops.box_from_landmarks(points)
        said = []
        for model, scale in self._models:
            cut = cv2.resize(_around(picture, box, scale)[..., ::-1], (80, 80), interpolation=cv2.INTER_AREA)
            logits = model.run(None, {"input": cut.astype(np.float32).transpose(2, 0, 1)[None]})[0][0]
            odds = np.exp(logits - logits.max())
            said.append(float(odds[self.REAL] / odds.sum()))
        return float(np.mean(said))


def _around(picture: np.ndarray, box: np.ndarray, scale: float) -> np.ndarray:
    """The part `scale` times as large as the box (left, top, right, bottom), moved and shrunk to lie inside."""
    height, width = picture.shape[:2]
    size = box[2:] - box[:2]
    size = size * min((height - 1) / size[1], (width - 1) / size[0], scale)
    corner = np.clip((box[:2] + box[2:] - size) / 2, 0, np.array([width - 1, height - 1]) - size)
    left, top, right, bottom = np.rint([*corner, *(corner + size)]).astype(int)
    return picture[top : bottom + 1, left : right + 1]


def report(name: str, answers: list[float]) -> None:
    values = np.array(answers)
    if len(values):
        print(
            f"{name}: median {np.median(values):.2f}, lowest {values.min():.2f}, highest {values.max():.2f}, ", end=""
        )
        print(f"over 0.5 in {np.mean(values > 0.5):.3f} of {len(values)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help=".tflite or .pt")
    parser.add_argument("--pool", type=Path, default=Path(".runs/pool"))
    parser.add_argument("--drawn", type=Path, help="folder of models.training.presentations")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    check(given.model, given.pool, given.drawn)
