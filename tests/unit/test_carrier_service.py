"""The carrier against a terminal with real keys and signatures; the broker is a list."""

import contextlib
import hashlib
import json
import sqlite3

import cv2
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edge.errors import CaptureError, ConfigError, EvidenceError, LinkError, ProvisioningError
from edge.evidence.claims import Fresh, order_commitment
from edge.evidence.messages import ReceiptStatus, open_portrait
from edge.evidence.portrait import PORTRAIT_LIMIT
from edge.evidence.requests import Request, RequestKind, build_request
from edge.evidence.signer import KeyFile, load_private_key
from edge.provisioning.identity import signing_request
from edge.provisioning.retirement import Retired, build_retired
from edge.session.decision import Outcome
from simulator.blind_terminal import BlindTerminal, ChainEnd
from simulator.carrier.judgement import Alarm
from simulator.carrier.portrait import fit_portrait
from simulator.carrier.server import reference_policy
from simulator.carrier.store import Store
from tests.support.carrier_house import House


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path)
    yield house
    house.store.close()


def picture(width=600, height=800):
    noise = np.random.default_rng(1).integers(0, 255, (height // 60, width // 60, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", cv2.resize(noise, (width, height)), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def test_an_answered_challenge_is_stored_with_its_claims_and_receipted(house):
    terminal = house.terminal()
    envelope = terminal.answer(house.order(terminal))
    receipt = house.deliver(terminal, envelope)
    assert receipt.status is ReceiptStatus.ACCEPTED
    assert receipt.digest == hashlib.sha256(envelope).digest()
    (stored,) = house.store.results()
    assert stored.trusted
    assert stored.claims["outcome"] == "match"
    assert stored.claims["challenges"] == [{"kind": "turn-left", "ok": True}, {"kind": "blink", "ok": True}]
    assert stored.receipts == 1
    assert house.alarms == []


def test_the_same_bytes_again_are_no_second_result_and_get_a_duplicate_receipt(house):
    terminal = house.terminal()
    envelope = terminal.answer(house.order(terminal))
    first, second = house.deliver(terminal, envelope), house.deliver(terminal, envelope)
    assert second.status is ReceiptStatus.DUPLICATE
    assert (second.cti, second.digest, second.counter, second.iat) == (
        first.cti,
        first.digest,
        first.counter,
        first.iat,
    )
    (stored,) = house.store.results()
    assert stored.times == 2
    assert house.alarms == []


def test_an_altered_result_is_an_alarm_without_a_receipt(house):
    terminal = house.terminal()
    envelope = bytearray(terminal.answer(house.order(terminal)))
    envelope[len(envelope) // 2] ^= 1
    assert house.deliver(terminal, bytes(envelope)) is None
    assert house.alarms == [Alarm.UNREADABLE]
    assert house.store.results() == []


def test_a_result_signed_with_another_terminals_key_is_refused_under_this_name(house):
    one, two = house.terminal("one"), house.terminal("two")
    house.order(one)
    envelope = two.answer(house.order(two))
    house.carrier.received(f"fv1/up/{one.id}/result", envelope)
    assert house.alarms == [Alarm.UNREADABLE]
    assert house.store.results() == []


def test_a_terminal_that_signs_anothers_name_does_not_touch_the_others_history(house):
    one, two = house.terminal("one"), house.terminal("two")
    envelope = one.answer(house.order(one), terminal_id=bytes.fromhex(two.id))
    assert house.deliver(one, envelope) is None
    assert house.alarms == [Alarm.WRONG_NAME]
    assert house.store.results() == []


def test_one_challenge_answered_twice_is_a_replay(house):
    terminal = house.terminal()
    challenge = house.order(terminal)
    house.deliver(terminal, terminal.answer(challenge, Outcome.NO_MATCH))
    receipt = house.deliver(terminal, terminal.answer(challenge, Outcome.MATCH))
    assert receipt.status is ReceiptStatus.REFUSED
    assert house.alarms == [Alarm.REPLAY]
    assert house.store.result_for(challenge.nonce).claims["outcome"] == "no-match"


def test_a_refused_result_stays_refused_when_it_comes_again(house):
    terminal = house.terminal()
    envelope = terminal.answer(house.order(terminal), nonce=b"never issued" + bytes(20))
    assert [house.deliver(terminal, envelope).status for _ in range(2)] == [ReceiptStatus.REFUSED] * 2
    assert house.alarms == [Alarm.UNKNOWN_NONCE]


def test_a_challenge_of_another_terminal_answered_here_is_an_alarm(house):
    one, two = house.terminal("one"), house.terminal("two")
    house.order(two)
    stolen = house.order(one)
    receipt = house.deliver(two, two.answer(stolen))
    assert receipt.status is ReceiptStatus.REFUSED
    assert house.alarms == [Alarm.WRONG_TERMINAL]


def test_an_answer_after_the_challenges_time_is_late(house):
    terminal = house.terminal()
    challenge = house.order(terminal)
    house.clock.now += 301
    assert house.deliver(terminal, terminal.answer(challenge)).status is ReceiptStatus.REFUSED
    assert house.alarms == [Alarm.LATE]


def test_a_gap_alarms_and_closes_when_the_missing_result_comes(house):
    terminal = house.terminal()
    early = terminal.answer(house.order(terminal))
    later = terminal.answer(house.order(terminal))
    assert house.deliver(terminal, later).status is ReceiptStatus.ACCEPTED
    assert house.alarms == [Alarm.GAP]
    assert house.store.alarms()[0].closed_at is None
    assert house.deliver(terminal, early).status is ReceiptStatus.ACCEPTED
    assert house.alarms == [Alarm.GAP]
    assert house.store.alarms()[0].closed_at == house.clock.now


def test_a_cloned_card_shows_as_a_fork(house):
    terminal = house.terminal()
    house.deliver(terminal, terminal.answer(house.order(terminal)))
    end = terminal.end
    house.deliver(terminal, terminal.answer(house.order(terminal)))
    clone, _ = terminal.sign_after(end, house.order(terminal), Outcome.MATCH)
    assert house.deliver(terminal, clone).status is ReceiptStatus.REFUSED
    assert house.alarms == [Alarm.FORK]


def test_a_history_that_starts_again_shows_as_a_fork(house):
    terminal = house.terminal()
    house.deliver(terminal, terminal.answer(house.order(terminal)))
    again, _ = terminal.sign_after(ChainEnd(), house.order(terminal), Outcome.MATCH)
    assert house.deliver(terminal, again).status is ReceiptStatus.REFUSED
    assert house.alarms == [Alarm.FORK]


def test_a_rewritten_past_shows_as_a_fork(house):
    terminal = house.terminal()
    house.deliver(terminal, terminal.answer(house.order(terminal)))
    altered = ChainEnd(1, b"\x05" * 32)
    envelope, _ = terminal.sign_after(altered, house.order(terminal), Outcome.MATCH)
    assert house.deliver(terminal, envelope).status is ReceiptStatus.REFUSED
    assert house.alarms == [Alarm.FORK]


@pytest.mark.parametrize(
    ("claim", "alarm"), [("policy_digest", Alarm.UNKNOWN_POLICY), ("pack_digest", Alarm.UNKNOWN_PACK)]
)
def test_a_policy_or_pack_that_we_do_not_know_is_an_alarm(house, claim, alarm):
    terminal = house.terminal()
    receipt = house.deliver(terminal, terminal.answer(house.order(terminal), **{claim: b"\x09" * 32}))
    assert receipt.status is ReceiptStatus.REFUSED
    assert house.alarms == [alarm]


def test_a_result_is_kept_when_the_receipt_cannot_leave_and_receipted_when_it_comes_again(house):
    terminal = house.terminal()
    envelope = terminal.answer(house.order(terminal))
    house.link_up = False
    assert house.deliver(terminal, envelope) is None
    assert len(house.store.results()) == 1
    house.link_up = True
    assert house.deliver(terminal, envelope).status is ReceiptStatus.DUPLICATE


def test_nothing_of_a_result_is_kept_when_its_alarms_cannot_be(house, monkeypatch):
    terminal = house.terminal()
    house.order(terminal)
    later = terminal.answer(house.order(terminal), counter=2)
    monkeypatch.setattr(house.store, "add_alarm", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        house.deliver(terminal, later)
    assert house.store.results() == []
    assert len(house.sent) == 4  # two orders, no receipt


def test_an_order_that_the_broker_does_not_take_is_no_order(house):
    terminal = house.terminal()
    house.link_up = False
    with pytest.raises(LinkError):
        house.carrier.issue_order(terminal.id, "order 1")
    assert house.store.orders() == []


def test_an_order_for_a_terminal_that_was_never_enrolled_is_refused(house):
    with pytest.raises(ProvisioningError):
        house.carrier.issue_order("f" * 32, "order 1")


@pytest.mark.parametrize("reference", ["", "x" * 65, "line\nbreak"])
def test_an_order_with_a_reference_that_no_challenge_can_carry_is_refused(house, reference):
    terminal = house.terminal()
    with pytest.raises(EvidenceError):
        house.carrier.issue_order(terminal.id, reference)
    assert house.store.orders() == []


def test_the_portrait_travels_sealed_and_only_this_terminal_can_open_it(house):
    terminal, other = house.terminal("one"), house.terminal("two")
    challenge = house.order(terminal, portrait=picture())
    jpeg = open_portrait(challenge.portrait, load_private_key(terminal.portrait_key), context=challenge.nonce)
    assert jpeg.startswith(b"\xff\xd8")
    assert len(jpeg) <= PORTRAIT_LIMIT
    assert jpeg not in b"".join(payload for _, payload in house.sent)
    with pytest.raises(EvidenceError):
        open_portrait(challenge.portrait, load_private_key(other.portrait_key), context=challenge.nonce)


def test_a_portrait_that_is_no_picture_is_refused_before_anything_is_sent(house):
    terminal = house.terminal()
    with pytest.raises(CaptureError):
        house.carrier.issue_order(terminal.id, "order 1", b"not a picture")
    assert house.sent == []


def test_a_portrait_of_the_size_of_an_id_chips_is_passed_on_byte_for_byte():
    small = picture(102, 126)
    assert len(small) <= PORTRAIT_LIMIT
    assert fit_portrait(small) == small


def test_a_large_portrait_is_made_to_fit_and_keeps_its_shape():
    jpeg = fit_portrait(picture(1200, 1600))
    assert len(jpeg) <= PORTRAIT_LIMIT
    height, width, _ = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape
    assert abs(width / height - 0.75) < 0.02


def test_a_certificate_is_issued_only_for_the_name_in_the_request(house, tmp_path):
    terminal = BlindTerminal(tmp_path / "x", site="shop", clock=house.clock)
    signed = bytearray(terminal.asked.message)
    at = signed.index(terminal.asked.request.terminal_id)
    signed[at] ^= 1
    with pytest.raises(EvidenceError):
        house.carrier.enrol(bytes(signed), broker=("localhost", 8883))
    assert house.store.terminals() == []


def test_a_retired_terminal_gets_no_new_certificate(house):
    terminal = house.terminal()
    key = ec.generate_private_key(ec.SECP256R1())
    csr = signing_request(key, terminal.id)
    house.carrier.received(f"fv1/up/{terminal.id}/audit", csr)
    assert [topic for topic, _ in house.sent] == [f"fv1/dn/{terminal.id}/command"]
    last_word = Retired(
        terminal_id=bytes.fromhex(terminal.id), counter=0, digest=bytes(32), lost=0, iat=house.clock.now, forced=False
    )
    signer = KeyFile(house.folder / "a" / "terminal" / "result.key")
    house.carrier.received(f"fv1/up/{terminal.id}/audit", build_retired(last_word, signer))
    house.carrier.received(f"fv1/up/{terminal.id}/audit", csr)
    assert len(house.sent) == 1
    (alarm,) = house.store.alarms()
    assert alarm.detail.endswith("is retired")


def test_a_status_message_shows_and_brings_the_policy_where_it_is_not_in_force(house):
    terminal = house.terminal()
    house.carrier.received(f"fv1/up/{terminal.id}/status", b'{"state": "idle"}')
    assert [topic for topic, _ in house.sent] == [f"fv1/dn/{terminal.id}/policy"]
    policy = terminal.take_policy(house.sent[0][1])
    status = f'{{"policy_digest": "{policy.digest.hex()}"}}'.encode()
    house.carrier.received(f"fv1/up/{terminal.id}/status", status)
    assert len(house.sent) == 1
    assert house.store.terminal(terminal.id).status == status.decode()


@pytest.mark.parametrize("noise", [b"", b"\xff" * 100, b"[1]", b"{" * 5000, b"null"])
def test_unreadable_status_and_result_messages_raise_nothing(house, noise):
    terminal = house.terminal()
    house.carrier.received(f"fv1/up/{terminal.id}/status", noise)
    house.carrier.received(f"fv1/up/{terminal.id}/result", noise)
    house.carrier.received("fv1/up/nobody/result", noise)
    assert house.alarms == [Alarm.UNREADABLE, Alarm.UNKNOWN_TERMINAL]


@pytest.mark.parametrize(
    "noise",
    [b'{"a":NaN}', b'{"a":1e999}', rb'{"a":"\ud800"}', b"[" * 2000, b'{"a":' + b"[" * 990 + b"]" * 990 + b"}"],
    ids=["nan", "infinity", "half of a pair", "open brackets", "deep"],
)
def test_a_status_that_no_page_could_show_is_kept_as_unreadable(house, noise):
    terminal = house.terminal()
    house.carrier.received(f"fv1/up/{terminal.id}/status", noise)
    assert json.loads(house.store.terminal(terminal.id).status) == {"unreadable": f"{len(noise)} bytes"}


def test_all_records_are_there_after_a_restart(house):
    terminal = house.terminal()
    house.deliver(terminal, terminal.answer(house.order(terminal)))
    house.store.close()
    house.store = Store(house.folder / "carrier.sqlite")
    assert [result.ctr for result in house.store.results()] == [1]
    assert house.store.terminal(terminal.id).site == "shop a"


# --- what terminals ask for


def ask(house, terminal, request):
    """The carrier's answers on the terminal's challenge topic."""
    before = len(house.sent)
    signer = KeyFile(house.folder / "a" / "terminal" / "result.key")
    house.carrier.received(f"fv1/up/{terminal.id}/request", build_request(request, signer))
    topic = f"fv1/dn/{terminal.id}/challenge"
    return [payload for name, payload in house.sent[before:] if name == topic]


def request_of(terminal, number=0, **fields):
    return Request(terminal_id=bytes.fromhex(terminal.id), id=bytes([number] * 16), **fields)


def test_an_order_that_a_terminal_asks_for_begins_once(house):
    terminal = house.terminal()
    wanted = request_of(terminal, kind=RequestKind.ORDER, order="A-1001")
    (answer,) = ask(house, terminal, wanted)
    challenge = terminal.read_challenge(answer)
    assert (challenge.order, challenge.fresh) == ("A-1001", Fresh.ONLINE)
    assert ask(house, terminal, wanted) == [], "a request that comes again is the same request"


def test_an_order_number_typed_at_a_terminal_is_never_taken_for_our_self_test(house):
    terminal = house.terminal()
    assert ask(house, terminal, request_of(terminal, kind=RequestKind.ORDER, order="self-test")) == []
    assert house.store.orders() == []


def test_tickets_are_bounded_whatever_is_asked(house):
    terminal = house.terminal()
    allowed = reference_policy().offline_tickets
    given = [ask(house, terminal, request_of(terminal, n, kind=RequestKind.TICKETS, tickets=99)) for n in range(9)]
    assert [len(answers) for answers in given] == [allowed] * 4 + [0] * 5
    tickets = [terminal.read_challenge(answer) for answers in given for answer in answers]
    assert {t.fresh for t in tickets} == {Fresh.TICKET}
    assert {t.ttl_s for t in tickets} == {7 * 86_400}
    assert len({t.nonce for t in tickets}) == len(tickets)


def test_a_ticket_is_answered_days_later_and_finds_its_order(house):
    terminal = house.terminal()
    house.order(terminal)
    (answer,) = ask(house, terminal, request_of(terminal, kind=RequestKind.TICKETS, tickets=1))
    ticket = terminal.read_challenge(answer)
    house.clock.now += 6 * 86_400
    bound = {"fresh": Fresh.TICKET, "order_commitment": order_commitment(ticket.nonce, "order 1")}
    receipt = house.deliver(terminal, terminal.answer(ticket, **bound))
    assert receipt.status is ReceiptStatus.ACCEPTED
    assert house.store.orders()[0].reference == "order 1"
    again = house.deliver(terminal, terminal.answer(ticket, **bound))
    assert again.status is ReceiptStatus.REFUSED, "a ticket serves once"


def test_a_request_of_another_key_is_an_alarm_and_begins_nothing(house):
    terminal, other = house.terminal(), house.terminal("b")
    foreign = KeyFile(house.folder / "b" / "terminal" / "result.key")
    wanted = request_of(terminal, kind=RequestKind.ORDER, order="A-1001")
    before = len(house.sent)
    house.carrier.received(f"fv1/up/{terminal.id}/request", build_request(wanted, foreign))
    house.carrier.received(f"fv1/up/{other.id}/request", build_request(wanted, foreign))
    house.carrier.received(f"fv1/up/{terminal.id}/request", b"anything")
    assert house.sent[before:] == []
    assert [alarm.kind for alarm in house.store.alarms()] == [Alarm.UNREADABLE, Alarm.WRONG_NAME, Alarm.UNREADABLE]


def test_a_file_of_the_carrier_before_tickets_is_read_on(house, tmp_path):
    house.store.close()
    path = tmp_path / "old.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(
            "CREATE TABLE orders(id TEXT PRIMARY KEY, terminal TEXT NOT NULL, reference TEXT NOT NULL,"
            " nonce BLOB NOT NULL UNIQUE, session BLOB NOT NULL, issued_at INTEGER NOT NULL, expires_at INTEGER NOT NULL)"
            " STRICT; INSERT INTO orders VALUES ('o', 't', 'A-1', x'00', x'00', 1, 2)"
        )
    with contextlib.closing(Store(path)) as store:
        assert [(order.reference, order.ticket) for order in store.orders()] == [("A-1", False)]


def test_columns_that_a_later_carrier_added_are_passed_over(house):
    terminal = house.terminal()
    house.deliver(terminal, terminal.answer(house.order(terminal), counter=2))
    house.store.close()
    path = house.folder / "carrier.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db:
        for table in ("terminals", "orders", "results", "alarms"):
            db.execute(f"ALTER TABLE {table} ADD COLUMN later TEXT")
    house.store = Store(path)
    assert [one.id for one in house.store.terminals()] == [terminal.id]
    assert [len(found) for found in (house.store.orders(), house.store.results())] == [1, 1]
    assert Alarm.GAP in house.alarms


def test_a_file_of_a_later_carrier_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "later.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript("CREATE TABLE terminals(id); PRAGMA user_version=99")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="later carrier"):
        Store(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["nowhere/x.sqlite", "folder", "junk"])
def test_a_place_that_can_hold_no_records_is_named_with_what_to_do(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "junk").write_bytes(b"no database" * 100)
    with pytest.raises(ConfigError, match=name) as refused:
        Store(tmp_path / name)
    assert refused.value.todo
