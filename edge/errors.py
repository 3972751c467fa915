"""Every exception that Vouch raises on purpose; nothing else belongs here.

A failed check is a value, never an exception: these are for what the operator, the technician or the carrier must mend.
"""

from __future__ import annotations

from enum import Enum


class VouchError(Exception):
    """Base of the tree. `message` says what is wrong, `todo` what a person can do about it."""

    def __init__(self, message: str, *, todo: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.todo = todo

    def diagnostics(self) -> str:
        """What it means and what to do, in a line or two for the technician."""
        return f"{self.message}\n  what to do: {self.todo}" if self.todo else self.message


class ConfigError(VouchError):
    """terminal.toml or a file that it names is missing or wrong."""


class PackError(VouchError):
    """A model pack is refused: hash, size, shape, type, licence or threshold does not fit its manifest."""


class CameraError(VouchError):
    """No camera, a camera that stalls, or frames of the wrong shape."""


class CaptureFault(Enum):
    """Why a picture gives no template."""

    UNREADABLE = "unreadable"
    NO_FACE = "no-face"
    SEVERAL_FACES = "several-faces"
    TOO_SMALL = "too-small"


class CaptureError(VouchError):
    """A still picture (portrait, or an argument of `vouch compare`) gives no template."""

    def __init__(self, fault: CaptureFault, message: str, *, todo: str = "") -> None:
        super().__init__(message, todo=todo)
        self.fault = fault


class EvidenceError(VouchError):
    """Signed bytes are refused: form, algorithm, key, signature, schema or context. No other exception comes out."""


class SignerError(VouchError):
    """The signing key cannot be used: missing file, wrong permissions, token absent, wrong PIN."""


class JournalError(VouchError):
    """The journal cannot be written or its chain does not hold. No session starts then."""


class IpcError(VouchError):
    """A frame between the two processes is malformed, oversized or of an unknown kind; the connection is closed."""


class LinkError(VouchError):
    """The uplink cannot serve: certificate, key, host name, or the broker's refusal."""


class BundleFault(Enum):
    """Why a carrier's bundle is not taken; the first-boot page has words of its own for each."""

    ROOT = "wrong-root"  # not signed by this terminal's carrier, or not whole
    TERMINAL = "other-terminal"
    EXPIRED = "expired"  # it answers a request that has ended: answered already, or replaced by a newer one
    CONTENT = "damaged"  # signed, but what is in it does not fit
    CODE = "wrong-code"


class ProvisioningError(VouchError):
    """The terminal's identity is missing, incomplete or does not fit; `fault` where a bundle is what does not fit."""

    def __init__(self, message: str, *, todo: str = "", fault: BundleFault | None = None) -> None:
        super().__init__(message, todo=todo)
        self.fault = fault


class StorageError(VouchError):
    """A file cannot be written so that it survives a power cut."""


class UpdateFault(Enum):
    """Why an update was not taken."""

    UNREACHABLE = "unreachable"  # no connection, or TLS does not hold
    SLOW = "slow"  # the server lets us wait longer than we do
    INCOMPLETE = "incomplete"  # a file is missing, cut short, or cannot be read
    TOO_LARGE = "too-large"  # longer than it may be
    SIGNATURE = "signature"  # not signed by enough of the keys that we trust
    EXPIRED = "expired"  # signed, but its time is over: somebody may be keeping newer ones from us
    ROLLBACK = "rollback"  # older than what we have seen
    CONTENT = "content"  # length or hash is not what was signed
    MALFORMED = "malformed"
    PACK = "pack"  # the pack does not fit its manifest, or the policy
    POLICY = "policy"  # the policy is not the carrier's
    SELF_TEST = "self-test"
    CRASHED = "crashed"  # the terminal did not hold with it
    DISK = "disk"
    STATE = "state"  # our own record of packs is damaged


class UpdateError(VouchError):
    """An update is refused or cannot be had now; the pack in force goes on."""

    def __init__(self, fault: UpdateFault, message: str, *, todo: str = "") -> None:
        super().__init__(message, todo=todo)
        self.fault = fault


class BusyError(VouchError):
    """The terminal cannot do that now: a customer is being verified."""
