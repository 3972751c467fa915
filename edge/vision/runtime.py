"""The only place that runs a model: LiteRT, else tflite-runtime; what outputs mean is decoded beside it.

A model is opened from bytes that the pack has verified, never from a path: between check and use nothing can change.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import PackError
from edge.vision.pack import Activation, InputSpec, Meaning, ModelSpec, OutputSpec

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]


class Model:
    """One model, one interpreter. Not thread-safe."""

    def __init__(self, spec: ModelSpec, content: bytes, *, threads: int = 1) -> None:
        """PackError where the file is no model, or its tensors are not those of `spec`."""
        self._spec = spec
        try:
            self._interpreter: Any = litert().Interpreter(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
            inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        except (ValueError, RuntimeError) as exc:
            reason = str(exc).strip().splitlines()
            raise PackError(
                f"{spec.file} is no model that the runtime can open: {reason[0] if reason else 'no reason given'}",
                todo="install a pack made for this version",
            ) from exc
        check_tensors(spec, inputs, outputs)
        self._input_index: int = inputs[0]["index"]
        self._table = _lookup(spec.input, inputs[0])
        # Kept, so that `wipe` reaches every copy of the picture.
        self._ordered = np.zeros(spec.input.shape[1:], np.uint8)
        self._filled = np.zeros(spec.input.shape, self._table.dtype)
        self._outputs = [(output, outputs[output.tensor]) for output in spec.outputs]

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    def run(self, picture_bgr: Image) -> dict[Meaning, FloatArray]:
        """Real values by meaning, each (rows, columns), from a picture (height, width, 3) of the input's size."""
        expected = self._spec.input.shape[1:]
        if picture_bgr.shape != expected or picture_bgr.dtype != np.uint8:
            raise ValueError(f"{self._spec.file} takes {expected} uint8, not {picture_bgr.shape} {picture_bgr.dtype}")
        ordered = picture_bgr
        if self._spec.input.colour == "rgb":
            ordered = cast("Image", cv2.cvtColor(picture_bgr, cv2.COLOR_BGR2RGB, dst=self._ordered))
        cv2.LUT(ordered, self._table, dst=self._filled[0])
        self._interpreter.set_tensor(self._input_index, self._filled)
        try:
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as exc:
            raise PackError(f"{self._spec.file} fails while it runs", todo="install another pack") from exc
        return self._collect()

    def wipe(self) -> None:
        """Overwrite what the last picture left in the tensors, by running a black one."""
        self.run(np.zeros(self._spec.input.shape[1:], np.uint8))

    def _collect(self) -> dict[Meaning, FloatArray]:
        found: dict[Meaning, list[FloatArray]] = {}
        for output, detail in self._outputs:
            values = _dequantised(self._interpreter.get_tensor(detail["index"]), detail)
            values = values.reshape(-1, output.shape[-1])
            for part in output.holds:
                found.setdefault(part.meaning, []).append(values[:, part.first : part.first + part.count])
        return {m: parts[0] if len(parts) == 1 else np.concatenate(parts) for m, parts in found.items()}


def probability(values: FloatArray, activation: Activation) -> FloatArray:
    """Model outputs (..., columns) as probabilities 0..1."""
    if activation is Activation.PROBABILITY:
        return np.clip(values, 0.0, 1.0)
    if activation is Activation.LOGIT:
        return cast("FloatArray", 1.0 / (1.0 + np.exp(-np.clip(values, -60.0, 60.0))))
    shifted = np.exp(values - values.max(axis=-1, keepdims=True))
    return cast("FloatArray", shifted / shifted.sum(axis=-1, keepdims=True))


def litert() -> ModuleType:
    """The interpreter of whichever runtime is installed; PackError where none is."""
    try:
        from ai_edge_litert import interpreter  # noqa: PLC0415 - one of two, and neither is needed to load a pack
    except ImportError:
        try:
            from tflite_runtime import interpreter  # noqa: PLC0415
        except ImportError as exc:
            raise PackError(
                "neither ai-edge-litert nor tflite-runtime is installed", todo="pip install ai-edge-litert"
            ) from exc
    return cast("ModuleType", interpreter)


def check_tensors(spec: ModelSpec, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
    """PackError names every way in which the interpreter's tensors are not those of the manifest."""
    if len(inputs) == 1:
        wrong = _misfits("input", spec.input, inputs[0])
    else:
        wrong = [f"it has {len(inputs)} inputs, one is expected"]
    for output in spec.outputs:
        if output.tensor >= len(outputs):
            wrong.append(f"output {output.tensor} does not exist: it has {len(outputs)} output(s)")
        else:
            wrong += _misfits(f"output {output.tensor}", output, outputs[output.tensor])
    if wrong:
        raise PackError(
            f"{spec.file}: {'; '.join(wrong)}", todo="mend the manifest that you made, or install the pack again"
        )


def _misfits(what: str, told: InputSpec | OutputSpec, detail: dict[str, Any]) -> list[str]:
    shape, dtype = tuple(int(n) for n in detail["shape"]), np.dtype(detail["dtype"]).name
    if shape != tuple(told.shape) or dtype != told.dtype:
        return [f"{what} is {list(shape)} {dtype}, the manifest says {list(told.shape)} {told.dtype}"]
    # One scale for the whole tensor: inputs and outputs of activations have nothing else, weights may.
    if dtype != "float32" and not _quantisation(detail)[0] > 0:
        return [f"{what} is {dtype} without a scale"]
    return []


def _lookup(told: InputSpec, detail: dict[str, Any]) -> npt.NDArray[Any]:
    """(1, 256, 3): what each pixel value becomes in the input tensor; scaling and quantising in one step."""
    pixels = np.arange(256, dtype=np.float64)[:, np.newaxis]
    real: npt.NDArray[np.float64] = pixels * np.array(told.scale) + np.array(told.offset)
    if told.dtype == "float32":
        return real.astype(np.float32)[np.newaxis]
    scale, zero = _quantisation(detail)
    limits = np.iinfo(told.dtype)
    quantised: npt.NDArray[Any] = np.clip(np.rint(real / scale) + zero, limits.min, limits.max).astype(told.dtype)
    return quantised[np.newaxis]


def _dequantised(values: npt.NDArray[Any], detail: dict[str, Any]) -> FloatArray:
    if values.dtype == np.float32:
        return values
    scale, zero = _quantisation(detail)
    return (values.astype(np.float32) - np.float32(zero)) * np.float32(scale)


def _quantisation(detail: dict[str, Any]) -> tuple[float, int]:
    scale, zero = detail["quantization"]
    return float(scale), int(zero)
