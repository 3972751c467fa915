"""A carrier without a network: the broker is a list, its terminals have real keys and signatures."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import uvicorn

from edge.errors import LinkError
from edge.evidence.signer import KeyFile
from simulator.blind_terminal import PACK_DIGEST, BlindTerminal
from simulator.carrier.pki import create_pki, load_public_key
from simulator.carrier.server import reference_policy
from simulator.carrier.service import Carrier
from simulator.carrier.store import Store
from tests.support.wires import free_port, until


class SetClock:
    """A clock that the test moves."""

    def __init__(self, now=1_800_000_000):
        self.now = now

    def monotonic(self):
        return float(self.now)

    def utc(self):
        return self.now

    def is_synchronised(self):
        return False


class House:
    """A carrier, its outbox, and terminals that answer."""

    def __init__(self, folder, clock=None):
        self.folder = folder
        self.clock = clock or SetClock()
        self.pki = create_pki(folder / "pki", now=datetime.fromtimestamp(self.clock.now, UTC))
        self.store = Store(folder / "carrier.sqlite")
        self.sent = []
        self.link_up = True
        self.carrier = Carrier(self.store, self.pki, KeyFile(self.pki.signing_key), self.clock, self.publish)
        self.carrier.set_policy(reference_policy())
        self.carrier.add_pack(PACK_DIGEST)

    def publish(self, topic, payload):
        if not self.link_up:
            raise LinkError("down")
        self.sent.append((topic, payload))

    def terminal(self, name="a"):
        terminal = BlindTerminal(self.folder / name, site=f"shop {name}", clock=self.clock)
        self.carrier.enrol(terminal.asked.message, broker=("localhost", 8883))
        terminal.trust(load_public_key(self.pki.signing_public_key.read_bytes()))
        return terminal

    def order(self, terminal, **extra):
        """The challenge, as the terminal read it."""
        self.carrier.issue_order(terminal.id, "order 1", **extra)
        policy, challenge = self.sent[-2:]
        assert policy[0] == f"fv1/dn/{terminal.id}/policy"
        assert challenge[0] == f"fv1/dn/{terminal.id}/challenge"
        terminal.take_policy(policy[1])
        return terminal.read_challenge(challenge[1])

    def deliver(self, terminal, envelope):
        """The receipt, as the terminal read it; None where there is none."""
        before = len(self.sent)
        self.carrier.received(f"fv1/up/{terminal.id}/result", envelope)
        answers = self.sent[before:]
        if not answers:
            return None
        ((topic, message),) = answers
        assert topic == f"fv1/dn/{terminal.id}/receipt"
        return terminal.read_receipt(message)

    @property
    def alarms(self):
        return [alarm.kind for alarm in reversed(self.store.alarms())]


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The carrier's pages and API on a free port of this machine, by uvicorn as the carrier has it: their address."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)
