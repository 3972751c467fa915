"""Results, challenges and keys that several evidence tests need; nothing is asserted here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge.evidence.claims import Claims, ClockState, Fresh, Mode, TerminalContext, build
from edge.evidence.messages import Challenge
from edge.evidence.signer import KeyFile
from edge.session.decision import ChallengeKind, ChallengeRecord, CheckOutcome, Outcome, Policy, Reason, SessionResult

TERMINAL = bytes(range(16))
NONCE = bytes(range(32))
NOW = 1_764_000_000
POLICY = Policy(id="shop-default", version=7, digest=hashlib.sha256(b"policy").digest())


def key_file(folder: Path, name: str = "result.pem") -> KeyFile:
    """A fresh P-256 key in a file of its own."""
    path = folder / name
    path.touch(0o600)
    path.write_bytes(private_pem(ec.generate_private_key(ec.SECP256R1())))
    return KeyFile(path)


def private_pem(key: Any) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: Any) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def result(**changes: Any) -> SessionResult:
    fields: dict[str, Any] = {
        "outcome": Outcome.MATCH,
        "reasons": (),
        "pad": CheckOutcome.PASS,
        "pad_band": 6,
        "challenges": (
            ChallengeRecord(ChallengeKind.TURN_LEFT, ok=True),
            ChallengeRecord(ChallengeKind.BLINK, ok=True),
            ChallengeRecord(ChallengeKind.MOUTH_OPEN, ok=True),
        ),
        "injection": CheckOutcome.PASS,
        "match": CheckOutcome.PASS,
        "match_band": 5,
        "consent_given": True,
        "consent_at_s": 4711.8,
        "steps": ("begin 0", "turn-left 2310", "blink 4120"),
    }
    return SessionResult(**(fields | changes))


def context(**changes: Any) -> TerminalContext:
    fields: dict[str, Any] = {
        "terminal_id": TERMINAL,
        "oemid": 32473,  # the enterprise number for examples, RFC 5612
        "hardware_model": "vouch-dev",
        "uptime_s": 4720,
        "utc_s": NOW,
        "clock_state": ClockState.NETWORK,
        "clock_error_s": 1,
        "boot_count": 12,
        "boot_seed": bytes(32),
        "software_name": "vouch",
        "software_version": "0.1.0",
        "site": "shop-17",
        "pack_version": 1,
        "pack_digest": hashlib.sha256(b"pack").digest(),
        "policy": POLICY,
        "mode": Mode.PRODUCTION,
        "fresh": Fresh.ONLINE,
        "session_id": b"session-1",
        "nonce": NONCE,
        "consent_text_digest": hashlib.sha256(b"I agree").digest(),
    }
    return TerminalContext(**(fields | changes))


def sample_claims(session: SessionResult | None = None, **changes: Any) -> Claims:
    return build(
        session or result(),
        context(**changes),
        cti=bytes(16),
        counter=1,
        previous=bytes(32),
        transcript=hashlib.sha256(b"transcript").digest(),
    )


def longest_claims() -> Claims:
    """Every optional claim, every text and list as long as claims.cddl allows."""
    session = result(
        outcome=Outcome.INCONCLUSIVE,
        reasons=tuple([Reason.INTERNAL] * 16),
        challenges=tuple([ChallengeRecord(ChallengeKind.EXPOSURE, ok=False)] * 16),
        consent_at_s=2.0**40,
    )
    most = 2**63 - 1
    return build(
        session,
        context(
            oemid=bytes(16),
            hardware_model="h" * 32,
            uptime_s=most,
            utc_s=most,
            clock_error_s=most,
            boot_count=most,
            software_name="s" * 32,
            software_version="v" * 32,
            site="x" * 32,
            pack_version=most,
            policy=Policy(id="p" * 32, version=most, digest=bytes(32)),
            session_id=bytes(32),
            nonce=bytes(64),
            secure_boot=True,
            id_commitment=bytes(32),
            clerk=bytes(32),
            order_commitment=bytes(16),
        ),
        cti=bytes(16),
        counter=most,
        previous=bytes(32),
        transcript=bytes(32),
    )


def challenge(**changes: Any) -> Challenge:
    fields: dict[str, Any] = {
        "terminal_id": TERMINAL,
        "nonce": NONCE,
        "session_id": b"session-1",
        "order": "order-42",
        "iat": NOW,
        "exp": NOW + 300,
        "ttl_s": 300,
        "fresh": Fresh.ONLINE,
    }
    return Challenge(**(fields | changes))


@dataclass
class SetClock:
    """A clock that stands where the test puts it."""

    monotonic_s: float = 1000.0
    utc_s: int = NOW
    synchronised: bool = True

    def monotonic(self) -> float:
        return self.monotonic_s

    def utc(self) -> int:
        return self.utc_s

    def is_synchronised(self) -> bool:
        return self.synchronised
