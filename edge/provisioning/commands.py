"""What the technician's commands `vouch provision`, `vouch renew` and `vouch reset` do: call and print."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from datetime import datetime
from enum import Enum
from pathlib import Path

from edge.clock import SystemClock
from edge.config import DEFAULT_PATH, CameraSettings, Settings
from edge.errors import ProvisioningError
from edge.evidence.signer import Token
from edge.ipc import Up
from edge.provisioning import identity, installation, qr, redo, reset, standing
from edge.provisioning.enrolment import BUNDLE_LIMIT
from edge.provisioning.identity import Asked
from edge.provisioning.permission import require_pin
from edge.provisioning.qr import Collector, Kind
from edge.provisioning.standing import CertificateState, State

_SUFFIX = ".vouch"
_CAMERA_S = 180.0


def init(options: argparse.Namespace) -> int:
    token = None
    if options.pkcs11_module is not None:
        if options.pkcs11_pin_file is None:
            raise ProvisioningError("the token's PIN is missing", todo="give --pkcs11-pin-file")
        token = Token(options.pkcs11_module, options.pkcs11_token, options.pkcs11_pin_file)
    asked = identity.create(
        options.dir,
        site=options.site,
        hardware_model=options.hardware_model,
        token=token,
        root=options.root,
        desk=options.desk,
    )
    _show(options, asked)
    return 0


def request(options: argparse.Namespace) -> int:
    redo.resume(options.dir)
    require_pin(options.dir, pin_file=options.pin_file)
    _show(options, identity.ask(options.dir))
    return 0


def _show(options: argparse.Namespace, asked: Asked) -> None:
    parts = qr.split(Kind.REQUEST, asked.message, qr.WHOLE_SIZE)
    _write(options.out, asked.message)
    _write(options.png, qr.png(parts[0]))
    if not options.no_qr:
        print(*(qr.terminal_text(part) for part in parts), sep="\n", end="")
    key = "in a token" if asked.request.key_store else "in a file: every result says so"
    print(f"terminal     {asked.request.terminal_id.hex()}   result key {key}")
    print(f"fingerprint  {asked.request.fingerprint}   the carrier must see the same")
    print(f"request      {options.out or options.dir / identity.REQUEST}   bring it to the carrier; it holds no secret")


def _write(path: Path | None, data: bytes) -> None:
    if path is None:
        return
    try:
        path.write_bytes(data)
    except OSError as exc:
        raise ProvisioningError(f"{path} cannot be written: {exc.strerror}", todo="name another place") from exc


def install(options: argparse.Namespace) -> int:
    identity.load_identity(options.dir)
    require_pin(options.dir, pin_file=options.pin_file)
    path = installation.install(options.dir, _bundle(options), code=options.code)
    state = standing.inspect(options.dir, time.time())
    print(f"installed    settings in {path}")
    print(f"site         {state.site}")
    if state.stage is standing.Stage.UNPROVISIONED:
        print("standing     unprovisioned: training only, until the carrier has accepted a first result")
        print(_now(options.dir, "sudo systemctl start vouch-uplink", f"vouch uplink --config {path}"))
    return 0


def _bundle(options: argparse.Namespace) -> bytes:
    if (options.bundle is None) == (options.camera is None):
        raise ProvisioningError("which bundle?", todo="name the carrier's file or the stick's folder, or give --camera")
    if options.camera is not None:
        return _from_camera(options.camera)
    path: Path = options.bundle
    if path.is_dir():
        path = path / f"{identity.load_identity(options.dir).terminal_id}{_SUFFIX}"
    try:
        with path.open("rb") as file:
            return file.read(BUNDLE_LIMIT + 1)
    except OSError as exc:
        raise ProvisioningError(f"{path} cannot be read: {exc.strerror}", todo="name the carrier's file") from exc


def _from_camera(source: str) -> bytes:
    from edge.drivers.camera import open_source  # noqa: PLC0415 - only where it is asked for
    from edge.provisioning.camera import read_codes  # noqa: PLC0415 - as above

    camera = open_source(CameraSettings(source=source))
    print("hold the carrier's QR codes to the camera", flush=True)
    try:
        return read_codes(camera, Kind.BUNDLE, timeout_s=_CAMERA_S, on_progress=_tell_progress)
    finally:
        camera.close()


def _tell_progress(collector: Collector) -> None:
    print(f"  {collector.seen} of {collector.total}", flush=True)


def handover(options: argparse.Namespace) -> int:
    from edge.provisioning.handover import serve  # noqa: PLC0415 - only where it is asked for

    serve(options.dir, sys.stdin.buffer, sys.stdout.buffer)
    return 0


def resume(options: argparse.Namespace) -> int:
    if reset.resume(options.dir):
        print("the reset that was cut off is complete: this terminal is blank")
    elif redo.resume(options.dir):
        print("the installation that was cut off is complete")
    return 0


def status(options: argparse.Namespace) -> int:
    state = standing.inspect(options.dir, time.time())
    if options.json:
        print(json.dumps(asdict(state), default=_plain))
        return 0
    for line in _lines(state):
        print(line)
    return 0


def _lines(state: State) -> list[str]:
    lines = [f"standing     {state.stage.value}"]
    if state.terminal_id is None:
        return lines
    lines.append(f"terminal     {state.terminal_id}" + (f" at {state.site}" if state.site else ""))
    lines.append(f"result key   {'in a token' if state.hardware_key else 'in a file'}")
    if state.fingerprint is not None:
        lines.append(f"fingerprint  {state.fingerprint} of the request that waits for its bundle")
    if state.certificate is not None:
        lines.append(f"certificate  {_days(state.certificate)}; grace {state.grace_days or 0} days")
        lines += [f"authority    {authority.name}: {_days(authority)}" for authority in state.authorities]
        lines.append(f"carrier      {state.carrier_keys} keys, set version {state.trust_version} as enrolled")
    return lines


def _days(certificate: CertificateState) -> str:
    if certificate.is_yet_to_begin:
        return f"not valid before {certificate.not_before:%Y-%m-%d}: is the clock right?"
    left = certificate.days_left
    return f"{left:.0f} days left" if left > 0 else f"expired {-left:.0f} days ago: vouch renew"


def _plain(value: object) -> str:
    match value:
        case Enum():
            return str(value.value)
        case datetime():
            return value.isoformat()
        case _:
            return str(value)


def renew_now(options: argparse.Namespace) -> int:
    from edge import durable  # noqa: PLC0415 - only where it is asked for
    from edge.uplink.renewal import WISH  # noqa: PLC0415 - as above

    if not (options.dir / identity.SETTINGS).exists():
        raise ProvisioningError("this terminal is not enrolled", todo="run `vouch provision init` first")
    require_pin(options.dir, pin_file=options.pin_file)
    durable.write(options.dir / "uplink" / WISH, b"", durable.PUBLIC)
    print("the uplink asks within a minute of being connected; `vouch provision status` shows the new end")
    return 0


def end(options: argparse.Namespace) -> int:
    if reset.resume(options.dir):
        print("the reset that was cut off is complete: this terminal is blank")
        print(_after_reset(options.dir))
        return 0
    ahead = reset.prospect(options.dir)
    require_pin(options.dir, pin_file=options.pin_file)
    print(f"This destroys the keys, journal and settings of terminal {ahead.terminal_id}. Nothing brings them back.")
    for objection in ahead.objections:
        print(f"  {objection}")
    wanted = ahead.terminal_id[:8]
    given = options.confirm
    if given is None:
        print(f"Type {wanted} to go on: ", end="", flush=True)
        given = sys.stdin.readline().strip()
    if given != wanted:
        raise ProvisioningError("not confirmed: nothing was changed", todo=f"type {wanted}, or give --confirm {wanted}")
    out = options.out / f"{ahead.terminal_id}-retired.cose"
    done = reset.reset(options.dir, out=out, force=options.force, clock=SystemClock(), send=_send)
    if done.record is not None:
        print(f"record       {done.record}: give it to the carrier" if done.unsent else f"record       {done.record}")
        print(f"sent         {'no: ' + done.unsent if done.unsent else 'yes'}")
    print("this terminal is blank")
    print(_after_reset(options.dir))
    return 0


def _after_reset(folder: Path) -> str:
    return _now(
        folder,
        "sudo reboot, for a new identity as /etc/default/vouch says; or switch it off",
        f"vouch provision init --dir {folder}, for a new identity",
    )


def _now(folder: Path, on_the_box: str, elsewhere: str) -> str:
    """The next step: a box has units, which no folder elsewhere has."""
    return f"now: {on_the_box if folder == DEFAULT_PATH.parent else elsewhere}"


def _send(settings: Settings, message: bytes) -> str | None:
    from edge.uplink.once import send_once  # noqa: PLC0415 - only where it is asked for

    return send_once(settings, Up.AUDIT, message)
