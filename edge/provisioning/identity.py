"""The terminal's identity: three keys of its own, the carrier's certificates and keys, and terminal.toml.

Keys are made here and never leave; what leaves is a request with public keys and a certificate signing request.
Layout of the folder (result and portrait key for the terminal process only, the TLS key for the uplink only):

    terminal.toml  terminal/result.key  terminal/portrait.key
    uplink/tls.key  uplink/tls.csr  uplink/tls.crt  uplink/ca.crt  carrier/*.pem
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.errors import ProvisioningError

SITE_LIMIT = 32  # as config.Settings.site
_SECRET, _PUBLIC = 0o600, 0o644


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """What the carrier needs to know of a new terminal; nothing in it is secret. Keys and CSR are PEM text."""

    terminal_id: str  # 32 hexadecimal digits; also the certificate's CN and the MQTT client id
    site: str
    result_key: str
    portrait_key: str
    csr: str

    @property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of SHA-256 over the public keys: short enough to read out on the telephone."""
        return hashlib.sha256((self.result_key + self.portrait_key + self.csr).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The carrier's answer. PEM texts; `carrier_keys` by a name of the carrier's choice."""

    terminal_id: str
    broker_host: str
    broker_port: int
    certificate: str
    ca: str
    carrier_keys: dict[str, str]

    @property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of SHA-256 over the carrier's keys and CA, which the technician compares."""
        parts = [self.ca, *(self.carrier_keys[name] for name in sorted(self.carrier_keys))]
        return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


def create(folder: Path, *, site: str, terminal_id: str | None = None) -> EnrolmentRequest:
    """Make keys and request in `folder`. ProvisioningError where an identity exists: keys are never overwritten; where
    the folder cannot be written; and where the site's name is empty or too long.
    """
    if (folder / "terminal" / "result.key").exists():
        raise ProvisioningError(
            f"{folder} already holds an identity",
            todo="keep it, or reset the terminal first: its keys cannot come back",
        )
    if not 1 <= len(site) <= SITE_LIMIT:
        raise ProvisioningError(
            f"a site's name of {len(site)} characters", todo=f"give --site 1 to {SITE_LIMIT} characters"
        )
    terminal_id = terminal_id or secrets.token_hex(16)
    result_key, portrait_key, tls_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, terminal_id)]))
        .sign(tls_key, hashes.SHA256())
    )
    request = EnrolmentRequest(
        terminal_id=terminal_id,
        site=site,
        result_key=_public(result_key),
        portrait_key=_public(portrait_key),
        csr=csr.public_bytes(serialization.Encoding.PEM).decode(),
    )
    write_durably(folder / "terminal" / "portrait.key", _private(portrait_key), _SECRET)
    write_durably(folder / "uplink" / "tls.key", _private(tls_key), _SECRET)
    write_durably(folder / "uplink" / "tls.csr", request.csr.encode(), _PUBLIC)
    write_durably(folder / "request.json", json.dumps(asdict(request), indent=2).encode(), _PUBLIC)
    write_durably(folder / "terminal" / "result.key", _private(result_key), _SECRET)  # last: it marks a whole identity
    return request


def load_request(folder: Path) -> EnrolmentRequest:
    """The request made by `create`."""
    try:
        return EnrolmentRequest(**json.loads((folder / "request.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as exc:
        raise ProvisioningError(
            f"{folder} holds no enrolment request", todo="run `vouch provision init` first"
        ) from exc


def parse_enrolment(text: str) -> Enrolment:
    """The carrier's answer from JSON; ProvisioningError when a field is missing, unknown or of the wrong type."""
    try:
        answer = Enrolment(**json.loads(text))
    except (ValueError, TypeError) as exc:
        raise ProvisioningError("the enrolment file is not what a carrier writes", todo="fetch it again") from exc
    texts = (answer.terminal_id, answer.broker_host, answer.certificate, answer.ca)
    keys = answer.carrier_keys
    if not (
        all(isinstance(text, str) for text in texts)
        and type(answer.broker_port) is int
        and isinstance(keys, dict)
        and keys
        and all(isinstance(key, str) and name.replace("-", "").isalnum() for name, key in keys.items())
    ):
        raise ProvisioningError("a field of the enrolment file has the wrong type", todo="fetch it again")
    return answer


def install(folder: Path, enrolment: Enrolment, *, fingerprint: str) -> Path:
    """Check the carrier's answer against our keys and the fingerprint, then write it; returns terminal.toml.

    1. The fingerprint that the technician was told fits the carrier's keys and CA.
    2. The answer is for this terminal.
    3. The certificate is for our TLS key, names this terminal, and is signed by the CA.
    4. Every carrier key is a P-256 public key.
    5. Files are written, terminal.toml last: it marks a whole enrolment.
    """
    request = load_request(folder)
    if not secrets.compare_digest(enrolment.fingerprint, fingerprint.strip().lower()):
        raise ProvisioningError(
            f"the carrier's fingerprint is {enrolment.fingerprint}, not {fingerprint}",
            todo="compare with what the carrier told you; do not go on if it differs",
        )
    if enrolment.terminal_id != request.terminal_id:
        raise ProvisioningError(
            f"the enrolment is for terminal {enrolment.terminal_id}, this is {request.terminal_id}",
            todo="fetch the file made for this terminal",
        )
    _check_certificate(folder, enrolment)
    for name, key in enrolment.carrier_keys.items():
        _check_carrier_key(name, key)
    for name, key in enrolment.carrier_keys.items():
        write_durably(folder / "carrier" / f"{name}.pem", key.encode(), _PUBLIC)
    write_durably(folder / "uplink" / "tls.crt", enrolment.certificate.encode(), _PUBLIC)
    write_durably(folder / "uplink" / "ca.crt", enrolment.ca.encode(), _PUBLIC)
    path = folder / "terminal.toml"
    if not path.exists():  # a technician's own settings survive a second enrolment
        write_durably(path, _settings(request, enrolment).encode(), _PUBLIC)
    return path


def write_durably(path: Path, data: bytes, mode: int) -> None:
    """Write beside, fsync, rename, fsync the folder: a power cut leaves the old file or the new one, whole."""
    beside = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    except OSError as exc:
        raise ProvisioningError(
            f"{path} cannot be made: {exc.strerror}", todo="name a folder that this user may write, with --dir"
        ) from exc
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(mode)
        beside.replace(path)
    except OSError as exc:
        beside.unlink(missing_ok=True)
        raise ProvisioningError(f"{path} cannot be written: {exc.strerror}", todo="free space, check the disk") from exc
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _check_certificate(folder: Path, enrolment: Enrolment) -> None:
    todo = "ask the carrier for a certificate for this terminal's current request"
    try:
        certificate = x509.load_pem_x509_certificate(enrolment.certificate.encode())
        authority = x509.load_pem_x509_certificate(enrolment.ca.encode())
        certificate.verify_directly_issued_by(authority)
    except Exception as exc:  # whatever cryptography raises on a foreign file is one fault to the technician
        raise ProvisioningError(f"the certificate or CA does not hold: {exc}", todo=todo) from exc
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if [name.value for name in names] != [enrolment.terminal_id]:
        raise ProvisioningError("the certificate names another terminal", todo=todo)
    own = serialization.load_pem_private_key((folder / "uplink" / "tls.key").read_bytes(), None)
    if certificate.public_key() != own.public_key():
        raise ProvisioningError("the certificate is for another key", todo=todo)


def _check_carrier_key(name: str, pem: str) -> None:
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except ValueError as exc:
        raise ProvisioningError(f"carrier key {name} is no public key", todo="fetch the enrolment again") from exc
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ProvisioningError(f"carrier key {name} is not on P-256", todo="ask the carrier for ES256 keys")


def _settings(request: EnrolmentRequest, enrolment: Enrolment) -> str:
    text = {name: json.dumps(value) for name, value in (("site", request.site), ("host", enrolment.broker_host))}
    return f"""\
# Written at enrolment. Paths are relative to this file.
terminal_id = "{request.terminal_id}"
site = {text["site"]}

[keys]
result_key = "terminal/result.key"
portrait_key = "terminal/portrait.key"
carrier_keys = "carrier"

[uplink]
host = {text["host"]}
port = {enrolment.broker_port}
ca = "uplink/ca.crt"
certificate = "uplink/tls.crt"
key = "uplink/tls.key"
"""


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public(key: ec.EllipticCurvePrivateKey) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(encoding, form).decode()
