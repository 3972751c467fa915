"""What a result says beside the session itself: this terminal, this boot, its clock, its pack; nothing of a person."""

from __future__ import annotations

import hashlib
from dataclasses import astuple
from pathlib import Path

from edge import __version__
from edge.clock import Clock
from edge.config import Settings
from edge.errors import EvidenceError
from edge.evidence import messages
from edge.evidence.claims import ClockState, Fresh, Mode, TerminalContext
from edge.evidence.journal import BootRecord, Journal
from edge.evidence.messages import Challenge
from edge.evidence.trust import INSTALLED_POLICY, Trust
from edge.session.decision import Policy
from edge.vision.pack import Pack

SOFTWARE_NAME = "vouch"
SOFTWARE_VERSION = __version__
# Claim oemid, the random form of RFC 9711 section 4.2.3.1: drawn once for this firmware.
OEM_ID = bytes.fromhex("9d1f6c0be5a84f6f8a7d0c52b43e7716")
# Nothing bounds a clock that was never set.
_UNBOUNDED_S = 2**32 - 1
# systemd-timesyncd and chrony keep a synchronised clock far closer; a second is what the claim can say.
_SYNCHRONISED_ERROR_S = 1


def built_in_policy() -> Policy:
    """In force until the carrier's first signed policy: version 0, so that any policy of the carrier follows it."""
    bare = Policy(id="built-in", version=0, digest=bytes(32))
    return Policy(id=bare.id, version=bare.version, digest=hashlib.sha256(repr(astuple(bare)).encode()).digest())


def policy_in_force(journal: Journal, installed: Path, trust: Trust) -> Policy:
    """The newest of what came over the link, what the enrolment brought (folder `installed`), and the built-in one.

    What was accepted under a key stays accepted when the carrier changes its keys. EvidenceError where the newest does
    not hold, JournalError.
    """
    stored = journal.stored_policy()
    try:
        brought = (installed / INSTALLED_POLICY).read_bytes()
    except OSError:
        return messages.parse_policy(stored.message, trust.ever) if stored is not None else built_in_policy()
    policy = messages.parse_policy(brought, trust.ever)
    if stored is not None and policy.version <= stored.version:
        try:
            return messages.parse_policy(stored.message, trust.ever)
        except EvidenceError:
            # A renewal by file takes away the key that signed it, and brings the same policy under one that stays.
            if policy.version < stored.version:
                raise
    journal.store_policy(brought, policy.version)
    return policy


def terminal_context(
    settings: Settings,
    *,
    clock: Clock,
    boot: BootRecord,
    pack: Pack,
    policy: Policy,
    challenge: Challenge,
    challenge_age_s: float,
    consent_text_digest: bytes,
    mode: Mode,
    order_commitment: bytes | None = None,
    clerk: bytes | None = None,
) -> TerminalContext:
    """`challenge_age_s`: monotonic seconds since the challenge arrived; it bounds the clock where nothing else does."""
    state, error_s = _clock_state(clock, challenge, challenge_age_s)
    return TerminalContext(
        terminal_id=bytes.fromhex(settings.terminal_id),
        oemid=OEM_ID,
        hardware_model=settings.hardware_model,
        uptime_s=int(clock.monotonic()),
        utc_s=max(0, clock.utc()),
        clock_state=state,
        clock_error_s=error_s,
        boot_count=boot.count,
        boot_seed=boot.seed,
        software_name=SOFTWARE_NAME,
        software_version=SOFTWARE_VERSION,
        site=settings.site,
        pack_version=pack_number(pack.manifest.version),
        pack_digest=pack.digest,
        policy=policy,
        mode=mode,
        fresh=challenge.fresh,
        session_id=challenge.session_id,
        nonce=challenge.nonce,
        consent_text_digest=consent_text_digest,
        order_commitment=order_commitment,
        clerk=clerk,
    )


def pack_number(version: str) -> int:
    """The manifest's "major.minor.patch" as the claim's integer: 1.2.3 is 1002003."""
    parts = [int(part) for part in version.split(".")] + [0, 0]
    return parts[0] * 1_000_000 + parts[1] * 1_000 + parts[2]


def _clock_state(clock: Clock, challenge: Challenge, age_s: float) -> tuple[ClockState, int]:
    if clock.is_synchronised():
        return ClockState.NETWORK, _SYNCHRONISED_ERROR_S
    if challenge.fresh is Fresh.ONLINE:
        return ClockState.NONCE_BOUNDED, int(age_s) + 1
    return ClockState.NONE, _UNBOUNDED_S
