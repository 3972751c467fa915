"""Gives the pack's embedder its cohort: what faces at large look like to it. No network is trained here.

`python -m models.training.cohort models --data ../shared/data`, after every export and before `seal`. Up to COUNT
pictures of every source go through the pack's own pipeline, their templates fall into CENTRES groups (k-means), and the
middles of these, unit vectors, become the weights of one more layer at the file's end. Its output is how alike a face
is to each; the embedding stays as it was, bit for bit. A cohort that is there is replaced.

What it is for: strangers are near to each other where a face has many of its kind, and a threshold that suits all lets
too many of these match (edge/session/comparison.py). The pictures that this is measured on stay out of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import flatbuffers
import numpy as np
from numpy.typing import NDArray

from edge import durable
from edge.errors import CaptureError
from edge.vision.pack import MANIFEST_NAME, EmbedderSpec, Manifest, Meaning, Pack, Role, parse_manifest
from edge.vision.pipeline import Pipeline

COUNT = 1000  # pictures of a source
CENTRES = 128
MEASURED_ON = "utk-adults"  # by models.evaluation.groups
LAYER = b"cohort"  # name of the weights


def pipeline_of(folder: Path, manifest: Manifest) -> Pipeline:
    """The pack's, whether or not its embedder has a cohort already; files need not be sealed."""
    bare = manifest.model_copy(update={"embedder": without_cohort(manifest.embedder)})
    return Pipeline(Pack(bare, bytes(32), {role: (folder / bare.spec(role).file).read_bytes() for role in Role}))


def without_cohort(spec: EmbedderSpec) -> EmbedderSpec:
    """The same table for a file that gives the embedding alone."""
    outputs = tuple(o for o in spec.outputs if all(part.meaning is not Meaning.COHORT for part in o.holds))
    return spec.model_copy(update={"outputs": outputs, "cohort_nearest": None})


def templates(pipeline: Pipeline, folder: Path, rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """Of up to COUNT pictures below `folder`, drawn; those without a face are left out."""
    files, found = sorted(folder.rglob("*.jpg")), []
    for index in rng.permutation(len(files))[:COUNT]:
        picture = cv2.imread(str(files[index]), cv2.IMREAD_COLOR)
        try:
            found.append(pipeline.central_portrait(picture).vector)
        except CaptureError:
            continue
    return found


def centres(vectors: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """Middles [count, d] of the groups into which unit vectors [n, d] fall, themselves unit vectors."""
    cv2.setRNGSeed(seed)
    until = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 50, 1e-4)
    _, _, middles = cv2.kmeans(vectors, count, None, until, 3, cv2.KMEANS_PP_CENTERS)
    return _unit(middles)


def with_cohort(content: bytes, faces: NDArray[np.float32]) -> bytes:
    """The .tflite with one more output: products [1, n] of its first output [1, d] with `faces` [n, d], float32.

    ValueError where the file does not answer in one row of d numbers.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    for buffer in model.buffers:
        if buffer.offset:  # the exporter puts weights behind the tables, and these are written anew here
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    graph = model.subgraphs[0]
    answer = graph.tensors[graph.outputs[0]]
    if list(answer.shape) != [1, faces.shape[1]]:
        raise ValueError(f"the file answers in {list(answer.shape)}, the cohort has {faces.shape[1]} numbers a face")
    weights = next((tensor for tensor in graph.tensors if tensor.name == LAYER), None)
    if weights is None:
        weights = _appended(schema, model, graph.outputs[0], len(faces))
    elif list(weights.shape) != list(faces.shape):
        raise ValueError(f"the file has a cohort of {list(weights.shape)}: export the embedder anew for another size")
    model.buffers[weights.buffer].data = np.frombuffer(faces.astype("<f4").tobytes(), np.uint8)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _appended(schema: Any, model: Any, answer: int, count: int) -> Any:
    """The layer at the end of the graph, with its weights' tensor still empty, which is returned."""
    graph = model.subgraphs[0]
    kinds, width = schema.BuiltinOperator, int(graph.tensors[answer].shape[1])

    def tensor(name: bytes, shape: list[int]) -> int:
        model.buffers.append(schema.BufferT())
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, shape, schema.TensorType.FLOAT32, len(model.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    def operator(kind: int, inputs: list[int], output: int, options: Any = None) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = kind
        code.version = 1
        model.operatorCodes.append(code)
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = len(model.operatorCodes) - 1, inputs, [output]
        if options is not None:
            made.builtinOptionsType, made.builtinOptions = schema.BuiltinOptions.FullyConnectedOptions, options
        graph.operators.append(made)

    real = answer
    if graph.tensors[answer].type != schema.TensorType.FLOAT32:
        real = tensor(b"embedding_real", [1, width])
        operator(kinds.DEQUANTIZE, [answer], real)
    weights, output = tensor(LAYER, [count, width]), tensor(LAYER + b"_likeness", [1, count])
    operator(kinds.FULLY_CONNECTED, [real, weights, -1], output, schema.FullyConnectedOptionsT())
    graph.outputs = [*graph.outputs, output]
    for signature in model.signatureDefs or ():
        told = schema.TensorMapT()
        told.name, told.tensorIndex = LAYER, output
        signature.outputs.append(told)
    return graph.tensors[weights]


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pack", type=Path, help="folder with pack.toml and its models")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with faces/train/SOURCE")
    parser.add_argument("--only", default="", help="sources whose names begin so")
    parser.add_argument("--without", default=MEASURED_ON, help="no source whose name holds this")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    manifest = parse_manifest((given.pack / MANIFEST_NAME).read_bytes())
    pipeline, rng = pipeline_of(given.pack, manifest), np.random.default_rng(given.seed)
    sources = sorted(path for path in (given.data / "faces/train").glob(f"{given.only}*") if path.is_dir())
    found = [templates(pipeline, path, rng) for path in sources if not given.without or given.without not in path.name]
    faces = centres(np.concatenate([np.stack(some) for some in found if some]), CENTRES, given.seed)
    file = given.pack / manifest.embedder.file
    durable.write(file, with_cohort(file.read_bytes(), faces), durable.PUBLIC)
    print(f"{file}: {CENTRES} middles of {sum(map(len, found))} faces from {len(found)} sources")


if __name__ == "__main__":
    main()
