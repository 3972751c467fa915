"""From a trained torch module to an int8 .tflite: shared by all models. No network is defined or trained here.

The file that comes out takes NHWC input, has batch norms folded into the convolutions, and weights per channel.
"""

import copy
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn.utils import fuse_conv_bn_eval

Sample = Tensor | Sequence[Tensor]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and how near its answers are to torch's: a cosine and a largest relative error per output.

    noise: of every activation by name, root mean square of what int8 changes over that of the float value, worst first.
    """

    path: Path
    size_bytes: int
    cosine: tuple[float, ...]
    error: tuple[float, ...]
    noise: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        nearness = ", ".join(
            f"output {i}: cosine {c:.5f}, error {e:.4f}"
            for i, (c, e) in enumerate(zip(self.cosine, self.error, strict=True))
        )
        worst = ", ".join(
            f"{100 * share:.1f} % in {name.split(';')[0].rsplit('/', 1)[-1]}" for name, share in self.noise[:3]
        )
        return f"{self.path} {self.size_bytes:,} bytes; {nearness}; noise of {len(self.noise)} tensors at most {worst}"


def to_int8(
    module: nn.Module,
    sample_inputs: Sample,
    calibration: Iterable[Sample],
    out_path: Path,
    *,
    float_input: bool = False,
    float_output: bool = False,
    float_ops: Sequence[str] = (),
    outputs: Sequence[int] = (),
    cut_share: float = 0.02,
    check: int = 32,
) -> Exported:
    """Converts, calibrates, quantises, writes and compares.

    module: takes float NCHW tensors; put into eval mode, batch norm folded; left as it was.
    sample_inputs: one tensor [1, c, h, w] (or several) that fixes the shapes.
    calibration: some hundred such inputs, as they occur in use; the first `check` of them serve the comparison too.
    float_input, float_output: leave the file's inputs or outputs float32 (a (de)quantise operation is put there).
    float_ops: regular expressions of tensor names whose operation stays in float32 (see `tensor_names`).
    cut_share: of the calibration inputs, this share may exceed the range of an activation (never of an input).
    outputs: indices of module outputs that are moved from NCHW to NHWC (maps); vectors need none.
    """
    import litert_torch
    from ai_edge_quantizer import quantizer, recipe

    samples = _as_tuple(sample_inputs)
    data = [_as_tuple(sample) for sample in calibration]
    images = [index for index, tensor in enumerate(samples) if tensor.ndim == 4]
    folded = fold(module)
    channels_last = litert_torch.to_channel_last_io(folded, args=images, outputs=list(outputs)).eval()
    model = litert_torch.convert(channels_last, tuple(_nhwc(tensor) for tensor in samples))
    out_path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        float_path = Path(folder) / "float.tflite"
        model.export(str(float_path))
        names = _input_names(float_path)
        fed = [{name: _nhwc(t).numpy() for name, t in zip(names, sample, strict=True)} for sample in data]
        work = quantizer.Quantizer(str(float_path), recipe.static_wi8_ai8())
        for expression in float_ops:
            work.update_quantization_recipe(expression, "*", algorithm_key="no_quantize")
        if float_input:
            work.update_quantization_recipe(".*", "INPUT", algorithm_key="no_quantize")
        if float_output:
            work.update_quantization_recipe(".*", "OUTPUT", algorithm_key="no_quantize")
        found = work.calibrate({"serving_default": fed}, num_threads=1)
        # The calibrator keeps moving averages of the extremes, which cuts off what half of the pictures hold: with the
        # embedder the int8 answers had a cosine of 0.9952 to the float ones, with these ranges 0.9987.
        for name, (lows, highs) in extremes(float_path, fed).items():
            if name in found and found[name].get("max") is not None and np.size(found[name]["max"]) == 1:
                cut = 0.0 if name in {f"serving_default_{given}" for given in names} else cut_share
                ends = {"min": np.quantile(lows, cut), "max": np.quantile(highs, 1 - cut)}
                found[name] |= {end: np.full_like(found[name][end], value) for end, value in ends.items()}
        result = work.quantize(found)
        out_path.unlink(missing_ok=True)
        result.export_model(str(out_path), overwrite=True)
        noise = noise_by_tensor(float_path, out_path, fed[:8])
    return _compared(channels_last, data[:check], out_path, noise)


def fold(module: nn.Module) -> nn.Module:
    """A copy in eval mode whose batch norms are folded into the convolution or linear layer before them.

    Works on what torch.fx can trace; a norm behind something else stays (the converter makes multiply and add of it).
    """
    traced = fx.symbolic_trace(copy.deepcopy(module).eval())
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        before = node.args[0] if node.args else None
        if (
            node.op != "call_module"
            or not isinstance(before, fx.Node)
            or before.op != "call_module"
            or len(before.users) != 1
        ):
            continue
        norm, layer = modules[node.target], modules[before.target]
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and isinstance(layer, nn.Conv2d | nn.Linear):
            fused = (
                fuse_conv_bn_eval(layer, norm)
                if isinstance(layer, nn.Conv2d)
                else torch.nn.utils.fuse_linear_bn_eval(layer, norm)
            )
            parent, _, name = str(before.target).rpartition(".")
            setattr(traced.get_submodule(parent), name, fused)
            modules[str(before.target)] = fused
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.graph.lint()
    traced.recompile()
    return traced


def tensor_names(path: Path) -> list[str]:
    """Names of a .tflite's tensors, for float_ops."""
    from ai_edge_litert.interpreter import Interpreter

    return [detail["name"] for detail in Interpreter(str(path)).get_tensor_details()]


def extremes(
    float_path: Path, fed: Sequence[dict[str, NDArray[np.float32]]]
) -> dict[str, tuple[list[float], list[float]]]:
    """Smallest and largest value of every float tensor for every sample (named inputs) of a float .tflite."""
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # keeping all tensors is meant for debugging, says the interpreter: so it is used
        interpreter = Interpreter(str(float_path), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    run = interpreter.get_signature_runner("serving_default")
    constant: set[str] = set()
    found: dict[str, tuple[list[float], list[float]]] = {}
    for sample in fed:
        run(**sample)
        for detail in interpreter.get_tensor_details():
            name = detail["name"]
            if detail["dtype"] is not np.float32 or name in constant:
                continue
            try:
                value = interpreter.get_tensor(detail["index"])
            except ValueError:  # a tensor that the optimised graph no longer fills
                constant.add(name)
                continue
            if value.size:
                lows, highs = found.setdefault(name, ([], []))
                lows.append(float(value.min()))
                highs.append(float(value.max()))
    return found


def noise_by_tensor(
    float_path: Path, int8_path: Path, fed: Sequence[dict[str, NDArray[np.float32]]]
) -> tuple[tuple[str, float], ...]:
    """Root mean square of what int8 changes in each activation, over that of its float value; worst first."""
    changed: dict[str, list[float]] = {}
    truth = [_activations(float_path, sample) for sample in fed]
    answers = [_activations(int8_path, sample) for sample in fed]
    for a, b in zip(truth, answers, strict=True):
        for name in a.keys() & b.keys():
            if a[name].shape == b[name].shape:
                power = float(np.square(a[name]).mean())
                changed.setdefault(name, []).append(float(np.square(a[name] - b[name]).mean()) / (power + 1e-12))
    return tuple(sorted(((n, float(np.sqrt(np.mean(v)))) for n, v in changed.items()), key=lambda pair: -pair[1]))


def _activations(path: Path, sample: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Every tensor that depends on the sample, as real numbers, by name."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = Interpreter(
            str(path),
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), sample.values(), strict=True):
        scale, zero = detail["quantization"]
        given = np.clip(np.round(value / scale) + zero, -128, 127) if detail["dtype"] is np.int8 else value
        interpreter.set_tensor(detail["index"], given.astype(detail["dtype"]))
    interpreter.invoke()
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    made = {index for op in interpreter._get_ops_details() for index in op["outputs"]}  # noqa: SLF001
    found = {}
    for index in made:
        value = interpreter.get_tensor(index).astype(np.float32)
        scale, zero = details[index]["quantization"]
        found[details[index]["name"]] = (value - zero) * scale if details[index]["dtype"] is np.int8 else value
    return found


class Runner:
    """Runs a .tflite on real-valued NHWC inputs, for checks; the product has its own wrapper."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._inputs = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of the first input, NHWC."""
        return tuple(int(n) for n in self._inputs[0]["shape"])

    def run(self, inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        for detail, real in zip(self._inputs, inputs, strict=True):
            scale, zero = detail["quantization"]
            value = np.clip(np.round(real / scale) + zero, -128, 127) if detail["dtype"] is np.int8 else real
            self._interpreter.set_tensor(detail["index"], value.astype(detail["dtype"]))
        self._interpreter.invoke()
        answers = []
        for detail in self._outputs:
            value = self._interpreter.get_tensor(detail["index"]).astype(np.float32)
            scale, zero = detail["quantization"]
            answers.append((value - zero) * scale if detail["dtype"] is np.int8 else value)
        return answers


def _as_tuple(sample: Sample) -> tuple[Tensor, ...]:
    return (sample,) if isinstance(sample, Tensor) else tuple(sample)


def _nhwc(tensor: Tensor) -> Tensor:
    return tensor.permute(0, 2, 3, 1).contiguous() if tensor.ndim == 4 else tensor


def _input_names(path: Path) -> list[str]:
    from ai_edge_litert.interpreter import Interpreter

    return list(Interpreter(str(path)).get_signature_list()["serving_default"]["inputs"])


@torch.inference_mode()
def _compared(
    channels_last: nn.Module,
    data: Sequence[tuple[Tensor, ...]],
    path: Path,
    noise: tuple[tuple[str, float], ...],
) -> Exported:
    runner, truth, answers = Runner(path), [], []
    for sample in data:
        real = channels_last(*(_nhwc(tensor) for tensor in sample))
        truth.append([t.numpy().ravel() for t in _as_tuple(real)])
        answers.append([a.ravel() for a in runner.run([_nhwc(tensor).numpy() for tensor in sample])])
    cosine, error = [], []
    for index in range(len(truth[0])):
        a, b = np.stack([t[index] for t in truth]), np.stack([t[index] for t in answers])
        cosine.append(float(np.mean((a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1) + 1e-12))))
        error.append(float(np.abs(a - b).max() / (np.abs(a).max() + 1e-12)))
    return Exported(path, path.stat().st_size, tuple(cosine), tuple(error), noise)
