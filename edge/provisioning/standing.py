"""What keys, certificates and standing a terminal has, read from its folder; nothing is changed here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path

from cryptography import x509

from edge import config, durable
from edge.config import Settings
from edge.errors import ConfigError, EvidenceError, ProvisioningError
from edge.evidence import cose
from edge.evidence.messages import CarrierKeys
from edge.evidence.trust import INSTALLED, decode_trust
from edge.papers import CERTIFICATES_MAX
from edge.provisioning import identity, redo, reset

_DAY_S = 86400.0


class Stage(Enum):
    """How far this terminal has come."""

    BLANK = "blank"  # no identity
    REQUESTED = "requested"  # keys and a request; the carrier's bundle is awaited
    UNPROVISIONED = "unprovisioned"  # enrolled, but no result was accepted yet: training only
    PROVISIONED = "provisioned"
    INTERRUPTED = "interrupted"  # an installation or a reset was cut off: `vouch provision resume`


@dataclass(frozen=True, slots=True)
class CertificateState:
    """One X.509 certificate, by the clock that was passed in."""

    name: str
    not_before: datetime  # UTC
    not_after: datetime  # UTC
    days_left: float  # below 0: expired
    is_yet_to_begin: bool  # by a clock that is right: a wrong one tells of itself by this


@dataclass(frozen=True, slots=True)
class State:
    """All that is known without opening a key. None where it is not there yet."""

    stage: Stage
    terminal_id: str | None = None
    site: str | None = None
    hardware_key: bool | None = None  # the result key lies in a PKCS#11 token
    fingerprint: str | None = None  # of the request that waits
    certificate: CertificateState | None = None  # of the TLS key
    authorities: tuple[CertificateState, ...] = ()
    carrier_keys: int = 0
    trust_version: int | None = None  # as enrolled; the terminal's status tells a later one
    grace_days: int | None = None


def inspect(folder: Path, now: float) -> State:
    """`now`: seconds since 1970. ConfigError or ProvisioningError where a file is there but wrong."""
    if redo.is_interrupted(folder) or reset.is_interrupted(folder):
        return State(Stage.INTERRUPTED)
    if not (folder / identity.IDENTITY).exists():
        return State(Stage.BLANK)
    own = identity.load_identity(folder)
    waiting = identity.waiting(folder)
    known = State(
        Stage.REQUESTED,
        terminal_id=own.terminal_id,
        hardware_key=own.keys.pkcs11_module is not None,
        fingerprint=waiting.request.fingerprint if waiting else None,
    )
    if not (folder / identity.SETTINGS).exists():
        return known
    return _enrolled(config.load(folder / identity.SETTINGS), known, now)


def certificate_state(path: Path, now: float) -> tuple[CertificateState, ...]:
    """Every certificate of a PEM file. ProvisioningError where it is none, or where it may not be read."""
    try:
        found = x509.load_pem_x509_certificates(durable.read_plain(path, CERTIFICATES_MAX, linked=True))
    except FileNotFoundError as exc:
        raise ProvisioningError(f"{path} is not there", todo="renew it: vouch renew") from exc
    except OSError as exc:
        todo = "run it as root" if isinstance(exc, PermissionError) else "put the file itself there, or vouch renew"
        raise ProvisioningError(f"{path} cannot be read: {exc.strerror}", todo=todo) from exc
    except ValueError as exc:
        raise ProvisioningError(f"{path} holds no certificate", todo="renew it: vouch renew") from exc
    return tuple(_state_of(certificate, now) for certificate in found)


def _state_of(certificate: x509.Certificate, now: float) -> CertificateState:
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    end = certificate.not_valid_after_utc
    return CertificateState(
        name=str(names[0].value) if names else "",
        not_before=certificate.not_valid_before_utc,
        not_after=end,
        days_left=(end.timestamp() - now) / _DAY_S,
        is_yet_to_begin=now < certificate.not_valid_before_utc.timestamp(),
    )


def _enrolled(settings: Settings, known: State, now: float) -> State:
    version, grace = None, None
    installed = settings.keys.carrier_keys / INSTALLED
    if installed.exists():
        try:
            record = decode_trust(cose.parse(durable.read_plain(installed, linked=True)).payload)
        except (OSError, EvidenceError) as exc:
            raise ConfigError(f"{installed} is damaged: {exc}", todo="install a new bundle: vouch renew") from exc
        version, grace = record.version, record.grace_days
    certificates = certificate_state(settings.uplink.certificate, now)
    return State(
        stage=Stage.PROVISIONED if settings.accepted_path.exists() else Stage.UNPROVISIONED,
        terminal_id=settings.terminal_id,
        site=settings.site,
        hardware_key=known.hardware_key,
        fingerprint=known.fingerprint,
        certificate=certificates[0],
        authorities=certificate_state(settings.uplink.ca, now),
        carrier_keys=len(CarrierKeys.load(settings.keys.carrier_keys)),
        trust_version=version,
        grace_days=grace,
    )
