"""Portraits that cannot serve, sealed in a real challenge and read by the pack that ships: said in a signed result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.config import DEFAULT_PACK
from edge.ipc import Down, Inbound, Publish, Up
from edge.session.decision import CheckOutcome, Outcome, Reason
from edge.session.machine import Phase
from edge.terminal.display import ConsentPressed
from edge.terminal.texts import Language
from edge.vision.pack import Pack
from edge.vision.pipeline import Pipeline
from simulator.observed import Actor
from simulator.person.render import portrait
from tests.support.counter import Counter, ObservedPerson, opened
from tests.support.wires import Place, UplinkEnd, enrolled, until


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    opened_pack = Pipeline(Pack.load(DEFAULT_PACK))
    yield opened_pack
    opened_pack.close()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return enrolled(tmp_path, extra="\n[kiosk]\nport = 0\n")


def jpeg(picture: np.ndarray) -> bytes:
    """Small enough for a challenge."""
    for quality in range(80, 5, -5):
        encoded = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, quality))[1].tobytes()
        if len(encoded) <= 3300:
            return encoded
    raise AssertionError


def one_face() -> bytes:
    return jpeg(cv2.resize(portrait(2), (128, 158), interpolation=cv2.INTER_AREA))


def two_faces() -> bytes:
    both = np.hstack([portrait(2), portrait(5)])
    return jpeg(cv2.resize(both, (256, 158), interpolation=cv2.INTER_AREA))


def no_face() -> bytes:
    return jpeg(np.random.default_rng(1).integers(120, 136, (158, 128, 3), np.uint8))


def half_a_file() -> bytes:
    return one_face()[:200]


def no_picture() -> bytes:
    return b"this is text and no picture"


@pytest.mark.parametrize(
    ("sealed", "reason"),
    [
        (two_faces, Reason.PORTRAIT_SEVERAL_FACES),
        (no_face, Reason.PORTRAIT_UNUSABLE),
        (half_a_file, Reason.PORTRAIT_UNUSABLE),
        (no_picture, Reason.PORTRAIT_UNUSABLE),
        (one_face, None),
    ],
)
def test_the_portrait_of_a_challenge_is_judged_by_the_shipped_pack(place: Place, pipeline, sealed, reason) -> None:
    person = ObservedPerson(Actor())
    person.portrait = pipeline.portrait
    with Counter(place, person) as counter, UplinkEnd(place.settings.socket_path) as uplink:
        uplink.send(Inbound(Down.CHALLENGE, counter.challenge(portrait=sealed())))
        until(lambda: counter.view()["phase"] == Phase.CONSENT.value, 30)
        counter.terminal.press(ConsentPressed(True, Language.EN))
        if reason is None:
            until(lambda: counter.view()["phase"] not in (Phase.CONSENT.value, Phase.IDLE.value), 30)
            assert counter.view()["outcome"] is None, "the session goes on"
            return
        claims = opened(place, uplink.expect(lambda m: isinstance(m, Publish) and m.topic is Up.RESULT, 30).payload)
    assert (claims.outcome, claims.reasons) == (Outcome.INCONCLUSIVE, (reason,))
    assert claims.match is CheckOutcome.NOT_RUN
