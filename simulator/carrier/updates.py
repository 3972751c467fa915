"""The carrier's TUF repository: made, published to, its keys rotated; serving it is server.py's, checking it edge's.

    REPO/metadata/1.root.json ... timestamp.json
    REPO/targets/<sha>.release.json, pack/<sha>.<file>, <sha>.policy.cose

Keys of root and targets are offline: they lie in a folder of their own, which a carrier keeps on a stick in a safe and
brings for a release or a rotation. Keys of snapshot and timestamp are online, so that a machine can sign daily that
nothing newer exists. Root asks for two signatures. Every key is Ed25519, PEM, mode 0600, named by its role.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from edge import durable
from edge.errors import ProvisioningError
from edge.updates.release import MANIFEST_FILE, POLICY_TARGET, RELEASE_TARGET, Release, parse_release
from edge.vision.inspection import inspect_pack
from edge.vision.pack import Pack, Role

_KEY_MODE = 0o600
ROLES = ("root", "targets", "snapshot", "timestamp")
_ROOT_KEYS = 2  # both sign: one stolen key is no new root
_OFFLINE = ("root", "targets")
_LIFE = {
    "root": timedelta(days=730),
    "targets": timedelta(days=365),
    "snapshot": timedelta(days=30),
    "timestamp": timedelta(days=7),
}


@dataclass(frozen=True, slots=True)
class UpdateRepository:
    """`folder` is what is served; `offline` and `online` hold keys and are not."""

    folder: Path
    offline: Path
    online: Path

    @property
    def first_root(self) -> Path:
        """The root that terminals get at enrolment; any later one follows from it."""
        return self.folder / "metadata" / "1.root.json"

    def create(self, now: datetime) -> None:
        """Keys and an empty repository. ProvisioningError where there is one: its keys cannot come back."""
        if self.first_root.exists():
            raise ProvisioningError(f"{self.folder} holds a repository already", todo="publish to it, or name another")
        for folder in (self.offline, self.online):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("metadata", "targets/pack"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        root = Root(version=1, expires=now + _LIFE["root"], consistent_snapshot=True)
        for role in ROLES:
            for path in self._keys(role):
                durable.write(path, CryptoSigner.generate_ed25519().private_bytes, _KEY_MODE)
                root.add_key(_signer(path).public_key, role)
        root.roles["root"].threshold = _ROOT_KEYS
        self._write_root(Metadata(root), self._signers("root"))
        self._write("targets", Targets(version=1, expires=now + _LIFE["targets"]))
        self._renew(now)

    def publish(self, now: datetime, *, pack: Path | None, policy: Path | None, number: int | None = None) -> Release:
        """A release of a pack, a signed policy, or both; what one leaves out stays as terminals have it.

        `number`: by default one more than the last. PackError where the pack does not hold, ProvisioningError where a
        key or file is missing.
        """
        files: dict[str, bytes] = {}
        names: list[str] = []
        if pack is not None:
            inspect_pack(pack)
            manifest = Pack.load(pack).manifest
            names = [MANIFEST_FILE, *dict.fromkeys(manifest.spec(role).file for role in Role)]
            files |= {f"pack/{name}": (pack / name).read_bytes() for name in names}
        if policy is not None:
            files[POLICY_TARGET] = _read(policy)
        if not files:
            raise ProvisioningError("a release brings a pack, a policy, or both", todo="name --pack or --policy")
        release = Release(release=number or self.newest() + 1, pack=names, policy=policy is not None)
        files[RELEASE_TARGET] = release.model_dump_json().encode()
        old = self._load("targets")
        targets = Targets(version=old.signed.version + 1, expires=now + _LIFE["targets"])
        for name, content in files.items():
            target = TargetFile.from_data(name, content, ["sha256"])
            targets.targets[name] = target
            folder, slash, base = name.rpartition("/")
            path = self.folder / "targets" / f"{folder}{slash}{target.hashes['sha256']}.{base}"
            path.parent.mkdir(parents=True, exist_ok=True)
            durable.write(path, content, 0o644)
        self._write("targets", targets)
        self._renew(now)
        return release

    def newest(self) -> int:
        """The number of the last release; 0 before the first."""
        targets = self._load("targets").signed
        if not isinstance(targets, Targets) or RELEASE_TARGET not in targets.targets:
            return 0
        digest = targets.targets[RELEASE_TARGET].hashes["sha256"]
        return parse_release((self.folder / "targets" / f"{digest}.{RELEASE_TARGET}").read_bytes()).release

    def refresh(self, now: datetime) -> None:
        """Sign snapshot and timestamp anew with the online keys: nothing changed, and that is said as of now."""
        self._renew(now)

    def rotate(self, role: str, now: datetime) -> int:
        """New keys for a role, in a new root that the old and the new root keys sign; the root's version.

        Metadata of that role are signed anew at once. A stolen online key gains nothing after this.
        """
        if role not in ROLES:
            raise ProvisioningError(f"{role} is no role", todo=f"one of {', '.join(ROLES)}")
        old = self._root()
        former = self._signers("root")
        root = Root.from_dict(old.signed.to_dict())
        root.version, root.expires = root.version + 1, now + _LIFE["root"]
        for keyid in list(root.roles[role].keyids):
            root.revoke_key(keyid, role)
        paths = {path: path.with_suffix(".next") for path in self._keys(role)}
        for beside in paths.values():
            durable.write(beside, CryptoSigner.generate_ed25519().private_bytes, _KEY_MODE)
        fresh = [_signer(beside) for beside in paths.values()]
        for signer in fresh:
            root.add_key(signer.public_key, role)
        self._write_root(Metadata(root), former + (fresh if role == "root" else []))
        for path, beside in paths.items():  # only now: before this line the old keys are still the ones in force
            beside.replace(path)
        if role == "targets":
            targets = self._load("targets").signed
            self._write("targets", Targets(targets.version + 1, None, now + _LIFE["targets"], targets.targets))
        self._renew(now)
        return root.version

    def _renew(self, now: datetime) -> None:
        targets = self._load("targets")
        snapshot = Snapshot(version=self._version("snapshot") + 1, expires=now + _LIFE["snapshot"])
        snapshot.meta["targets.json"] = MetaFile(version=targets.signed.version)
        self._write("snapshot", snapshot)
        timestamp = Timestamp(version=self._version("timestamp") + 1, expires=now + _LIFE["timestamp"])
        timestamp.snapshot_meta = MetaFile(version=snapshot.version)
        self._write("timestamp", timestamp)

    def _write(self, role: str, signed: Targets | Snapshot | Timestamp) -> None:
        metadata: Metadata[Any] = Metadata(signed)
        for signer in self._signers(role):
            metadata.sign(signer, append=True)
        name = f"{role}.json" if role == "timestamp" else f"{signed.version}.{role}.json"
        durable.write(self.folder / "metadata" / name, metadata.to_bytes(), 0o644)

    def _write_root(self, metadata: Metadata[Root], signers: list[CryptoSigner]) -> None:
        for signer in signers:
            metadata.sign(signer, append=True)
        durable.write(self.folder / "metadata" / f"{metadata.signed.version}.root.json", metadata.to_bytes(), 0o644)

    def _root(self) -> Metadata[Root]:
        newest = max(self._versions("root"), default=0)
        return Metadata[Root].from_file(str(self.folder / "metadata" / f"{newest}.root.json"))

    def _load(self, role: str) -> Metadata[Any]:
        version = self._version(role)
        if not version:
            raise ProvisioningError(f"{self.folder} holds no repository", todo="make one: `vouch-sim updates init`")
        return Metadata.from_file(str(self.folder / "metadata" / f"{version}.{role}.json"))

    def _version(self, role: str) -> int:
        if role == "timestamp":
            path = self.folder / "metadata" / "timestamp.json"
            return Metadata[Timestamp].from_file(str(path)).signed.version if path.exists() else 0
        return max(self._versions(role), default=0)

    def _versions(self, role: str) -> list[int]:
        return [int(path.name.split(".")[0]) for path in (self.folder / "metadata").glob(f"*.{role}.json")]

    def _keys(self, role: str) -> list[Path]:
        folder = self.offline if role in _OFFLINE else self.online
        count = _ROOT_KEYS if role == "root" else 1
        return [folder / (f"{role}-{k + 1}.pem" if count > 1 else f"{role}.pem") for k in range(count)]

    def _signers(self, role: str) -> list[CryptoSigner]:
        return [_signer(path) for path in self._keys(role)]


def _signer(path: Path) -> CryptoSigner:
    key = serialization.load_pem_private_key(_read(path), None)
    return CryptoSigner(key)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ProvisioningError(
            f"{path} cannot be read: {exc.strerror}", todo="bring the folder with the offline keys, or name the file"
        ) from exc


def now() -> datetime:
    """Whole seconds, as TUF writes times."""
    return datetime.now(UTC).replace(microsecond=0)
