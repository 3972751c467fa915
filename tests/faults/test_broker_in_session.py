"""The broker dies while a person is being verified: the session goes on, and its result arrives when the broker is back."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from edge.session.decision import Outcome
from edge.session.machine import Phase
from edge.terminal.display import ConsentPressed
from edge.terminal.texts import Language
from simulator.broker import mosquitto_path
from simulator.observed import Actor
from tests.support.counter import Counter, ObservedPerson, opened
from tests.support.wires import CarrierEnd, enrolled, until, uplink_process

pytestmark = pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed")


def test_a_broker_killed_in_a_session_costs_the_session_nothing(tmp_path: Path) -> None:
    place = enrolled(tmp_path, extra="\n[kiosk]\nport = 0\n")
    with (
        place.broker() as broker,
        Counter(place, ObservedPerson(Actor())) as counter,
        uplink_process(place),
    ):
        with contextlib.closing(CarrierEnd(place)) as carrier:
            until(lambda: counter.view()["link"] == "up")
            carrier.send("challenge", counter.challenge())
            until(lambda: counter.view()["phase"] == Phase.CONSENT.value)
        counter.terminal.press(ConsentPressed(True, Language.EN))
        until(lambda: counter.view()["phase"] == Phase.CHALLENGE.value, 30)
        broker.kill()
        until(lambda: counter.view()["outcome"] is not None, 60)
        assert counter.view()["outcome"] == "verified"
        assert counter.view()["link"] != "up"
        assert counter.terminal._journal.pending_count() == 1
        broker.start()
        with contextlib.closing(CarrierEnd(place)) as carrier:
            while True:
                topic, message = carrier.receive(60)
                if topic.endswith("/result"):
                    break
    claims = opened(place, message)
    assert (claims.outcome, claims.counter) == (Outcome.MATCH, 1)
