"""A terminal whose disk really fills up, before and in a session: it says so, loses nothing, and serves on when mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.ipc import Down, Inbound, Publish, Up
from edge.session.decision import Outcome
from edge.session.machine import Phase
from edge.terminal.display import ConsentPressed
from edge.terminal.texts import Language
from simulator.observed import Actor
from tests.support.counter import Counter, ObservedPerson, opened
from tests.support.disk import fill, on
from tests.support.wires import Place, UplinkEnd, enrolled, until


@pytest.fixture
def place(tmp_path: Path, disk: Path) -> Place:
    return on(disk, enrolled(tmp_path, extra="\n[kiosk]\nport = 0\n"))


def result(message: object) -> bool:
    return isinstance(message, Publish) and message.topic is Up.RESULT


def verified(counter: Counter, uplink: UplinkEnd, place: Place) -> int:
    """Play a whole session; the counter of its result, which must be a match."""
    uplink.send(Inbound(Down.CHALLENGE, counter.challenge()))
    until(lambda: counter.view()["phase"] == Phase.CONSENT.value, 30)
    counter.terminal.press(ConsentPressed(True, Language.EN))
    claims = opened(place, uplink.expect(result, 60).payload)
    assert claims.outcome is Outcome.MATCH
    return claims.counter


def test_a_full_disk_stops_new_sessions_and_they_go_on_when_there_is_room(place: Place, disk: Path) -> None:
    with Counter(place, ObservedPerson(Actor())) as counter, UplinkEnd(place.settings.socket_path) as uplink:
        assert verified(counter, uplink, place) == 1
        ballast = fill(disk)
        uplink.send(Inbound(Down.CHALLENGE, counter.challenge()))
        until(lambda: counter.view()["service"] == "out-of-service")
        assert counter.view()["fault"] == "journal"
        assert counter.view()["phase"] != Phase.CONSENT.value, "nobody is asked for anything"
        assert counter.terminal._journal.pending_count() == 1, "the stored result is still there"
        ballast.unlink()
        until(lambda: counter.view()["service"] == "ready")
        assert verified(counter, uplink, place) == 2


def test_a_disk_that_fills_up_in_a_session_never_shows_a_match_that_is_not_stored(place: Place, disk: Path) -> None:
    with Counter(place, ObservedPerson(Actor())) as counter, UplinkEnd(place.settings.socket_path) as uplink:
        uplink.send(Inbound(Down.CHALLENGE, counter.challenge()))
        until(lambda: counter.view()["phase"] == Phase.CONSENT.value)
        fill(disk)
        counter.terminal.press(ConsentPressed(True, Language.EN))
        until(lambda: counter.view()["outcome"] is not None, 60)
        shown, kept = counter.view()["outcome"], counter.terminal._journal.pending_count()
        # The write-ahead log may have had room for this one result: then it is stored, and shown as what it is.
        assert (shown, kept) in {("error", 0), ("verified", 1)}
        until(lambda: len(counter.reports) == 1)
    with Counter(place, ObservedPerson(Actor())) as counter:
        assert (counter.terminal._pending() or 0) == kept


def test_a_terminal_that_starts_on_a_full_disk_says_so_and_lives(place: Place, disk: Path) -> None:
    fill(disk)
    with Counter(place, ObservedPerson(Actor())) as counter, UplinkEnd(place.settings.socket_path) as uplink:
        until(lambda: counter.view()["service"] == "out-of-service")
        uplink.send(Inbound(Down.CHALLENGE, counter.challenge()))
        status = uplink.expect(lambda m: isinstance(m, Publish) and m.topic is Up.STATUS)
        assert b'"fault":"journal"' in status.payload
        assert counter.view()["phase"] == Phase.IDLE.value
