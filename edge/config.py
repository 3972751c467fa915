"""Frozen, validated settings; the only reader of terminal.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from edge.errors import ConfigError

DEFAULT_PATH = Path("/etc/vouch/terminal.toml")
ROOT = "root.pem"  # the carrier root, beside terminal.toml
IDENTITY = "identity.toml"  # beside terminal.toml: who this terminal is
TRUST = "trust.cbor"  # in the state folder: key sets of the carrier, see edge/evidence/trust.py
INTERRUPTED = (".install.cbor", ".reset.cbor")  # beside terminal.toml: what edge/provisioning left to be finished
DEFAULT_PACK = Path(__file__).resolve().parent.parent / "models"

TerminalId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CameraSettings(_Settings):
    """`source`: "picamera2", "v4l2:0", or "file:/path/clip.mp4" (frames at the file's own pace).

    `sensor`: the model that must be there, as `vouch doctor` names it; None: any.
    """

    source: str = "picamera2"
    width: int = Field(default=640, ge=320, le=1920)
    height: int = Field(default=480, ge=240, le=1080)
    fps: int = Field(default=30, ge=10, le=60)
    timeout_s: float = Field(default=2.0, gt=0, le=10)
    sensor: str | None = Field(default=None, max_length=64)


class DocumentSettings(_Settings):
    """Where the reference portrait may come from, in order of preference. `file` is for development only."""

    challenge: bool = True  # encrypted inside the carrier's challenge
    camera: bool = True  # card held to the camera
    file: Path | None = None


class KeySettings(_Settings):
    """The result key: a PEM file, or PKCS#11 (module, token label, key label; the PIN from a credential file)."""

    result_key: Path | None = None
    pkcs11_module: Path | None = None
    pkcs11_token: str | None = None
    pkcs11_key: str | None = None
    pkcs11_pin_file: Path | None = None
    portrait_key: Path  # P-256, decrypts portraits inside challenges
    carrier_keys: Path  # folder of the carrier's public keys, PEM
    carrier_root: Path | None = None  # signs enrolments and key sets: public key or certificate, PEM


class KioskSettings(_Settings):
    host: str = Field(default="127.0.0.1", pattern=r"^(127\.0\.0\.1|::1)$")
    port: int = Field(default=8080, ge=0, le=65535)
    language: str = Field(default="en", pattern=r"^(en|zh)$")  # what the page begins with; anybody may switch


class TechnicianSettings(_Settings):
    """The technician's page, on loopback. `gadget_address`: by which it is reached over a USB cable too, link-local
    (RFC 3927); systemd/optional/ brings the cable to loopback, from the gadget's interface alone.
    """

    port: int = Field(default=8081, ge=0, le=65535)
    gadget_address: str | None = Field(default=None, pattern=r"^169\.254(\.(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){2}$")


class UplinkSettings(_Settings):
    """Broker and the uplink's own TLS identity; the only secrets that this process may read."""

    host: str
    port: int = Field(default=8883, ge=1, le=65535)
    ca: Path
    certificate: Path
    key: Path
    keepalive_s: int = Field(default=30, ge=5, le=600)
    max_in_flight: int = Field(default=10, ge=1, le=10)
    protocol: str = Field(default="auto", pattern=r"^(auto|5|3\.1\.1)$")


class UpdateSettings(_Settings):
    """Model packs and policies by TUF. `root`: the trusted root.json of the enrolment, which no process may change.

    `url`: of the carrier's repository, with metadata/ and targets/ below it; None: from USB sticks alone. `spool`:
    where the uplink puts what it fetched and the terminal reads it.
    """

    root: Path
    url: str | None = Field(default=None, pattern=r"^https://[^\s?#]+$", max_length=400)
    spool: Path = Path("/var/cache/vouch-updates")
    check_each_s: int = Field(default=6 * 3600, ge=60, le=7 * 24 * 3600)


class IdentitySettings(_Settings):
    """identity.toml: who this terminal is and where its keys lie, before any carrier knows it.

    `sticks`: below it the first boot looks for the carrier's answer. What else there is for this machine goes into
    terminal.toml with the enrolment.
    """

    terminal_id: TerminalId
    hardware_model: str = Field(default="vouch-dev", min_length=1, max_length=32)
    keys: KeySettings
    state_dir: Path | None = None
    run_dir: Path | None = None
    sticks: Path = Path("/media")
    camera: CameraSettings = CameraSettings()
    kiosk: KioskSettings = KioskSettings()


class Settings(_Settings):
    """The whole of terminal.toml. Paths may be relative to the file."""

    terminal_id: TerminalId
    site: str = Field(min_length=1, max_length=32)
    hardware_model: str = Field(default="vouch-dev", min_length=1, max_length=32)
    state_dir: Path = Path("/var/lib/vouch")
    run_dir: Path = Path("/run/vouch")
    pack_dir: Path = DEFAULT_PACK
    threads: int = Field(default=1, ge=1, le=4)
    journal_max_rows: int = Field(default=100_000, ge=100)
    camera: CameraSettings = CameraSettings()
    document: DocumentSettings = DocumentSettings()
    keys: KeySettings
    kiosk: KioskSettings = KioskSettings()
    technician: TechnicianSettings = TechnicianSettings()
    uplink: UplinkSettings
    updates: UpdateSettings | None = None

    @property
    def socket_path(self) -> Path:
        """The Unix socket between the two processes."""
        return self.run_dir / "uplink.sock"

    @property
    def control_path(self) -> Path:
        """The Unix socket by which `vouch doctor` asks the running terminal."""
        return self.run_dir / "control.sock"

    @property
    def journal_path(self) -> Path:
        return self.state_dir / "journal.sqlite"

    @property
    def trust_path(self) -> Path:
        """Key sets of the carrier that came over the link, see edge/evidence/trust.py."""
        return self.state_dir / TRUST

    @property
    def accepted_path(self) -> Path:
        """The first receipt by which the carrier accepted a result; its absence is an unprovisioned terminal."""
        return self.state_dir / "accepted.cose"


def load(path: Path) -> Settings:
    """Read and validate terminal.toml; ConfigError names the file, the setting and what it should be."""
    return _load(path, Settings)


def load_identity(path: Path) -> IdentitySettings:
    """Read and validate identity.toml; ConfigError as `load`."""
    return _load(path, IdentitySettings)


S = TypeVar("S", bound=_Settings)


def awaits_enrolment(path: Path) -> bool:
    """Whether this terminal.toml has yet to come by an enrolment: keys are there, or it is the box's own folder."""
    if path.name != DEFAULT_PATH.name or path.exists():
        return False
    return (path.parent / IDENTITY).exists() or (path == DEFAULT_PATH and path.parent.is_dir())


def _load(path: Path, kind: type[S]) -> S:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ConfigError(
            f"{path} does not exist", todo="provision this terminal, or name the file with --config"
        ) from exc
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}", todo="mend the file; it must be TOML") from exc
    try:
        return kind.model_validate(_resolved(raw, path.resolve().parent))
    except ValidationError as exc:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors(include_input=False))
        raise ConfigError(f"{path}: {wrong}", todo="mend these settings") from exc


_PATHS = frozenset(
    {
        *("state_dir", "run_dir", "pack_dir", "file", "result_key", "pkcs11_module", "pkcs11_pin_file"),
        *("portrait_key", "carrier_keys", "carrier_root", "ca", "certificate", "key", "root", "spool", "sticks"),
    }
)


def _resolved(raw: dict[str, Any], base: Path) -> dict[str, Any]:
    """Make relative paths relative to the settings file, not to the working directory."""
    return {
        name: _resolved(value, base)
        if isinstance(value, dict)
        else str(base / value)
        if name in _PATHS and isinstance(value, str)
        else value
        for name, value in raw.items()
    }
