"""What the terminal process opens before it can start: its keys, its carrier's keys, its journal; nothing runs here."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from edge.config import Settings
from edge.errors import JournalError
from edge.evidence.journal import Journal
from edge.evidence.signer import Signer, load_private_key, open_signer
from edge.evidence.trust import Trust, open_trust


@dataclass(frozen=True, slots=True)
class Identity:
    """The keys of this terminal and of its carrier."""

    signer: Signer
    portrait_key: EllipticCurvePrivateKey
    carrier_keys: Trust


def open_identity(settings: Settings) -> Identity:
    """SignerError or ConfigError where a key is missing, unreadable or of another kind."""
    keys = settings.keys
    return Identity(open_signer(keys), load_private_key(keys.portrait_key), open_trust(settings))


def open_journal(settings: Settings) -> Journal | JournalError:
    """The journal, or why it cannot be used: the terminal then runs out of service and says so, on page and status."""
    try:
        settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        return JournalError(
            f"{settings.state_dir} cannot be made: {exc.strerror}",
            todo="check state_dir in terminal.toml, its permissions and the disk; then restart the terminal",
        )
    try:
        return Journal.open(settings.journal_path, max_rows=settings.journal_max_rows)
    except JournalError as exc:
        return exc
