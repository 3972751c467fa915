"""Which room may import which foreign library: what import-linter's contracts do not say."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
EDGE = REPOSITORY / "edge"


def imported(path: Path) -> set[str]:
    """Top names of everything that a file imports, inside functions too; `edge` with its room."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {".".join(name.split(".")[:2]) if name.startswith("edge") else name.split(".")[0] for name in names}


def importers(library: str) -> set[str]:
    return {str(path.relative_to(EDGE)) for path in EDGE.rglob("*.py") if library in imported(path)}


@pytest.mark.parametrize(
    ("library", "files"),
    [
        ("paho", {"uplink/link.py"}),
        ("picamera2", {"drivers/picamera.py"}),
        ("sqlite3", {"evidence/journal.py"}),
        ("ai_edge_litert", {"vision/runtime.py"}),
        ("tflite_runtime", {"vision/runtime.py"}),
        ("pkcs11", {"evidence/signer.py"}),
        ("tuf", {"updates/repository.py", "updates/fetch.py"}),
        ("urllib3", {"updates/fetch.py"}),
    ],
)
def test_a_foreign_library_has_one_door(library: str, files: set[str]) -> None:
    assert importers(library) == files


@pytest.mark.parametrize("path", sorted((EDGE / "session").glob("*.py")), ids=lambda path: path.name)
def test_the_rules_know_the_standard_library_and_numpy_alone(path: Path) -> None:
    foreign = imported(path) - set(sys.stdlib_module_names) - {"numpy", "edge.session"}
    assert foreign == set()
    assert not imported(path) & {"time", "random", "secrets", "datetime", "os", "pathlib"}, (
        "time and chance are passed in"
    )


@pytest.mark.parametrize("path", sorted((EDGE / "uplink").glob("*.py")), ids=lambda path: path.name)
def test_the_uplink_has_nothing_to_see_with(path: Path) -> None:
    assert not imported(path) & {"cv2", "numpy", "sqlite3", "cbor2"}
