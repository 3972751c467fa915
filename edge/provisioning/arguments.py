"""The arguments of `vouch provision`, `vouch renew` and `vouch reset`; what they do is loaded when it is asked for.

The uplink starts from the same command line, and must load nothing that knows of keys or of the journal.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.config import DEFAULT_PATH


def add(commands: Any) -> None:
    """The three commands, with their steps."""
    provision = commands.add_parser("provision", help="make this terminal's identity and enrol it with its carrier")
    steps = provision.add_subparsers(required=True, metavar="STEP")
    _add_init(steps)
    request = _step(steps, "request", "request", "show the request for the carrier: QR code and file")
    _add_showing(request)
    _add_pin(request)
    install = _step(steps, "install", "install", "check and install the carrier's bundle")
    _add_bundle(install)
    _step(steps, "handover", "handover", "for systemd: do what the page at the first boot asks, on standard input")
    _step(steps, "resume", "resume", "finish an installation or a reset that was cut off; does nothing otherwise")
    status = _step(steps, "status", "status", "what keys, certificates and standing this terminal has")
    status.add_argument("--json", action="store_true")
    renew = commands.add_parser(
        "renew", help="renew the TLS certificate: over the link, or by file after a long absence"
    )
    renew_steps = renew.add_subparsers(required=True, metavar="STEP")
    _add_pin(_step(renew_steps, "now", "renew_now", "let the running uplink ask for a new certificate within a minute"))
    by_file = _step(renew_steps, "request", "request", "show a request for the carrier: QR code and file")
    _add_showing(by_file)
    _add_pin(by_file)
    again = _step(
        renew_steps, "install", "install", "check and install the carrier's bundle; within the grace without a code"
    )
    _add_bundle(again)
    end = commands.add_parser("reset", help="destroy this terminal's keys, journal and settings")
    end.set_defaults(run=_later("end"))
    _add_dir(end)
    _add_pin(end)
    end.add_argument("--out", type=Path, default=Path(), help="folder for the signed record of the end (%(default)s)")
    end.add_argument(
        "--confirm", metavar="DIGITS", help="the first 8 digits of the terminal's id, instead of typing them"
    )
    end.add_argument("--force", action="store_true", help="also where results wait, the journal or the key is damaged")


def _add_init(steps: Any) -> None:
    init = _step(steps, "init", "init", "make the keys and the request for the carrier")
    init.add_argument(
        "--site", help="name of the shop, at most 32 bytes (10 Chinese characters); the carrier has the last word"
    )
    init.add_argument("--root", type=Path, help="the carrier's root.pem, where the image brings none")
    init.add_argument("--hardware-model", default="vouch-dev", help="at most 32 bytes (%(default)s)")
    init.add_argument("--desk", action="store_true", help="state, sockets, stick and spool are folders beside the keys")
    store = init.add_mutually_exclusive_group(required=True)
    store.add_argument("--software-key", action="store_true", help="the result key in a file: every result will say so")
    store.add_argument("--pkcs11-module", type=Path, help="the result key in a TPM or HSM: its PKCS#11 library")
    init.add_argument("--pkcs11-token", default="vouch", help="label of the token (%(default)s)")
    init.add_argument("--pkcs11-pin-file", type=Path, help="file with the token's user PIN, readable by its owner only")
    _add_showing(init)


def _step(steps: Any, name: str, action: str, summary: str) -> argparse.ArgumentParser:
    step: argparse.ArgumentParser = steps.add_parser(name, help=summary, description=summary)
    step.set_defaults(run=_later(action))
    _add_dir(step)
    return step


def _add_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", type=Path, default=DEFAULT_PATH.parent, help="folder of the identity (%(default)s)")


def _add_pin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pin-file", type=Path, help="file with the technician's PIN, which a provisioned terminal asks for"
    )


def _add_showing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, help="also write the request to this file, for example on a stick")
    parser.add_argument("--png", type=Path, help="also write its QR code as a picture")
    parser.add_argument("--no-qr", action="store_true", help="do not draw the QR code here")


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundle", type=Path, nargs="?", help="the carrier's file, or the folder (a stick) that TERMINAL.vouch lies in"
    )
    parser.add_argument(
        "--camera", metavar="SOURCE", help='instead: read QR codes; picamera2, v4l2:0 or "file:clip.mp4"'
    )
    parser.add_argument("--code", help="the one-time code, as the carrier told it to you")
    _add_pin(parser)


def _later(action: str) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        from edge.provisioning import commands  # noqa: PLC0415 - see above

        code: int = getattr(commands, action)(options)
        return code

    return run
