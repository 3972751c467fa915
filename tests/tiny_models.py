"""Builds tiny .tflite models and packs of them at test time: each output is a known function of the mean colour.

The graph: mean over height and width -> for each output a fully connected layer -> its shape. So a test can tell that
colour order, scaling and quantising are right, and no binary file has to be kept.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

FLOAT, INT32, INT8 = schema.TensorType.FLOAT32, schema.TensorType.INT32, schema.TensorType.INT8


@dataclass
class Output:
    """`weights` (n, 3) and `bias` (n,) on the mean of the three input channels; n is the product of `shape`."""

    shape: tuple[int, ...]
    weights: np.ndarray | None = None
    bias: np.ndarray | None = None

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


@dataclass
class _Graph:
    tensors: list = field(default_factory=list)
    buffers: list = field(default_factory=lambda: [schema.BufferT()])
    operators: list = field(default_factory=list)

    def tensor(self, name, shape, dtype=FLOAT, data=None, quantization=None) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name.encode(), list(shape), dtype
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            self.buffers.append(buffer)
            tensor.buffer = len(self.buffers) - 1
        if quantization is not None:
            told = schema.QuantizationParametersT()
            told.scale, told.zeroPoint = [quantization[0]], [quantization[1]]
            tensor.quantization = told
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def operator(self, code, inputs, outputs, kind, options) -> None:
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        self.operators.append(operator)


_CODES = (
    schema.BuiltinOperator.MEAN,
    schema.BuiltinOperator.FULLY_CONNECTED,
    schema.BuiltinOperator.RESHAPE,
    schema.BuiltinOperator.DEQUANTIZE,
    schema.BuiltinOperator.QUANTIZE,
)


def build(height: int, width: int, outputs: list[Output], *, int8: tuple[float, int] | None = None) -> bytes:
    """The model's bytes. With `int8` = (scale, zero point) input and outputs are int8 with that quantisation."""
    graph = _Graph()
    shape = (1, height, width, 3)
    picture = graph.tensor("picture", shape, INT8 if int8 else FLOAT, quantization=int8)
    real = picture
    if int8:
        real = graph.tensor("real", shape)
        graph.operator(3, [picture], [real], schema.BuiltinOptions.DequantizeOptions, schema.DequantizeOptionsT())
    axes = graph.tensor("axes", (2,), INT32, np.array([1, 2], np.int32))
    mean = graph.tensor("mean", (1, 3))
    reducer = schema.ReducerOptionsT()
    reducer.keepDims = False
    graph.operator(0, [real, axes], [mean], schema.BuiltinOptions.ReducerOptions, reducer)
    ends = [_head(graph, mean, output, index, int8) for index, output in enumerate(outputs)]
    return _packed(graph, [picture], ends)


def _head(graph: _Graph, mean: int, output: Output, index: int, int8: tuple[float, int] | None) -> int:
    weights = np.zeros((output.size, 3), np.float32) if output.weights is None else output.weights.astype(np.float32)
    bias = np.zeros(output.size, np.float32) if output.bias is None else output.bias.astype(np.float32)
    w = graph.tensor(f"w{index}", weights.shape, data=weights)
    b = graph.tensor(f"b{index}", bias.shape, data=bias)
    flat = graph.tensor(f"flat{index}", (1, output.size))
    kind = schema.BuiltinOptions.FullyConnectedOptions
    graph.operator(1, [mean, w, b], [flat], kind, schema.FullyConnectedOptionsT())
    told = graph.tensor(f"shape{index}", (len(output.shape),), INT32, np.array(output.shape, np.int32))
    end = graph.tensor(f"out{index}", output.shape)
    options = schema.ReshapeOptionsT()
    options.newShape = list(output.shape)
    graph.operator(2, [flat, told], [end], schema.BuiltinOptions.ReshapeOptions, options)
    if not int8:
        return end
    small = graph.tensor(f"int8_{index}", output.shape, INT8, quantization=int8)
    graph.operator(4, [end], [small], schema.BuiltinOptions.QuantizeOptions, schema.QuantizeOptionsT())
    return small


def _packed(graph: _Graph, inputs: list[int], outputs: list[int]) -> bytes:
    subgraph = schema.SubGraphT()
    subgraph.tensors, subgraph.operators = graph.tensors, graph.operators
    subgraph.inputs, subgraph.outputs = inputs, outputs
    codes = []
    for value in _CODES:
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = value, min(value, 127), 1
        codes.append(code)
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, codes, [subgraph], graph.buffers
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


MANIFEST = """\
format = 1
name = "tiny"
version = "1.0"
licence = "Apache-2.0"

[detector]
file = "detector.tflite"
sha256 = "{detector_sha256}"
size_bytes = {detector_size}
licence = "Apache-2.0"
grids = [{{ stride_px = 32 }}]
box = "edges"
unit = "stride"
keypoints = [0, 1, 2, 3, 4]
score = "logit"
score_min = 0.5
overlap_max = 0.4
input = {{ shape = [1, 64, 96, 3], dtype = "float32", colour = "rgb", scale = [1, 1, 1], offset = [0, 0, 0] }}
[[detector.outputs]]
tensor = 0
shape = [1, 6, 15]
dtype = "float32"
holds = [
  {{ meaning = "score", count = 1 }},
  {{ meaning = "box", first = 1, count = 4 }},
  {{ meaning = "keypoints", first = 5, count = 10 }},
]

[landmarks]
file = "landmarks.tflite"
sha256 = "{landmarks_sha256}"
size_bytes = {landmarks_size}
licence = "Apache-2.0"
unit = "crop"
presence = "logit"
presence_min = 0.5
input = {{ shape = [1, 32, 32, 3], dtype = "float32", colour = "rgb", scale = [1, 1, 1], offset = [0, 0, 0] }}
outputs = [
  {{ tensor = 0, shape = [1, 276], dtype = "float32", holds = [{{ meaning = "points", count = 276 }}] }},
  {{ tensor = 1, shape = [1, 1], dtype = "float32", holds = [{{ meaning = "presence", count = 1 }}] }},
]

[antispoof]
file = "antispoof.tflite"
sha256 = "{antispoof_sha256}"
size_bytes = {antispoof_size}
licence = "Apache-2.0"
activation = "logit"
bona_fide_min = 0.5
input = {{ shape = [1, 32, 32, 3], dtype = "float32", colour = "rgb", scale = [1, 1, 1], offset = [0, 0, 0] }}
outputs = [{{ tensor = 0, shape = [1, 1], dtype = "float32", holds = [{{ meaning = "bona_fide", count = 1 }}] }}]

[embedder]
file = "embedder.tflite"
sha256 = "{embedder_sha256}"
size_bytes = {embedder_size}
licence = "Apache-2.0"
match = [{{ fmr_ppm = 10000, score = 0.3 }}, {{ fmr_ppm = 1000, score = 0.4 }}, {{ fmr_ppm = 100, score = 0.5 }}]
input = {{ shape = [1, 32, 32, 3], dtype = "float32", colour = "rgb", scale = [1, 1, 1], offset = [0, 0, 0] }}
outputs = [{{ tensor = 0, shape = [1, 8], dtype = "float32", holds = [{{ meaning = "embedding", count = 8 }}] }}]
"""


def models() -> dict[str, bytes]:
    """Four models of the manifest's shapes; the embedder's answer depends on the picture's colour."""
    rng = np.random.default_rng(1)
    return {
        "detector": build(64, 96, [Output((1, 6, 15))]),
        "landmarks": build(32, 32, [Output((1, 276)), Output((1, 1))]),
        "antispoof": build(32, 32, [Output((1, 1))]),
        "embedder": build(32, 32, [Output((1, 8), rng.normal(0, 1, (8, 3)), rng.normal(0, 1, 8))]),
    }


def write_pack(folder: Path, manifest: str = MANIFEST, **replaced: bytes) -> Path:
    """A pack in `folder` whose manifest states the right hash and size of every model file that is written."""
    folder.mkdir(parents=True, exist_ok=True)
    values: dict[str, object] = {}
    for name, content in (models() | replaced).items():
        (folder / f"{name}.tflite").write_bytes(content)
        values[f"{name}_sha256"], values[f"{name}_size"] = hashlib.sha256(content).hexdigest(), len(content)
    (folder / "pack.toml").write_text(manifest.format(**values), encoding="utf-8")
    return folder
