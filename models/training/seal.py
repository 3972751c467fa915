"""Writes each model's size and SHA-256 into pack.toml after training; it changes no other word of the manifest.

`python -m models.training.seal models/`: then the pack is loaded and opened as a terminal would, so that a manifest
that does not fit its models is found here.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import tomllib
from pathlib import Path

from edge.errors import PackError
from edge.vision.inspection import inspect_pack
from edge.vision.pack import MANIFEST_NAME, Role


def seal(folder: Path) -> None:
    """Rewrite `sha256` and `size_bytes` of every model table. PackError or KeyError where the manifest lacks one."""
    manifest = folder / MANIFEST_NAME
    text = manifest.read_text(encoding="utf-8")
    table = tomllib.loads(text)
    for role in Role:
        content = (folder / table[role.value]["file"]).read_bytes()
        text = _with(text, role.value, "sha256", f'"{hashlib.sha256(content).hexdigest()}"')
        text = _with(text, role.value, "size_bytes", str(len(content)))
    manifest.write_text(text, encoding="utf-8")


def _with(text: str, table: str, key: str, value: str) -> str:
    """The text with `key = value` in `[table]`; comments and order stay."""
    pattern = re.compile(rf"(^\[{table}\]\n(?:(?!^\[).*\n)*?{key} *= *)[^\n]*", re.MULTILINE)
    changed, count = pattern.subn(lambda m: m.group(1) + value, text, count=1)
    if count != 1:
        raise PackError(f"[{table}] has no line `{key} = ...`", todo="add it; the value does not matter yet")
    return changed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    seal(given.folder)
    try:
        for line in inspect_pack(given.folder):
            print(line)
    except PackError as error:
        sys.exit(error.diagnostics())
