"""The technician's way at the first boot, without camera and page: what is shown after each thing that comes."""

from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import ProvisioningError
from edge.provisioning import identity, qr
from edge.provisioning.handover import Directly
from edge.provisioning.qr import Kind
from edge.terminal.display import Enrolment, EnrolStage
from edge.terminal.enrolling import NOT_INSTALLED, NOT_OURS, OTHER_ANSWER, TOO_MANY, Enrolling
from simulator.carrier.pki import CarrierPki, create_pki
from tests.support.enrolment import CODE, signed_bundle


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> CarrierPki:
    return create_pki(tmp_path_factory.mktemp("carrier") / "keys", now=datetime.now(UTC))


@pytest.fixture
def box(tmp_path, pki) -> tuple[Path, Enrolling]:
    identity.create(tmp_path, site="Shop 7", root=pki.root)
    return tmp_path, Enrolling(tmp_path, Directly(tmp_path), lambda _: None)


def answer(pki, folder: Path, **changes) -> bytes:
    return signed_bundle(pki, identity.waiting(folder).request, **changes)


def picture(text: str) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(qr.png(text), np.uint8), cv2.IMREAD_COLOR)


def hold(enrolling: Enrolling, text: str) -> None:
    """A code is before the camera for several frames."""
    for _ in range(4):
        enrolling.picture(picture(text))


def test_a_box_without_keys_waits_for_them_and_then_shows_its_request(tmp_path, pki) -> None:
    shown: list[Enrolment] = []
    enrolling = Enrolling(tmp_path, Directly(tmp_path), shown.append)
    assert enrolling.view.stage is EnrolStage.NO_KEYS
    asked = identity.create(tmp_path, root=pki.root)
    enrolling.follow()
    assert enrolling.view.stage is EnrolStage.REQUEST
    assert (enrolling.view.fingerprint, len(enrolling.view.parts)) == (asked.request.fingerprint, 1)
    enrolling.follow()
    assert [view.stage for view in shown] == [EnrolStage.NO_KEYS, EnrolStage.REQUEST]


def test_a_request_that_was_removed_is_made_again(tmp_path, pki) -> None:
    identity.create(tmp_path, root=pki.root)
    (tmp_path / identity.REQUEST).unlink()
    enrolling = Enrolling(tmp_path, Directly(tmp_path), lambda _: None)
    assert enrolling.view.stage is EnrolStage.REQUEST
    assert identity.waiting(tmp_path) is not None


def test_parts_are_counted_and_the_whole_answer_asks_for_its_code(box, pki) -> None:
    folder, enrolling = box
    parts = qr.split(Kind.BUNDLE, answer(pki, folder))
    for number, part in enumerate(parts[:-1], 1):
        hold(enrolling, part)
        assert (enrolling.view.seen, enrolling.view.total) == (number, len(parts))
        assert enrolling.view.stage is EnrolStage.ANSWER
    hold(enrolling, parts[-1])
    assert enrolling.view.stage is EnrolStage.CODE
    enrolling.code(CODE)
    assert enrolling.view.stage is EnrolStage.INSTALLED
    assert (folder / identity.SETTINGS).exists()


def test_a_part_of_another_answer_is_named_and_begins_that_one(box, pki) -> None:
    folder, enrolling = box
    first, second = (qr.split(Kind.BUNDLE, answer(pki, folder, site=site)) for site in ("a", "b"))
    for part in first[:3]:
        hold(enrolling, part)
    hold(enrolling, second[0])
    assert (enrolling.view.fault, enrolling.view.seen) == (OTHER_ANSWER, 1)
    hold(enrolling, second[1])
    assert (enrolling.view.fault, enrolling.view.seen) == (None, 2)


@pytest.mark.parametrize("text", ["HTTPS://EXAMPLE.COM/", "VOUCH1/R/AAAAAAAA/1/1/000"])
def test_a_code_that_is_no_part_of_an_answer_is_named(box, text) -> None:
    _, enrolling = box
    hold(enrolling, text)
    assert enrolling.view.fault == NOT_OURS


def test_a_refused_answer_that_stays_before_the_camera_stays_refused(box, pki, tmp_path_factory) -> None:
    folder, enrolling = box
    stranger = create_pki(tmp_path_factory.mktemp("stranger"), now=datetime.now(UTC))
    wrong = qr.split(Kind.BUNDLE, answer(stranger, folder))
    for part in wrong * 2:
        hold(enrolling, part)
    assert (enrolling.view.stage, enrolling.view.fault, enrolling.view.seen) == (EnrolStage.ANSWER, "wrong-root", 0)
    for part in qr.split(Kind.BUNDLE, answer(pki, folder)):
        hold(enrolling, part)
    assert (enrolling.view.stage, enrolling.view.fault) == (EnrolStage.CODE, None)


def test_five_wrong_codes_end_the_request_and_its_answer(box, pki) -> None:
    folder, enrolling = box
    message, before = answer(pki, folder), enrolling.view.fingerprint
    enrolling.bundle(message)
    for left in (4, 3, 2, 1):
        enrolling.code("2222-2222-2222")
        assert (enrolling.view.fault, enrolling.view.tries_left) == ("wrong-code", left)
    enrolling.code("2222-2222-2222")
    assert (enrolling.view.stage, enrolling.view.fault) == (EnrolStage.REQUEST, TOO_MANY)
    assert enrolling.view.fingerprint != before
    enrolling.bundle(message)
    assert enrolling.view.fault == "expired"
    assert not (folder / identity.SETTINGS).exists()
    enrolling.bundle(answer(pki, folder))
    enrolling.code(CODE)
    assert enrolling.view.stage is EnrolStage.INSTALLED


def test_what_cannot_be_installed_says_why_and_loses_nothing(box, pki) -> None:
    folder, enrolling = box
    enrolling.bundle(answer(pki, folder))

    class FullDisk(Directly):
        def install(self, message: bytes, code: str) -> None:
            raise ProvisioningError("no space", todo="free some")

    enrolling._handover = FullDisk(folder)
    enrolling.code(CODE)
    assert (enrolling.view.stage, enrolling.view.fault) == (EnrolStage.CODE, NOT_INSTALLED)
    assert "free some" in enrolling.view.detail
    enrolling._handover = Directly(folder)
    enrolling.code(CODE)
    assert enrolling.view.stage is EnrolStage.INSTALLED


def test_a_console_that_installs_or_asks_anew_meanwhile_is_followed(box, pki) -> None:
    folder, enrolling = box
    enrolling.bundle(answer(pki, folder))
    asked = identity.ask_anew(folder)
    enrolling.follow()
    assert (enrolling.view.stage, enrolling.view.fingerprint) == (EnrolStage.REQUEST, asked.request.fingerprint)
    Directly(folder).install(answer(pki, folder), CODE)
    enrolling.follow()
    assert enrolling.view.stage is EnrolStage.INSTALLED


def test_nothing_that_comes_at_the_wrong_time_changes_anything(box, pki) -> None:
    folder, enrolling = box
    before = enrolling.view
    enrolling.code(CODE)
    assert enrolling.view == before
    enrolling.bundle(answer(pki, folder))
    enrolling.code(CODE)
    done = enrolling.view
    for late in (
        lambda: enrolling.bundle(b"late"),
        lambda: enrolling.code(CODE),
        lambda: enrolling.look_for_answer(on=True),
        enrolling.ask_anew,
        lambda: hold(enrolling, "HTTPS://EXAMPLE.COM/"),
    ):
        late()
        assert enrolling.view == done


def test_a_request_that_is_too_long_for_one_code_of_the_screen_is_a_sequence() -> None:
    for size, count in ((568, 1), (600, 1), (601, 2), (2048, 4)):
        parts = qr.for_screen(bytes(size))
        assert len(parts) == count
        collector = qr.Collector(Kind.REQUEST)
        assert [collector.add(part) for part in parts][-1] == bytes(size)
        assert all(_side(part) <= 372 for part in parts)


def _side(part: str) -> int:
    """Pixels of the code with its quiet zone, at four a module."""
    return int(qr.svg(part, error="l").split('width="')[1].split('"')[0])
