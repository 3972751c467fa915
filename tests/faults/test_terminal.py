"""What goes wrong around a session: it ends as an error or never begins, is never a match, and the terminal lives on."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edge.clock import SystemClock
from edge.errors import CameraError, CaptureError, CaptureFault, JournalError, SignerError
from edge.evidence import messages
from edge.evidence.claims import ClockState
from edge.evidence.signer import KeyFile
from edge.ipc import Down, Inbound, Publish, Up
from edge.session.decision import CheckOutcome, Outcome, Reason
from edge.session.machine import Phase
from edge.terminal.display import ConsentPressed, Service
from edge.terminal.opening import open_journal
from edge.terminal.texts import Language
from simulator.observed import Actor
from tests.evidence_samples import private_pem
from tests.support.counter import Counter, ObservedPerson, opened, receipt_for
from tests.support.wires import Place, Process, UplinkEnd, enrolled, until


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return enrolled(tmp_path, extra="\n[kiosk]\nport = 0\n")


@pytest.fixture
def person() -> ObservedPerson:
    return ObservedPerson(Actor())


@pytest.fixture
def counter(place: Place, person: ObservedPerson) -> Iterator[Counter]:
    with Counter(place, person) as counter:
        yield counter


def phase(counter: Counter, wanted: Phase) -> None:
    until(lambda: counter.view()["phase"] == wanted.value, 25)


def is_result(message) -> bool:
    return isinstance(message, Publish) and message.topic is Up.RESULT


def to_consent(counter: Counter, uplink: UplinkEnd, **challenge) -> None:
    uplink.send(Inbound(Down.CHALLENGE, counter.challenge(**challenge)))
    phase(counter, Phase.CONSENT)


def agree(counter: Counter) -> None:
    counter.terminal.press(ConsentPressed(True, Language.EN))


def refuse(counter: Counter) -> None:
    counter.terminal.press(ConsentPressed(False, Language.EN))


def test_a_camera_that_stalls_in_a_session_gives_a_signed_error_and_ends_the_process(counter, person, place) -> None:
    def stalls(_index: int) -> None:
        if counter.view()["phase"] == "challenge":
            raise CameraError("no frame for 2 s")

    person.before_frame = stalls
    with UplinkEnd(place.settings.socket_path) as uplink:
        to_consent(counter, uplink)
        agree(counter)
        assert counter.join() == 1, "systemd starts it anew"
    with open_journal(place.settings) as journal:
        (row,) = journal.pending(10)
    claims = opened(place, row.message)
    assert (claims.outcome, claims.reasons) == (Outcome.ERROR, (Reason.CAMERA_LOST,))


def test_a_camera_that_is_lost_without_a_session_ends_the_process(counter, person) -> None:
    def lost(_index: int) -> None:
        raise CameraError("vanished")

    person.before_frame = lost
    assert counter.join() == 1


@pytest.mark.parametrize("error", [ValueError("bad"), MemoryError(), CameraError("a frame is (3,) int64"), KeyError(1)])
def test_a_fault_in_vision_is_a_signed_error_and_never_a_match(counter, person, place, error) -> None:
    def fails(index: int) -> None:
        if counter.view()["phase"] == "challenge":
            raise error

    person.in_process = fails
    with UplinkEnd(place.settings.socket_path) as uplink:
        to_consent(counter, uplink)
        agree(counter)
        claims = opened(place, uplink.expect(is_result, 30).payload)
        assert (claims.outcome, claims.reasons) == (Outcome.ERROR, (Reason.INTERNAL,))
        assert claims.match is CheckOutcome.NOT_RUN
        assert claims.consent_given
        person.in_process = lambda _index: None
        to_consent(counter, uplink)  # the terminal lives on
        assert not any(template.vector.any() for template in person.templates)
        refuse(counter)
        assert opened(place, uplink.expect(is_result).payload).counter in (1, 2)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (CaptureFault.NO_FACE, Reason.PORTRAIT_UNUSABLE),
        (CaptureFault.SEVERAL_FACES, Reason.PORTRAIT_SEVERAL_FACES),
        (CaptureFault.TOO_SMALL, Reason.PORTRAIT_UNUSABLE),
    ],
)
def test_a_portrait_without_one_face_is_said_in_the_result(counter, person, place, fault, reason) -> None:
    def portrait(_image):
        raise CaptureError(fault, "no")

    person.portrait = portrait
    with UplinkEnd(place.settings.socket_path) as uplink:
        to_consent(counter, uplink)
        agree(counter)
        claims = opened(place, uplink.expect(is_result).payload)
    assert (claims.outcome, claims.reasons) == (Outcome.INCONCLUSIVE, (reason,))


def test_a_portrait_sealed_for_another_session_is_not_used(counter, place) -> None:
    from edge.evidence.signer import load_private_key

    key = load_private_key(place.settings.keys.portrait_key).public_key()
    sealed = messages.seal_portrait(b"\xff\xd8 a picture", key, context=b"another nonce")
    with UplinkEnd(place.settings.socket_path) as uplink:
        to_consent(counter, uplink, portrait=False, nonce=b"n" * 32)
        refuse(counter)
        uplink.expect(is_result)
        challenge = counter.challenge(portrait=False)
        uplink.send(Inbound(Down.CHALLENGE, challenge))
        phase(counter, Phase.CONSENT)
        counter.terminal._session.challenge = replace(counter.terminal._session.challenge, portrait=sealed)
        agree(counter)
        claims = opened(place, uplink.expect(lambda m: is_result(m) and opened(place, m.payload).counter == 2).payload)
    assert (claims.outcome, claims.reasons) == (Outcome.INCONCLUSIVE, (Reason.PORTRAIT_UNUSABLE,))


def test_bad_challenges_start_nothing_and_a_good_one_after_them_does(counter, place, tmp_path) -> None:
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(private_pem(ec.generate_private_key(ec.SECP256R1())))
    stranger.chmod(0o600)
    now = int(time.time())
    good = counter.challenge()
    bad = {
        "unsigned": good[:-64] + bytes(64),
        "by a stranger": counter.challenge(signer=KeyFile(stranger)),
        "truncated": good[:-1],
        "for another terminal": counter.challenge(terminal_id=b"\x99" * 16),
        "of the wrong type": messages.build_policy(_policy(), KeyFile(place.pki.signing_key)),
        "empty": b"",
        "largest": b"\xff" * 4096,
    }
    bad |= {f"random {n}": secrets.token_bytes(1 + n * 37) for n in range(40)}
    with UplinkEnd(place.settings.socket_path) as uplink:
        for message in bad.values():
            uplink.send(Inbound(Down.CHALLENGE, message))
        until(lambda: counter.terminal._refused_messages == len(bad))
        assert counter.view()["phase"] == "idle"
        uplink.send(Inbound(Down.CHALLENGE, good))
        phase(counter, Phase.CONSENT)
        refuse(counter)
        uplink.expect(is_result)
        # replayed: its nonce is spent, in this process and in the next
        uplink.send(Inbound(Down.CHALLENGE, good))
        until(lambda: counter.terminal._refused_messages == len(bad) + 1)
    assert now  # the challenges above are alive by the clock; age is tested below


def test_a_replayed_challenge_is_refused_after_a_restart_too(place) -> None:
    with Counter(place, ObservedPerson(Actor())) as counter, UplinkEnd(place.settings.socket_path) as uplink:
        challenge = counter.challenge()
        uplink.send(Inbound(Down.CHALLENGE, challenge))
        phase(counter, Phase.CONSENT)
    with Counter(place, ObservedPerson(Actor())) as counter, UplinkEnd(place.settings.socket_path) as uplink:
        uplink.send(Inbound(Down.CHALLENGE, challenge))
        until(lambda: counter.terminal._refused_messages == 1)
        assert counter.view()["phase"] == "idle"


def test_a_challenge_that_expires_while_it_waits_starts_nothing(counter, place) -> None:
    with UplinkEnd(place.settings.socket_path) as uplink:
        to_consent(counter, uplink)
        uplink.send(Inbound(Down.CHALLENGE, counter.challenge(ttl_s=1)))
        until(lambda: counter.terminal._desk.somebody_waits)
        time.sleep(1.2)
        refuse(counter)
        until(lambda: counter.terminal._refused_messages == 1)
        assert counter.terminal._session is None


class OtherClock(SystemClock):
    """Ten years off, and nobody has set it."""

    def __init__(self, off_s: int) -> None:
        self._off_s = off_s

    def utc(self) -> int:
        return super().utc() + self._off_s

    def is_synchronised(self) -> bool:
        return False


@pytest.mark.parametrize("off_s", [-10 * 365 * 86400, 10 * 365 * 86400])
def test_a_clock_ten_years_off_stops_nothing_and_is_said(place, person, off_s) -> None:
    with Counter(place, person, clock=OtherClock(off_s)) as counter, UplinkEnd(place.settings.socket_path) as uplink:
        to_consent(counter, uplink)
        refuse(counter)
        claims = opened(place, uplink.expect(is_result).payload)
    assert claims.clock_state is ClockState.NONCE_BOUNDED
    assert abs(claims.iat - (time.time() + off_s)) < 60


def test_a_journal_that_cannot_be_written_starts_no_session_until_it_can(counter, place, monkeypatch) -> None:
    journal = counter.terminal._journal

    def full() -> None:
        raise JournalError("the disk is full")

    probe = journal.probe_writable
    monkeypatch.setattr(journal, "probe_writable", full)
    with UplinkEnd(place.settings.socket_path) as uplink:
        uplink.send(Inbound(Down.CHALLENGE, counter.challenge()))
        until(lambda: counter.view()["service"] == Service.OUT_OF_SERVICE.value)
        assert (counter.view()["phase"], counter.view()["fault"]) == ("idle", "journal")
        uplink.expect(
            lambda m: (
                isinstance(m, Publish) and m.topic is Up.STATUS and json.loads(m.payload)["state"] == "out-of-service"
            )
        )
        uplink.send(Inbound(Down.CHALLENGE, counter.challenge()))
        time.sleep(0.5)
        assert counter.view()["phase"] == "idle"
        monkeypatch.setattr(journal, "probe_writable", probe)
        until(lambda: counter.view()["service"] == "ready")
        to_consent(counter, uplink)


def test_a_result_that_cannot_be_stored_is_shown_as_an_error_not_as_done(counter, place, monkeypatch) -> None:
    def full(_make):
        raise JournalError("the disk is full")

    with UplinkEnd(place.settings.socket_path) as uplink:
        to_consent(counter, uplink)
        monkeypatch.setattr(counter.terminal._journal, "append", full)
        monkeypatch.setattr(counter.terminal._journal, "probe_writable", lambda: full(None))
        agree(counter)
        until(lambda: counter.view()["outcome"] is not None, 40)
        assert counter.view()["outcome"] == "error"
        assert counter.view()["reference"] is None
        assert counter.view()["service"] == "out-of-service"


def test_a_key_that_does_not_sign_any_more_puts_the_terminal_out_of_service(counter, place, monkeypatch) -> None:
    def gone(_data):
        raise SignerError("the token is gone")

    with UplinkEnd(place.settings.socket_path) as uplink:
        to_consent(counter, uplink)
        monkeypatch.setattr(counter.terminal._identity.signer, "sign", gone)
        refuse(counter)
        until(lambda: counter.view()["service"] == "out-of-service")
        assert (counter.view()["outcome"], counter.view()["fault"]) == ("error", "signer")
        assert counter.terminal._journal.pending_count() == 0


def test_a_corrupt_journal_leaves_the_file_alone_and_the_page_says_out_of_service(place, person) -> None:
    path = place.settings.journal_path
    path.write_bytes(b"not a database" * 100)
    with Counter(place, person) as counter, UplinkEnd(place.settings.socket_path) as uplink:
        status = uplink.expect(lambda m: isinstance(m, Publish))
        assert json.loads(status.payload)["fault"] == "journal"
        assert counter.view()["service"] == "out-of-service"
        uplink.send(Inbound(Down.CHALLENGE, counter.challenge()))
        time.sleep(0.5)
        assert counter.view()["phase"] == "idle"
    assert path.read_bytes() == b"not a database" * 100


def test_a_terminal_told_to_stop_in_a_session_signs_an_error(place, person) -> None:
    with Counter(place, person) as counter, UplinkEnd(place.settings.socket_path) as uplink:
        to_consent(counter, uplink)
        agree(counter)
        phase(counter, Phase.POSITION)
    assert counter.exit_code == 0
    with open_journal(place.settings) as journal:
        (row,) = journal.pending(10)
    assert opened(place, row.message).outcome is Outcome.ERROR


def test_a_video_that_ends_in_a_session_ends_it_by_the_rules_own_time_and_the_process_with_0(place, person) -> None:
    person.finite, person.ends_after = True, 20
    policy = replace(_policy(), session_timeout_ms=5000, action_timeout_ms=2000)
    with Counter(place, person) as counter, UplinkEnd(place.settings.socket_path) as uplink:
        uplink.send(Inbound(Down.POLICY, messages.build_policy(policy, KeyFile(place.pki.signing_key))))
        to_consent(counter, uplink)
        agree(counter)
        sent = uplink.expect(is_result, timeout_s=40)
        assert counter.exit_code is None, "a result that nobody has received yet keeps the process alive"
        uplink.send(Inbound(Down.RECEIPT, receipt_for(counter, sent.payload)))
        assert counter.join(40) == 0
    claims = opened(place, sent.payload)
    assert claims.outcome is Outcome.INCONCLUSIVE
    assert Reason.SESSION_TIMEOUT in claims.reasons


def test_a_page_that_fails_ends_the_process(counter) -> None:
    until(counter.terminal._link_server._thread.is_alive)
    counter.page_failed()
    assert counter.join() == 3


def test_an_uplink_that_speaks_nonsense_is_dropped_and_the_next_one_served(counter, place) -> None:
    path = place.settings.socket_path
    with UplinkEnd(path) as broken:
        broken._socket.sendall(b"\xff" * 100)
        with pytest.raises(ConnectionError):
            broken.expect(lambda _: False, 5)
    with UplinkEnd(path) as uplink:
        to_consent(counter, uplink)


def test_no_camera_is_told_with_what_to_do(place, tmp_path) -> None:
    from tests.tiny_models import write_pack

    text = place.config.read_text()
    pack = write_pack(tmp_path / "pack")
    place.config.write_text(f'pack_dir = "{pack}"\n{text}\n[camera]\nsource = "v4l2:/dev/does-not-exist"\n')
    log = tmp_path / "run.log"
    with Process("run", "--config", str(place.config), log=log) as process:
        assert process.wait(30) == 2
    said = log.read_text()
    assert "cannot be opened" in said
    assert "what to do: check the cable" in said


def _policy():
    from edge.session.decision import Policy

    return Policy("shops", 3, bytes(32))
