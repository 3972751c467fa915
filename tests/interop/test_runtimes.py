"""The pack gives the same answers in ai-edge-litert and in tflite-runtime 2.14, which ends at Python 3.11 and numpy 1."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("run_pack.py")
OTHER = SCRIPT.parents[2] / ".venv-tflite" / "bin" / "python"
ALIKE = 0.999  # cosine of all answers of an output


def answers(python: Path | str, runtime: str, out: Path) -> dict[str, np.ndarray]:
    environ = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    ran = subprocess.run(
        [python, SCRIPT, runtime, out], capture_output=True, text=True, timeout=100, check=False, env=environ
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    with np.load(out) as stored:
        return dict(stored)


def test_both_runtimes_agree_on_every_output(tmp_path: Path) -> None:
    other = Path(os.environ.get("VOUCH_TFLITE_PYTHON", OTHER))
    if not other.exists():
        pytest.skip(f"no environment with tflite-runtime at {other} (make .venv-tflite/ready, Python 3.11)")
    ours = answers(sys.executable, "ai_edge_litert", tmp_path / "ours.npz")
    theirs = answers(other, "tflite_runtime", tmp_path / "theirs.npz")
    assert ours.keys() == theirs.keys()
    for name in sorted({name.rpartition("/")[0] for name in ours}):
        # All pictures together: a single logit has no direction of its own.
        a, b = (
            np.concatenate([answer.ravel() for key, answer in side.items() if key.rpartition("/")[0] == name]).astype(
                float
            )
            for side in (ours, theirs)
        )
        cosine = float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-12))
        print(f"{name}: cosine {cosine:.5f}")
        assert cosine > ALIKE, f"{name}: cosine {cosine:.5f}"
