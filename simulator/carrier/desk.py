"""The technician's side without a network: a request file in, a bundle and a code out, from the carrier's own files."""

from __future__ import annotations

from pathlib import Path

from edge.clock import SystemClock
from edge.errors import ConfigError, LinkError
from edge.evidence.signer import KeyFile
from edge.provisioning import qr
from simulator.carrier.pki import open_pki
from simulator.carrier.registry import Answer
from simulator.carrier.server import CarrierSettings, reference_policy
from simulator.carrier.service import Carrier
from simulator.carrier.store import Store


def enrol(settings: CarrierSettings, message: bytes, *, site: str | None) -> Answer:
    """Answer a request as the serving carrier would; it may be running or not.

    EvidenceError; ProvisioningError, also where the keys are not there: a desk makes no new carrier. ConfigError where
    the database cannot be used.
    """
    clock = SystemClock()
    pki = open_pki(settings.keys)
    store = Store(settings.database)
    try:
        carrier = Carrier(store, pki, KeyFile(pki.signing_key), clock, _no_link)
        carrier.set_policy(settings.policy or reference_policy())
        return carrier.enrol(message, broker=(settings.broker_host, settings.broker_port), site=site)
    finally:
        store.close()


def write_pictures(bundle: bytes, folder: Path) -> int:
    """The bundle's QR codes as part-01.png and so on; how many. ConfigError where the folder cannot be written."""
    parts = qr.split(qr.Kind.BUNDLE, bundle)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, part in enumerate(parts, 1):
            (folder / f"part-{number:02}.png").write_bytes(qr.png(part))
    except OSError as exc:
        raise ConfigError(f"{folder} cannot be written: {exc.strerror}", todo="name another folder") from exc
    return len(parts)


def _no_link(_topic: str, _message: bytes) -> None:
    raise LinkError("no link from this desk")
