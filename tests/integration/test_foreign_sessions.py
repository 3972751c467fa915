"""Whole sessions on a pack of public models, chosen by `vouch models use`: signed results, and not one line of code."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cli import main
from edge.clock import Clock, SystemClock
from edge.drivers.camera import FrameSource
from edge.drivers.opencv_camera import FileSource
from edge.evidence.claims import Claims
from edge.evidence.messages import build_policy
from edge.evidence.signer import KeyFile
from edge.ipc import Down, Inbound, Publish, Up
from edge.session.decision import ChallengeKind, CheckOutcome, Outcome, Policy, Reason
from edge.session.machine import Phase
from edge.terminal.display import ConsentPressed
from edge.terminal.opening import open_identity, open_journal
from edge.terminal.service import Terminal
from edge.terminal.texts import Language
from edge.terminal.updating import open_vision
from edge.updates.overview import look
from edge.watchdog import Notifier
from simulator.carrier.portrait import fit_portrait
from simulator.film import Film, FilmClock, Role
from simulator.person import portrait
from tests.foreign_pack import write_foreign_pack
from tests.support.counter import NO_BOARD, opened, signed_challenge
from tests.support.wires import Place, UplinkEnd, enrolled, until

pytestmark = pytest.mark.timeout(600)
_FPS = 25
# The public mesh does not follow eyelids of drawn faces: such a carrier asks for turns.
_TURNS = (ChallengeKind.TURN_LEFT, ChallengeKind.TURN_RIGHT)
_NONCE = bytes(range(32))  # the same plan in every run: how far a drawn head turns is just enough for the public mesh


@pytest.fixture
def place(tmp_path: Path, data_dir: Path) -> Place:
    """A terminal whose technician has chosen the public models, as a stick brings them."""
    place = enrolled(tmp_path, extra=f"\n[kiosk]\nport = 0\n[camera]\nfps = {_FPS}\ntimeout_s = 10\n")
    stick = write_foreign_pack(tmp_path / "stick", data_dir / "teachers")
    assert main(["models", "use", str(stick), "--config", str(place.config)]) == 0
    for path in stick.iterdir():
        path.unlink()  # pulled: what is in force is the terminal's own copy
    return place


def session(place: Place, source: FrameSource, clock: Clock, document: bytes, **rest: object) -> Claims:
    """Start the terminal as `vouch run` does, with this camera, and play one session."""
    pack, vision, updating = open_vision(place.settings, clock.monotonic())
    assert pack.manifest.name == "foreign"
    terminal = Terminal(
        place.settings,
        source=source,
        vision=vision,
        pack=pack,
        updating=updating,
        identity=open_identity(place.settings),
        journal=open_journal(place.settings),
        clock=clock,
        notifier=Notifier(None),
        health=lambda: NO_BOARD,
        **rest,
    )
    thread = threading.Thread(target=terminal.run)
    thread.start()
    try:
        with UplinkEnd(place.settings.socket_path) as uplink:
            # Version 2: the enrolment brought a first one, and a policy of the same version is not taken.
            policy = Policy("turns", 2, bytes(32), challenges=_TURNS, action_timeout_ms=8000, session_timeout_ms=60_000)
            uplink.send(Inbound(Down.POLICY, build_policy(policy, KeyFile(place.pki.signing_key))))
            uplink.send(Inbound(Down.CHALLENGE, signed_challenge(place, portrait=document, nonce=_NONCE)))
            until(lambda: terminal.display.read()[1].screen.phase is Phase.CONSENT, 60)
            terminal.press(ConsentPressed(True, Language.EN))
            sent = uplink.expect(lambda m: isinstance(m, Publish) and m.topic is Up.RESULT, timeout_s=400)
            return opened(place, sent.payload)
    finally:
        terminal.stop()
        thread.join(60)


def filmed(place: Place, role: Role, document: int) -> Claims:
    clock = FilmClock(1 / _FPS)
    film = Film([role], clock, size=(640, 480), fps=_FPS)
    return session(place, film, clock, jpeg(portrait(document)), on_screen=film.on_screen)


def jpeg(image: np.ndarray) -> bytes:
    """As a carrier seals it into a challenge."""
    return fit_portrait(cv2.imencode(".png", image)[1].tobytes())


def test_the_right_person_is_verified_and_the_pack_has_proved_itself(place: Place) -> None:
    claims = filmed(place, Role.parse("person:11"), 11)
    assert (claims.outcome, claims.match, claims.pad) == (Outcome.MATCH, CheckOutcome.PASS, CheckOutcome.PASS)
    seen = look(place.settings, 0)
    assert seen.state.trial is None
    assert (seen.pack.manifest.name, seen.pack.digest) == ("foreign", claims.pack_digest)


def test_another_person_is_not_the_holder(place: Place) -> None:
    # Far apart for the public embedder, whose limit is 0.4: 0.10 between these two; 6 and 11 have 0.31, 16 and 21 0.60.
    # And one who turns far: person 12 stays within 19 degrees as the public mesh sees it, where a turn counts from 20.
    claims = filmed(place, Role.parse("person:11"), 17)
    assert (claims.outcome, claims.reasons) == (Outcome.NO_MATCH, (Reason.BELOW_THRESHOLD,))


def test_a_print_is_not_a_person(place: Place) -> None:
    claims = filmed(place, Role.parse("print:11"), 11)
    assert claims.outcome in (Outcome.LIVENESS_FAIL, Outcome.INCONCLUSIVE)
    assert claims.match is CheckOutcome.NOT_RUN


@pytest.fixture(params=["headleft", "headup", "mouthopen"])
def clip(request: pytest.FixtureRequest, data_dir: Path) -> Iterator[Path]:
    return data_dir / "clips" / f"{request.param}.mp4"


def test_a_clip_of_a_real_person_is_seen_and_cannot_answer_a_challenge(place: Place, clip: Path) -> None:
    capture = cv2.VideoCapture(str(clip))
    frame = capture.read()[1]
    capture.release()
    claims = session(place, FileSource(clip, pace=True), SystemClock(), jpeg_of_face(frame))
    assert claims.outcome is not Outcome.MATCH
    assert claims.consent_given
    unseen = {Reason.NO_FACE, Reason.PORTRAIT_UNUSABLE, Reason.PORTRAIT_SEVERAL_FACES, Reason.INTERNAL}
    assert not unseen & set(claims.reasons), "portrait and person are found by the public models"


def jpeg_of_face(frame: np.ndarray) -> bytes:
    """The clip's first frame as a document's picture."""
    height, width = frame.shape[:2]
    side = min(height, width)
    left = (width - side) // 2
    return jpeg(frame[:side, left : left + side])
