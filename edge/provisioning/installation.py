"""The checked installation of the carrier's answer; the identity that it is installed for is identity.py's.

`check` reads only what any process of the terminal may read, so that the page at the first boot can say what is wrong
before anybody with the right to install is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge import durable
from edge.config import ROOT, IdentitySettings
from edge.errors import BundleFault, EvidenceError, ProvisioningError
from edge.evidence import cose, messages
from edge.evidence.signer import key_id, load_private_key, read_private
from edge.evidence.trust import INSTALLED, INSTALLED_POLICY, TrustRecord, decode_trust, load_root, parse_trust
from edge.provisioning import enrolment, keys, redo
from edge.provisioning.enrolment import Bundle, Purpose, Request
from edge.provisioning.identity import IDENTITY, REQUEST, SETTINGS, load_identity, waiting
from edge.provisioning.redo import Change
from edge.provisioning.written import UPDATES_ROOT, settings_text

_DAY_S = 86400
_TODO = "ask the carrier for a bundle for this terminal's present request"


@dataclass(frozen=True, slots=True)
class Checked:
    """A bundle that holds, for the request that waits; its code has yet to be told."""

    identity: IdentitySettings
    request: Request
    bundle: Bundle
    record: TrustRecord


def install(folder: Path, message: bytes, *, code: str | None = None) -> Path:
    """Check the carrier's bundle, then put it in force, all of it or nothing; returns terminal.toml.

    1. An interrupted installation is finished first. 2. to 7.: `check`. 8. The one-time code fits; a renewal within
    the grace needs none. 9. All files are written (redo.py), and the request is forgotten. ProvisioningError,
    ConfigError, StorageError.
    """
    finished = redo.resume(folder)  # 1
    try:
        checked = check(folder, message)  # 2 to 7
    except ProvisioningError as exc:
        if finished and exc.fault is BundleFault.EXPIRED and waiting(folder) is None:
            return folder / SETTINGS  # it was this one that was cut off
        raise
    check_code(folder, checked, code)  # 8
    redo.commit(folder, _changes(folder, checked))  # 9
    return folder / SETTINGS


def check(folder: Path, message: bytes) -> Checked:
    """Steps 2 to 7 of `install`, changing nothing. ProvisioningError with its fault, ConfigError.

    2. The pinned root signed the bundle. 3. It is for this terminal. 4. It answers the request that waits: a bundle
    works once. 5. The certificate is for that request's TLS key and our name, and one of the authorities signed it.
    6. The key set is signed by the root or a key in force, and no older than ours. 7. The policy is signed by a key of
    that set.
    """
    identity = load_identity(folder)
    root = load_root(identity.keys.carrier_root or folder / ROOT)
    try:
        bundle = enrolment.parse_bundle(message, {key_id(root): root})  # 2
    except EvidenceError as exc:
        raise ProvisioningError(
            f"the bundle is not signed by this terminal's carrier root: {exc.message}",
            todo="is it this carrier's bundle, and whole? compare the root's fingerprint with the carrier",
            fault=BundleFault.ROOT,
        ) from exc
    if bundle.terminal_id.hex() != identity.terminal_id:  # 3
        raise ProvisioningError(
            f"the bundle is for terminal {bundle.terminal_id.hex()}, this is {identity.terminal_id}",
            todo="fetch the bundle made for this terminal",
            fault=BundleFault.TERMINAL,
        )
    asked = waiting(folder)
    if asked is None:  # 4
        used = "no request waits for a bundle: this one was used before"
        raise ProvisioningError(used, todo=_TODO, fault=BundleFault.EXPIRED)
    if bundle.request != asked.request.digest:
        raise ProvisioningError("the bundle answers an earlier request", todo=_TODO, fault=BundleFault.EXPIRED)
    try:
        _check_certificate(bundle, asked.request)  # 5
        record = _check_trust(folder, bundle.trust, root)  # 6
        messages.parse_policy(bundle.policy, {key_id(key): key for key in record.keys})  # 7
    except EvidenceError as exc:
        raise ProvisioningError(
            f"the bundle does not hold: {exc.message}", todo=_TODO, fault=BundleFault.CONTENT
        ) from exc
    return Checked(identity, asked.request, bundle, record)


def check_code(folder: Path, checked: Checked, code: str | None) -> None:
    """Step 8 of `install`. ProvisioningError where the code is missing or does not fit."""
    request, bundle = checked.request, checked.bundle
    if code is None and request.purpose is Purpose.RENEW and _within_grace(folder, bundle.iat):
        return
    if bundle.code_tag is None:
        raise ProvisioningError(
            "the bundle brings no one-time code, and this terminal's grace is over",
            todo="ask the carrier for a bundle with a code",
            fault=BundleFault.CONTENT,
        )
    if code is None:
        raise ProvisioningError("the one-time code is missing", todo="give --code, as the carrier told it to you")
    if not enrolment.code_fits(code, request, bundle.code_tag):
        raise ProvisioningError(
            "the one-time code does not fit this bundle and this terminal's request",
            todo="compare it with what the carrier told you for this very bundle, and type it again",
            fault=BundleFault.CODE,
        )


def _within_grace(folder: Path, iat: int) -> bool:
    """By the carrier's clock in the bundle: ours may be years off after a long time in a cupboard."""
    try:
        trust = decode_trust(cose.parse(durable.read_plain(folder / "carrier" / INSTALLED, linked=True)).payload)
        certificate = x509.load_pem_x509_certificate(durable.read_plain(folder / "uplink" / "tls.crt", linked=True))
    except (OSError, ValueError, EvidenceError):
        return False
    return iat <= certificate.not_valid_after_utc.timestamp() + trust.grace_days * _DAY_S


def _check_certificate(bundle: Bundle, request: Request) -> None:
    """EvidenceError: it is not for this request's key and name, or nobody in the bundle signed it."""
    try:
        certificate = x509.load_der_x509_certificate(bundle.certificate)
        authorities = [x509.load_der_x509_certificate(der) for der in bundle.authorities]
        names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
        signed = any(_is_issued_by(certificate, authority) for authority in authorities)
        public = certificate.public_key()
    except Exception as exc:  # whatever cryptography raises on a foreign file is one fault to the technician
        raise EvidenceError("the certificate or an authority cannot be read") from exc
    if not signed:
        raise EvidenceError("none of the bundle's authorities signed the certificate")
    if names != [bundle.terminal_id.hex()]:
        raise EvidenceError("the certificate names another terminal")
    if public != x509.load_der_x509_csr(request.csr).public_key():
        raise EvidenceError("the certificate is for another key")


def _is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except Exception:  # noqa: BLE001 - as above: a signature that does not hold has several exceptions
        return False
    return True


def _check_trust(folder: Path, message: bytes, root: ec.EllipticCurvePublicKey) -> TrustRecord:
    known = {key_id(root): root}
    floor = 0
    installed = folder / "carrier" / INSTALLED
    if installed.exists():
        before = decode_trust(cose.parse(durable.read_plain(installed, linked=True)).payload)
        known |= {key_id(key): key for key in before.keys}
        floor = before.version
    record = parse_trust(message, known)
    if record.version < floor:
        raise EvidenceError(f"key set version {record.version} is older than {floor}")
    return record


def _changes(folder: Path, checked: Checked) -> list[Change]:
    """Settings that a technician changed survive a renewal; of the carrier's keys only the new set remains."""
    bundle, tls_key = checked.bundle, _tls_key(folder, checked.request)
    named = {f"carrier/{key_id(key).hex()}.pem": keys.public_pem(key) for key in checked.record.keys}
    former = {f"carrier/{path.name}" for path in (folder / "carrier").glob("*.pem")} - named.keys()
    authorities = b"".join(_pem(der) for der in bundle.authorities)
    changes = [
        *(Change(name, pem) for name, pem in named.items()),
        *(Change(name, None) for name in sorted(former)),
        Change(f"carrier/{INSTALLED}", bundle.trust),
        Change(f"carrier/{INSTALLED_POLICY}", bundle.policy),
        Change("uplink/ca.crt", authorities),
        Change("uplink/tls.crt", _pem(bundle.certificate)),
    ]
    if tls_key.name == "next.key":
        changes += [Change("uplink/tls.key", read_private(tls_key), durable.SECRET), Change("uplink/next.key", None)]
    if bundle.updates is not None:
        changes.append(Change(UPDATES_ROOT, bundle.updates.root))
    if not (folder / SETTINGS).exists():
        text = settings_text(checked.identity, folder / IDENTITY, bundle)
        changes.append(Change(SETTINGS, text.encode()))
    changes.append(Change(REQUEST, None))
    return changes


def _tls_key(folder: Path, request: Request) -> Path:
    """The file of the key that the request named. ProvisioningError where another lies there now."""
    wanted = x509.load_der_x509_csr(request.csr).public_key()
    for name in ("next.key", "tls.key"):
        path = folder / "uplink" / name
        if path.exists() and load_private_key(path).public_key() == wanted:
            return path
    raise ProvisioningError(
        "the request names a TLS key that is gone", todo=f"remove {folder / REQUEST}; a new one is then made"
    )


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)
