"""The command `vouch-sim`: parses, calls, prints."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from edge.config import DEFAULT_PACK, DEFAULT_PATH, load
from edge.errors import ConfigError, VouchError

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
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vouch-sim", description="The desktop simulator of Vouch.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_carrier(
        commands.add_parser("carrier", help="the reference carrier: challenges, verification, receipts, a page")
    )
    _add_realism(commands.add_parser("realism", help="ask public models whether the drawn people look like people"))
    _add_terminal(commands.add_parser("terminal", help="the terminal process with a simulated camera"))
    _add_demo(commands.add_parser("demo", help="everything on this machine, and three sessions through it"))
    return parser


def _add_carrier(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keys", type=Path, required=True, help="folder of the carrier's keys; made where it is empty")
    parser.add_argument("--db", type=Path, required=True, help="SQLite file of its records")
    parser.add_argument("--broker", default="127.0.0.1:8883", metavar="HOST:PORT", help="default %(default)s")
    parser.add_argument("--ca", type=Path, help="CA of the broker (default: of --keys)")
    parser.add_argument("--cert", type=Path, help="the carrier's client certificate (default: of --keys)")
    parser.add_argument("--key", type=Path, help="its key (default: of --keys)")
    parser.add_argument("--http-port", type=int, default=8090, help="page and API on loopback (default %(default)s)")
    parser.add_argument(
        "--pack-digest", action="append", metavar="SHA256", help="of a pack.toml that terminals may use (default: ours)"
    )
    parser.set_defaults(run=_carrier)


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
    from simulator.carrier.server import CarrierSettings, serve

    host, _, port = options.broker.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--broker {options.broker} is not HOST:PORT", todo="for example 127.0.0.1:8883")
    try:
        packs = tuple(bytes.fromhex(digest) for digest in options.pack_digest or [_own_pack()])
    except ValueError as exc:
        raise ConfigError("--pack-digest is not hexadecimal", todo="give the SHA-256 of the pack's pack.toml") from exc
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    serve(
        CarrierSettings(
            keys=options.keys,
            database=options.db,
            broker_host=host,
            broker_port=int(port),
            http_port=options.http_port,
            ca=options.ca,
            certificate=options.cert,
            key=options.key,
            packs=packs,
        )
    )
    return 0


def _add_terminal(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("actor", nargs="+", help="person:SEED or print:SEED, one for each session")
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help="terminal.toml (%(default)s)")
    parser.add_argument("--verbose", action="store_true")
    parser.set_defaults(run=_terminal)


def _terminal(options: argparse.Namespace) -> int:
    from simulator.film import Role
    from simulator.terminal import run_terminal

    return run_terminal(load(options.config), [Role.parse(actor) for actor in options.actor], verbose=options.verbose)


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


def _own_pack() -> str:
    manifest = DEFAULT_PACK / "pack.toml"
    return hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else ""


if __name__ == "__main__":
    sys.exit(main())
