"""Trains the face embedder by distillation from the teacher's cached answers. No face is found or aligned here.

`python -m models.training.embedder --faces .runs/faces --out .runs/embedder --minutes 90` starts or continues the run
in --out. The network starts from random numbers, or with `--start models/embedder.tflite` from the weights of a file of
ours; the teacher gives targets only. LFW, where present, is looked at and never learned from. On several cores:
`torchrun --nproc-per-node 2 -m -- models.training.embedder ...` (without `--` it takes our --start for its own); each
process sees other faces, gradients are averaged.
"""

import argparse
import copy
import itertools
import math
import os
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from models.evaluation import metrics
from models.training import export, warm
from models.training.faces import CHIP_PX, CROP_PX, SHARE, Aligner, held_out, read_sources
from models.training.run import half, pixels

BATCH = 64
CALIBRATION = 400  # faces that set the int8 ranges; of every source, those that set the centre of all answers
PEAK_RATE = {"muon": 0.02, "adamw": 3e-3}
EMA_STEPS = 600
# Most of what a face tells is learned at low resolution, at a third of the time: (share of the run, input in pixels).
STAGES = ((0.47, 64), (1.01, CROP_PX))
# So many of the faces may exceed the range of a map in int8: a smaller step for all is worth more than their extremes.
CUT_SHARE = 0.1
# int8's roundings (round_while_training) take a fifth of a step's time: they wait until so much of the run is over.
ROUNDED_FROM = 0.6


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, *, relu: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width, 3)
        self.second = _conv(width, width, 3, relu=False)
        nn.init.zeros_(self.second[1].weight)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.second(self.first(x)))


class Embedder(nn.Module):
    """RGB [n, 3, 112, 112] in -1..1 -> [n, 128], to be compared by cosine.

    Dense 3 x 3 convolutions: five times as quick to train on a CPU as depthwise ones of the same work, quick in int8.
    """

    def __init__(self, size_px: int = CROP_PX, blocks: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(3, 24, 3, 2),
            _conv(24, 48, 3, 2),
            _Residual(48),
            _conv(48, 96, 3, 2),
            *(_Residual(96) for _ in range(blocks)),
            _conv(96, 144, 3, 2),
            _Residual(144),
            _conv(144, 256, 1),
        )
        self.where = nn.Conv2d(256, 256, math.ceil(size_px / 16), groups=256)
        self.project = nn.Conv2d(256, 128, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.project(self.where(self.body(x))), 1)

    def shares(self, body: Tensor) -> tuple[Tensor, Tensor]:
        """From the body's map: the embedding [n, 128], and what each place of the map adds to it [n, places, 128]."""
        weighted = (body * self.where.weight[:, 0]).flatten(2).transpose(1, 2)
        matrix = self.project.weight.flatten(1)
        shares = weighted @ matrix.T
        return shares.sum(1) + (matrix @ self.where.bias + self.project.bias), shares

    def resize(self, size_px: int) -> None:
        """Makes the position weights fit another input size."""
        side, old = math.ceil(size_px / 16), self.where.weight
        if side != old.shape[-1]:
            grown = nn.functional.interpolate(old.detach(), (side, side), mode="bilinear") * (old.shape[-1] / side) ** 2
            bias = self.where.bias
            self.where = nn.Conv2d(256, 256, side, groups=256)
            self.where.weight, self.where.bias = nn.Parameter(grown), bias


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal (Jordan et al. 2024, "Muon"); filters count as matrices."""

    def __init__(
        self, parameters: list[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # noqa: ARG002  the base class has it
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                average = state.setdefault("momentum", torch.zeros_like(p))
                average.lerp_(p.grad, 1 - group["momentum"])
                update = _orthogonal(p.grad.lerp(average, group["momentum"]).reshape(len(p), -1))
                update *= max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update.reshape(p.shape), alpha=-group["lr"])


def _orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest orthogonal matrix, roughly, by Newton-Schulz iteration (coefficients of Jordan et al. 2024)."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    with half():
        for _ in range(steps):
            square = x @ x.T
            x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.T if tall else x).float()


def loss_of(student: Tensor, target: Tensor) -> Tensor:
    """Cosine to the teacher's answer, and the same similarities between the faces of a batch as the teacher sees."""
    unit = nn.functional.normalize(student)
    alike = 1 - (unit * target).sum(1).mean()
    relation = (unit @ unit.T - target @ target.T).square().sum() / len(unit)
    return alike + 0.1 * relation


def loss_of_shares(student: Tensor, shares: Tensor, target: Tensor) -> Tensor:
    """The part of the variance of the teacher's shares [n, 49, 128] that ours do not explain, whatever their means."""
    ours = shares / student.norm(dim=1).detach().clamp(min=1e-6)[:, None, None]
    ours, theirs = ours - ours.mean(0), target - target.mean(0)
    return (ours - theirs).square().sum() / theirs.square().sum()


# ---- pictures


@dataclass(frozen=True, slots=True)
class Labelled:
    """A file of chips and what the teacher says of them: [n, 128, 128, 3], [n, 128] (mean of both sides), shares."""

    chips: NDArray[np.uint8]
    answers: NDArray[np.float32]
    shares: NDArray[np.int8]  # [n, 2, 49, 128]: of the face and of its mirror image

    @classmethod
    def load(cls, stem: Path) -> "Labelled":
        answers = _unit(np.load(f"{stem}.teacher.npy").mean(1))
        return cls(np.load(f"{stem}.npy", mmap_mode="r"), answers, np.load(f"{stem}.shares.npy", mmap_mode="r"))


@dataclass(frozen=True, slots=True)
class Example:
    """One picture to learn from: the chip is mirrored already where the shares are those of the mirror image."""

    chip: NDArray[np.uint8]
    answer: NDArray[np.float32]
    shares: NDArray[np.int8]


class Pool:
    """The cached faces and blends; blends that appear while the run goes on are taken in at the next look."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.faces = Labelled.load(folder / "faces")
        self.held_out = held_out(len(self.faces.chips))
        self._blends: list[Labelled] = []

    def look(self) -> int:
        for path in sorted(self._folder.glob("blends-??.teacher.npy"))[len(self._blends) :]:
            self._blends.append(Labelled.load(path.with_suffix("").with_suffix("")))
        return len(self._blends)

    def draw(self, rng: np.random.Generator) -> Example:
        if self._blends and rng.random() < min(0.6, 0.1 * len(self._blends)):
            source = self._blends[rng.integers(len(self._blends))]
            index = int(rng.integers(len(source.chips)))
        else:
            source = self.faces
            index = int(rng.integers(self.held_out, len(source.chips)))
        side = int(rng.integers(2))
        chip = np.asarray(source.chips[index])
        return Example(
            np.ascontiguousarray(chip[:, ::-1]) if side else chip, source.answers[index], source.shares[index, side]
        )


def _unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def augment(chip: NDArray[np.uint8], size_px: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """What cameras, printers and chips do to a face: chip [128, 128, 3] -> [size_px, size_px, 3]."""
    if rng.random() < 0.15:
        chip = _document(chip, rng)
    scale = size_px / CROP_PX
    if scale < 0.9:
        side = round(CHIP_PX * scale)
        chip = cv2.resize(chip, (side, side), interpolation=cv2.INTER_AREA)
    turn = math.radians(rng.normal(0, 3.0))
    zoom = math.exp(rng.normal(0, 0.035))
    cos, sin = zoom * math.cos(turn), zoom * math.sin(turn)
    centre_in, centre_out = (len(chip) - 1) / 2, (size_px - 1) / 2
    shift = rng.normal(0, 1.3 * scale, 2)
    linear = np.array([[cos, -sin], [sin, cos]])
    matrix = np.column_stack([linear, centre_out + shift - linear @ [centre_in, centre_in]])
    out = cv2.warpAffine(chip, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    if rng.random() < 0.12:
        out = cv2.cvtColor(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < 0.10:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.4, 1.6) * scale)
    if rng.random() < 0.75:
        levels = np.linspace(0, 1, 256)[:, None] ** math.exp(rng.normal(0, 0.22))
        levels = 0.5 + (levels - 0.5) * math.exp(rng.normal(0, 0.15)) + rng.normal(0, 0.07)
        tint = np.exp(rng.normal(0, 0.05, 3))
        out = cv2.LUT(out, (levels * tint * 255).clip(0, 255).astype(np.uint8)[None])
    return out


def _document(chip: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A portrait as an identity document holds it: small and compressed hard (a Chinese chip: 102 x 126 px in 1 KB)."""
    side = int(rng.integers(40, 100))
    small = cv2.resize(chip, (side, side), interpolation=cv2.INTER_AREA)
    coded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(8, 60))])[1]
    return cv2.resize(cv2.imdecode(coded, cv2.IMREAD_COLOR), (CHIP_PX, CHIP_PX), interpolation=cv2.INTER_LINEAR)


@dataclass(slots=True)
class Feeder:
    """Prepares batches in a thread, so that the trainer never waits."""

    pool: Pool
    size_px: int
    seed: int

    def batches(self, ahead: int = 4) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        ready: queue.Queue[tuple[Tensor, Tensor, Tensor]] = queue.Queue(ahead)
        rng = np.random.default_rng(self.seed)

        def work() -> None:
            while True:
                drawn = [self.pool.draw(rng) for _ in range(BATCH)]
                pictures = np.stack([augment(example.chip, self.size_px, rng) for example in drawn])
                answers = np.stack([example.answer for example in drawn])
                shares = np.stack([example.shares for example in drawn])
                ready.put((torch.from_numpy(pictures), torch.from_numpy(answers), torch.from_numpy(shares)))

        threading.Thread(target=work, daemon=True).start()
        while True:
            yield ready.get()


def centre(chips: NDArray[np.uint8], size_px: int) -> Tensor:
    margin = (CHIP_PX - CROP_PX) // 2
    cropped = chips[:, margin:-margin, margin:-margin]
    if size_px != CROP_PX:
        cropped = np.stack([cv2.resize(c, (size_px, size_px), interpolation=cv2.INTER_AREA) for c in cropped])
    return torch.from_numpy(np.ascontiguousarray(cropped))


# ---- looking at the progress


@torch.inference_mode()
def embed(model: nn.Module, chips: NDArray[np.uint8], size_px: int) -> NDArray[np.float32]:
    return nn.functional.normalize(raw_answers(model, chips, size_px)).numpy()


def raw_answers(model: nn.Module, chips: NDArray[np.uint8], size_px: int) -> Tensor:
    """Of every chip, as long as they come: [n, 128]."""
    return torch.cat([model(pixels(centre(chips[i : i + 100], size_px))) for i in range(0, len(chips), 100)])


@dataclass(frozen=True, slots=True, eq=False)
class Lfw:
    """Aligned LFW faces [n, 128, 128, 3] and whose they are, pairs of indices [m, 2], whether they are one person."""

    chips: NDArray[np.uint8]
    subjects: NDArray[np.str_]
    pairs: NDArray[np.int64]
    same: NDArray[np.bool_]

    @classmethod
    def load(cls, data: Path, cache: Path) -> "Lfw | None":
        """None where LFW is absent; `cache` keeps the aligned faces."""
        folder = data / "faces/lfw-folds-1-5"
        if not folder.exists():
            return None
        rows = [line.split(",") for line in (folder / "pairs.csv").read_text().split()[1:]]
        names = sorted({name for row in rows for name in row[1:3]})
        where = {name: index for index, name in enumerate(names)}
        if not cache.exists():
            aligner = Aligner(data / "teachers/yunet_n_320_320.onnx")
            chips = [aligner.chip(cv2.imread(str(folder / "images" / name))) for name in names]
            np.save(cache, np.stack([np.zeros((CHIP_PX, CHIP_PX, 3), np.uint8) if c is None else c for c in chips]))
        return cls(
            np.load(cache),
            np.array([metrics.subject_of(name) for name in names]),
            np.array([[where[a], where[b]] for _, a, b, _ in rows]),
            np.array([row[3] == "1" for row in rows]),
        )

    def accuracy(self, unit: NDArray[np.float32], count: int) -> float:
        """Of the first `count` pairs, at the best single threshold."""
        return metrics.best_threshold(self._scores(unit)[:count], self.same[:count])[1]

    def tar(self, unit: NDArray[np.float32], far: float) -> float:
        """Of the genuine pairs, at the threshold that lets this share of all pictures of different people match."""
        first, second = np.triu_indices(len(unit), 1)
        strangers = self.subjects[first] != self.subjects[second]
        threshold = metrics.threshold_at((unit @ unit.T)[first, second][strangers], far)
        return metrics.match_rate(self._scores(unit)[self.same], threshold)

    def _scores(self, unit: NDArray[np.float32]) -> NDArray[np.float32]:
        return (unit[self.pairs[:, 0]] * unit[self.pairs[:, 1]]).sum(1)


# ---- the run


def parameters_by_kind(model: Embedder) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Those that Muon takes (dense filters before a batch norm, the stem's apart), and the rest."""
    dense = [m.weight for m in model.body.modules() if isinstance(m, nn.Conv2d) and m.in_channels > 3]
    chosen = {id(p) for p in dense}
    return dense, [p for p in model.parameters() if id(p) not in chosen]


def optimizers_of(model: Embedder, kind: str) -> list[tuple[torch.optim.Optimizer, float]]:
    dense, rest = parameters_by_kind(model)
    if kind == "adamw":
        both = [{"params": dense, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
        return [(torch.optim.AdamW(both, lr=1.0, betas=(0.9, 0.98)), PEAK_RATE["adamw"])]
    return [
        (Muon(dense, lr=1.0, weight_decay=0.02), PEAK_RATE["muon"]),
        (torch.optim.AdamW(rest, lr=1.0, betas=(0.9, 0.98), weight_decay=0.0), PEAK_RATE["adamw"]),
    ]


def rate_at(progress: float) -> float:
    """Warm up for 2 % of the run, then a cosine down to nothing."""
    return min(1.0, progress / 0.02) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def size_at(progress: float) -> int:
    return next(size for until, size in STAGES if progress < until)


@dataclass(slots=True)
class Run:
    """Everything that a checkpoint holds."""

    model: Embedder
    average: Embedder
    optimizers: list[tuple[torch.optim.Optimizer, float]]
    seconds: float = 0.0
    images: int = 0
    averaged_from: int = 0  # images seen when the average began anew

    def save(self, path: Path, size_px: int) -> None:
        state = {
            "size_px": size_px,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [o.state_dict() for o, _ in self.optimizers],
            "seconds": self.seconds,
            "images": self.images,
            "averaged_from": self.averaged_from,
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    @torch.no_grad()
    def follow(self) -> None:
        """The average follows the model; at the start faster, so that what was before is forgotten."""
        keep = min(1 - 1 / EMA_STEPS, 1 - 1 / (1 + (self.images - self.averaged_from) / BATCH / 4))
        for mean, now in zip(self.average.state_dict().values(), self.model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - keep)


def load_run(path: Path, kind: str, start: Path | None, pool: Pool) -> tuple[Run, int]:
    state = torch.load(path, weights_only=True) if path.exists() else None
    size_px = state["size_px"] if state else CROP_PX if start else STAGES[0][1]
    model = Embedder(size_px).to(memory_format=torch.channels_last)
    if start and not state:
        few = np.asarray(pool.faces.chips[pool.held_out : pool.held_out + 64])
        start_from(model, start, pixels(centre(few, CROP_PX)))
    run = Run(model, copy.deepcopy(model).eval(), optimizers_of(model, kind))
    if state:
        model.load_state_dict(state["model"])
        run.average.load_state_dict(state["average"])
        for (optimizer, _), saved in zip(run.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        run.seconds, run.images = state["seconds"], state["images"]
        run.averaged_from = state.get("averaged_from", 0)
    return run, size_px


@torch.no_grad()
def start_from(model: Embedder, path: Path, pictures: Tensor) -> None:
    """Fill `model` from a file of ours. Where the file has fewer blocks, the further ones change nothing at first."""
    layers = len(warm.read(path))
    fewer = Embedder(CROP_PX, blocks=(layers - 11) // 2)
    print(f"{path}: cosine to the file {warm.start(fewer, path, pictures)[0][0]:.5f}", flush=True)
    after = len(model.body) - len(fewer.body)
    for index, block in enumerate(fewer.body):
        grown = model.body[index + after if index >= len(fewer.body) - 3 else index]
        grown.load_state_dict(block.state_dict())
    model.where.load_state_dict(fewer.where.state_dict())
    model.project.load_state_dict(fewer.project.state_dict())
    for layer, norm in warm.layers_of(model):
        if norm is not None:
            # Before a batch norm a filter's length says only how fast it turns at a given rate: make all alike.
            length = layer.weight.flatten(1).norm(dim=1).clamp(min=1e-6)
            layer.weight.div_(length.reshape(-1, 1, 1, 1))
            norm.running_mean.div_(length)
            norm.running_var.div_(length.square())
    warm.adapt(model, pictures)


def load_embedder(path: Path) -> Embedder:
    """The averaged network of a checkpoint, ready to export."""
    state = torch.load(path, weights_only=True)
    model = Embedder(state["size_px"])
    model.load_state_dict(state["average"])
    model.resize(CROP_PX)
    return model.eval()


@torch.no_grad()
def even_out(model: Embedder, maps: Tensor) -> None:
    """Give all channels before the last matrix mean 0 and deviation 1 on `maps` of the body, and the answer a length of
    about 1. Its direction stays the same. int8 has one step for all channels: those that vary little would be lost.
    """
    met = model.where(maps).flatten(1)
    mean, deviation = met.mean(0), met.std(0)
    # A channel that says the same of every face is put to rest: evened out, it would be noise alone.
    alive = deviation > 1e-3 * deviation.median()
    deviation[~alive] = float("inf")
    model.where.weight.div_(deviation.reshape(-1, 1, 1, 1))
    model.where.bias.sub_(mean).div_(deviation)
    deviation[~alive] = 0
    model.project.bias.add_(model.project.weight.flatten(1) @ mean)
    model.project.weight.mul_(deviation.reshape(1, -1, 1, 1))
    length = model.project(model.where(maps)).norm(dim=1).mean()
    model.project.weight.div_(length)
    model.project.bias.div_(length)


@torch.no_grad()
def even_ranges(model: Embedder, pictures: Tensor, share: float) -> None:
    """Let the channels of a map span like ranges, without a change of the answer (Nagel et al. 2019, "Data-Free
    Quantization", equalisation): int8 has one step for all of a map, and a channel of a small range is lost in it.

    share: 0 to 1, how far this is done in the body, where a filter whose inputs are scaled rounds worse. Before the
    linear layers it is done all the way: a filter of one channel loses nothing by it.
    """
    body, reach = list(model.body), {}

    def measure(module: nn.Module, _: object, made: Tensor) -> None:
        reach[module] = made.abs().amax((2, 3)).quantile(0.98, 0)

    hooks = [module.register_forward_hook(measure) for module in (*model.body.modules(), model.where)]
    model.eval()(pictures)
    for hook in hooks:
        hook.remove()
    for at, block in enumerate(body):
        if isinstance(block, _Residual):
            _stretch(reach[block.first], [block.first[1]], [block.second[0]], share)
            continue
        # A residual block adds to the map that it reads, so all that follow on one map are scaled alike.
        same = list(itertools.takewhile(lambda b: isinstance(b, _Residual), body[at + 1 :]))
        spans = torch.stack([reach[part] for part in (block, *same, *(b.second for b in same))]).amax(0)
        writers = [block[1], *(b.second[1] for b in same)]
        if at + len(same) + 1 < len(body):
            _stretch(spans, writers, [*(b.first[0] for b in same), body[at + len(same) + 1][0]], share)
        else:
            _stretch(spans, writers, [model.where], 1.0)
    _stretch(reach[model.where], [model.where], [model.project], 1.0)


def _stretch(reach: Tensor, writers: list[nn.Module], readers: list[nn.Conv2d], share: float) -> None:
    """Scale what `writers` (norms or convolutions) say in channels of small `reach` up, and undo it in the readers."""
    scale = (reach.max() / reach.clamp(min=0.01 * reach.max())) ** share
    for writer in writers:
        writer.weight.mul_(scale.reshape(-1, *[1] * (writer.weight.ndim - 1)))
        writer.bias.mul_(scale)
    for reader in readers:
        reader.weight.div_(scale.reshape((-1, 1, 1, 1) if reader.groups > 1 else (1, -1, 1, 1)))


@torch.no_grad()
def centre_answers(model: Embedder, sets: list[NDArray[np.uint8]]) -> None:
    """Take off the answers what faces have in common: the mean of the means over sets of chips, each from one source.

    All pictures of a source share something (sharpness, light, the way they were cut) that makes strangers in it alike,
    so that a threshold from one source lets too many of another match.
    """
    means = [
        torch.cat([raw_answers(model, side, CROP_PX) for side in (chips, chips[:, :, ::-1])]).mean(0) for chips in sets
    ]
    model.project.bias.sub_(torch.stack(means).mean(0))


TAIL = 3  # blocks of the body at its last resolution


class Tail(nn.Module):
    """The body's last blocks and the linear layers, computed with the roundings of int8 (Jacob et al. 2018), so that
    they can be trained under them. Weights have their batch norms folded in, as the file will have them.
    """

    def __init__(self, model: Embedder) -> None:
        super().__init__()
        folded = [nn.utils.fuse_conv_bn_eval(conv.eval(), norm.eval()) for conv, norm in _last_convolutions(model)]
        self.convs = nn.ModuleList([*folded, copy.deepcopy(model.where), copy.deepcopy(model.project)])

    def forward(self, x: Tensor) -> Tensor:
        """Map of the block before [n, 96, 14, 14] -> embedding [n, 128]."""
        stride, first, second, last, where, project = self.convs
        x = rounded(_apply(stride, rounded(x)).relu())
        x = rounded((x + rounded(_apply(second, rounded(_apply(first, x).relu())))).relu())
        x = rounded(_apply(last, x).relu())
        return _apply(project, rounded(_apply(where, x))).flatten(1)

    @torch.no_grad()
    def write_back(self, model: Embedder) -> None:
        """Put the weights where they came from; the batch norms change nothing then."""
        for (conv, norm), ours in zip(_last_convolutions(model), self.convs[:4], strict=True):
            warm.put(conv, norm, ours.weight, ours.bias)
        model.where.load_state_dict(self.convs[4].state_dict())
        model.project.load_state_dict(self.convs[5].state_dict())


def _last_convolutions(model: Embedder) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    stride, residual, last = model.body[-TAIL:]
    return [(part[0], part[1]) for part in (stride, residual.first, residual.second, last)]


def _apply(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution whose weights are rounded to 8 bits, a scale for each filter."""
    step = conv.weight.detach().abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-9) / 127
    weight = conv.weight + ((conv.weight / step).round() * step - conv.weight).detach()
    return nn.functional.conv2d(x, weight, conv.bias, conv.stride, conv.padding, groups=conv.groups)


def rounded(x: Tensor) -> Tensor:
    """What int8 leaves of an activation, over the range of all pictures but CUT_SHARE; gradients pass.

    And up to a step more or less: two runtimes round differently, and what they make of a face must be the same.
    """
    flat = x.detach().flatten(1).float()
    low = flat.amin(1).quantile(CUT_SHARE).clamp(max=0.0)
    high = flat.amax(1).quantile(1 - CUT_SHARE).clamp(min=1e-6)
    step = (high - low) / 255
    off = 2 * torch.rand_like(x) - 1
    return x + ((x / step + off).round() * step - x).detach()


def round_while_training(model: Embedder) -> None:
    """Let the maps of the last blocks pass `rounded` whenever the model is in training mode.

    The loss ignores scale and each place's mean; nothing else keeps a map from drifting to where faces hardly differ.
    """
    stride, residual, last = model.body[-TAIL:]
    for block in (model.body[-TAIL - 1], stride, residual.first, residual.second, residual, last):
        block.register_forward_hook(lambda module, _, made: rounded(made) if module.training else made)


def settle(model: Embedder, batches: Iterator[tuple[Tensor, Tensor, Tensor]], count: int, rounds: int) -> None:
    """Train the last blocks and layers on `count` batches under int8's roundings, the blocks before them at rest.

    A run leaves maps in which faces differ by 2 % of the level: rounded to 8 bits, the answers keep a cosine of 0.74.
    """
    model.eval()
    maps, answers = [], []
    with torch.inference_mode():
        for _ in range(count):
            pictures, answer, _ = next(batches)
            with half():
                maps.append(model.body[:-TAIL](pixels(pictures)).to(torch.bfloat16))
            answers.append(answer)
        even_out(model, maps=model.body[-TAIL:](torch.cat(maps[:8]).float()))
    tail = Tail(model).to(memory_format=torch.channels_last)
    # Folded weights differ in size by orders of magnitude: each tensor moves by shares of its own.
    sizes = [(part, max(float(part.detach().square().mean().sqrt()), 1e-6)) for part in tail.parameters()]
    optimizer = torch.optim.AdamW([{"params": [part], "size": size} for part, size in sizes], weight_decay=0.0)
    losses, shuffled = [], np.random.default_rng(0)
    for index in range(rounds * count):
        if index % count == 0:
            order = shuffled.permutation(count)
        which = order[index % count]
        loss = loss_of(tail(maps[which].float()), answers[which])
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * group["size"] * rate_at(index / (rounds * count))
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if index % count == count - 1:
            print(f"last layers, round {index // count + 1} of {rounds}: loss {np.mean(losses):.4f}", flush=True)
            losses.clear()
    tail.write_back(model)


def train(arguments: argparse.Namespace) -> None:
    torch.manual_seed(arguments.seed)
    rank = 0
    if "WORLD_SIZE" in os.environ:
        distributed.init_process_group("gloo")
        rank = distributed.get_rank()
    seed = arguments.seed + 1_000_003 * rank
    arguments.out.mkdir(parents=True, exist_ok=True)
    checkpoint = arguments.out / "checkpoint.pt"
    pool = Pool(arguments.faces)
    run, size_px = load_run(checkpoint, arguments.optimizer, arguments.start, pool)
    lfw = Lfw.load(arguments.data, arguments.out / "lfw.npy") if rank == 0 else None
    total_s = arguments.minutes * 60
    feed = Feeder(pool, size_px, seed + run.images).batches()
    rounded_yet = False
    mark_s, mark_images, losses, next_look_s = run.seconds, run.images, [], run.seconds + arguments.look_s
    while run.seconds < total_s:
        started = time.monotonic()
        progress = run.seconds / total_s
        if not arguments.start and size_at(progress) != size_px:
            size_px = size_at(progress)
            pool.look()
            run = _grown(run, size_px, arguments.optimizer)
            feed = Feeder(pool, size_px, seed + run.images).batches()
        if progress >= ROUNDED_FROM and not rounded_yet:
            rounded_yet = True
            round_while_training(run.model)
        share_weight = arguments.shares * (1 - progress)  # a help on the way; at the end the answers alone count
        losses.append(_step(run, next(feed), arguments.rate * rate_at(progress), share_weight))
        # The mean of what all processes say: so all take every decision at the same step.
        run.seconds += _mean_of_all(torch.tensor(time.monotonic() - started, dtype=torch.float64)).item()
        if run.seconds >= next_look_s or run.seconds >= total_s:
            parts = pool.look()
            next_look_s = run.seconds + arguments.look_s
            if rank:
                continue
            rate = (run.images - mark_images) / (run.seconds - mark_s)
            print(
                f"{run.seconds / 60:6.1f} min of {arguments.minutes:g} {run.images:8d} images {rate:4.0f}/s", end="  "
            )
            print(f"{size_px} px  {parts} parts of blends  loss {np.mean(losses):.4f}", end="  ", flush=True)
            print(_report(run.average, pool, lfw, size_px), flush=True)
            run.save(checkpoint, size_px)
            mark_s, mark_images, losses = run.seconds, run.images, []


def _processes() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def _mean_of_all(values: Tensor) -> Tensor:
    """`values`, averaged in place over all processes."""
    if _processes() > 1:
        distributed.all_reduce(values)
        values /= _processes()
    return values


def _average_gradients(model: nn.Module) -> None:
    """Every process goes on with the mean gradient of all."""
    gradients = [p.grad for p in model.parameters()]
    joined = _mean_of_all(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, mean in zip(gradients, joined.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def _grown(run: Run, size_px: int, kind: str) -> Run:
    """The same run at another input size: only the position weights change, and their optimizer state with them."""
    saved = [o.state_dict() for o, _ in run.optimizers]
    old = run.model.where.weight.shape
    run.model.resize(size_px)
    run.average.resize(size_px)
    optimizers = optimizers_of(run.model, kind)
    for (optimizer, _), state in zip(optimizers, saved, strict=True):
        optimizer.load_state_dict(state)
        for key, values in optimizer.state.items():
            if values and next(iter(v for v in values.values() if v.ndim)).shape == old and key.shape != old:
                optimizer.state[key] = {}
    return Run(run.model, run.average, optimizers, run.seconds, run.images, run.images)


def _step(run: Run, batch: tuple[Tensor, Tensor, Tensor], rate: float, share_weight: float) -> float:
    """One step; bfloat16 where the processor multiplies it (twice as quick there), the loss in float32."""
    pictures, target, shares = batch
    with half():
        body = run.model.train().body(pixels(pictures))
    student, ours = run.model.shares(body.float())
    loss = loss_of(student, target)
    if share_weight and ours.shape[1] == shares.shape[1]:
        loss = loss + share_weight * loss_of_shares(student, ours, shares.float() * SHARE)
    loss.backward()
    if _processes() > 1:
        _average_gradients(run.model)
    for optimizer, peak in run.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * peak
        optimizer.step()
        optimizer.zero_grad()
    run.images += len(target) * _processes()
    run.follow()
    return loss.item()


def _report(model: Embedder, pool: Pool, lfw: Lfw | None, size_px: int) -> str:
    unit = embed(model, np.asarray(pool.faces.chips[: pool.held_out]), size_px)
    text = f"held-out cosine {(unit * pool.faces.answers[: pool.held_out]).sum(1).mean():.4f}"
    if lfw is not None:
        count = 1200
        used = np.unique(lfw.pairs[:count])
        unit = np.zeros((len(lfw.chips), 128), np.float32)
        unit[used] = embed(model, lfw.chips[used], size_px)
        text += f"  LFW (1,200 pairs) {100 * lfw.accuracy(unit, count):.2f} %"
    return text


def write_int8(arguments: argparse.Namespace) -> None:
    """The averaged network as int8 .tflite, calibrated on training faces; prints its nearness, and LFW if present."""
    torch.manual_seed(arguments.seed)  # of `rounded`'s noise
    model = load_embedder(arguments.out / "checkpoint.pt")
    pool = Pool(arguments.faces)
    chips = pool.faces.chips[pool.held_out : pool.held_out + CALIBRATION]
    calibration = [pixels(centre(chips[i : i + 1], CROP_PX)).contiguous() for i in range(len(chips))]
    few = pixels(centre(chips[:256], CROP_PX))
    even_ranges(model, few, 0.5)
    settle(model, Feeder(pool, CROP_PX, arguments.seed).batches(), arguments.settle, arguments.rounds)
    even_ranges(model, few, 0.0)  # what settled is uneven again before the linear layers
    centre_answers(model, read_sources(arguments.data, arguments.only, CALIBRATION, arguments.seed))
    print(export.to_int8(model, calibration[0], calibration, arguments.export, cut_share=CUT_SHARE))
    lfw = Lfw.load(arguments.data, arguments.out / "lfw.npy")
    if lfw is not None:
        runner, faces = export.Runner(arguments.export), lfw.chips
        ready = (pixels(centre(faces[i : i + 1], CROP_PX)).permute(0, 2, 3, 1).numpy() for i in range(len(faces)))
        int8 = _unit(np.concatenate([runner.run([face])[0] for face in ready]))
        print(f"LFW, {len(lfw.pairs)} pairs, faces found by YuNet, one side; best threshold, TAR at FAR 1e-3")
        for name, unit in (("float", embed(model, faces, CROP_PX)), ("int8", int8)):
            print(f"{name}: {100 * lfw.accuracy(unit, len(lfw.pairs)):.2f} %, {100 * lfw.tar(unit, 1e-3):.2f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--faces", type=Path, default=Path(".runs/faces"))
    parser.add_argument("--out", type=Path, default=Path(".runs/embedder"))
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--look-s", type=float, default=180, help="seconds between two reports")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--start", type=Path, help="a .tflite of ours whose weights a new run starts from")
    parser.add_argument("--rate", type=float, default=1.0, help="factor of the peak learning rates")
    parser.add_argument(
        "--shares", type=float, default=0.5, help="weight of what each place adds, at the start; none at the end"
    )
    parser.add_argument("--optimizer", choices=("muon", "adamw"), default="muon")
    parser.add_argument("--settle", type=int, default=600, help="batches for the last layers before an export")
    parser.add_argument("--rounds", type=int, default=15, help="how often they are learned from")
    parser.add_argument(
        "--only", default="", help="sources that an export is centred on, as given to models.training.faces"
    )
    parser.add_argument("--export", type=Path, help="train nothing; write the run's network to this .tflite")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(1)
    if arguments.export:
        write_int8(arguments)
    else:
        train(arguments)


if __name__ == "__main__":
    main()
