"""Writes the match thresholds that a study found into a pack's manifest; it measures nothing itself.

`python -m models.evaluation PAIRS.csv --images DIR --write-thresholds` is the command. The digest of the pack changes
with it, as it must: a result says under which thresholds it was made.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from edge import durable
from edge.errors import VouchError
from edge.vision.pack import MANIFEST_NAME, parse_manifest
from models.evaluation.study import AtFar

# A rate needs so many errors to be told within 30 %, so this many comparisons per error that it allows ("rule of 30",
# ISO/IEC 19795-1 annex B).
FEWEST_ERRORS = 30
_TABLE = re.compile(r"^(?:# Score at false match rates[^\n]*\n(?:#[^\n]*\n)*)?match *= *\[[^\]]*\]", re.MULTILINE)


def write(folder: Path, rates: tuple[AtFar, ...], impostors: int, source: str) -> str:
    """Replaces `match` of the manifest in `folder`; returns the lines that now stand there.

    source: what was measured, in words; it becomes the comment above the table. A score is rounded up, so that the
    rate that it stands for is never exceeded. VouchError where there are too few impostors for a rate or no `match`, or
    where the disk does not take the manifest; it is then as it was.
    """
    short = [rate.far for rate in rates if rate.far * impostors < FEWEST_ERRORS]
    if short:
        raise VouchError(
            f"{impostors:,} impostor comparisons are too few for a false match rate of {short[0]:g}",
            todo=f"measure on at least {math.ceil(FEWEST_ERRORS / short[0]):,} of them",
        )
    lines = [f"# Score at false match rates among {source}, by `python -m models.evaluation`.", "match = ["]
    for rate in sorted(rates, key=lambda rate: -rate.far):
        score = math.ceil(1000 * rate.threshold) / 1000
        lines.append(f"  {{ fmr_ppm = {round(1e6 * rate.far)}, score = {score:.3f} }},")
    text = "\n".join([*lines, "]"])
    manifest = folder / MANIFEST_NAME
    changed, count = _TABLE.subn(lambda _: text, manifest.read_text(encoding="utf-8"))
    if count != 1:
        raise VouchError(f"{manifest} has {count} tables `match`", todo="give [embedder] one `match = [...]`")
    parse_manifest(changed.encode())
    durable.write(manifest, changed.encode(), durable.PUBLIC)
    return text
