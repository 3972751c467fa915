"""The packs that a terminal holds: which is in force, which on trial, and below which release it never goes.

    packs/state.json          the record below; written whole, so that a power cut leaves the old or the new one
    packs/state.copy          the same again, for a card that rots
    packs/<digest>/           a pack, named by the SHA-256 of its pack.toml; complete before it gets its name
    packs/policy/<sha>.cose   the policy of a release
    packs/trust/              what the TUF client remembers (install.py)
    packs/.new-*              what was being made when the power went; swept away

A pack comes into force by A/B: it is put on the shelf, then on trial. The terminal takes it at its next start, and each
start on trial is counted on the disk before the pack is opened. It is confirmed when it has served; after MAX_STARTS
starts without that, or at the first fault of its own, the former pack is back and the refused one is remembered.
A start that ended orderly is given back: a shop that is closed for the night is no crash.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from edge import durable
from edge.config import Settings
from edge.errors import PackError, StorageError, UpdateError, UpdateFault
from edge.vision.pack import Pack

MAX_STARTS = 3
_RECORDS = ("state.json", "state.copy")
_STATE_LIMIT = 16_384
_WHY_LIMIT = 200
_FILE_MODE, _FOLDER_MODE = 0o600, 0o700
_NEW = ".new-"

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
T = TypeVar("T")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Trial(_Record):
    """A pack that waits for its first start, or is in its first starts. Without a release it came by hand.

    `pack` None: the one that the firmware brought, on the way back to it.
    """

    pack: Digest | None
    starts: int = Field(default=0, ge=0, le=100)
    release: int | None = None
    policy: Digest | None = None


class Refusal(_Record):
    """The last update that was not taken. With a release: that one is not tried again by itself."""

    fault: UpdateFault
    why: Annotated[str, StringConstraints(max_length=_WHY_LIMIT)]
    release: int | None = None


class State(_Record):
    """The record on the disk. `pack` None: the one that the firmware brought. `release`: the version floor."""

    format: Literal[1] = 1
    pack: Digest | None = None
    release: int = Field(default=0, ge=0)
    policy: Digest | None = None
    trial: Trial | None = None
    refused: Refusal | None = None
    expires_s: int | None = None  # s since 1970: until then the repository's signatures are good for new updates


def begun(state: State) -> State:
    """The record that is written before a terminal opens its pack: a start on trial counts, one too many ends it."""
    trial = state.trial
    if trial is None:
        return state
    if trial.starts >= MAX_STARTS:
        return ended(state, UpdateFault.CRASHED, f"the terminal did not hold in {trial.starts} starts with it")
    return state.model_copy(update={"trial": trial.model_copy(update={"starts": trial.starts + 1})})


def ended(state: State, fault: UpdateFault, why: str) -> State:
    """The trial is over and lost."""
    release = state.trial.release if state.trial else None
    return state.model_copy(
        update={"trial": None, "refused": Refusal(fault=fault, why=why[:_WHY_LIMIT], release=release)}
    )


def confirmed(state: State) -> State:
    """The trial is over and won: its pack is in force, and its release is the floor."""
    trial = state.trial
    if trial is None:
        return state
    change: dict[str, Any] = {"pack": trial.pack, "trial": None, "refused": None}
    if trial.release is not None:
        change |= {"release": max(state.release, trial.release), "policy": trial.policy or state.policy}
    return state.model_copy(update=change)


def given_back(state: State) -> State:
    """A start that ended orderly did not count."""
    trial = state.trial
    if trial is None or trial.starts == 0:
        return state
    return state.model_copy(update={"trial": trial.model_copy(update={"starts": trial.starts - 1})})


@dataclass(frozen=True, slots=True)
class Shelf:
    """The packs below `folder` (made when the first one comes). `built_in`: the pack that the firmware brought.

    Any process may work with it: each change holds a lock. UpdateError (STATE) where the record is damaged, (DISK)
    where it cannot be written.
    """

    folder: Path
    built_in: Path

    @property
    def trust(self) -> Path:
        """The TUF client's own folder."""
        return self.folder / "trust"

    def state(self) -> State:
        """The record; a fresh one where nothing ever came."""
        if not any((self.folder / name).exists() for name in _RECORDS):
            return State()
        for name in _RECORDS:
            try:
                with (self.folder / name).open("rb") as file:
                    return State.model_validate_json(file.read(_STATE_LIMIT))
            except (OSError, ValidationError):
                continue
        raise UpdateError(
            UpdateFault.STATE,
            f"{self.folder / _RECORDS[0]} and its copy are damaged: which pack is in force is not known",
            todo=f"report it; to begin anew with the firmware's own pack, move {self.folder} away, then restart",
        )

    def path_of(self, digest: str | None) -> Path:
        """The folder of a pack; None is the built-in one."""
        return self.built_in if digest is None else self.folder / digest

    def holds(self) -> list[tuple[str, Path]]:
        """Every pack of this terminal, and its folder: what is in force, on trial, and what the firmware brought."""
        with self._disk():  # a folder that is not ours to read
            state = self.state()
        found = {state.pack: ["in force"]}
        if state.trial is not None:
            found.setdefault(state.trial.pack, []).append("on trial")
        found.setdefault(None, []).append("built in")
        return [(", ".join(words), self.path_of(digest)) for digest, words in found.items()]

    def begin(self, open_pack: Callable[[Pack], T]) -> tuple[Pack, T, State]:
        """A terminal's start: the pack to work with, what `open_pack` made of it, and the record.

        A pack on trial that cannot be opened is refused at once, and the one in force is opened. So it is where a start
        cannot be counted: the trial waits for a disk that can be written. PackError where the pack in force is broken:
        there is nothing to fall back to but older ones.
        """
        state = self.state()
        if state.trial is not None:
            try:
                state = self.change(begun)
            except UpdateError as exc:
                if exc.fault is not UpdateFault.DISK:
                    raise
                state = state.model_copy(update={"trial": None})
        if state.trial is not None:
            try:
                pack = self._load(state.trial.pack)
                return pack, open_pack(pack), state
            except PackError as exc:
                why = exc.message
                state = self.change(lambda now: ended(now, UpdateFault.PACK, why))
        pack = self._load(state.pack)
        return pack, open_pack(pack), state

    def change(self, make: Callable[[State], State]) -> State:
        """Read, change and write the record under the lock; on the disk when this returns."""
        with self.held():
            before = self.state()
            after = make(before)
            if after != before:
                self._write(after)
            return after

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The lock on the record."""
        with self._disk(), durable.locked(self._made() / "lock"):
            yield

    @contextlib.contextmanager
    def installing(self) -> Iterator[None]:
        """One installation at a time, whoever asks; terminals may start and confirm meanwhile."""
        with self._disk():
            folder = self._made()
        with durable.locked(folder / "installing"):
            yield

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder for a pack in the making, on the same disk; it goes away if it was not `put`."""
        with self._disk():
            folder = Path(tempfile.mkdtemp(prefix=_NEW, dir=self._made()))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def put(self, staged: Path, pack: Pack) -> str | None:
        """Give a complete, verified pack its name on the shelf; its digest. The same pack twice is one.

        None where the firmware brought the same: nothing is kept of it here, so that a better one, which comes with
        newer firmware, takes its place.
        """
        digest = pack.digest.hex()
        if _is_whole(self.built_in, digest):
            return None
        with self._disk():
            place = self.folder / digest
            if _is_whole(place, digest):
                return digest
            durable.sync_tree(staged)
            shutil.rmtree(place, ignore_errors=True)  # rotten: nothing is lost by it
            staged.replace(place)
            durable.sync(self.folder)
        return digest

    def put_policy(self, message: bytes, digest: str) -> None:
        """Keep a release's policy, to be taken when its pack has proved itself."""
        with self._disk():
            folder = self.folder / "policy"
            folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            durable.write(folder / f"{digest}.cose", message, _FILE_MODE)

    def policy(self, state: State) -> bytes | None:
        """The signed policy of the release in force; None where there is none or it is gone."""
        if state.policy is None:
            return None
        try:
            return (self.folder / "policy" / f"{state.policy}.cose").read_bytes()
        except OSError:
            return None

    def try_pack(
        self, digest: str | None, *, release: int | None, policy: str | None, expires_s: int | None = None
    ) -> State:
        """Put what `put` gave a name on trial: the terminal takes it when nobody stands before it."""
        trial = Trial(pack=digest, release=release, policy=policy)

        def make(state: State) -> State:
            return state.model_copy(update={"trial": trial, "refused": None, "expires_s": expires_s or state.expires_s})

        return self.change(make)

    def sweep(self) -> None:
        """Remove what no start needs any more: packs out of force, half-made ones, old policies."""
        with self.held():
            state = self.state()
            packs = {state.pack, state.trial.pack if state.trial else None}
            policies = {state.policy, state.trial.policy if state.trial else None}
            for path in self.folder.iterdir():
                if path.is_dir() and (path.name.startswith(_NEW) or (len(path.name) == 64 and path.name not in packs)):
                    shutil.rmtree(path, ignore_errors=True)
            for path in self.folder.glob("policy/*.cose"):
                if path.stem not in policies:
                    path.unlink(missing_ok=True)

    def _load(self, digest: str | None) -> Pack:
        pack = Pack.load(self.path_of(digest))
        if digest is not None and pack.digest.hex() != digest:
            raise PackError(
                f"the pack in {self.path_of(digest)} is another one than was tested there",
                todo="install the update again from a stick: `vouch update install FOLDER`",
            )
        return pack

    def _write(self, state: State) -> None:
        for name in _RECORDS:
            durable.write(self.folder / name, state.model_dump_json(indent=1).encode(), _FILE_MODE)

    def _made(self) -> Path:
        self.folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        return self.folder

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except StorageError as exc:
            raise UpdateError(UpdateFault.DISK, exc.message, todo=exc.todo) from exc
        except OSError as exc:
            raise UpdateError(
                UpdateFault.DISK,
                f"{exc.filename or self.folder}: {exc.strerror or exc}",
                todo="free some space, check the disk, and that this user may write there",
            ) from exc


def _is_whole(place: Path, digest: str) -> bool:
    try:
        return Pack.load(place).digest.hex() == digest
    except PackError:
        return False


def shelf_of(settings: Settings) -> Shelf:
    """The packs of this terminal."""
    return Shelf(settings.state_dir / "packs", settings.pack_dir)


def act_as_owner(folder: Path) -> None:
    """Where root calls: become the owner of the nearest existing folder, so that the terminal can read what is written
    here, and so that nothing from a stick is parsed with root's rights.
    """
    if os.geteuid() != 0:
        return
    while not folder.exists():
        folder = folder.parent
    owner = folder.stat()
    if owner.st_uid != 0:
        os.setgroups([owner.st_gid])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
