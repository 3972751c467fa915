"""From a decided session to a signed row on the disk: claims, signature, journal; nothing is shown here."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from edge.clock import Clock
from edge.config import Settings
from edge.errors import JournalError
from edge.evidence import claims, messages
from edge.evidence.journal import BootRecord, Envelope, Journal
from edge.evidence.messages import Challenge
from edge.evidence.signer import Signer
from edge.session.decision import Policy, SessionResult
from edge.terminal.context import terminal_context
from edge.terminal.desk import Ordered
from edge.terminal.standing import Standing
from edge.terminal.texts import Language, consent_digest
from edge.vision.pack import Pack


@dataclass(frozen=True, slots=True)
class Visit:
    """What a result says beside the session: the order, who answered for the staff-assisted path, the text that was
    shown.
    """

    language: Language
    ordered: Ordered | None = None
    clerk: bytes | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A result that is on the disk. `reference` is what the person may quote."""

    counter: int
    reference: str


class Recorder:
    """Not thread-safe: the terminal's own thread calls it."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        signer: Signer,
        pack: Pack,
        standing: Standing,
        journal: Journal | None,
    ) -> None:
        self.boot: BootRecord | None = None  # of this start, once it was counted
        self._settings = settings
        self._clock = clock
        self._signer = signer
        self._pack = pack
        self._standing = standing
        self._journal = journal

    def count_start(self, journal: Journal) -> None:
        """JournalError."""
        self.boot = journal.boot()

    def store(self, result: SessionResult, challenge: Challenge, policy: Policy, visit: Visit) -> Stored:
        """On the disk when it returns. JournalError; SignerError or EvidenceError where it could not be signed."""
        if self._journal is None or self.boot is None:
            raise JournalError("there is no journal to store a result in")
        arrived_s = challenge.deadline_s - challenge.ttl_s
        context = terminal_context(
            self._settings,
            clock=self._clock,
            boot=self.boot,
            pack=self._pack,
            policy=policy,
            challenge=challenge,
            challenge_age_s=self._clock.monotonic() - arrived_s,
            consent_text_digest=consent_digest(visit.language),
            mode=self._standing.mode(hardware_key=self._signer.hardware, self_test=challenge.self_test),
            order_commitment=visit.ordered.commitment if visit.ordered else None,
            clerk=visit.clerk,
        )
        transcript = claims.transcript_hash(challenge.payload, result.steps)
        cti = secrets.token_bytes(16)

        def sealed(counter: int, previous: bytes) -> Envelope:
            body = claims.build(result, context, cti=cti, counter=counter, previous=previous, transcript=transcript)
            return Envelope(cti, messages.build_result(body, self._signer))

        row = self._journal.append(sealed)
        return Stored(row.counter, f"{cti[:2].hex()}-{cti[2:4].hex()}".upper())
