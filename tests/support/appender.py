"""A terminal process without a camera: real journal, real signer, real link server; it appends results and says so.

    python -m tests.support.appender terminal.toml COUNT EVERY_S

Each result is a synthetic session's, signed. `stored <counter> <cti>` is printed after the journal said that it is on
the disk, and never before. With COUNT 0 it only serves what is in the journal.
"""

from __future__ import annotations

import secrets
import sys
import time
from pathlib import Path

from edge.clock import SystemClock
from edge.config import load
from edge.evidence import messages
from edge.evidence.claims import build, transcript_hash
from edge.evidence.journal import Envelope, Journal
from edge.log import setup
from edge.terminal.link_server import Credentials, LinkServer
from edge.terminal.opening import open_identity
from edge.terminal.publisher import Publisher
from tests import evidence_samples


def main(config: Path, count: int, every_s: float) -> None:
    setup("terminal")
    settings = load(config)
    identity = open_identity(settings)
    journal = Journal.open(settings.journal_path, max_rows=settings.journal_max_rows)
    server = LinkServer(
        settings.socket_path,
        journal=journal,
        publisher=Publisher(
            lambda limit, after: journal.pending(limit, after=after),
            window=settings.uplink.max_in_flight,
            jitter=lambda: 0.1,
            receipt_wait_s=3.0,
        ),
        credentials=Credentials(identity.carrier_keys, bytes.fromhex(settings.terminal_id)),
        clock=SystemClock(),
        on_inbound=lambda _message: None,
        on_link=lambda _state, _detail: None,
    )
    server.start()
    for _ in range(count):
        row = journal.append(lambda counter, previous: envelope(identity.signer, counter, previous))
        print(f"stored {row.counter} {row.cti.hex()}", flush=True)
        server.wake()
        time.sleep(every_s)
    while True:
        time.sleep(1)


def envelope(signer, counter: int, previous: bytes) -> Envelope:
    cti = secrets.token_bytes(16)
    claims = build(
        evidence_samples.result(),
        evidence_samples.context(),
        cti=cti,
        counter=counter,
        previous=previous,
        transcript=transcript_hash(b"challenge", ("0 begin",)),
    )
    return Envelope(cti, messages.build_result(claims, signer))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
