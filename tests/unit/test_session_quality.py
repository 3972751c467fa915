"""Gates on a frame, and guidance that a person has time to read."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.session.observation import FrameInfo, Observation
from edge.session.quality import GUIDANCE_HOLD_S, Guidance, Steady, gate
from simulator.observed import GOOD_QUALITY, Attitude, Body, observe

INFO = FrameInfo(1, 1.0, 640, 480)


def seen(held=None, *, info=INFO, **quality):
    return observe(Body(noise_px=0.0), held or Attitude(), info, quality=replace(GOOD_QUALITY, **quality))


def moved(observation, dx=0.0, dy=0.0, scale=1.0):
    face = observation.face
    centre = face.points.mean(axis=0)
    points = ((face.points - centre) * scale + centre + (dx, dy)).astype("float32")
    return replace(observation, face=replace(face, points=points))


def test_a_good_frontal_face_needs_no_guidance():
    assert gate(seen()) is None


def test_dark_skin_before_a_bright_wall_is_not_called_too_dark():
    assert gate(seen(brightness=0.11, surround=0.5)) is None


@pytest.mark.parametrize(
    ("observation", "guidance"),
    [
        (Observation(INFO, 0, None), Guidance.NO_FACE),
        (replace(seen(), face_count=2), Guidance.TWO_PEOPLE),
        (moved(seen(), scale=0.3), Guidance.TOO_FAR),
        (moved(seen(), scale=2.3), Guidance.TOO_NEAR),
        (moved(seen(), dx=230), Guidance.OFF_CENTRE),
        (moved(seen(), dy=190), Guidance.OFF_CENTRE),
        (seen(brightness=0.07, surround=0.1), Guidance.TOO_DARK),
        (seen(brightness=0.93), Guidance.TOO_BRIGHT),
        (seen(saturated=0.5), Guidance.TOO_BRIGHT),
        (seen(brightness=0.25, surround=0.9), Guidance.BACKLIT),
        (seen(side_light=0.6), Guidance.SIDE_LIT),
        (seen(sharpness=2.0), Guidance.BLURRED),
        (seen(contrast=0.005), Guidance.BLURRED),
        (seen(brightness=float("nan")), Guidance.TOO_DARK),
        (seen(Attitude(eyes=0.0)), Guidance.EYES_HIDDEN),
        (seen(Attitude(mouth=0.9)), Guidance.CLOSE_MOUTH),
        (seen(Attitude(yaw_deg=20)), Guidance.LOOK_STRAIGHT),
        (seen(Attitude(roll_deg=25)), Guidance.LOOK_STRAIGHT),
        (seen(Attitude(pitch_deg=-32)), Guidance.LOOK_STRAIGHT),
    ],
)
def test_what_keeps_a_frame_from_being_a_good_probe_is_said(observation, guidance):
    assert gate(observation) is guidance


def test_a_face_that_moves_fast_is_asked_to_hold_still():
    before = seen(info=FrameInfo(0, 0.96, 640, 480))
    assert gate(moved(seen(), dx=30), before) is Guidance.HOLD_STILL
    assert gate(moved(seen(), dx=2), before) is None


def test_a_mouth_without_lips_is_a_mask_and_a_grey_picture_is_none():
    assert gate(seen(lip_tint=0.0)) is Guidance.MOUTH_HIDDEN
    assert gate(seen(lip_tint=-1.1)) is Guidance.MOUTH_HIDDEN
    assert gate(seen(lip_tint=0.3)) is None


def test_several_people_come_before_any_other_guidance():
    assert gate(replace(seen(brightness=0.05), face_count=3)) is Guidance.TWO_PEOPLE


def shown(wishes, fps=30):
    """What is shown at each frame when these are the wishes, one a frame."""
    steady, out = Steady(), []
    for i, wish in enumerate(wishes):
        steady = steady.then(wish, i / fps)
        out.append(steady.shown)
    return out


def test_guidance_stays_long_enough_to_be_read():
    out = shown([Guidance.TOO_FAR] * 10 + [None] * 60)
    assert Guidance.TOO_FAR in out
    visible_s = out.count(Guidance.TOO_FAR) / 30
    assert visible_s >= GUIDANCE_HOLD_S
    assert out[-1] is None


def test_guidance_that_flickers_from_frame_to_frame_is_never_shown():
    assert set(shown([Guidance.TOO_DARK, None] * 60)) == {None}
    assert set(shown([Guidance.TOO_DARK, Guidance.BLURRED] * 60)) == {None}


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, *Guidance]), st.sampled_from([0.004, 1 / 30, 1 / 15, 0.2, 0.5]), st.integers(1, 40)
        ),
        min_size=1,
        max_size=40,
    )
)
def test_no_message_is_shorter_than_its_hold_whatever_is_wished(wishes):
    """Any wishes at any frame rate: what is shown stays for 0.8 s, and is something that was wished for a while."""
    steady, t_s, changes = Steady(), 100.0, []
    for wish, step_s, frames in wishes:
        for _ in range(frames):
            t_s += step_s
            before, steady = steady, steady.then(wish, t_s)
            if steady.shown is not before.shown:
                assert steady.shown is wish
                changes.append((t_s, steady.shown))
    for (since, message), (until, _) in pairwise(changes):
        assert message is None or until - since >= GUIDANCE_HOLD_S - 1e-9
