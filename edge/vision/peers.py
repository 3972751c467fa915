"""Public models that do the same work, for `vouch bench` alone: they run beside ours and serve nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import PackError
from edge.vision.picture import Image
from edge.vision.runtime import litert

Task = Callable[[int], object]


def peer_tasks(folder: Path, frames: list[Image], threads: int) -> dict[str, Task]:
    """YuNet, the 468-point mesh, both MiniFASNets and MobileFaceNet in floating point, each from pixels to numbers.

    PackError where the folder lacks one.
    """
    for name in ("yunet_n_320_320.onnx", *_CROPS.values()):
        if not (folder / name).is_file():
            raise PackError(
                f"{folder / name} is missing", todo="name the folder of the peers with --peers, or leave it out"
            )
    tasks: dict[str, Task] = {"YuNet 320 (OpenCV)": _yunet(folder / "yunet_n_320_320.onnx", frames)}
    crop = _middle(frames[0])
    for name, file in _CROPS.items():
        path = folder / file
        tasks[name] = _onnx(path, crop) if path.suffix == ".onnx" else _tflite(path, crop, threads)
    return tasks


_CROPS = {
    "468-point mesh": "mp_face_landmark.tflite",
    "MiniFASNet V2 (OpenCV)": "MiniFASNetV2_2.7_80x80.onnx",
    "MiniFASNet V1SE (OpenCV)": "MiniFASNetV1SE_4.0_80x80.onnx",
    "MobileFaceNet float": "mobilefacenet_fp16.tflite",
}


def _yunet(path: Path, frames: list[Image]) -> Task:
    size = (320, round(320 * frames[0].shape[0] / frames[0].shape[1]))
    detector: Any = cv2.FaceDetectorYN.create(str(path), "", size)

    def detect(k: int) -> object:
        return detector.detect(cv2.resize(frames[k % len(frames)], size, interpolation=cv2.INTER_AREA))

    return detect


def _onnx(path: Path, crop: Image) -> Task:
    net: Any = cv2.dnn.readNetFromONNX(str(path))

    def run(_: int) -> object:
        net.setInput(cv2.dnn.blobFromImage(crop, 1.0, (80, 80)))
        return net.forward()

    return run


def _tflite(path: Path, crop: Image, threads: int) -> Task:
    interpreter: Any = litert().Interpreter(model_content=path.read_bytes(), num_threads=threads)
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    height, width = (int(n) for n in detail["shape"][1:3])

    def run(_: int) -> object:
        rgb = cv2.cvtColor(cv2.resize(crop, (width, height)), cv2.COLOR_BGR2RGB)
        value: npt.NDArray[np.float32] = rgb.astype(np.float32) / np.float32(127.5) - np.float32(1)
        interpreter.set_tensor(detail["index"], value[np.newaxis])
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    return run


def _middle(frame: Image) -> Image:
    side = min(frame.shape[:2])
    top, left = (frame.shape[0] - side) // 2, (frame.shape[1] - side) // 2
    return frame[top : top + side, left : left + side]
