"""The command `vouch`: parses, calls, prints. What a command does lives in the room that it belongs to."""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import select
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.config import DEFAULT_PACK, DEFAULT_PATH, INTERRUPTED, awaits_enrolment, load
from edge.errors import CameraError, CaptureError, ConfigError, ProvisioningError, VouchError

if TYPE_CHECKING:
    from edge.config import Settings
    from edge.drivers.camera import FrameSource, Image
    from edge.evidence.show import Kinds

Command = Callable[[argparse.Namespace], int]

_FAULT = 70  # EX_SOFTWARE of sysexits.h
_READER_LEFT = 141  # as a shell tells SIGPIPE; 0 and 1 are verdicts of some commands

# Beside the repository, where a developer has it; a terminal has none.
_TEACHERS = Path(__file__).resolve().parents[2] / "shared" / "data" / "teachers"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code: 2 for a VouchError, printed with what to do; 70 for a fault of ours.

    A path that this user may not enter, or that is too long, is the technician's to mend like a VouchError.
    A reader of our output that has seen enough is no error: 141, where the command was not done yet.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    command: Command = options.run
    code = _READER_LEFT
    try:
        code = command(options)
        print(end="", flush=True)  # a reader that has left is met here, not by the interpreter at its end
    except VouchError as error:
        # Settings that nobody may read are no wrong TOML, whatever `load` advises.
        refused = _refused_path(error.__cause__) if isinstance(error, ConfigError) else None
        print(f"vouch: {(refused or error).diagnostics()}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - exit 1 is a verdict of some commands: our own fault must not read as one
        if isinstance(error, BrokenPipeError) and _reader_left():
            return code
        if (refused := _refused_path(error)) is not None:
            print(f"vouch: {refused.diagnostics()}", file=sys.stderr)
            return 2
        sys.excepthook(type(error), error, error.__traceback__)
        return _FAULT
    else:
        return code


def _refused_path(error: BaseException | None) -> VouchError | None:
    """What the kernel said of a path that somebody gave, wherever it was met; None: a fault of ours.

    Root is refused by no mode of a file: what refuses it (a sandbox, a mount) is for the traceback to find.
    """
    if not isinstance(error, OSError) or error.filename is None:
        return None
    if isinstance(error, PermissionError) and os.geteuid() != 0:
        return VouchError(f"{error.filename}: permission denied", todo="run it as root (sudo vouch ...)")
    if error.errno == errno.ENAMETOOLONG:
        return VouchError(f"{error.filename}: the path is too long", todo="name a shorter one")
    return None


def _reader_left() -> bool:
    """Whether it is our output that broke, and no socket of ours; then nothing may be flushed to it at exit either."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    if not output.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vouch", description="Face-verification terminal: only signed results leave it."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_process(commands, "run", _run, "process 1: camera, decision, signature, journal and the kiosk page")
    _add_process(commands, "uplink", _uplink, "process 2: carry signed results to the carrier's broker")
    _add_provision(commands)
    _add_doctor(commands)
    _add_technician(commands)
    _add_evidence(commands)
    _add_vision(commands)
    _add_models(commands)
    _add_update(commands)
    return parser


def _add_process(commands: Any, name: str, run: Command, summary: str) -> None:
    parser = commands.add_parser(name, help=summary, description=summary)
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help="terminal.toml (%(default)s)")
    parser.add_argument("--verbose", action="store_true", help="log what is only of use when looking for a fault")
    parser.set_defaults(run=run)


def _add_provision(commands: Any) -> None:
    from edge.provisioning.arguments import add

    add(commands)


def _run(options: argparse.Namespace) -> int:
    _finish_interrupted(options.config)
    if awaits_enrolment(options.config):
        from edge.terminal import first_boot

        code = first_boot.main(options.config.parent, verbose=options.verbose)
        if code is not None:
            return code
    from edge.terminal.service import main as terminal

    return terminal(load(options.config), verbose=options.verbose)


def _uplink(options: argparse.Namespace) -> int:
    from edge.uplink.service import main as uplink

    return uplink(_settings(options.config), verbose=options.verbose)


def _settings(path: Path) -> Settings:
    _finish_interrupted(path)
    return load(path)


def _finish_interrupted(path: Path) -> None:
    """An installation or a reset that was cut off is finished first: half of it must never run."""
    if any((path.parent / mark).exists() for mark in INTERRUPTED):
        from edge.provisioning import redo, reset

        reset.resume(path.parent)
        redo.resume(path.parent)


def _add_doctor(commands: Any) -> None:
    doctor = commands.add_parser(
        "doctor", help="examine this terminal in 30 s: exit 0 nothing failed, 1 something did, 2 could not examine"
    )
    doctor.add_argument("--config", type=Path, default=DEFAULT_PATH, help="terminal.toml (%(default)s)")
    doctor.add_argument("--json", action="store_true", help="the report as one JSON object")
    doctor.add_argument(
        "--export", type=Path, metavar="FILE", help="keep the report there too: a folder, or a new file"
    )
    doctor.add_argument("--lang", choices=("en", "zh"), help="language of the words (default: as LANG says)")
    doctor.add_argument("--target", type=Path, metavar="FILE.pdf", help="only write the printable reference target")
    doctor.set_defaults(run=_doctor)


def _add_technician(commands: Any) -> None:
    steps = commands.add_parser("technician", help="the technician's page").add_subparsers(
        required=True, metavar="STEP"
    )
    pin = steps.add_parser(
        "pin",
        help="set the technician's PIN: asked for, or lines on standard input (the old one first)",
    )
    pin.add_argument("--config", type=Path, default=DEFAULT_PATH, help="terminal.toml (%(default)s)")
    pin.set_defaults(run=_technician_pin)


def _technician_pin(options: argparse.Namespace) -> int:
    from edge.provisioning.permission import ask_here, check_pin
    from edge.provisioning.pin import PIN_NAME, set_pin

    settings = load(options.config)
    state_dir = settings.state_dir
    if settings.accepted_path.exists() and (state_dir / PIN_NAME).exists():
        check_pin(state_dir)
    given = ask_here("new PIN (6 to 12 digits): ")
    if sys.stdin.isatty() and ask_here("again: ") != given:
        raise ProvisioningError("the two are not the same", todo="run it again; the old PIN stays")
    set_pin(state_dir, given)
    print("the PIN is set; the technician's page takes it at once")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from edge.provisioning import doctor_text, target

    if options.target is not None:
        target.save(options.target)
        print(f"{options.target}: print it at its true size (A5), hold it flat at 40 cm before the camera")
        return 0
    from edge.terminal.doctor import examine, exit_code

    settings = load(options.config)
    with ExitStack() as stack:
        keep = options.export and stack.enter_context(doctor_text.export(options.export, settings.terminal_id))
        print("examining, at most 30 s", file=sys.stderr)
        report = examine(settings)
        language = options.lang or doctor_text.language_of(os.environ)
        print(
            json.dumps(report, ensure_ascii=False) if options.json else "\n".join(doctor_text.lines(report, language))
        )
        if keep:
            print(f"kept as {keep(report)}", file=sys.stderr)
    return exit_code(report)


def _add_evidence(commands: Any) -> None:
    evidence = commands.add_parser(
        "evidence", help="read and check signed bytes: exit 0 valid, 1 invalid, 2 unreadable"
    )
    actions = evidence.add_subparsers(required=True, metavar="ACTION")
    show = actions.add_parser("show", help="say in words what a signed message claims; checks no signature")
    show.add_argument("file", type=Path)
    show.set_defaults(run=_evidence_show)
    verify = actions.add_parser("verify", help="check a signed message against a public key")
    verify.add_argument("file", type=Path)
    verify.add_argument("--key", type=Path, required=True, help="the signer's P-256 public key, PEM")
    verify.add_argument(
        "--aad",
        choices=(
            *("result", "challenge", "receipt", "policy", "request", "trust"),
            *("enrol-request", "enrol-bundle", "retired", "none"),
        ),
        default="none",
        help="what kind of message it must be; none: any COSE_Sign1 that was signed without external_aad",
    )
    verify.set_defaults(run=_evidence_verify)
    aside = actions.add_parser("set-aside", help="rename a damaged journal so that the terminal begins a new one")
    aside.add_argument("journal", type=Path, help="the file that the terminal names; the terminal must be stopped")
    aside.set_defaults(run=_evidence_set_aside)


def _evidence_show(options: argparse.Namespace) -> int:
    from edge.evidence import show

    return _told(*show.show(options.file, _kinds()))


def _kinds() -> Kinds:
    """Every kind of message: evidence's, and those of an identity's beginning and end."""
    from edge.evidence.show import KINDS, Kind
    from edge.provisioning import enrolment, retirement

    return {
        **KINDS,
        "enrol-request": Kind(enrolment.REQUEST_AAD, enrolment.decode_request, enrolment.REQUEST_LIMIT),
        "enrol-bundle": Kind(enrolment.BUNDLE_AAD, enrolment.decode_bundle, enrolment.BUNDLE_LIMIT),
        "retired": Kind(retirement.RETIRED_AAD, retirement.decode_retired),
    }


def _evidence_verify(options: argparse.Namespace) -> int:
    from edge.evidence import show

    return _told(*show.verify(options.file, options.key, options.aad, _kinds()))


def _evidence_set_aside(options: argparse.Namespace) -> int:
    from edge.evidence import journal

    print(f"kept as {journal.set_aside(options.journal)}; give it to the carrier, its results may be waited for")
    return 0


def _told(verdict: int, lines: Sequence[str]) -> int:
    print("\n".join(lines))
    return int(verdict)


def _add_vision(commands: Any) -> None:
    compare = commands.add_parser("compare", help="1:1 comparison of two pictures: exit 0 same, 1 different, 2 why not")
    compare.add_argument("pictures", type=Path, nargs=2, metavar="PICTURE")
    compare.add_argument("--fmr-ppm", type=int, default=1000, help="false match rate of the threshold, in a million")
    compare.set_defaults(run=_compare)
    observe = commands.add_parser("observe", help="a line per frame of a video or camera")
    observe.add_argument("source", help="a video file, or a camera: 0, /dev/video0")
    observe.set_defaults(run=_observe)
    bench = commands.add_parser("bench", help="milliseconds by stage, one thread and two; memory")
    picture = bench.add_mutually_exclusive_group()
    picture.add_argument("--image", type=Path, help="a picture of one face; default: a rendered one")
    picture.add_argument("--video", type=Path, help="a video of one face")
    bench.add_argument("--peers", type=Path, default=_TEACHERS, help="folder of public models to run beside ours")
    bench.add_argument("--rounds", type=_count, default=60, help="1 or more (%(default)s)")
    bench.set_defaults(run=_bench)
    for command in (compare, observe, bench):
        command.add_argument("--json", action="store_true")
        command.add_argument("--pack", type=Path, default=DEFAULT_PACK, help="folder of the model pack")


def _count(given: str) -> int:
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", given):
        raise argparse.ArgumentTypeError(f"{given!r} is no number of 1 or more")
    return int(given)


def _add_models(commands: Any) -> None:
    models = commands.add_parser("models", help="look at model packs, or choose one of your own")
    steps = models.add_subparsers(required=True, metavar="STEP")
    for name, help_, run in (
        ("verify", "check hashes, tensors and a first run of every model", _models_verify),
        ("list", "what the manifest says", _models_list),
    ):
        step = steps.add_parser(name, help=help_)
        step.add_argument("pack", type=Path, nargs="?", help="folder of a pack (default: all that this terminal has)")
        step.add_argument("--config", type=Path, default=DEFAULT_PATH, help="terminal.toml (%(default)s)")
        step.set_defaults(run=run)
    use = steps.add_parser("use", help="test a pack and let the terminal take it between two sessions")
    which = use.add_mutually_exclusive_group(required=True)
    which.add_argument("pack", type=Path, nargs="?", help="folder of the pack; it is copied, so a stick will do")
    which.add_argument("--built-in", action="store_true", help="go back to the pack that the firmware brought")
    use.add_argument("--config", type=Path, default=DEFAULT_PATH, help="terminal.toml (%(default)s)")
    use.set_defaults(run=_models_use)


def _add_update(commands: Any) -> None:
    update = commands.add_parser("update", help="model packs and policies from the carrier")
    steps = update.add_subparsers(required=True, metavar="STEP")
    for name, help_, run in (
        ("status", "pack in force, on trial, refused; exit 1 where somebody must act", _update_status),
        ("check", "fetch what the carrier offers into the spool now; for the uplink's user", _update_check),
        ("install", "take the release on a stick or in another folder now; for the terminal's user", _update_install),
    ):
        step = steps.add_parser(name, help=help_, description=help_)
        step.add_argument("--config", type=Path, default=DEFAULT_PATH, help="terminal.toml (%(default)s)")
        step.add_argument("--json", action="store_true")
        step.set_defaults(run=run)
        if name == "install":
            step.add_argument("folder", type=Path, help="a copy of the carrier's repository: metadata/ and targets/")


def _compare(options: argparse.Namespace) -> int:
    from edge.drivers.document import from_file
    from edge.session.comparison import compare
    from edge.vision.pack import Pack
    from edge.vision.pipeline import Pipeline

    pack = Pack.load(options.pack)
    threshold = pack.match_threshold(options.fmr_ppm)
    pipeline = Pipeline(pack)
    templates = []
    for path in options.pictures:
        try:
            templates.append(pipeline.portrait(from_file(path)))
        except CaptureError as error:
            if options.json:
                told = {"same": None, "picture": str(path), "fault": error.fault.value, "message": error.message}
                print(json.dumps(told))
            print(f"vouch: {path}: {error.diagnostics()}", file=sys.stderr)
            return 2
    score = compare(*templates)
    same = score >= threshold
    if options.json:
        print(json.dumps({"same": same, "score": round(score, 4), "threshold": threshold, "fmr_ppm": options.fmr_ppm}))
    else:
        print(f"{'same' if same else 'different'}  score {score:.3f}, threshold {threshold:.3f}")
    return 0 if same else 1


def _observe(options: argparse.Namespace) -> int:
    from edge.vision.pack import Pack
    from edge.vision.pipeline import Pipeline
    from edge.vision.report import line_of, record_of

    pipeline = Pipeline(Pack.load(options.pack))
    source = _open_source(options.source)
    try:
        while (frame := source.read(timeout_s=5.0)) is not None:
            seen = pipeline.process(frame.image, frame.info, bona_fide=True)
            print(json.dumps(record_of(seen)) if options.json else line_of(seen), flush=True)
    finally:
        source.close()
        pipeline.close()
    return 0


def _open_source(text: str) -> FrameSource:
    from edge.drivers.opencv_camera import FileSource, WebcamSource

    camera = re.fullmatch(r"(?:v4l2:|/dev/video)?(\d+)", text)
    if camera and not Path(text).is_file():
        return WebcamSource(int(camera.group(1)), width=640, height=480, fps=30)
    path = Path(text.removeprefix("file:"))
    if path.exists() and not path.is_file():
        raise CameraError(f"{path} is no file", todo="name a video file, or a camera: 0, /dev/video0")
    return FileSource(path)


def _bench(options: argparse.Namespace) -> int:
    from edge.vision.bench import bench, lines_of

    frames = _bench_frames(options)
    result = bench(options.pack, frames, options.peers, rounds=options.rounds)
    print(json.dumps(result.as_record())) if options.json else print(*lines_of(result), sep="\n")
    return 0


def _bench_frames(options: argparse.Namespace) -> list[Image]:
    """Up to 16 frames of the video; else the picture; each fitted into 640 x 480 as a camera would give it."""
    import numpy as np

    from edge.drivers.document import from_file
    from edge.vision.picture import letterbox

    pictures: list[Image] = []
    if options.video:
        source = _open_source(str(options.video))
        while len(pictures) < 16 and (taken := source.read(timeout_s=5.0)) is not None:
            pictures.append(taken.image)
        source.close()
    else:
        pictures.append(from_file(options.image or DEFAULT_PACK / "bench.jpg"))
    frames = [np.zeros((480, 640, 3), np.uint8) for _ in pictures]
    for picture, frame in zip(pictures, frames, strict=True):
        letterbox(picture, frame)
    return frames


def _models_verify(options: argparse.Namespace) -> int:
    from edge.vision.inspection import inspect_pack

    return _each_pack(options, inspect_pack)


def _models_list(options: argparse.Namespace) -> int:
    from edge.vision.inspection import list_pack

    return _each_pack(options, list_pack)


def _each_pack(options: argparse.Namespace, look: Callable[[Path], list[str]]) -> int:
    """The pack that is named, else each that this terminal has."""
    packs = [("", options.pack)] if options.pack is not None else _packs_here(options.config)
    for words, folder in packs:
        if words:
            print(f"{words}: {folder}")
        print(*look(folder), sep="\n")
    return 0


def _packs_here(config: Path) -> list[tuple[str, Path]]:
    """As `Shelf.holds`; where there are no settings to ask, the pack beside this software, and it is said."""
    from edge.updates.shelf import shelf_of

    try:
        return shelf_of(load(config)).holds()
    except ConfigError as error:
        if config != DEFAULT_PATH:
            raise
        print(f"vouch: {error.message}: only the built-in pack is looked at", file=sys.stderr)
        return [("built in", DEFAULT_PACK)]


def _models_use(options: argparse.Namespace) -> int:
    from edge.updates.install import use_pack
    from edge.updates.shelf import act_as_owner, shelf_of

    settings = load(options.config)
    act_as_owner(settings.state_dir)
    shelf = shelf_of(settings)
    pack, outcome, lacking = use_pack(shelf, shelf.built_in if options.built_in else options.pack)
    words = {
        "in-force": "is in force and stays so; none is on trial",
        "nothing-new": "is on trial already; `vouch update status` says how it does",
        "on-trial": "passes and is on trial: the terminal takes it when it is idle,\n"
        "or at its next start; `vouch update status` says how it does",
    }
    print(f"{pack.manifest.name} {pack.manifest.version} {words[outcome.value]}")
    for line in lacking:
        print(f"mind: {line}")
    return 0


def _update_status(options: argparse.Namespace) -> int:
    from edge.clock import SystemClock
    from edge.updates.overview import lines_of, look, record_of

    seen = look(load(options.config), SystemClock().utc())
    print(json.dumps(record_of(seen))) if options.json else print(*lines_of(seen), sep="\n")
    return 1 if seen.needs_somebody else 0


def _update_check(options: argparse.Namespace) -> int:
    from edge.clock import SystemClock
    from edge.updates.fetch import check
    from edge.updates.shelf import act_as_owner

    settings = load(options.config)
    if settings.updates is not None:
        act_as_owner(settings.updates.spool)  # what root left there the uplink could not replace
    release = check(settings, SystemClock().utc())
    told = {"release": release.release, "pack": release.pack, "policy": release.policy}
    print(
        json.dumps(told) if options.json else f"release {release.release} lies in the spool; the terminal verifies it"
    )
    return 0


def _update_install(options: argparse.Namespace) -> int:
    from edge.updates.install import install
    from edge.updates.job import Job
    from edge.updates.shelf import act_as_owner

    settings = load(options.config)
    act_as_owner(settings.state_dir)
    outcome = install(Job(settings), options.folder, again=True)
    words = {
        "nothing-new": "nothing new: this release is here already",
        "on-trial": "passes and is on trial: the terminal takes it when it is idle, or at its next start",
        "in-force": "in force: it brings no other pack than the one that is here",
    }
    print(json.dumps({"outcome": outcome.value}) if options.json else words[outcome.value])
    return 0


if __name__ == "__main__":
    sys.exit(main())
