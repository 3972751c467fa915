"""Which policy is in force: what the enrolment or the link brought, never an older one; nobody is served here."""

from __future__ import annotations

from pathlib import Path

from edge.evidence import messages
from edge.evidence.journal import Journal
from edge.evidence.trust import Trust
from edge.session.decision import Policy
from edge.terminal.context import built_in_policy, policy_in_force
from edge.vision.pack import Pack


class Policies:
    """Not thread-safe: the terminal's own thread takes policies; `current` may be read by any."""

    def __init__(self, installed: Path, trust: Trust, pack: Pack) -> None:
        """`installed`: the folder of what the enrolment brought."""
        self.current: Policy = built_in_policy()
        self._installed = installed
        self._trust = trust
        self._pack = pack

    @property
    def threshold(self) -> float:
        """The score that a match needs under the policy in force; PackError where the pack has none for it."""
        return self._pack.match_threshold(self.current.match_fmr_ppm)

    def recall(self, journal: Journal) -> None:
        """Take the newest into force again after a start; its signature is checked anew.

        JournalError, EvidenceError.
        """
        self.current = policy_in_force(journal, self._installed, self._trust)

    def follows(self, message: bytes) -> bool:
        """Whether it is newer than ours: that of a release is, unless the carrier has sent one since. EvidenceError."""
        return messages.parse_policy(message, self._trust).version > self.current.version

    def take(self, message: bytes, journal: Journal) -> bool:
        """Take the carrier's policy into force, from the next session on; False where it is the one in force.

        1. Signature and form. 2. The version does not go back (the journal's rule too). 3. The pack has a threshold for
        it. 4. On the disk, then in force. EvidenceError, PackError: refused. JournalError: it could not be kept.
        """
        policy = messages.parse_policy(message, self._trust, version_floor=self.current.version)
        if policy.digest == self.current.digest:  # signed anew, after a change of keys: kept, for the old key may go
            journal.store_policy(message, policy.version)
            return False
        self._pack.match_threshold(policy.match_fmr_ppm)
        journal.store_policy(message, policy.version)
        self.current = policy
        return True
