"""Looks at a pack as the technician does: verifies it wholly, lists what it says; no session uses this."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.errors import PackError
from edge.vision.pack import Pack, Role, survey
from edge.vision.runtime import Model


def inspect_pack(folder: Path) -> list[str]:
    """Load, open and run every model once; a line for each. PackError says everything that is wrong, not the first."""
    faults = faults_of(folder)
    if faults:
        todo = dict.fromkeys(fault.todo for fault in faults)
        raise PackError("\n       ".join(fault.message for fault in faults), todo="\n              ".join(todo))
    pack = Pack.load(folder)
    lines = [f"{pack.manifest.name} {pack.manifest.version}, digest {pack.digest.hex()}"]
    lines += [
        f"{r.value:<10} {pack.manifest.spec(r).file}: hash, size, tensors and a first run are right" for r in Role
    ]
    return lines


def faults_of(folder: Path) -> list[PackError]:
    """Everything that is wrong: manifest, licence and thresholds, size and hash, tensors, and what a model answers."""
    faults = []
    for found in survey(folder):
        if isinstance(found, PackError):
            faults.append(found)
            continue
        spec, content = found
        try:
            answers = Model(spec, content).run(np.full(spec.input.shape[1:], 127, np.uint8))
        except PackError as exc:
            faults.append(exc)
            continue
        if not all(np.isfinite(values).all() for values in answers.values()):
            faults.append(PackError(f"{spec.file} answers with numbers that are not finite", todo="take another pack"))
    return faults


def list_pack(folder: Path) -> list[str]:
    """What the manifest says of each model, after its hashes were checked."""
    pack = Pack.load(folder)
    manifest = pack.manifest
    lines = [
        f"{manifest.name} {manifest.version} ({manifest.licence}), format {manifest.format}",
        f"digest     {pack.digest.hex()}",
    ]
    for role in Role:
        spec = manifest.spec(role)
        taken = f"{spec.input.width_px} x {spec.input.height_px} {spec.input.colour} {spec.input.dtype}"
        lines.append(f"{role.value:<10} {spec.file}  {spec.size_bytes / 1000:.0f} kB  {spec.licence}  {taken}")
        lines.append(f"           sha256 {spec.sha256}")
    lines.append(
        "thresholds "
        + ", ".join(f"FMR {entry.fmr_ppm / 1e6:g}: score {entry.score:.3f}" for entry in manifest.embedder.match)
    )
    return lines
