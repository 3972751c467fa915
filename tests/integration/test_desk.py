"""The clerk's side of a real terminal: orders that are typed or scanned, tickets without a link, staff who help."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.drivers.camera import Frame
from edge.evidence.claims import Fresh, clerk_pseudonym, order_commitment
from edge.evidence.messages import build_policy
from edge.evidence.requests import Request, RequestKind, open_request
from edge.evidence.signer import KeyFile, load_private_key
from edge.ipc import Down, Inbound, Link, LinkState, Publish, Up
from edge.session.decision import CheckOutcome, Outcome, Policy, Reason
from edge.session.machine import Phase
from edge.terminal import desk
from edge.terminal.display import CancelPressed, ConsentPressed, HelpPressed, OrderPressed, ScanPressed, StaffPressed
from edge.terminal.texts import Language
from simulator.observed import Actor
from tests.support.counter import Counter, ObservedPerson, opened, signed_challenge
from tests.support.wires import Place, UplinkEnd, enrolled, until


class WithACode(ObservedPerson):
    """A camera to which somebody holds a QR code now and then."""

    code: str | None = None

    def read(self, timeout_s: float) -> Frame | None:
        frame = super().read(timeout_s)
        if frame is not None and self.code is not None:
            drawn = cv2.QRCodeEncoder.create().encode(self.code)
            drawn = cv2.resize(drawn, None, fx=6, fy=6, interpolation=cv2.INTER_NEAREST)
            drawn = cv2.copyMakeBorder(drawn, 24, 24, 24, 24, cv2.BORDER_CONSTANT, value=255)
            frame.image[60 : 60 + drawn.shape[0], 90 : 90 + drawn.shape[1]] = drawn[..., None]
        return frame


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return enrolled(tmp_path, extra="\n[kiosk]\nport = 0\n")


@pytest.fixture
def counter(place: Place) -> Iterator[Counter]:
    with Counter(place, WithACode(Actor())) as counter:
        yield counter


@pytest.fixture
def uplink(counter: Counter) -> Iterator[UplinkEnd]:
    with UplinkEnd(counter.place.settings.socket_path) as uplink:
        until(lambda: counter.view()["link"] == "up")
        yield uplink


def asked(counter: Counter, uplink: UplinkEnd, kind: RequestKind = RequestKind.ORDER) -> Request:
    """The next request of this kind: the policy of the enrolment lets a terminal ask for tickets at any time."""
    key = load_private_key(counter.place.settings.keys.result_key).public_key()
    while True:
        sent = uplink.expect(lambda m: isinstance(m, Publish) and m.topic is Up.REQUEST)
        request = open_request(sent.payload, key)
        if request.kind is kind:
            return request


def result(uplink: UplinkEnd) -> bytes:
    return uplink.expect(lambda m: isinstance(m, Publish) and m.topic is Up.RESULT, timeout_s=40).payload


def phase(counter: Counter, wanted: Phase) -> None:
    until(lambda: counter.view()["phase"] == wanted.value, 25)


def consent(counter: Counter) -> None:
    phase(counter, Phase.CONSENT)
    counter.terminal.press(ConsentPressed(True, Language.EN))


def allow_tickets(counter: Counter, uplink: UplinkEnd, count: int) -> None:
    policy = Policy(id="p", version=count + 1, digest=bytes(32), offline_tickets=count)
    uplink.send(Inbound(Down.POLICY, build_policy(policy, KeyFile(counter.place.pki.signing_key))))


def ticket(counter: Counter, nonce: bytes, **changes: object) -> Inbound:
    week = 7 * 86_400
    fields = {"fresh": Fresh.TICKET, "order": "ticket", "exp": int(time.time()) + week, "ttl_s": week}
    return Inbound(Down.CHALLENGE, signed_challenge(counter.place, nonce=nonce, **(fields | changes)))


def test_an_order_that_the_clerk_types_is_asked_for_and_its_challenge_begins_the_session(counter, uplink) -> None:
    counter.terminal.press(OrderPressed("A-1001"))
    request = asked(counter, uplink)
    assert (request.kind, request.order) == (RequestKind.ORDER, "A-1001")
    assert (counter.view()["desk"], counter.view()["order"]) == ("asking", "A-1001")
    uplink.send(Inbound(Down.CHALLENGE, counter.challenge(order="A-1001")))
    consent(counter)
    claims = opened(counter.place, result(uplink))
    assert (claims.outcome, claims.fresh, claims.order_commitment) == (Outcome.MATCH, Fresh.ONLINE, None)
    phase(counter, Phase.DONE)
    (finished,) = counter.view()["finished"]
    assert finished == {"reference": counter.view()["reference"], "outcome": "verified", "order": "A-1001"}
    assert counter.view()["desk"] == "ready"


def test_an_order_that_the_carrier_does_not_answer_is_told(counter, uplink, monkeypatch) -> None:
    monkeypatch.setattr(desk, "ORDER_WAIT_S", 0.4)
    counter.terminal.press(OrderPressed("A-1001"))
    until(lambda: counter.view()["desk"] == "no-answer")
    assert counter.view()["order"] == "A-1001"
    counter.terminal.press(OrderPressed("A-1002"))
    assert asked(counter, uplink).order == "A-1001"
    assert asked(counter, uplink).order == "A-1002"


def test_an_order_is_scanned_by_the_terminals_own_camera_and_nobodys_face_is_looked_for(counter, uplink) -> None:
    looked = []
    counter.person.in_process = looked.append
    counter.person.code = "https://example.com/not/an/order?x=1"
    counter.terminal.press(ScanPressed(True))
    until(lambda: counter.view()["desk"] == "wrong-code")
    assert counter.view()["scanning"]
    assert (counter.view()["preview"], counter.view()["mirrored"]) == (True, False)
    counter.person.code = "A-1003"
    assert asked(counter, uplink).order == "A-1003"
    until(lambda: not counter.view()["scanning"])
    assert looked == []
    assert not any(frame.any() for frame in counter.person.frames[:-1])


def test_a_scan_can_be_stopped_and_stops_by_itself(counter, uplink, monkeypatch) -> None:
    counter.terminal.press(ScanPressed(True))
    until(lambda: counter.view()["scanning"])
    counter.terminal.press(ScanPressed(False))
    until(lambda: not counter.view()["scanning"])
    monkeypatch.setattr(desk, "SCAN_S", 0.3)
    counter.terminal.press(ScanPressed(True))
    until(lambda: counter.view()["scanning"])
    until(lambda: not counter.view()["scanning"])


def test_without_a_link_a_ticket_serves_once_and_binds_the_order(counter, uplink) -> None:
    allow_tickets(counter, uplink, 1)
    while asked(counter, uplink, RequestKind.TICKETS).tickets != 1:
        pass  # the enrolment's policy allowed more
    nonce = b"t" * 32
    uplink.send(ticket(counter, nonce))
    until(lambda: counter.view()["tickets"] == 1)
    assert counter.view()["phase"] == "idle", "a ticket begins nothing"
    uplink.send(ticket(counter, b"u" * 32))  # one more than the policy allows
    uplink.send(Link(LinkState.DOWN, "cable"))
    until(lambda: counter.view()["link"] == "down")
    counter.terminal.press(OrderPressed("B-2001"))
    consent(counter)
    phase(counter, Phase.DONE)
    assert counter.view()["tickets"] == 0
    counter.terminal.press(OrderPressed("B-2002"))
    until(lambda: counter.view()["desk"] == "no-ticket")
    assert counter.view()["order"] == "B-2002"
    uplink.send(Link(LinkState.UP, ""))
    claims = opened(counter.place, result(uplink))
    assert (claims.outcome, claims.fresh, claims.nonce) == (Outcome.MATCH, Fresh.TICKET, nonce)
    assert claims.order_commitment == order_commitment(nonce, "B-2001")


def test_a_double_press_without_a_link_begins_one_session_and_its_outcome_stays_to_be_read(counter, uplink) -> None:
    allow_tickets(counter, uplink, 2)
    uplink.send(ticket(counter, b"t" * 32))
    uplink.send(ticket(counter, b"u" * 32))
    until(lambda: counter.view()["tickets"] == 2)
    uplink.send(Link(LinkState.DOWN, "cable"))
    until(lambda: counter.view()["link"] == "down")
    for _ in range(2):
        counter.terminal.press(OrderPressed("B-2001"))
    consent(counter)
    phase(counter, Phase.DONE)
    turns = len(counter.person.frames)
    until(lambda: len(counter.person.frames) > turns + 1)
    assert (counter.view()["phase"], counter.view()["tickets"]) == ("done", 1)
    assert counter.terminal._refused_messages == 0


def test_an_order_that_was_asked_for_when_the_link_went_takes_a_ticket(counter, uplink) -> None:
    allow_tickets(counter, uplink, 2)
    uplink.send(ticket(counter, b"t" * 32))
    until(lambda: counter.view()["tickets"] == 1)
    counter.terminal.press(OrderPressed("B-2001"))
    until(lambda: counter.view()["desk"] == "asking")
    uplink.send(Link(LinkState.DOWN, "cable"))
    phase(counter, Phase.CONSENT)
    assert (counter.view()["order"], counter.view()["tickets"]) == ("B-2001", 0)


def test_tickets_outlive_a_restart_and_a_foreign_one_is_never_kept(place) -> None:
    with Counter(place, WithACode(Actor())) as counter, UplinkEnd(place.settings.socket_path) as uplink:
        allow_tickets(counter, uplink, 3)
        uplink.send(ticket(counter, b"x" * 32, signer=KeyFile(place.settings.keys.result_key)))
        uplink.send(ticket(counter, b"t" * 32))
        until(lambda: counter.view()["tickets"] == 1)
    with Counter(place, WithACode(Actor())) as counter, UplinkEnd(place.settings.socket_path, up=False):
        assert counter.view()["tickets"] == 1
        counter.terminal.press(OrderPressed("B-2003"))
        phase(counter, Phase.CONSENT)


def test_a_policy_that_allows_no_tickets_ends_those_that_wait(counter, uplink) -> None:
    allow_tickets(counter, uplink, 2)
    uplink.send(ticket(counter, b"t" * 32))
    until(lambda: counter.view()["tickets"] == 1)
    none = Policy(id="p", version=9, digest=bytes(32), offline_tickets=0)
    uplink.send(Inbound(Down.POLICY, build_policy(none, KeyFile(counter.place.pki.signing_key))))
    until(lambda: counter.view()["tickets"] == 0)


@pytest.mark.parametrize("consented", [False, True])
def test_a_staff_assisted_session_is_signed_as_that_and_names_the_clerk(counter, uplink, consented) -> None:
    uplink.send(Inbound(Down.CHALLENGE, counter.challenge()))
    if consented:
        consent(counter)
        phase(counter, Phase.CHALLENGE)
    else:
        phase(counter, Phase.CONSENT)
    counter.terminal.press(HelpPressed(by_clerk=consented))
    phase(counter, Phase.ASSIST)
    assert counter.view()["preview"] is False
    counter.terminal.press(StaffPressed(True, "4711"))
    claims = opened(counter.place, result(uplink))
    assert (claims.outcome, claims.match, claims.match_band) == (Outcome.STAFF_ASSISTED, CheckOutcome.NOT_RUN, 0)
    assert claims.reasons == (Reason.STAFF_ASSIST, Reason.CLERK_CALLED if consented else Reason.HELP_ASKED)
    assert claims.consent_given is consented
    assert claims.clerk == clerk_pseudonym("shop-1", "4711")
    until(lambda: counter.view()["outcome"] == "staff-assisted")


def test_help_while_a_document_is_awaited_rests_the_camera_and_may_be_stopped(counter, uplink) -> None:
    uplink.send(Inbound(Down.CHALLENGE, counter.challenge(portrait=False)))
    consent(counter)
    until(lambda: counter.view()["card"] is not None)
    counter.terminal.press(HelpPressed(by_clerk=False))
    phase(counter, Phase.ASSIST)
    assert (counter.view()["card"], counter.view()["preview"]) == (None, False)
    counter.terminal.press(CancelPressed())
    assert opened(counter.place, result(uplink)).outcome is Outcome.CANCELLED


def test_the_clerk_can_do_nothing_that_makes_a_match(counter, uplink) -> None:
    """Every press that exists, at every phase, on a person who does nothing: whatever comes, it is no match."""
    counter.person.actor.answers = {}
    uplink.send(Inbound(Down.CHALLENGE, counter.challenge()))
    consent(counter)
    phase(counter, Phase.POSITION)
    for press in (
        StaffPressed(True, "1"),
        OrderPressed("1"),
        ScanPressed(True),
        HelpPressed(True),
        StaffPressed(True, "1"),
    ):
        counter.terminal.press(press)
    assert opened(counter.place, result(uplink)).outcome is Outcome.STAFF_ASSISTED


def test_a_flood_of_messages_leaves_the_camera_its_turns(place) -> None:
    counter = Counter(place, WithACode(Actor()))
    left = []
    counter.person.before_frame = lambda _index: left.append(counter.terminal._inbox.qsize())
    for _ in range(40):
        counter.terminal.press(ScanPressed(True))
    with counter:
        until(lambda: left[-1:] == [0])
    assert left[:2] == [32, 24]


def test_a_grey_picture_holds_no_code() -> None:
    from edge.drivers.order_code import read_code

    assert read_code(np.full((480, 640, 3), 90, np.uint8)) is None
