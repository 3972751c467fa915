"""`python -m models.evaluation PAIRS.csv --images DIR`: arguments in, a study of the product's code, print.

The CSV has the columns fold,a,b,same: two pictures, and 1 where they show one person. Thresholds come from all pictures
of different people, so it must be known whom each shows: the columns subject_a,subject_b say it, in any words. Without
them the file's path up to its last `_` does (`Ada_Lovelace_0001.jpg`). Pairs that contradict it are refused.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import cv2

from edge.errors import VouchError
from edge.vision.pack import Pack
from edge.vision.pipeline import Pipeline
from models.evaluation import det, metrics, report, study, thresholds
from models.evaluation.conditions import Condition
from models.evaluation.metrics import Estimate
from models.evaluation.study import AtPack, Figures


def main() -> int:
    """Exit 0 with figures, 2 where the study is not possible."""
    parser = argparse.ArgumentParser(prog="python -m models.evaluation", description=__doc__)
    parser.add_argument("pairs", type=Path, help="CSV with the columns fold,a,b,same and perhaps subject_a,subject_b")
    parser.add_argument("--images", type=Path, required=True, help="folder of the files that the pairs name")
    parser.add_argument("--pack", type=Path, default=Path(__file__).resolve().parents[1], help="model pack")
    parser.add_argument(
        "--condition",
        choices=[condition.value for condition in Condition],
        default=Condition.PLAIN.value,
        help="what is done to the reference picture first",
    )
    parser.add_argument(
        "--one-face", action="store_true", help="refuse pictures with several faces, as the terminal does"
    )
    parser.add_argument("--det", type=Path, metavar="PNG", help="draw the DET curve of the pairs")
    parser.add_argument("--rounds", type=_at_least_one, default=300, help="bootstrap draws")
    parser.add_argument(
        "--write-thresholds", action="store_true", help="put the scores at these FARs into the pack's manifest"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.write_thresholds and arguments.condition != Condition.PLAIN.value:
        parser.error("--write-thresholds goes with --condition plain")
    # Now, and not after an hour of pictures.
    if arguments.det and not (cv2.haveImageWriter(str(arguments.det)) and arguments.det.parent.is_dir()):
        parser.error("--det: name a file that ends with .png, in a folder that is there")
    cv2.setNumThreads(1)
    try:
        found = _run(arguments)
    except (VouchError, OSError) as exc:
        print(exc.diagnostics() if isinstance(exc, VouchError) else exc, file=sys.stderr)
        return 2
    print(report.as_json(found) if arguments.json else text(found))
    return _thresholds(arguments, found) if arguments.write_thresholds else 0


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a whole number, at least 1")
    return int(text)


def _thresholds(arguments: argparse.Namespace, found: Figures) -> int:
    source = f"{found.impostors:,} comparisons of different people ({arguments.pairs.resolve().parent.name})"
    try:
        print(thresholds.write(arguments.pack, found.at_far, found.impostors, source), file=sys.stderr)
    except (VouchError, OSError) as exc:
        print(exc.diagnostics() if isinstance(exc, VouchError) else exc, file=sys.stderr)
        return 2
    return 0


def _run(arguments: argparse.Namespace) -> Figures:
    pairs = study.read_pairs(arguments.pairs)
    pack, condition = Pack.load(arguments.pack), Condition(arguments.condition)
    pipeline = Pipeline(pack)
    try:
        encode = pipeline.portrait if arguments.one_face else pipeline.central_portrait
        captures = study.capture(pairs, arguments.images, encode, condition)
    finally:
        pipeline.close()
    if arguments.det:
        scores, same = study.pair_scores(pairs, captures.probes, captures.references or captures.probes)
        title = f"{arguments.pairs.resolve().parent.name}, {len(pairs)} pairs, {condition.value}"
        det.draw(arguments.det, *metrics.error_curve(scores, same), title)
    return study.figures(pairs, captures, match=pack.manifest.embedder.match, rounds=arguments.rounds)


def text(found: Figures) -> str:
    """The figures as lines for people."""
    lines = [
        f"pairs                 {found.pairs:,} of {found.subjects:,} subjects",
        f"failures to acquire   {found.failures_to_acquire} of {found.captures:,} captures (counted as non-matches)",
        f"time a face           {found.ms_per_face:.1f} ms, detection and alignment included",
        f"accuracy, by folds    {_percent(found.accuracy) if found.accuracy else 'one fold: no other to learn from'}",
        f"accuracy, one best    {100 * found.accuracy_best_threshold:.2f} % at score {found.best_threshold:.3f}",
        f"EER                   {_percent(found.eer)}",
        f"impostors             {found.impostors:,}: all probes with all references of other subjects",
    ]
    lines += [f"TAR at FAR {a.far:.0e}     {_percent(a.tar)} at score {a.threshold:.4f}" for a in found.at_far]
    lines.append(f"FTA                   {_percent(found.failure_to_acquire)} of captures, Clopper-Pearson")
    for at in found.at_pack:
        lines += _at_pack(at, found.impostors)
    lines.append(
        "failed captures       non-matches for accuracy, TAR and EER (genuine and impostor); in no FAR, FMR and FNMR"
    )
    return "\n".join(lines)


def _at_pack(at: AtPack, impostors: int) -> tuple[str, str]:
    fmr = f"{_percent(at.fmr, 4)} of {impostors:,} impostors at score {at.threshold:.4f}, the pack's"
    fnmr = "no genuine pair" if at.fnmr is None else f"{_percent(at.fnmr)} of {at.genuine:,} genuine pairs"
    return (
        f"FMR at {f'{at.fmr_ppm} ppm':<15}{fmr}{_few(at.false_matches)}",
        f"FNMR at {f'{at.fmr_ppm} ppm':<14}{fnmr}{'' if at.fnmr is None else _few(at.false_non_matches)}",
    )


def _few(errors: int) -> str:
    return f"; insufficient data: {errors} such errors" if errors < thresholds.FEWEST_ERRORS else ""


def _percent(estimate: Estimate, digits: int = 2) -> str:
    if math.isnan(estimate.low):
        return f"{100 * estimate.value:.{digits}f} % [too few subjects for an interval]"
    return f"{100 * estimate.value:.{digits}f} % [{100 * estimate.low:.{digits}f}, {100 * estimate.high:.{digits}f}]"


if __name__ == "__main__":
    sys.exit(main())
