"""The terminal's key files: made, tried, destroyed. Keys in a token are edge/evidence/signer.py's."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from edge import durable
from edge.config import KeySettings
from edge.errors import SignerError, StorageError
from edge.evidence.signer import Pkcs11Signer, Signer, Token, open_signer


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def prove(signer: Signer) -> None:
    """SignerError where the key does not sign what its public half verifies."""
    data = secrets.token_bytes(32)
    signature = signer.sign(data)
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    try:
        signer.public_key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as exc:
        raise SignerError("the result key signs what its public key does not verify", todo="use another token") from exc


@contextmanager
def opened(settings: KeySettings) -> Iterator[Signer]:
    """The result key for a while: a token knows one login at a time."""
    signer = open_signer(settings)
    try:
        yield signer
    finally:
        if isinstance(signer, Pkcs11Signer):
            signer.close()


def destroy_file(path: Path) -> None:
    """Overwrite, then unlink; nothing where there is no file. StorageError where that cannot be.

    A link is unlinked alone: the uplink, whose folder is emptied as well, could name any file of root's by one.
    Flash may keep the old bytes elsewhere: a token is what keeps a key from being found on a card.
    """
    try:
        if stat.S_ISREG(path.lstat().st_mode):
            descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "wb") as file:
                file.write(os.urandom(os.fstat(descriptor).st_size))
                file.flush()
                os.fsync(descriptor)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise StorageError(f"{path} cannot be overwritten: {exc.strerror}", todo="check the disk") from exc
    durable.remove(path)


def token_of(settings: KeySettings) -> Token | None:
    """The token that the settings name; None for a software key."""
    if settings.pkcs11_module is None or settings.pkcs11_token is None or settings.pkcs11_pin_file is None:
        return None
    return Token(settings.pkcs11_module, settings.pkcs11_token, settings.pkcs11_pin_file)
