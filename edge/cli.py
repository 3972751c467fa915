"""The command `vouch`: parses, calls, prints. What a command does lives in the room that it belongs to."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge.config import DEFAULT_PATH, load
from edge.errors import ProvisioningError, VouchError

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. A VouchError is printed with what to do, and gives 2."""
    parser = _parser()
    options = parser.parse_args(arguments)
    command: Command = options.run
    try:
        return command(options)
    except VouchError as error:
        print(f"vouch: {error.diagnostics()}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vouch", description="Face-verification terminal: only signed results leave it."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_process(commands, "uplink", _uplink, "process 2: carry signed results to the carrier's broker")
    _add_provision(commands)
    _add_evidence(commands)
    return parser


def _add_process(commands: Any, name: str, run: Command, summary: str) -> None:
    parser = commands.add_parser(name, help=summary, description=summary)
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help="terminal.toml (%(default)s)")
    parser.add_argument("--verbose", action="store_true", help="log what is only of use when looking for a fault")
    parser.set_defaults(run=run)


def _uplink(options: argparse.Namespace) -> int:
    from edge.uplink.service import main as uplink

    return uplink(load(options.config), verbose=options.verbose)


def _add_provision(commands: Any) -> None:
    provision = commands.add_parser("provision", help="make this terminal's identity and install the carrier's answer")
    steps = provision.add_subparsers(required=True, metavar="STEP")
    init = steps.add_parser("init", help="make the keys and the request for the carrier")
    init.add_argument("--dir", type=Path, default=DEFAULT_PATH.parent, help="folder of the identity")
    init.add_argument("--site", required=True, help="name of the shop, at most 32 characters")
    init.set_defaults(run=_provision_init)
    install = steps.add_parser("install", help="check and install the carrier's answer")
    install.add_argument("answer", type=Path, help="the JSON file that the carrier made for this terminal")
    install.add_argument("--dir", type=Path, default=DEFAULT_PATH.parent, help="folder of the identity")
    install.add_argument("--fingerprint", required=True, help="the carrier's fingerprint, as told to the technician")
    install.set_defaults(run=_provision_install)


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
        choices=("result", "challenge", "receipt", "policy", "none"),
        default="none",
        help="what kind of message it must be; none: any COSE_Sign1 that was signed without external_aad",
    )
    verify.set_defaults(run=_evidence_verify)


def _evidence_show(options: argparse.Namespace) -> int:
    from edge.evidence import show

    return _told(*show.show(options.file))


def _evidence_verify(options: argparse.Namespace) -> int:
    from edge.evidence import show

    return _told(*show.verify(options.file, options.key, options.aad))


def _told(verdict: int, lines: Sequence[str]) -> int:
    print("\n".join(lines))
    return int(verdict)


def _provision_init(options: argparse.Namespace) -> int:
    from edge.provisioning import identity

    request = identity.create(options.dir, site=options.site)
    print(f"terminal     {request.terminal_id}")
    print(f"fingerprint  {request.fingerprint}   tell it to the carrier")
    print(f"request      {options.dir / 'request.json'}   bring it to the carrier; it holds no secret")
    return 0


def _provision_install(options: argparse.Namespace) -> int:
    from edge.provisioning import identity

    try:
        text = options.answer.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ProvisioningError(f"{options.answer} cannot be read", todo="name the carrier's JSON file") from exc
    path = identity.install(options.dir, identity.parse_enrolment(text), fingerprint=options.fingerprint)
    print(f"installed; settings in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
