"""The renewal of the TLS certificate over the live link: when, with which key, and until it is proven; no sockets here.

EST's simple re-enrol (RFC 7030, section 4.2.2) in shape: PKCS#10 up, a certs-only PKCS#7 down, both DER; the link that
the present certificate opened is the authentication, and the CA's signature is what is checked of the answer.

    1. Due at two thirds of the certificate's life and a random delay.  2. A new key, `next.key`; the request goes up,
    again each hour.  3. The answer is checked: our CA, our name, our new key, a later end. It is kept as `next.crt`.
    4. A connection is made with the new pair, while the old one still lies there.  5. Once it is up, the new pair takes
    the old one's place; a pair that the broker refuses is forgotten and asked for anew after a day.

Two renames are not one: after a cut between them, `settle` finishes what step 5 began.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

from edge import durable
from edge.clock import Clock
from edge.config import UplinkSettings
from edge.errors import StorageError
from edge.log import Log

DUE_AT = 2 / 3  # of the certificate's life
SPREAD = 1 / 12  # of the life: a fleet that was enrolled on one day must not come back on one day
_AGAIN_S = 3600.0
_PAUSE_S = 86400.0  # after a pair that did not work
_LOOK_EACH_S = 60.0
_TRIES = 3  # connections that merely fail say little about the pair; so many do
DER_SEQUENCE = b"\x30"
WISH = "renew-now"  # beside the certificate: a technician asks for a renewal before it is due


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Renewal:
    """One uplink's certificate. `now` is monotonic seconds; validity is read off the clock's UTC."""

    def __init__(self, settings: UplinkSettings, terminal_id: str, clock: Clock) -> None:
        folder = settings.certificate.parent
        self.present = Pair(settings.certificate, settings.key)
        self.next = Pair(folder / "next.crt", folder / "next.key")
        self._wish = folder / WISH
        self._ca = settings.ca
        self._terminal_id = terminal_id
        self._clock = clock
        self._log = Log("uplink.renewal")
        self._look_at_s = 0.0
        self._ask_at_s = 0.0
        self._trial_at_s = 0.0
        self._tries = 0
        self._trial = False

    def settle(self) -> None:
        """Step 5 again, where a cut left the new certificate beside the old key. Call it before each connect."""
        try:
            if self.next.key.exists() and _fits(self.present.certificate, self.next.key):
                self.next.key.replace(self.present.key)
                durable.sync_folder(self.present.key.parent)
        except Exception as exc:  # noqa: BLE001 - a certificate that does not parse has many exceptions
            self._log.warning("renewal-not-settled", why=type(exc).__name__)

    def pair(self) -> Pair:
        """What the next connection is made with: the new pair while it is on trial."""
        return self.next if self._trial else self.present

    @property
    def on_trial(self) -> bool:
        return self._trial

    def request(self, now: float) -> bytes | None:
        """The request to publish now, where one is due: steps 1 and 2. Call it each turn while the link is up."""
        if now < self._look_at_s:
            return None
        self._look_at_s = now + _LOOK_EACH_S
        wished = self._wish.exists()
        if wished:
            self._wish.unlink(missing_ok=True)
            self._ask_at_s = 0.0
        if now < self._ask_at_s or self.next.certificate.exists() or not (wished or self._is_due()):
            return None
        try:
            if not self.next.key.exists():
                durable.write(self.next.key, _new_key(), durable.SECRET)
            request = _signing_request(self.next.key, self._terminal_id)
        except (OSError, ValueError, StorageError) as exc:
            self._log.warning("renewal-impossible", why=str(exc))
            self._ask_at_s = now + _AGAIN_S
            return None
        self._ask_at_s = now + _AGAIN_S
        self._log.info("renewal-asked")
        return request

    def answered(self, answer: bytes) -> bool:
        """Step 3: whether the answer holds, and the new pair is ready for its trial."""
        try:
            certificate = self._checked(answer)
            durable.write(self.next.certificate, certificate.public_bytes(serialization.Encoding.PEM), durable.SECRET)
        except Exception as exc:  # noqa: BLE001 - bytes of a hostile broker: what does not parse has many exceptions
            self._log.warning("renewal-refused", why=str(exc) or type(exc).__name__)
            return False
        self._tries = 0
        self._trial_at_s = 0.0
        return True

    def begin_trial(self, now: float) -> bool:
        """Step 4: whether to connect with the new pair now. The broker must be up: then only the pair is on trial."""
        if self._trial or now < self._trial_at_s:
            return False
        self._trial_at_s = now + _LOOK_EACH_S
        self._trial = self.next.certificate.exists() and self.next.key.exists()
        return self._trial

    def connected(self) -> None:
        """The connection is up. Step 5, where it was the trial's."""
        if not self._trial:
            return
        self._trial = False
        try:
            self.next.certificate.replace(self.present.certificate)
            durable.sync_folder(self.present.certificate.parent)
            self.next.key.replace(self.present.key)
            durable.sync_folder(self.present.key.parent)
        except OSError as exc:
            self._log.warning("renewal-not-settled", why=exc.strerror)
            return
        self._log.info("renewed")

    def failed(self, now: float, *, refused: bool) -> None:
        """The connection did not come up. After a trial, the old pair is used again."""
        if not self._trial:
            return
        self._trial = False
        self._tries += 1
        if not refused and self._tries < _TRIES:
            return
        self._log.error("renewal-useless", tries=self._tries)
        self._tries = 0
        self._ask_at_s = now + _PAUSE_S
        for path in (self.next.certificate, self.next.key):
            path.unlink(missing_ok=True)

    def _is_due(self) -> bool:
        try:
            data = self.present.certificate.read_bytes()
            certificate = x509.load_pem_x509_certificate(data)
        except (OSError, ValueError):
            return False
        return self._clock.utc() >= due_at(certificate)

    def _checked(self, answer: bytes) -> x509.Certificate:
        """ValueError where the answer is not a certificate of ours for the new key."""
        for certificate in pkcs7.load_der_pkcs7_certificates(answer):
            if _spki(certificate.public_key()) == _spki(_load_key(self.next.key).public_key()):
                break
        else:
            raise ValueError("no certificate for our new key")
        names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        if [name.value for name in names] != [self._terminal_id]:
            raise ValueError("a certificate with another name")
        if not any(_is_issued_by(certificate, ca) for ca in x509.load_pem_x509_certificates(self._ca.read_bytes())):
            raise ValueError("a certificate that none of our authorities signed")
        present = x509.load_pem_x509_certificate(self.present.certificate.read_bytes())
        if certificate.not_valid_after_utc <= present.not_valid_after_utc:
            raise ValueError("a certificate that ends no later than ours")
        return certificate


def due_at(certificate: x509.Certificate) -> float:
    """Seconds since 1970: two thirds of the life, and a delay that is random from one certificate to the next.

    The delay is drawn from the certificate's own hash: a terminal that is switched off each night would otherwise draw
    anew each morning, and the earliest draw would win.
    """
    begin, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    drawn = int.from_bytes(hashlib.sha256(certificate.tbs_certificate_bytes).digest()[:8], "big") / 2**64
    return begin + (end - begin) * (DUE_AT + SPREAD * drawn)


def _new_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path.name} is no EC key")  # noqa: TRY004 - one fault to the caller, whatever the file holds
    return key


def _signing_request(path: Path, terminal_id: str) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, terminal_id)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(_load_key(path), hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _fits(certificate: Path, key: Path) -> bool:
    public = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    return _spki(public) == _spki(_load_key(key).public_key())


def _spki(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return b""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except Exception:  # noqa: BLE001 - a signature that does not hold has several exceptions
        return False
    return True
