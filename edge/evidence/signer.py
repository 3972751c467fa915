"""The key that signs results: a PEM file, or a token behind PKCS#11 (TPM, HSM); what is signed is not known here.

A token holds one result key, under one label. It is made inside the token and cannot be taken out of it.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_private_key

from edge import durable
from edge.config import KeySettings
from edge.errors import SignerError
from edge.evidence import cbor

TOKEN_LABEL = "vouch-result"  # noqa: S105 - the name of the one key that we make in a token; no secret
KEY_ID_SIZE = 8
SIGNATURE_SIZE = 64


class Signer(Protocol):
    """A P-256 key that can sign; nobody sees its private part."""

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The P-256 public key."""
        ...

    @property
    def key_id(self) -> bytes:
        """8 bytes, see `key_id`."""
        ...

    @property
    def hardware(self) -> bool:
        """Whether the private key lives in a token; a software key makes claim `mode` say degraded in production."""
        ...

    def sign(self, data: bytes) -> bytes:
        """ES256: 64 bytes, r || s, over SHA-256 of `data`. SignerError when the key cannot be used any more."""
        ...


def open_signer(settings: KeySettings) -> Signer:
    """The result key that the settings name: PKCS#11 where a module is, else the PEM file; else SignerError."""
    if settings.pkcs11_module is not None:
        if settings.pkcs11_token is None or settings.pkcs11_key is None or settings.pkcs11_pin_file is None:
            raise SignerError(
                "the PKCS#11 key is not fully named", todo="set pkcs11_token, pkcs11_key and pkcs11_pin_file in [keys]"
            )
        pin = read_private(settings.pkcs11_pin_file).decode("utf-8", "replace").strip()
        return Pkcs11Signer(settings.pkcs11_module, settings.pkcs11_token, settings.pkcs11_key, pin)
    if settings.result_key is None:
        raise SignerError("no result key is named", todo="set result_key or pkcs11_module in [keys]")
    return KeyFile(settings.result_key)


def key_id(public_key: ec.EllipticCurvePublicKey) -> bytes:
    """`kid`: the first 8 bytes of the COSE Key Thumbprint (RFC 9679): SHA-256 of the key's deterministic COSE_Key."""
    return hashlib.sha256(cbor.encode(cose_key(public_key))).digest()[:KEY_ID_SIZE]


def cose_key(public_key: ec.EllipticCurvePublicKey) -> dict[int, int | bytes]:
    """COSE_Key with the required members only (RFC 9053 section 7.1.1): EC2, P-256, x, y."""
    numbers = public_key.public_numbers()
    return {1: 2, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}


def load_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A P-256 private key from an unencrypted PEM file that nobody but its owner may read; SignerError otherwise."""
    data = read_private(path)
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise SignerError(f"{path} holds no usable private key", todo="provision the key again (PEM, P-256)") from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignerError(f"{path} holds a key that is not P-256", todo="provision a P-256 key")
    return key


class KeyFile:
    """A signing key in a PEM file: for terminals without a token, and for development."""

    hardware = False

    def __init__(self, path: Path) -> None:
        """SignerError where the file is absent, open to others, or holds anything but a P-256 key."""
        self._key = load_private_key(path)
        self.public_key = self._key.public_key()
        self.key_id = key_id(self.public_key)

    def sign(self, data: bytes) -> bytes:
        r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class Pkcs11Signer:
    """A signing key in a token. One session is held for the process's life; `sign` may be called from any thread."""

    hardware = True

    def __init__(self, module: Path, token_label: str, key_label: str, pin: str) -> None:
        """SignerError where the module, the token, the key or the PIN does not fit."""
        try:
            import pkcs11  # noqa: PLC0415 - an extra: only terminals with a token install it
            from pkcs11.util.ec import encode_ec_public_key  # noqa: PLC0415
        except ImportError as exc:
            raise SignerError("python-pkcs11 is not installed", todo="install Vouch with the extra `pkcs11`") from exc
        self._lock = threading.Lock()
        self._foreign: type[Exception] = pkcs11.PKCS11Error
        self._mechanism: Any = pkcs11.Mechanism.ECDSA  # over our own digest: more tokens know it than ECDSA_SHA256
        try:
            self._session = pkcs11.lib(str(module)).get_token(token_label=token_label).open(user_pin=pin)
            with ExitStack() as logged_in:  # a token knows one login: one left behind would refuse the next attempt
                logged_in.callback(self._session.close)
                self._key: Any = self._session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=key_label)
                public: Any = self._session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, label=key_label)
                self.public_key = _p256(encode_ec_public_key(public), key_label)
                logged_in.pop_all()
        except (pkcs11.PKCS11Error, RuntimeError, OSError) as exc:
            raise SignerError(
                f"the key {key_label!r} in token {token_label!r} cannot be used: {type(exc).__name__} {exc}".rstrip(),
                todo="check pkcs11_module, pkcs11_token, pkcs11_key and the PIN; is the token plugged in?",
            ) from exc
        self.key_id = key_id(self.public_key)

    def sign(self, data: bytes) -> bytes:
        try:
            with self._lock:
                signature = bytes(self._key.sign(hashlib.sha256(data).digest(), mechanism=self._mechanism))
        except self._foreign as exc:
            raise SignerError(f"the token did not sign: {type(exc).__name__}", todo="check the token") from exc
        if len(signature) != SIGNATURE_SIZE:
            raise SignerError(f"the token gave a signature of {len(signature)} bytes", todo="use a P-256 key")
        return signature

    def close(self) -> None:
        """Log out of the token."""
        with self._lock:
            self._session.close()


@dataclass(frozen=True, slots=True)
class Token:
    """A PKCS#11 token that is initialised already: its module, its label, and a file with the user PIN."""

    module: Path
    label: str
    pin_file: Path


def make_token_key(token: Token) -> None:
    """A P-256 key in the token. One that an interrupted start left there is used. SignerError where none can be made,
    or where the one that is there came from outside or can be taken out.
    """
    with _session(token, writable=True) as (pkcs11, session):
        private = _find(pkcs11, session, pkcs11.ObjectClass.PRIVATE_KEY)
        if private is None:
            library = pkcs11.lib(str(token.module))  # the one that is loaded
            private = _generate(pkcs11, session, tpm="tpm2" in library.manufacturer_id)
        attribute = pkcs11.Attribute
        if not private[attribute.LOCAL] or private[attribute.EXTRACTABLE]:
            raise SignerError(
                f"the token holds a key {TOKEN_LABEL!r} that was not made in it, or that can be taken out of it",
                todo="use an empty token",
            )


def destroy_token_key(token: Token) -> None:
    """Destroy both halves; nothing where there are none. SignerError where the token is away or refuses."""
    with _session(token, writable=True) as (pkcs11, session):
        for kind in (pkcs11.ObjectClass.PRIVATE_KEY, pkcs11.ObjectClass.PUBLIC_KEY):
            found = _find(pkcs11, session, kind)
            if found is not None:
                found.destroy()


@contextmanager
def _session(token: Token, *, writable: bool) -> Iterator[tuple[Any, Any]]:
    """(the module pkcs11, a logged-in session); whatever the token says against it is a SignerError."""
    try:
        import pkcs11  # noqa: PLC0415 - an extra: only terminals with a token install it
    except ImportError as exc:
        raise SignerError("python-pkcs11 is not installed", todo="install Vouch with the extra `pkcs11`") from exc
    pin = read_private(token.pin_file).decode("utf-8", "replace").strip()
    try:
        session = pkcs11.lib(str(token.module)).get_token(token_label=token.label).open(user_pin=pin, rw=writable)
        try:
            yield pkcs11, session
        finally:
            session.close()
    except (pkcs11.PKCS11Error, RuntimeError, OSError) as exc:
        raise SignerError(
            f"the token {token.label!r} cannot be used: {type(exc).__name__} {exc}".rstrip(),
            todo=f"is it initialised (softhsm2-util, tpm2_ptool) and plugged in, is the PIN in {token.pin_file} right?",
        ) from exc


def _find(pkcs11: Any, session: Any, kind: Any) -> Any | None:
    attribute = pkcs11.Attribute
    return next(iter(session.get_objects({attribute.CLASS: kind, attribute.LABEL: TOKEN_LABEL})), None)


def _generate(pkcs11: Any, session: Any, *, tpm: bool) -> Any:
    from pkcs11.util.ec import encode_named_curve_parameters  # noqa: PLC0415 - as above

    attribute, flag = pkcs11.Attribute, pkcs11.MechanismFlag
    public: dict[Any, Any] = {}
    private: dict[Any, Any] = {attribute.EXTRACTABLE: False}
    if tpm:
        # tpm2-pkcs11 (seen in 1.9.0) takes a TPM key's "sign" for the public half's ENCRYPT, and refuses to make a
        # signing key whose template does not agree.
        public = {attribute.ENCRYPT: True, attribute.WRAP: None, attribute.VERIFY: None}
        private = {attribute.DECRYPT: None, attribute.UNWRAP: None, attribute.DERIVE: None}
    parameters = session.create_domain_parameters(
        pkcs11.KeyType.EC, {attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}, local=True
    )
    _, key = parameters.generate_keypair(
        store=True,
        label=TOKEN_LABEL,
        id=TOKEN_LABEL.encode(),
        capabilities=flag.SIGN | flag.VERIFY,
        public_template=public,
        private_template=private,
    )
    return key


def _p256(der: bytes, label: str) -> ec.EllipticCurvePublicKey:
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise SignerError(f"the token's key {label!r} is not readable", todo="make a P-256 key in the token") from exc
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignerError(f"the token's key {label!r} is not P-256", todo="make a P-256 key in the token")
    return key


def read_private(path: Path) -> bytes:
    """A secret's bytes; refused when group or others may touch the file. Checked is the open file, not the name.

    No link is followed: root reads in the uplink's folder too, where one could lead to the terminal's own key.
    """
    if path.is_symlink():
        raise SignerError(f"{path} is a link", todo="name the key file itself")
    try:
        with durable.open_plain(path) as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise SignerError(f"{path} is open to others (mode {mode & 0o777:o})", todo=f"chmod 600 {path}")
            return file.read(65536)
    except OSError as exc:
        raise SignerError(
            f"{path} cannot be read: {exc.strerror}", todo="provision this terminal, or mend the path"
        ) from exc
