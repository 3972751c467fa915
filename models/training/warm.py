"""From a shipped int8 .tflite of ours back to the torch module it was made from; nothing is trained or written here.

The repository keeps no checkpoints, only the pack. `start(module, file, pictures)` lets every later training go on from
the pack. `python -m models.training.warm models/landmarks.tflite` shows how near the module then is to the file.

A file holds no batch norms: they were folded into the convolutions before them. So each norm gets what it would have
measured on `pictures`, and the scale and shift that undo it: the network computes the same, and can be trained on.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from models.training.cohort import LAYER
from models.training.export import Runner

MODELS = {
    "detector": ("models.training.detector", "Detector"),
    "landmarks": ("models.training.landmarks", "Landmarks"),
    "antispoof": ("models.training.antispoof", "Antispoof"),
    "embedder": ("models.training.embedder", "Embedder"),
}


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or dense layer of a file: weights [out, in, h, w] or [out, in], bias [out], both real numbers."""

    name: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@torch.no_grad()
def start(module: nn.Module, path: Path, pictures: Tensor) -> list[tuple[float, float]]:
    """Fill `module` with the weights of the .tflite at `path`; returns cosine and largest relative error per output.

    pictures: inputs [n, c, h, w] as the network takes them, some dozens, as they occur in training.
    ValueError where the layers of file and module are not the same.
    """
    pairs = layers_of(module)
    for (layer, norm), found in zip(pairs, matched([layer for layer, _ in pairs], read(path)), strict=True):
        put(layer, norm, torch.from_numpy(found.weight.reshape(layer.weight.shape)), torch.from_numpy(found.bias))
    adapt(module, pictures)
    return compared(module, path, pictures)


@torch.no_grad()
def put(layer: nn.Module, norm: nn.Module | None, weight: Tensor, bias: Tensor) -> None:
    """Weights with their batch norm folded in, back into both: the norm passes everything through and adds the bias."""
    layer.weight.copy_(weight)
    if norm is None:
        layer.bias.copy_(bias)
        return
    norm.weight.fill_((1 + norm.eps) ** 0.5)
    norm.bias.copy_(bias)
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0)


@torch.no_grad()
def adapt(module: nn.Module, pictures: Tensor) -> None:
    """Give every batch norm the mean and variance that it meets on `pictures`, without a change of what it answers."""
    pairs = [(layer, norm) for layer, norm in layers_of(module) if norm is not None]
    met: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def measure(layer: nn.Module, _inputs: object, output: Tensor) -> None:
        axes = [0, *range(2, output.ndim)]
        met[layer] = (output.mean(axes), output.var(axes, unbiased=False))

    hooks = [layer.register_forward_hook(measure) for layer, _ in pairs]
    training = module.training
    module.eval()(pictures)
    module.train(training)
    for hook in hooks:
        hook.remove()
    for layer, norm in pairs:
        mean, variance = met[layer]
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        norm.bias.add_((mean - norm.running_mean) * scale)
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


def layers_of(module: nn.Module) -> list[tuple[nn.Module, nn.Module | None]]:
    """Convolutions and dense layers in order of execution, each with the batch norm that follows it."""
    graph, modules = fx.Tracer().trace(module), dict(module.named_modules())
    pairs = []
    for node in graph.nodes:
        layer = modules.get(node.target) if node.op == "call_module" else None
        if isinstance(layer, nn.Conv2d | nn.Linear):
            after = [modules.get(user.target) for user in node.users if user.op == "call_module"]
            norm = after[0] if len(node.users) == 1 and after and isinstance(after[0], _NORMS) else None
            pairs.append((layer, norm))
    return pairs


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def matched(layers: Sequence[nn.Module], found: Sequence[Layer]) -> list[Layer]:
    """The file's layers in the order of the module's: each the first of its shape that is not taken yet."""
    left, chosen = list(found), []
    for layer in layers:
        shape = tuple(layer.weight.shape)
        same = next((f for f in left if _bare(f.weight.shape) == _bare(shape)), None)
        if same is None:
            raise ValueError(
                f"the file has no (further) layer of shape {shape}; left: {[f.weight.shape for f in left]}"
            )
        left.remove(same)
        chosen.append(same)
    if left:
        raise ValueError(f"the module has no layer for {[(f.name, f.weight.shape) for f in left]}")
    return chosen


def _bare(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without ones at its end: a 1 x 1 convolution and a dense layer are the same."""
    bare = list(shape)
    while len(bare) > 2 and bare[-1] == 1:
        bare.pop()
    return tuple(bare)


def read(path: Path) -> list[Layer]:
    """All convolutions and dense layers of a .tflite in order of execution, int8 weights as the numbers they mean."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    interpreter.allocate_tensors()
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    layers = []
    for op in interpreter._get_ops_details():  # noqa: SLF001  the order of execution is told nowhere else
        if op["op_name"] in {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}:
            if details[op["inputs"][1]]["name"] == LAYER.decode():
                continue  # no layer of the module: cohort.py put it behind
            weight, bias = (_real(interpreter, details[index]) for index in op["inputs"][1:3])
            if op["op_name"] == "DEPTHWISE_CONV_2D":
                weight = weight.transpose(3, 0, 1, 2)
            elif op["op_name"] == "CONV_2D":
                weight = weight.transpose(0, 3, 1, 2)
            if op["op_name"] == "DEPTHWISE_CONV_2D" and weight.shape[1] != 1:
                raise ValueError(f"{path}: {details[op['inputs'][1]]['name']} is no plain depthwise convolution")
            layers.append(Layer(details[op["inputs"][1]]["name"], weight, bias))
    return layers


def _real(interpreter: object, detail: dict) -> NDArray[np.float32]:
    value = interpreter.get_tensor(detail["index"])
    told = detail["quantization_parameters"]
    if not len(told["scales"]):
        return np.ascontiguousarray(value, np.float32)
    shape = [1] * value.ndim
    shape[told["quantized_dimension"]] = -1
    scales, zeros = told["scales"].reshape(shape), told["zero_points"].reshape(shape)
    return ((value.astype(np.float64) - zeros) * scales).astype(np.float32)


@torch.no_grad()
def compared(module: nn.Module, path: Path, pictures: Tensor) -> list[tuple[float, float]]:
    """Cosine, and largest difference over the largest answer, per output of module and file."""
    runner, training = Runner(path), module.training
    ours = module.eval()(pictures)
    module.train(training)
    ours = [out.flatten(1).numpy() for out in (ours if isinstance(ours, tuple) else (ours,))]
    inputs = pictures.permute(0, 2, 3, 1).contiguous().numpy()
    answers = [[answer.ravel() for answer in runner.run([inputs[i : i + 1]])] for i in range(len(inputs))]
    nearness = []
    for index, out in enumerate(ours):
        theirs = np.stack([answer[index] for answer in answers])
        norms = np.linalg.norm(out, axis=1) * np.linalg.norm(theirs, axis=1)
        cosine = float(np.mean((out * theirs).sum(axis=1) / (norms + 1e-12)))
        nearness.append((cosine, float(np.abs(out - theirs).max() / (np.abs(theirs).max() + 1e-12))))
    return nearness


def some_pictures(size: tuple[int, int], count: int = 48) -> Tensor:
    """Some of the training faces where they lie beside us, else noise: [count, 3, h, w]."""
    import cv2

    from models.training.scenes import data_dir, read_rgb

    files = sorted((data_dir() / "faces/train").rglob("*.jpg"))[::500][:count]
    if not files:
        return torch.rand(count, 3, *size) * 2 - 1
    pictures = np.stack([cv2.resize(read_rgb(file), size[::-1], interpolation=cv2.INTER_AREA) for file in files])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "file", type=Path, help="detector.tflite, landmarks.tflite, antispoof.tflite or embedder.tflite"
    )
    path = parser.parse_args().file
    room, name = MODELS[path.stem]
    module = getattr(importlib.import_module(room), name)()
    size = Runner(path).input_shape[1:3]
    for index, (cosine, error) in enumerate(start(module, path, some_pictures(size))):
        print(f"output {index}: cosine {cosine:.5f}, largest difference {100 * error:.2f} % of the largest answer")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
