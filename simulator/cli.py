"""The command `vouch-sim`: parses, calls, prints."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge.config import DEFAULT_PACK, DEFAULT_PATH, awaits_enrolment, load
from edge.errors import ConfigError, VouchError

if TYPE_CHECKING:
    from simulator.carrier.server import CarrierSettings

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. A VouchError is printed with what to do, and gives 2."""
    parser = _parser()
    options = parser.parse_args(arguments)
    command: Command = options.run
    try:
        return command(options)
    except VouchError as error:
        print(f"vouch-sim: {error.diagnostics()}", file=sys.stderr)
        return 2
    except (OSError, OverflowError) as error:  # a path or a port that was named
        print(f"vouch-sim: {error}\n  what to do: check the paths and ports of the command", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vouch-sim", description="The desktop simulator of Vouch.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_carrier(
        commands.add_parser("carrier", help="the reference carrier: challenges, verification, receipts, a page")
    )
    broker = commands.add_parser("broker", help="a broker for that carrier and its terminals: mutual TLS, access rules")
    broker.add_argument("--keys", type=Path, required=True, help="folder of the carrier's keys; made where it is empty")
    broker.add_argument("--port", type=int, default=8883, help="on loopback (default %(default)s)")
    broker.set_defaults(run=_broker)
    _add_realism(commands.add_parser("realism", help="ask public models whether the drawn people look like people"))
    _add_terminal(commands.add_parser("terminal", help="the terminal process with a simulated camera"))
    _add_updates(commands.add_parser("updates", help="the carrier's repository of model packs and policies (TUF)"))
    pictures = commands.add_parser("test-pictures", help="draw the pictures that terminals test a new pack on")
    pictures.add_argument("folder", type=Path, help="edge/updates/pictures is where the firmware has them")
    pictures.set_defaults(run=_test_pictures)
    _add_demo(commands.add_parser("demo", help="everything on this machine, and three sessions through it"))
    _add_session(commands.add_parser("session", help="play one scenario in virtual time: outcome and reasons"))
    _add_study(commands.add_parser("study", help="play many sessions of every kind; error rates with intervals"))
    _add_contact_sheet(commands.add_parser("contact-sheet", help="one picture of drawn people and of attacks"))
    return parser


def _add_carrier(parser: argparse.ArgumentParser) -> None:
    _add_carrier_files(parser)
    parser.add_argument("--ca", type=Path, help="CA of the broker (default: of --keys)")
    parser.add_argument("--cert", type=Path, help="the carrier's client certificate (default: of --keys)")
    parser.add_argument("--key", type=Path, help="its key (default: of --keys)")
    parser.add_argument("--http-port", type=int, default=8090, help="page and API on loopback (default %(default)s)")
    parser.add_argument(
        "--updates",
        type=Path,
        help="repository of updates (vouch-sim updates), served to enrolled terminals",
    )
    parser.add_argument("--updates-port", type=int, default=8443, help="default %(default)s")
    parser.add_argument(
        "--pack-digest", action="append", metavar="SHA256", help="of a pack.toml that terminals may use (default: ours)"
    )
    parser.set_defaults(run=_carrier)
    steps = parser.add_subparsers(metavar="STEP", help="without one, the carrier serves")
    enrol = steps.add_parser("enrol", help="answer a terminal's request with a signed bundle and a one-time code")
    enrol.add_argument("request", type=Path, help="the file request.cose of the terminal")
    _add_carrier_files(enrol)
    enrol.add_argument("--site", help="name of the shop (default: as the request names it)")
    enrol.add_argument(
        "--out", type=Path, help="the bundle, or a folder for it (default: TERMINAL.vouch beside the request)"
    )
    enrol.add_argument("--png", type=Path, metavar="FOLDER", help="also as QR codes, part-01.png and so on")
    enrol.set_defaults(run=_carrier_enrol)
    rotate = steps.add_parser("rotate", help="a new signing key; terminals get the signed key set over the link")
    rotate.add_argument("--keys", type=Path, required=True, help="folder of the carrier's keys")
    rotate.set_defaults(run=_carrier_rotate)


def _add_carrier_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keys", type=Path, help="folder of the carrier's keys; where it is empty, `vouch-sim carrier` makes them"
    )
    parser.add_argument("--db", type=Path, help="SQLite file of its records")
    parser.add_argument("--broker", default="127.0.0.1:8883", metavar="HOST:PORT", help="default %(default)s")


def _add_realism(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--persons", type=int, default=20, help="how many people (default %(default)s)")
    parser.add_argument("--first-seed", type=int, default=50_000, help="seed of the first (default %(default)s)")
    parser.add_argument("--teachers", type=Path, default=Path("../shared/data/teachers"), help="folder of the models")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.set_defaults(run=_realism)


def _realism(options: argparse.Namespace) -> int:
    from simulator.person.realism import measure

    result = asdict(measure(options.persons, options.teachers, options.first_seed))
    if options.json:
        print(json.dumps(result))
        return 0
    for name, value in result.items():
        print(f"{name:18} {value if not isinstance(value, float) else round(value, 4)}")
    return 0


def _carrier(options: argparse.Namespace) -> int:
    from simulator.carrier.server import serve

    settings = _carrier_settings(options)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    serve(
        replace(
            settings,
            http_port=options.http_port,
            ca=options.ca,
            certificate=options.cert,
            key=options.key,
            packs=_packs(options.pack_digest or [_own_pack()]),
            updates=options.updates,
            updates_port=options.updates_port,
        )
    )
    return 0


def _add_updates(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repository", type=Path, required=True, help="folder that is served")
    parser.add_argument("--offline-keys", type=Path, required=True, help="keys of root and targets; lie in a safe")
    parser.add_argument("--online-keys", type=Path, required=True, help="keys of snapshot and timestamp")
    steps = parser.add_subparsers(required=True, metavar="STEP")
    steps.add_parser("init", help="make keys and an empty repository").set_defaults(run=_updates, step="init")
    publish = steps.add_parser("publish", help="a release of a model pack, a signed policy, or both")
    publish.add_argument("--pack", type=Path, help="folder of the pack")
    publish.add_argument("--policy", type=Path, help="signed policy, as `vouch-sim updates sign-policy` makes it")
    publish.set_defaults(run=_updates, step="publish")
    rotate = steps.add_parser("rotate", help="new keys for a role, by a new root")
    rotate.add_argument("role", choices=("root", "targets", "snapshot", "timestamp"))
    rotate.set_defaults(run=_updates, step="rotate")
    steps.add_parser("refresh", help="say as of now that nothing newer exists").set_defaults(
        run=_updates, step="refresh"
    )
    sign = steps.add_parser("sign-policy", help="the reference policy under a version, signed by the carrier")
    sign.add_argument("output", type=Path)
    sign.add_argument("--keys", type=Path, required=True, help="folder of the carrier's keys")
    sign.add_argument("--version", type=int, required=True)
    sign.set_defaults(run=_sign_policy)


def _updates(options: argparse.Namespace) -> int:
    from simulator.carrier.updates import UpdateRepository, now

    repository = UpdateRepository(options.repository, options.offline_keys, options.online_keys)
    match options.step:
        case "init":
            repository.create(now())
            print(f"terminals trust {repository.first_root}; keep {options.offline_keys} off the network")
        case "publish":
            release = repository.publish(now(), pack=options.pack, policy=options.policy)
            print(f"release {release.release}: {', '.join(release.targets())}")
        case "rotate":
            print(f"root {repository.rotate(options.role, now())} names the new keys of {options.role}")
        case "refresh":
            repository.refresh(now())
            print("snapshot and timestamp signed anew")
    return 0


def _sign_policy(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from edge.evidence.messages import build_policy
    from edge.evidence.signer import KeyFile
    from simulator.carrier.pki import open_pki
    from simulator.carrier.server import reference_policy

    signer = KeyFile(open_pki(options.keys).signing_key)
    options.output.write_bytes(build_policy(replace(reference_policy(), version=options.version), signer))
    print(f"policy version {options.version} in {options.output}")
    return 0


def _test_pictures(options: argparse.Namespace) -> int:
    from simulator.trial_pictures import make_pictures

    print(*make_pictures(options.folder), sep="\n")
    return 0


def _broker(options: argparse.Namespace) -> int:
    import signal
    import threading

    from edge.clock import SystemClock
    from simulator.broker import HOST, Broker, BrokerTls
    from simulator.carrier.server import keys_of

    pki = keys_of(options.keys.absolute(), SystemClock())
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    with Broker((options.keys / "broker").absolute(), BrokerTls.of(pki), port=options.port) as broker:
        print(f"{broker.kind.value} on {HOST}:{broker.port}; Ctrl-C ends it", flush=True)
        while not over.wait(0.5):
            broker.check()
    return 0


def _carrier_enrol(options: argparse.Namespace) -> int:
    from simulator.carrier.desk import enrol, write_pictures

    try:
        message = options.request.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{options.request} cannot be read", todo="name the terminal's request.cose") from exc
    made = enrol(_carrier_settings(options), message, site=options.site)
    name = f"{made.request.terminal_id.hex()}.vouch"
    out = options.out or options.request.with_name(name)
    if out.is_dir():
        out /= name
    try:
        out.write_bytes(made.bundle)
    except OSError as exc:
        raise ConfigError(f"{out} cannot be written: {exc.strerror}", todo="name another place with --out") from exc
    print(f"terminal     {made.request.terminal_id.hex()} at {made.site}")
    print(f"fingerprint  {made.request.fingerprint}   must be the one on the terminal's screen")
    print(f"bundle       {out}   bring it to the terminal; it holds no secret")
    print(f"code         {made.code}   tell it to the technician, not with the bundle")
    if options.png is not None:
        count = write_pictures(made.bundle, options.png)
        print(f"QR codes     {count} in {options.png}")
    return 0


def _carrier_rotate(options: argparse.Namespace) -> int:
    from simulator.carrier.pki import open_pki, rotate_signing_key

    record = rotate_signing_key(open_pki(options.keys))
    print(f"key set version {record.version}; restart the carrier, it sends the set to every terminal")
    return 0


def _carrier_settings(options: argparse.Namespace) -> CarrierSettings:
    from simulator.carrier.server import CarrierSettings

    if options.keys is None or options.db is None:
        raise ConfigError("the carrier's files are not named", todo="give --keys FOLDER and --db FILE")
    host, _, port = options.broker.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--broker {options.broker} is not HOST:PORT", todo="for example 127.0.0.1:8883")
    return CarrierSettings(keys=options.keys, database=options.db, broker_host=host, broker_port=int(port))


def _packs(digests: Sequence[str]) -> tuple[bytes, ...]:
    try:
        return tuple(bytes.fromhex(digest) for digest in digests)
    except ValueError as exc:
        raise ConfigError("--pack-digest is not hexadecimal", todo="give the SHA-256 of the pack's pack.toml") from exc


def _add_terminal(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("actor", nargs="+", help="person:SEED, print:SEED, mask:SEED, ...: one for each session")
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help="terminal.toml (%(default)s)")
    parser.add_argument("--idle", metavar="ACTOR", help="who stands there between sessions, such as target:2")
    parser.add_argument("--lens-blur", type=float, default=0.6, metavar="PX", help="spread of the lens (%(default)s)")
    parser.add_argument("--light", type=float, default=1.0, metavar="SHARE", help="of a lit shop's (%(default)s)")
    parser.add_argument(
        "--phone", type=Path, metavar="FOLDER", help="at the first boot: its pictures are shown to the camera"
    )
    parser.add_argument("--verbose", action="store_true")
    parser.set_defaults(run=_terminal)


def _terminal(options: argparse.Namespace) -> int:
    from simulator.camera import Optics
    from simulator.film import Role
    from simulator.terminal import run_first_boot, run_terminal

    if awaits_enrolment(options.config):
        code = run_first_boot(options.config.parent, options.phone, verbose=options.verbose)
        if code is not None:
            return code
    return run_terminal(
        load(options.config),
        [Role.parse(actor) for actor in options.actor],
        idle=Role.parse(options.idle) if options.idle else None,
        optics=Optics(blur_px=options.lens_blur, scene_gain=options.light),
        verbose=options.verbose,
    )


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--camera", help="a webcam instead of simulated people: its number or device")
    parser.add_argument("--video", type=Path, help="a clip instead of simulated people")
    parser.add_argument("--portrait", type=Path, help="picture of the document, with --camera or --video")
    parser.add_argument("--pack", type=Path, help="another model pack than ours")
    parser.add_argument("--stay", action="store_true", help="keep everything running afterwards")
    parser.add_argument(
        "--json", action="store_true", help="the results as JSON on standard output, the rest on stderr"
    )
    parser.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    from simulator.demo import DemoSettings, run_demo
    from simulator.demo_report import as_json
    from simulator.report import Report

    settings = DemoSettings(options.camera, options.video, options.portrait, options.pack, options.stay)
    good, played = run_demo(settings, Report(sys.stderr if options.json else sys.stdout))
    if options.json:
        print(as_json(good, played))
    return 0 if good else 1


def _add_session(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", type=Path, help="a TOML file, or the name of one in simulator/scenarios")
    parser.add_argument("--pack", type=Path, default=DEFAULT_PACK, help="another model pack than ours")
    parser.add_argument("--record", type=Path, help="write the observations (no pixels, no templates) to this file")
    parser.add_argument("--video", type=Path, help="write the camera's pictures to this .mp4, for a human to look at")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.set_defaults(run=_session)


def _session(options: argparse.Namespace) -> int:
    from simulator.show_session import show_session

    return show_session(options.scenario, options.pack, options.record, options.video, as_json=options.json)


def _add_study(parser: argparse.ArgumentParser) -> None:
    from simulator.study.plan import People, Plan

    plan = Plan()
    parser.add_argument("--people", type=People, default=plan.people, help="tuning or report: sets that share nobody")
    parser.add_argument("--bona-fide", type=int, default=plan.bona_fide, help="honest sessions (default %(default)s)")
    parser.add_argument("--attacks", type=int, default=plan.attacks, help="of each species (default %(default)s)")
    parser.add_argument("--species", nargs="+", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--fps", type=float, default=plan.fps, help="of the camera (default %(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    parser.add_argument("--pack", type=Path, default=DEFAULT_PACK, help="another model pack than ours")
    parser.add_argument("--out", type=Path, help="folder of sessions and report (default .runs/study-PEOPLE)")
    parser.add_argument("--minutes", type=float, help="stop after so long, and report what was played by then")
    parser.set_defaults(run=_study)


def _study(options: argparse.Namespace) -> int:
    from simulator.study.command import study
    from simulator.study.plan import Plan

    plan = Plan(options.people, options.bona_fide, options.attacks, options.fps)
    folder = options.out or Path(f".runs/study-{options.people.value}")
    return study(plan, options.species, folder, options.pack, workers=options.workers, minutes=options.minutes)


def _add_contact_sheet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, help="the picture, .png")
    parser.add_argument("--first-seed", type=int, default=50_000, help="of the people (default %(default)s)")
    parser.set_defaults(run=_contact_sheet)


def _contact_sheet(options: argparse.Namespace) -> int:
    from simulator.contact_sheet import write_contact_sheet

    write_contact_sheet(options.out, options.first_seed)
    return 0


def _own_pack() -> str:
    manifest = DEFAULT_PACK / "pack.toml"
    return hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else ""


if __name__ == "__main__":
    sys.exit(main())
