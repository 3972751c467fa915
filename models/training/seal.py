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

from edge import durable
from edge.errors import PackError, VouchError
from edge.vision.inspection import inspect_pack
from edge.vision.pack import MANIFEST_NAME, Role


def seal(folder: Path) -> None:
    """Rewrite `sha256` and `size_bytes` of every model table, whole or not at all.

    PackError where the manifest or a model cannot be read, or the manifest lacks one; StorageError from the disk.
    """
    manifest = folder / MANIFEST_NAME
    try:
        text = manifest.read_text(encoding="utf-8")
        table = tomllib.loads(text)
        for role in Role:
            content = (folder / table[role.value]["file"]).read_bytes()
            text = _with(text, role.value, "sha256", f'"{hashlib.sha256(content).hexdigest()}"')
            text = _with(text, role.value, "size_bytes", str(len(content)))
    except OSError as exc:
        raise PackError(f"{exc.filename} cannot be read: {exc.strerror}", todo="name the folder of a pack") from exc
    except ValueError as exc:  # no UTF-8, or no TOML
        raise PackError(f"{manifest}: {exc}", todo="mend the manifest") from exc
    except (KeyError, TypeError) as exc:
        raise PackError(f"{manifest} has no [{role.value}] with a file", todo="give each model its table") from exc
    durable.write(manifest, text.encode(), durable.PUBLIC)


def _with(text: str, table: str, key: str, value: str) -> str:
    """The text with `key = value` in `[table]`; comments and order stay."""
    pattern = re.compile(rf"(^\[{table}\]\n(?:(?!^\[).*\n)*?{key} *= *)[^\n]*", re.MULTILINE)
    changed, count = pattern.subn(lambda m: m.group(1) + value, text, count=1)
    if count != 1:
        raise PackError(f"[{table}] has no line `{key} = ...`", todo="add it; the value does not matter yet")
    return changed


def main() -> int:
    """Exit 0 with a line for each model, 1 where the pack does not fit."""
    parser = argparse.ArgumentParser(prog="python -m models.training.seal", description=__doc__)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    try:
        seal(given.folder)
        for line in inspect_pack(given.folder):
            print(line)
    except VouchError as exc:
        print(exc.diagnostics(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
