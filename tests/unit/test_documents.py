"""The documents that promise: every test and every file that they name exists."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROMISING = ("edge/THREATS.md", "edge/PRIVACY.md")
DOCUMENTS = (*PROMISING, "edge/CARRIER.md")


@cache
def functions_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("name", PROMISING)
def test_every_test_that_a_document_names_exists(name: str) -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", (REPOSITORY / name).read_text(encoding="utf-8"))
    assert len(named) > 3
    absent = [
        f"{file}::{test}"
        for file, test in named
        if not (REPOSITORY / "tests" / file).is_file() or test not in functions_of(REPOSITORY / "tests" / file)
    ]
    assert absent == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_that_a_document_names_exists(name: str) -> None:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    named = set(re.findall(r"\b((?:edge|systemd|models|simulator|tests)/[\w./-]*\w)", text))
    linked = {str(Path(name).parent / link) for link in re.findall(r"\]\(([^)#:]+)\)", text)}
    assert [path for path in sorted(named | linked) if not (REPOSITORY / path).exists()] == []


@pytest.mark.parametrize("name", PROMISING)
def test_a_threat_without_a_test_says_that_it_is_open(name: str) -> None:
    for line in (REPOSITORY / name).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if name.endswith("THREATS.md") and len(cells) >= 4 and not set(line) <= set("|- ") and cells[-2] == "":
            assert cells[-1], f"neither test nor open: {line}"


def benchmarks() -> list[str]:
    return sorted(set(re.findall(r"python -m (tests\.benchmarks\.\w+)", (REPOSITORY / "README.md").read_text("utf-8"))))


@pytest.mark.parametrize("module", benchmarks())
def test_every_benchmark_that_the_readme_names_says_how_it_is_called(module: str) -> None:
    command = [sys.executable, "-m", module, "--help"]
    told = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert (told.returncode, told.stderr) == (0, "")
    assert "usage: " in told.stdout
