"""A terminal without a camera: real keys, real claims, real signatures, chosen outcomes; for carriers under test."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from edge.clock import Clock
from edge.evidence import claims
from edge.evidence.claims import Claims, ClockState, Fresh, Mode, TerminalContext
from edge.evidence.messages import (
    Challenge,
    Receipt,
    build_result,
    parse_challenge,
    parse_policy,
    parse_receipt,
)
from edge.evidence.signer import KeyFile, key_id
from edge.provisioning.identity import Asked, create
from edge.session.decision import ChallengeKind, ChallengeRecord, CheckOutcome, Outcome, Policy, Reason, SessionResult

PACK_DIGEST = hashlib.sha256(b"no model was used").digest()
_GENESIS = bytes(32)
_CHECKS = {
    Outcome.MATCH: (CheckOutcome.PASS, CheckOutcome.PASS, ()),
    Outcome.NO_MATCH: (CheckOutcome.PASS, CheckOutcome.FAIL, (Reason.BELOW_THRESHOLD,)),
    Outcome.LIVENESS_FAIL: (CheckOutcome.FAIL, CheckOutcome.NOT_RUN, (Reason.FLAT_FACE,)),
}


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """Where a terminal's history stands."""

    counter: int = 0
    digest: bytes = _GENESIS


class BlindTerminal:
    """Signs results as a terminal would, with the counter and previous hash of its own history."""

    def __init__(self, folder: Path, *, site: str, clock: Clock) -> None:
        """`folder` gets the identity's files; it must be empty."""
        self.asked: Asked = create(folder, site=site)
        self._site = site
        self._signer = KeyFile(folder / "terminal" / "result.key")
        self.portrait_key = folder / "terminal" / "portrait.key"
        self._clock = clock
        self._keys: dict[bytes, ec.EllipticCurvePublicKey] = {}
        self._policy = Policy(id="none", version=0, digest=bytes(32))
        self.end = ChainEnd()

    @property
    def id(self) -> str:
        return self.asked.request.terminal_id.hex()

    def trust(self, carrier_key: ec.EllipticCurvePublicKey) -> None:
        """Accept messages of this carrier."""
        self._keys[key_id(carrier_key)] = carrier_key

    def take_policy(self, message: bytes) -> Policy:
        """Decide under this policy from now on; EvidenceError where it is not the carrier's."""
        self._policy = parse_policy(message, self._keys)
        return self._policy

    def read_challenge(self, message: bytes) -> Challenge:
        """EvidenceError where it is not the carrier's, not for us or too old."""
        return parse_challenge(message, self._keys, bytes.fromhex(self.id), self._clock)

    def read_receipt(self, message: bytes) -> Receipt:
        """EvidenceError where it is not the carrier's or not for us."""
        return parse_receipt(message, self._keys, bytes.fromhex(self.id))

    def answer(self, challenge: Challenge, outcome: Outcome = Outcome.MATCH, **changes: object) -> bytes:
        """The next signed result of this terminal's history; `changes` overwrite claims by name before signing."""
        signed, self.end = self.sign_after(self.end, challenge, outcome, **changes)
        return signed

    def sign_after(
        self, end: ChainEnd, challenge: Challenge, outcome: Outcome, **changes: object
    ) -> tuple[bytes, ChainEnd]:
        """A signed result that follows `end`, whatever this terminal said since: two such results are a fork."""
        result = self._claims(end, challenge, outcome)
        envelope = build_result(replace(result, **changes), self._signer)  # type: ignore[arg-type]
        return envelope, ChainEnd(end.counter + 1, hashlib.sha256(envelope).digest())

    def _claims(self, end: ChainEnd, challenge: Challenge, outcome: Outcome) -> Claims:
        pad, match, reasons = _CHECKS.get(outcome, (CheckOutcome.NOT_RUN, CheckOutcome.NOT_RUN, ()))
        context = TerminalContext(
            terminal_id=bytes.fromhex(self.id),
            oemid=bytes(16),
            hardware_model="blind",
            uptime_s=int(self._clock.monotonic()),
            utc_s=self._clock.utc(),
            clock_state=ClockState.NONE,
            clock_error_s=0,
            boot_count=1,
            boot_seed=bytes(32),
            software_name="vouch-sim",
            software_version="0.1.0",
            site=self._site,
            pack_version=1,
            pack_digest=PACK_DIGEST,
            policy=self._policy,
            mode=Mode.TRAINING,
            fresh=Fresh.ONLINE,
            session_id=challenge.session_id,
            nonce=challenge.nonce,
            consent_text_digest=bytes(32),
        )
        session = SessionResult(
            outcome=outcome,
            reasons=reasons,
            pad=pad,
            pad_band=5,
            challenges=(
                ChallengeRecord(ChallengeKind.TURN_LEFT, ok=True),
                ChallengeRecord(ChallengeKind.BLINK, ok=True),
            ),
            injection=CheckOutcome.PASS,
            match=match,
            match_band=5,
            consent_given=True,
            consent_at_s=0.0,
        )
        return claims.build(
            session,
            context,
            cti=secrets.token_bytes(16),
            counter=end.counter + 1,
            previous=end.digest,
            transcript=claims.transcript_hash(challenge.payload, ()),
        )
