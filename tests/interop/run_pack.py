"""Runs every model of the default pack on fixed pictures in whichever runtime it is told to use; prints nothing.

python tests/interop/run_pack.py ai_edge_litert|tflite_runtime OUT.npz
"""

import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
RUNTIMES = ("ai_edge_litert", "tflite_runtime")


def main(runtime: str, out: str) -> None:
    for other in RUNTIMES:
        if other != runtime:
            sys.modules[other] = None  # type: ignore[assignment]  # as on a machine where it is not installed
    sys.path.insert(0, str(ROOT))
    from edge.vision.pack import Pack, Role
    from edge.vision.runtime import Model, litert

    assert litert().__name__.startswith(runtime)
    pack = Pack.load(ROOT / "models")
    face = cv2.imread(str(ROOT / "models" / "bench.jpg"))
    random = np.random.default_rng(1)
    answers = {}
    for role in Role:
        spec = pack.manifest.spec(role)
        model = Model(spec, pack.contents[role])
        size = (spec.input.width_px, spec.input.height_px)
        pictures = [
            cv2.resize(face, size, interpolation=cv2.INTER_LINEAR),
            cv2.resize(face[:, ::-1], size, interpolation=cv2.INTER_LINEAR),
            random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8),
        ]
        for number, picture in enumerate(pictures):
            for meaning, values in model.run(np.ascontiguousarray(picture)).items():
                answers[f"{role.value}/{meaning.value}/{number}"] = values
    np.savez(out, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
