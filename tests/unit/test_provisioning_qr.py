"""Messages as QR codes: any order, any repetition, nothing half; and read from rendered pictures by the real detector."""

import random

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.drivers.camera import Frame
from edge.errors import EvidenceError, ProvisioningError
from edge.provisioning import qr
from edge.provisioning.camera import CodeReader, read_codes
from edge.provisioning.qr import Collector, Kind
from edge.session.observation import FrameInfo


@given(st.binary(max_size=64))
def test_base_45_comes_back(data):
    text = qr.base45(data)
    assert set(text) <= set(qr.BASE45)
    assert qr.from_base45(text) == data


def test_base_45_is_that_of_rfc_9285():
    assert qr.base45(b"AB") == "BB8"
    assert qr.base45(b"Hello!!") == "%69 VD92EX0"
    assert qr.base45(b"ietf!") == "QED8WEX0"


@pytest.mark.parametrize("text", ["A", "GGW", ":::", "::", "a", "AAAA", "\u00e9BC"])
def test_what_no_encoder_writes_is_refused(text):
    with pytest.raises(EvidenceError):
        qr.from_base45(text)


@given(st.binary(min_size=1, max_size=3000), st.integers(40, 400), st.randoms(use_true_random=False))
def test_parts_in_any_order_and_again_give_the_message_once_all_were_seen(message, size, chance):
    parts = qr.split(Kind.BUNDLE, message, size)
    shown = parts + chance.sample(parts, len(parts))
    chance.shuffle(shown)
    collector = Collector(Kind.BUNDLE)
    seen = set()
    for part in shown:
        found = collector.add(part)
        seen.add(part)
        assert (found is not None) == (seen == set(parts))
        assert len(collector.missing) == len(parts) - len(seen)
    assert found == message


@given(st.text(alphabet=qr.BASE45 + "abc\u4e2d", max_size=80))
def test_noise_is_an_evidence_error(text):
    with pytest.raises(EvidenceError):
        Collector(Kind.BUNDLE).add(text)


@given(st.binary(min_size=500, max_size=900), st.data())
def test_a_part_that_was_altered_never_gives_another_message(message, data):
    parts = qr.split(Kind.BUNDLE, message, 200)
    number = data.draw(st.integers(0, len(parts) - 1))
    at = data.draw(st.integers(0, len(parts[number]) - 1))
    parts[number] = parts[number][:at] + data.draw(st.sampled_from(qr.BASE45)) + parts[number][at + 1 :]
    collector = Collector(Kind.BUNDLE)
    try:
        found = [collector.add(part) for part in parts]
    except EvidenceError:
        return
    assert all(message_found in (None, message) for message_found in found)


def test_another_message_begins_anew_and_what_is_shown_last_counts():
    old, new = qr.split(Kind.BUNDLE, b"o" * 400), qr.split(Kind.BUNDLE, b"n" * 400)
    collector = Collector(Kind.BUNDLE)
    assert collector.add(old[0]) is None
    assert collector.add(old[1]) is None
    assert collector.add(new[0]) is None
    assert collector.missing == [2, 3]
    assert collector.add(new[1]) is None
    assert collector.add(new[2]) == b"n" * 400


def test_a_terminals_own_request_is_no_bundle():
    with pytest.raises(EvidenceError, match="terminal's request"):
        Collector(Kind.BUNDLE).add(qr.split(Kind.REQUEST, b"x" * 30)[0])


def picture(text: str, *, module_px=4) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(qr.png(text, module_px=module_px), np.uint8), cv2.IMREAD_COLOR)


def filmed(text: str, chance: random.Random) -> np.ndarray:
    """A code on a telephone's screen before a 640 x 480 camera: smaller, askew, a little blurred, dim and noisy."""
    code = picture(text)
    side = 380
    target = np.float32([[0, 0], [side, 0], [side, side], [0, side]])
    target += np.float32([[chance.uniform(-10, 10), chance.uniform(-10, 10)] for _ in range(4)])
    target += np.float32([130 + chance.uniform(-20, 20), 50 + chance.uniform(-15, 15)])
    height, width = code.shape[:2]
    corners = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    warp = cv2.getPerspectiveTransform(corners, target)
    frame = cv2.warpPerspective(code, warp, (640, 480), flags=cv2.INTER_AREA, borderValue=(70, 60, 50))
    frame = cv2.GaussianBlur(frame, (3, 3), 0.6).astype(np.float32) * 0.7 + 25
    noise = np.random.default_rng(chance.randrange(2**31)).normal(0, 4, frame.shape)
    return np.clip(frame + noise, 0, 255).astype(np.uint8)


class Screen:
    """A camera before a telephone that shows codes in turns, each for a few frames."""

    exposure_control = False
    finite = True

    def __init__(self, parts, *, rounds=3, each=3):
        chance = random.Random(5)
        self._frames = (filmed(part, chance) for _ in range(rounds) for part in parts for _ in range(each))
        self.given = []

    def read(self, timeout_s):
        image = next(self._frames, None)
        if image is None:
            return None
        self.given.append(image)
        return Frame(image, FrameInfo(len(self.given), 0.0, 640, 480))

    def set_exposure(self, factor): ...

    def close(self): ...


def test_a_bundle_is_read_from_a_telephones_screen_and_the_pictures_are_overwritten():
    message = random.Random(1).randbytes(1800)
    screen = Screen(qr.split(Kind.BUNDLE, message))
    told = []
    assert read_codes(screen, Kind.BUNDLE, timeout_s=60, on_progress=lambda c: told.append(c.seen)) == message
    assert told == sorted(told)
    assert told[-1] == 12
    assert not any(image.any() for image in screen.given)


def test_a_sequence_that_stops_early_names_what_is_missing():
    parts = qr.split(Kind.BUNDLE, random.Random(2).randbytes(600))
    with pytest.raises(ProvisioningError, match="2 of 4 QR codes were seen; missing: 2, 4") as caught:
        read_codes(Screen([parts[0], parts[2]]), Kind.BUNDLE, timeout_s=60, on_progress=lambda _: None)
    assert "whole sequence" in caught.value.todo


def test_a_camera_that_sees_nothing_or_something_else_says_so():
    with pytest.raises(ProvisioningError, match="no QR code of a carrier"):
        read_codes(Screen([]), Kind.BUNDLE, timeout_s=5, on_progress=lambda _: None)
    with pytest.raises(ProvisioningError, match="none of Vouch"):
        read_codes(Screen(["HTTPS://EXAMPLE.COM/"]), Kind.BUNDLE, timeout_s=5, on_progress=lambda _: None)


def test_a_request_is_one_code_that_a_telephone_reads():
    message = random.Random(3).randbytes(760)
    (part,) = qr.split(Kind.REQUEST, message, qr.WHOLE_SIZE)
    reader = CodeReader(Kind.REQUEST)
    assert reader.look(picture(part, module_px=5))
    assert reader.message == message
    assert qr.svg(part).startswith("<svg")
    assert len(qr.terminal_text(part).splitlines()) > 40
