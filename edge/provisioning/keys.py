"""The terminal's key files: made, tried, destroyed. Keys in a token are edge/evidence/signer.py's."""

from __future__ import annotations

import errno
import fnmatch
import os
import secrets
import shutil
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from edge.config import KeySettings
from edge.errors import SignerError, StorageError
from edge.evidence.signer import Pkcs11Signer, Signer, Token, open_signer

_PIECE = 2**16
_OVERWRITTEN_MAX = 2**24


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
    """Overwrite, 16 MiB at most, then unlink; nothing where there is no file. StorageError where that cannot be.

    A folder in its place goes with all that is in it: it is none of ours, and would stand in the way for ever.
    A link is unlinked alone: the uplink, whose folder is emptied as well, could name any file of root's by one.
    Flash may keep the old bytes elsewhere: a token is what keeps a key from being found on a card.
    """
    with _folder(path.parent, ()) as descriptor:
        if descriptor is not None:
            _destroy(path, descriptor)


def destroy_below(base: Path, pattern: str, *, kept: Collection[str], folders: bool) -> Path | None:
    """Each file below `base` that the pattern (`a/b/*.c`) names is destroyed as by `destroy_file`.

    Returns a folder on the way that is none, a link for one: whoever owns `base` could lead us anywhere by it, so
    nothing is destroyed then. Folders are opened one in the other: exchanged meanwhile, they lead nowhere else either.
    `kept`: real paths that stay. `folders`: whether a folder under such a name goes too. StorageError.
    """
    *parents, names = PurePosixPath(pattern).parts
    where = base.joinpath(*parents)
    try:
        with _folder(base, parents) as descriptor:
            if descriptor is None:
                return None
            with os.scandir(descriptor) as entries:
                found = sorted(fnmatch.filter((entry.name for entry in entries), names))
            for name in found:
                path = where / name
                if os.path.realpath(path) in kept:  # Path.resolve raises where links lead in a circle
                    continue
                if folders or not _is_folder(path, descriptor):
                    _destroy(path, descriptor)
    except NotADirectoryError as exc:
        return Path(exc.filename)
    return None


@contextmanager
def _folder(base: Path, parents: Sequence[str]) -> Iterator[int | None]:
    """The folder, open; None where it is not there. Of links only `base` itself may be one: NotADirectoryError."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    path = base
    with ExitStack() as opened_ones:
        try:
            descriptor = os.open(base, flags)
            opened_ones.callback(os.close, descriptor)
            for name in parents:
                path = path / name
                descriptor = os.open(name, flags | os.O_NOFOLLOW, dir_fd=descriptor)
                opened_ones.callback(os.close, descriptor)
        except FileNotFoundError:
            yield None
            return
        except NotADirectoryError as exc:
            raise NotADirectoryError(exc.errno, exc.strerror, str(path)) from exc
        except OSError as exc:
            raise StorageError(f"{path} cannot be opened: {exc.strerror}", todo="run it as root") from exc
        yield descriptor


def _is_folder(path: Path, folder: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _destroy(path: Path, folder: int) -> None:
    """`folder`: the open one that the last name of `path` is in."""
    try:
        mode = os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISREG(mode):
            flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(path.name, flags, dir_fd=folder)
            try:
                _overwrite(descriptor)
            finally:
                os.close(descriptor)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise StorageError(f"{path} cannot be overwritten: {exc.strerror}", todo="check the disk") from exc
    try:
        if stat.S_ISDIR(mode):
            shutil.rmtree(path.name, dir_fd=folder)
        else:
            os.unlink(path.name, dir_fd=folder)
        os.fsync(folder)
    except OSError as exc:
        raise StorageError(f"{path} cannot be removed: {exc.strerror}", todo="check the disk and permissions") from exc
    except RecursionError as exc:
        raise StorageError(f"{path} is a folder too deep to be removed", todo=f"rm -r {path}, then go on") from exc


def _overwrite(descriptor: int) -> None:
    """A plain file's first 16 MiB, as far as there is anything: a file of holes may say any size. OSError."""
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        return
    there = max(state.st_blocks * 512, _PIECE)  # a file system may keep a small file without a block of its own
    left = min(state.st_size, there, _OVERWRITTEN_MAX)
    try:
        while left > 0:
            left -= os.write(descriptor, os.urandom(min(left, _PIECE)))
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno not in {errno.ENOSPC, errno.EDQUOT}:  # no room to fill a hole: what goes on is the removal
            raise


def token_of(settings: KeySettings) -> Token | None:
    """The token that the settings name; None for a software key."""
    if settings.pkcs11_module is None or settings.pkcs11_token is None or settings.pkcs11_pin_file is None:
        return None
    return Token(settings.pkcs11_module, settings.pkcs11_token, settings.pkcs11_pin_file)
