"""The carrier's keys and certificates, made once in a folder, and certificates for terminals; no use of them here."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge import durable
from edge.errors import ProvisioningError
from edge.evidence import cose
from edge.evidence.signer import KeyFile
from edge.evidence.trust import TrustRecord, build_trust, decode_trust

CARRIER_CLIENT = "carrier"  # CN of the carrier's own MQTT client; the broker's access rules name it
_TERMINAL_ID = re.compile(r"[0-9a-f]{32}")
_SKEW = timedelta(days=1)  # a terminal's clock may be behind ours
_CA_VALIDITY = timedelta(days=3650)
_LEAF_VALIDITY = timedelta(days=365)
_GRACE_DAYS = 30  # a terminal that was away so long after its certificate's end is renewed without a new code


@dataclass(frozen=True, slots=True)
class CarrierPki:
    """Where each file lies. `folder` holds secrets: mode 0700, every key 0600."""

    folder: Path

    @property
    def updates_root(self) -> Path:
        """The root of the carrier's updates, which enrolments carry; beside it, where they are. None of both: none."""
        return self.folder / "updates.root.json"

    @property
    def updates_url(self) -> Path:
        return self.folder / "updates.url"

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def ca_key(self) -> Path:
        return self.folder / "ca.key.pem"

    @property
    def broker_certificate(self) -> Path:
        return self.folder / "broker.pem"

    @property
    def broker_key(self) -> Path:
        return self.folder / "broker.key.pem"

    @property
    def client_certificate(self) -> Path:
        return self.folder / "carrier.pem"

    @property
    def client_key(self) -> Path:
        return self.folder / "carrier.key.pem"

    @property
    def signing_key(self) -> Path:
        """Signs challenges, receipts and policies; terminals know its public half."""
        return self.folder / "signing.key.pem"

    @property
    def next_signing_key(self) -> Path:
        """Only while `rotate_signing_key` is at work, or was cut short."""
        return self.folder / "signing.key.pem.next"

    @property
    def signing_public_key(self) -> Path:
        return self.folder / "signing.pub.pem"

    @property
    def root_key(self) -> Path:
        """Signs enrolments and key sets; a real carrier keeps it away from the network."""
        return self.folder / "root.key.pem"

    @property
    def root(self) -> Path:
        """Its public half: what a terminal's image is delivered with."""
        return self.folder / "root.pem"

    @property
    def trust(self) -> Path:
        """The newest signed key set."""
        return self.folder / "trust.cose"


def create_pki(folder: Path, *, now: datetime) -> CarrierPki:
    """Make CA, broker certificate (localhost, 127.0.0.1, ::1), client certificate and signing key.

    ProvisioningError where the folder already holds a CA: a carrier's keys are never replaced by accident.
    """
    pki = CarrierPki(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if pki.ca.exists():
        raise ProvisioningError(f"{pki.ca} exists", todo="use it, or name an empty folder")
    ca_key = _new_key(pki.ca_key)
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Vouch reference carrier CA")])
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key(), ca_key.public_key(), now, _CA_VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    pki.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    broker_key = _new_key(pki.broker_key)
    names = [x509.DNSName("localhost"), *(x509.IPAddress(ipaddress.ip_address(a)) for a in ("127.0.0.1", "::1"))]
    pki.broker_certificate.write_bytes(
        _leaf(pki, "localhost", broker_key.public_key(), ExtendedKeyUsageOID.SERVER_AUTH, now, names)
    )
    client_key = _new_key(pki.client_key)
    pki.client_certificate.write_bytes(
        _leaf(pki, CARRIER_CLIENT, client_key.public_key(), ExtendedKeyUsageOID.CLIENT_AUTH, now)
    )
    signing_key = _new_key(pki.signing_key)
    pki.signing_public_key.write_bytes(public_pem(signing_key.public_key()))
    root_key = _new_key(pki.root_key)
    pki.root.write_bytes(public_pem(root_key.public_key()))
    first = TrustRecord(version=1, keys=(signing_key.public_key(),), grace_days=_GRACE_DAYS)
    pki.trust.write_bytes(build_trust(first, KeyFile(pki.root_key)))
    return pki


def rotate_signing_key(pki: CarrierPki) -> TrustRecord:
    """A new signing key, and a key set that names it beside the one before, signed by the carrier root.

    By the root, because only the newest set is sent, and every terminal must take it: a new one knows nothing but the
    root, and one that was away through two rotations has no key in force that could have signed it. The key before
    stays in the set until the next rotation: messages that it signed and that are still on their way are believed.
    Cut short anywhere, the carrier goes on with the key before, which the set still names; called again, it is ended.
    """
    root, former = KeyFile(pki.root_key), KeyFile(pki.signing_key)
    record = decode_trust(cose.parse(pki.trust.read_bytes()).payload)
    if not pki.next_signing_key.exists():
        _new_key(pki.next_signing_key)
    key = KeyFile(pki.next_signing_key).public_key
    if record.keys[0] != key:  # else an earlier call came so far and no further
        record = TrustRecord(record.version + 1, (key, former.public_key), record.grace_days)
        durable.write(pki.trust, build_trust(record, root), durable.PUBLIC)
    durable.write(pki.signing_public_key, public_pem(key), durable.PUBLIC)
    durable.write(pki.folder / f"signing-{former.key_id.hex()}.key.pem", pki.signing_key.read_bytes(), durable.SECRET)
    pki.next_signing_key.replace(pki.signing_key)
    return record


def open_pki(folder: Path) -> CarrierPki:
    """The keys that `create_pki` made. ProvisioningError names the first missing file."""
    pki = CarrierPki(folder)
    needed = (pki.ca, pki.ca_key, pki.client_certificate, pki.client_key, pki.signing_key, pki.root_key, pki.trust)
    for path in needed:
        if not path.is_file():
            raise ProvisioningError(
                f"{path} is missing", todo="run `vouch-sim carrier --keys FOLDER` on an empty folder"
            )
    return pki


def issue_terminal_certificate(pki: CarrierPki, csr: bytes, terminal_id: str, *, now: datetime) -> bytes:
    """A client certificate (PEM) for a request (DER) whose CN is this terminal id (32 lower-case hexadecimal digits).

    Only the CN and the key are taken from the request. ProvisioningError where the request's own signature, its key
    (P-256) or its CN is wrong: a terminal must never obtain another role's name.
    """
    try:
        request = x509.load_der_x509_csr(csr)
        signed = request.is_signature_valid
        key = request.public_key()
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError as exc:
        raise ProvisioningError("the certificate request cannot be read", todo="send PKCS#10, DER") from exc
    if not signed or not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ProvisioningError("the certificate request is not signed by a P-256 key of its own")
    if not _TERMINAL_ID.fullmatch(terminal_id) or [name.value for name in names] != [terminal_id]:
        raise ProvisioningError("the request's CN is not this terminal's id", todo="CN = the id, 32 hexadecimal digits")
    return _leaf(pki, terminal_id, key, ExtendedKeyUsageOID.CLIENT_AUTH, now)


def load_private_key(path: Path) -> EllipticCurvePrivateKey:
    """A P-256 private key, PEM without password. ProvisioningError where it is anything else."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as exc:
        raise ProvisioningError(f"{path} holds no readable private key") from exc
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ProvisioningError(f"{path} is no P-256 key")
    return key


def load_public_key(pem: bytes) -> EllipticCurvePublicKey:
    """A P-256 public key from PEM. ProvisioningError where it is anything else."""
    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError as exc:
        raise ProvisioningError("not a public key in PEM") from exc
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ProvisioningError("not a P-256 public key")
    return key


def public_pem(key: EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _leaf(
    pki: CarrierPki,
    name: str,
    key: EllipticCurvePublicKey,
    usage: x509.ObjectIdentifier,
    now: datetime,
    alternative_names: list[x509.GeneralName] | None = None,
) -> bytes:
    ca = x509.load_pem_x509_certificate(pki.ca.read_bytes())
    ca_key = load_private_key(pki.ca_key)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, ca.subject, key, ca_key.public_key(), now, _LEAF_VALIDITY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    if alternative_names:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternative_names), critical=False)
    return builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: EllipticCurvePublicKey,
    issuer_key: EllipticCurvePublicKey,
    now: datetime,
    validity: timedelta,
) -> x509.CertificateBuilder:
    """With both key identifiers: Python 3.13 verifies strictly after RFC 5280 and refuses a chain without them."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + validity)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _new_key(path: Path) -> EllipticCurvePrivateKey:
    """A new P-256 key, written so that nobody else may ever read it, not even for a moment.

    ProvisioningError where there is one: a carrier's keys are never replaced by accident.
    """
    if path.exists():
        raise ProvisioningError(f"{path} exists", todo="use it, or name an empty folder")
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    durable.write(path, pem, durable.SECRET)
    return key
