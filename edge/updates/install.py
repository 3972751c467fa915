"""The terminal's side of an update: verify again with its own root and memory, stage, test, put on trial. No network.

Procedure of `install`, from the spool or a USB stick alike; a power cut at any step leaves the pack in force in force:

1. TUF: the four roles, from the trusted root that came with the enrolment, against what was seen before.
2. release.json: its number is not below the floor; a release that was refused is not tried again by itself.
3. The policy, if it has one: the carrier's own signature.
4. The pack's files, one by one, into a folder that has no name yet; hash and length as TUF signed them.
5. The pack against its manifest, and against the policy that would be in force with it.
6. The self-test, in a process of its own.
7. The pack gets its name; then one write puts it on trial. shelf.py says how a trial ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path

from edge.errors import EvidenceError, PackError, UpdateError, UpdateFault, VouchError
from edge.evidence.messages import parse_policy
from edge.evidence.trust import open_trust
from edge.log import Log, setup
from edge.session.decision import Policy
from edge.updates import selftest
from edge.updates.job import Job
from edge.updates.release import (
    MANIFEST_FILE,
    POLICY_LIMIT,
    POLICY_TARGET,
    RELEASE_LIMIT,
    RELEASE_TARGET,
    Release,
    parse_release,
)
from edge.updates.repository import FolderFetcher, Repository, trusted_root
from edge.updates.shelf import Refusal, Shelf, State
from edge.vision.inspection import inspect_pack
from edge.vision.pack import MANIFEST_NAME, MODEL_LIMIT, Pack

SelfTest = Callable[[Path], object]


class Outcome(Enum):
    """What an attempt came to, where it was not refused."""

    NOTHING_NEW = "nothing-new"  # what is offered is in force, or on trial
    ON_TRIAL = "on-trial"  # the terminal takes the new pack when nobody stands before it
    IN_FORCE = "in-force"  # the same pack, or a policy alone: nothing to try


def install(job: Job, folder: Path, *, again: bool = False, self_test: SelfTest = selftest.examine) -> Outcome:
    """Take the release that the repository in `folder` offers. UpdateError says why not; the shelf remembers it.

    `again`: a person asks, so a release that was refused is tried once more.
    """
    shelf = job.shelf
    with shelf.installing():
        try:
            return _install(job, shelf, folder, again, self_test)
        except UpdateError as exc:
            refused = Refusal(fault=exc.fault, why=exc.message[:200])
            # What says nothing of the release itself must not hide why the release was refused.
            if exc.fault not in (UpdateFault.STATE, UpdateFault.DISK):
                shelf.change(
                    lambda state: state if _says_more(state.refused) else state.model_copy(update={"refused": refused})
                )
            raise


def use_pack(shelf: Shelf, folder: Path, *, self_test: SelfTest | None = None) -> tuple[Pack, Outcome, list[str]]:
    """Put a pack of the technician's own on trial, or `shelf.built_in`; the pack, and what it cannot do though it may
    be used. Nothing is tried where it is in force (IN_FORCE: a trial of another one ends) or on trial (NOTHING_NEW).

    PackError names everything that is wrong with it. UpdateError (SELF_TEST, DISK) as in `install`.
    """
    test = self_test or (lambda staged: selftest.examine(staged, by_hand=True))
    inspect_pack(folder)
    with shelf.installing():
        shelf.sweep()
        with shelf.staging() as staged:
            for name in _files(Pack.load(folder)):
                _copy(folder / name, staged / name)
            pack = Pack.load(staged)  # what was copied is what counts
            outcome = _standing(shelf, pack)
            warnings = test(staged) if outcome is Outcome.ON_TRIAL else []
            place = shelf.put(staged, pack)
            if outcome is Outcome.ON_TRIAL:
                shelf.try_pack(place, release=None, policy=None)
            elif outcome is Outcome.IN_FORCE:
                shelf.change(lambda state: state.model_copy(update={"pack": place, "trial": None}))
    return pack, outcome, list(warnings) if isinstance(warnings, list) else []


def _standing(shelf: Shelf, pack: Pack) -> Outcome:
    """Where a pack stands that a person chooses; ON_TRIAL: it is to be tried."""
    state = shelf.state()
    if pack.digest == _digest_at(shelf.path_of(state.pack)):
        return Outcome.IN_FORCE
    if state.trial is not None and pack.digest == _digest_at(shelf.path_of(state.trial.pack)):
        return Outcome.NOTHING_NEW
    return Outcome.ON_TRIAL


def _install(job: Job, shelf: Shelf, folder: Path, again: bool, self_test: SelfTest) -> Outcome:
    state = shelf.state()
    shelf.sweep()
    with shelf.staging() as scratch:
        repository = Repository(trusted_root(job.root), shelf.trust, FolderFetcher(folder, scratch))
        repository.refresh()  # 1
        expires_s = repository.expires_s()
        release = parse_release(repository.read(RELEASE_TARGET, RELEASE_LIMIT, scratch))  # 2
        if _is_known(release, state, again=again):
            shelf.change(lambda now: _noted(now, expires_s))
            return Outcome.NOTHING_NEW
        message, policy = _policy(job, repository, release, scratch)  # 3
        policy_digest = hashlib.sha256(message).hexdigest() if message is not None else None
        with _blamed(shelf, release), shelf.staging() as staged:
            pack = _staged_pack(shelf, repository, release, state, staged)  # 4
            _check_fit(pack, policy.match_fmr_ppm if policy else job.match_fmr_ppm)  # 5
            tested = bool(release.pack) and pack.digest != _digest_at(shelf.path_of(state.pack))
            if tested:
                self_test(staged)  # 6
            if message is not None and policy_digest is not None:
                shelf.put_policy(message, policy_digest)
            if tested:
                place = shelf.put(staged, pack)  # 7
                shelf.try_pack(place, release=release.release, policy=policy_digest, expires_s=expires_s)
                return Outcome.ON_TRIAL
        shelf.change(lambda now: _in_force(now, release, policy_digest, expires_s))
        return Outcome.IN_FORCE


def _is_known(release: Release, state: State, *, again: bool) -> bool:
    """Step 2. UpdateError where the release is below the floor, or was refused before."""
    trial = state.trial.release if state.trial else None
    floor = max(state.release, trial or 0)
    if release.release < floor:
        raise UpdateError(
            UpdateFault.ROLLBACK,
            f"release {release.release} is older than {floor}, which this terminal has",
            todo="use the carrier's newest; if this is its newest, report it: somebody may be offering old files",
        )
    if release.release == floor:
        return True
    if state.refused is not None and state.refused.release == release.release and not again:
        raise UpdateError(
            state.refused.fault,
            state.refused.why,
            todo="the carrier must publish a newer release; `vouch update install FOLDER` tries this one again",
        )
    return False


def _policy(job: Job, repository: Repository, release: Release, scratch: Path) -> tuple[bytes | None, Policy | None]:
    if not release.policy:
        return None, None
    message = repository.read(POLICY_TARGET, POLICY_LIMIT, scratch)
    try:
        return message, parse_policy(message, open_trust(job.settings))
    except EvidenceError as exc:
        raise UpdateError(
            UpdateFault.POLICY,
            f"the policy is refused: {exc.message}",
            todo="the carrier must sign it with its key",
        ) from exc


def _staged_pack(shelf: Shelf, repository: Repository, release: Release, state: State, staged: Path) -> Pack:
    """Step 4, and the pack as its manifest says; where the release has none, the one in force."""
    if not release.pack:
        return Pack.load(shelf.path_of(state.pack))
    for name in release.pack:
        repository.fetch(f"pack/{name}", staged / name, MODEL_LIMIT)
    pack = Pack.load(staged)
    unused = set(release.pack) - set(_files(pack))
    if unused:
        raise UpdateError(
            UpdateFault.PACK,
            f"the release has files that its manifest does not name: {', '.join(sorted(unused))}",
            todo="the carrier must publish the pack as it is",
        )
    return pack


def _check_fit(pack: Pack, match_fmr_ppm: int | None) -> None:
    if match_fmr_ppm is not None:
        pack.match_threshold(match_fmr_ppm)


def _digest_at(folder: Path) -> bytes | None:
    try:
        return hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).digest()
    except OSError:
        return None


@contextlib.contextmanager
def _blamed(shelf: Shelf, release: Release) -> Iterator[None]:
    """What is wrong with the release itself is remembered under its number; a full disk or a torn file is not."""
    try:
        yield
    except PackError as exc:
        fault = UpdateError(UpdateFault.PACK, exc.message, todo="the carrier must publish a pack that fits")
        _remember(shelf, release, fault)
        raise fault from exc
    except UpdateError as exc:
        if exc.fault in (UpdateFault.SELF_TEST, UpdateFault.PACK):
            _remember(shelf, release, exc)
        raise


def _remember(shelf: Shelf, release: Release, exc: UpdateError) -> None:
    refused = Refusal(fault=exc.fault, why=exc.message[:200], release=release.release)
    shelf.change(lambda state: state.model_copy(update={"refused": refused}))


def _says_more(refused: Refusal | None) -> bool:
    return refused is not None and refused.release is not None


def _noted(state: State, expires_s: int | None) -> State:
    """What is offered is what we have: whatever was refused before is history, unless it was a release."""
    refused = state.refused if _says_more(state.refused) else None
    return state.model_copy(update={"expires_s": expires_s, "refused": refused})


def _in_force(state: State, release: Release, policy: str | None, expires_s: int | None) -> State:
    """A newer release than the one on trial, without a pack to try: the pack in force is the one it means."""
    number, kept = max(state.release, release.release), policy or state.policy
    return state.model_copy(
        update={"release": number, "policy": kept, "trial": None, "refused": None, "expires_s": expires_s}
    )


def _files(pack: Pack) -> list[str]:
    manifest = pack.manifest
    models = (manifest.detector, manifest.landmarks, manifest.antispoof, manifest.embedder)
    return [MANIFEST_FILE, *dict.fromkeys(model.file for model in models)]


def _copy(source: Path, target: Path) -> None:
    try:
        target.write_bytes(source.read_bytes())
    except OSError as exc:
        raise UpdateError(
            UpdateFault.DISK,
            f"{exc.filename or target}: {exc.strerror}",  # a write that fails names no file
            todo="free some space, check disk and stick; try again",
        ) from exc


def main(argument: str) -> int:
    """The child's whole life; a session in the terminal goes first."""
    setup("updates", level=logging.INFO)
    log = Log("updates")
    with contextlib.suppress(OSError):  # the sandbox may not let us; sessions then share the processor with us
        os.nice(5)
    job, folder = Job.parse(argument)
    try:
        outcome = install(job, folder)
    except UpdateError as exc:
        log.warning("update-refused", fault=exc.fault, why=exc.message, what_to_do=exc.todo)
        return 1
    except VouchError as exc:
        log.warning("update-failed", why=exc.message, what_to_do=exc.todo)
        return 1
    log.info("update", outcome=outcome)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
