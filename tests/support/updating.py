"""A carrier's real TUF repository, a terminal that trusts it, and small packs to publish."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np

from edge.config import DEFAULT_PACK, KeySettings, Settings, UpdateSettings, UplinkSettings
from edge.evidence.messages import build_policy
from edge.evidence.signer import KeyFile
from edge.session.decision import Policy
from edge.updates.install import install
from edge.updates.job import Job
from edge.updates.shelf import Shelf, State, begun, confirmed
from edge.vision.pack import Pack
from simulator.carrier.pki import CarrierPki, create_pki
from simulator.carrier.updates import UpdateRepository, now
from tests.tiny_models import Output, build, write_pack


@dataclass
class World:
    """`job` is the terminal's side, `repository` the carrier's."""

    folder: Path
    repository: UpdateRepository
    job: Job
    pki: CarrierPki

    @property
    def shelf(self) -> Shelf:
        return self.job.shelf

    @property
    def state(self) -> State:
        return self.shelf.state()

    def pack(self, number: int) -> Path:
        """A tiny pack; each number another one."""
        return tiny_pack(self.folder / f"pack-{number}", number)

    def policy(self, version: int, **changes: object) -> Path:
        """A signed policy."""
        signer = changes.pop("signer", None) or KeyFile(self.pki.signing_key)
        path = self.folder / f"policy-{version}.cose"
        path.write_bytes(build_policy(replace(Policy(id="p", version=version, digest=bytes(32)), **changes), signer))
        return path

    def publish(self, pack: int | None = None, policy: Path | None = None, *, late: timedelta = timedelta(0), **more):
        folder = self.pack(pack) if pack is not None else None
        return self.repository.publish(now() + late, pack=folder, policy=policy, **more)

    def take(self, folder: Path | None = None, **options):
        """Install with a self-test that passes, unless the options bring another."""
        return install(self.job, folder or self.repository.folder, **{"self_test": lambda _: None, **options})

    def start(self) -> str:
        """A start of the terminal; the version of the pack that it works with."""
        pack, _, _ = self.shelf.begin(lambda pack: pack)
        return pack.manifest.version

    def serve(self) -> str:
        """Start, and prove the pack."""
        version = self.start()
        self.shelf.change(confirmed)
        return version

    def copy(self, name: str) -> Path:
        """What is served now, as a stick holds it."""
        return Path(shutil.copytree(self.repository.folder, self.folder / name))


def tiny_pack(folder: Path, number: int) -> Path:
    embedder = build(32, 32, [Output((1, 8), bias=np.full(8, float(number)))])
    write_pack(folder, embedder=embedder)
    manifest = folder / "pack.toml"
    manifest.write_text(manifest.read_text().replace('version = "1.0"', f'version = "1.{number}"'))
    return folder


def variant(folder: Path, version: str) -> Path:
    """Our own pack under another version: another digest, as good as ours."""
    shutil.copytree(
        DEFAULT_PACK, folder, ignore=lambda _, names: [n for n in names if not n.endswith((".tflite", ".toml"))]
    )
    manifest = folder / "pack.toml"
    lines = [
        f'version = "{version}"' if line.startswith("version = ") else line
        for line in manifest.read_text().splitlines()
    ]
    manifest.write_text("\n".join(lines) + "\n")
    return folder


def make_world(folder: Path) -> World:
    """A repository without a release, and a terminal with the firmware's own pack, version 1.0."""
    pki = create_pki(folder / "pki", now=now())
    repository = UpdateRepository(folder / "repository", folder / "offline", folder / "online")
    repository.create(now())
    carrier = folder / "carrier"
    carrier.mkdir()
    shutil.copy(pki.signing_public_key, carrier / "carrier.pem")
    root = folder / "root.json"
    shutil.copy(repository.first_root, root)
    settings = Settings(
        terminal_id="0" * 32,
        site="shop",
        state_dir=folder / "state",
        pack_dir=tiny_pack(folder / "built-in", 0),
        keys=KeySettings(portrait_key=folder / "none", carrier_keys=carrier),
        uplink=UplinkSettings(host="localhost", ca=pki.ca, certificate=folder / "none", key=folder / "none"),
        updates=UpdateSettings(root=root),
    )
    return World(folder, repository, Job(settings), pki)


__all__ = ["Pack", "World", "begun", "make_world", "tiny_pack", "variant"]
