"""The simulated camera keeps the promises of picamera2: honest metadata, late controls, noise, time that holds."""

import time

import numpy as np
import pytest

from edge.errors import CameraError
from edge.session.machine import Phase, Screen
from simulator.camera import Optics, PersonStage, SimulatedCamera, VirtualClock
from simulator.person import Person


class GreyCard:
    """A stage with nobody on it."""

    def __init__(self, level=0.2):
        self.level = level

    def look(self, t_s, size):
        del t_s
        return np.full((size[1], size[0], 3), self.level, np.float32)

    def on_screen(self, screen):
        del screen


def _camera(stage=None, **options):
    return SimulatedCamera(stage or GreyCard(), clock=VirtualClock(), size=(160, 120), **options)


def _linear(frame):
    return float(np.power(frame.image.astype(float) / 255, 2.2).mean())


def test_an_exposure_step_takes_effect_three_to_four_frames_later_and_is_reported():
    for seed in range(6):
        camera = _camera(seed=seed)
        for _ in range(10):
            before = camera.read(1.0)
        camera.set_exposure(0.5)
        totals = [f.info.exposure_us * f.info.gain for f in (camera.read(1.0) for _ in range(6))]
        changed = [i for i, total in enumerate(totals) if total < 0.75 * before.info.exposure_us * before.info.gain]
        assert changed[0] in (2, 3)  # index 2 is the third frame after the request
        assert totals[-1] == pytest.approx(0.5 * before.info.exposure_us * before.info.gain, rel=0.02)


def test_brightness_follows_the_reported_exposure():
    camera = _camera()
    for _ in range(10):
        plain = camera.read(1.0)
    camera.set_exposure(2.0)
    for _ in range(6):
        bright = camera.read(1.0)
    ratio = (bright.info.exposure_us * bright.info.gain) / (plain.info.exposure_us * plain.info.gain)
    assert ratio == pytest.approx(2.0, rel=0.02)
    assert _linear(bright) / _linear(plain) == pytest.approx(ratio, rel=0.05)


def test_automatic_exposure_settles_with_lag_and_rests_while_a_step_is_held():
    stage = GreyCard(0.05)
    camera = _camera(stage)
    levels = [_linear(camera.read(1.0)) for _ in range(60)]
    assert levels[0] < 0.1
    assert levels[-1] == pytest.approx(0.2, rel=0.3)
    assert levels[5] < 0.9 * levels[-1]
    camera.set_exposure(0.5)
    for _ in range(6):
        held = camera.read(1.0)
    stage.level = 0.1
    for _ in range(20):
        later = camera.read(1.0)
    assert later.info.exposure_us * later.info.gain == held.info.exposure_us * held.info.gain


def test_dim_scenes_need_gain_and_gain_brings_noise():
    lit, dim = _camera(GreyCard(0.3)), _camera(GreyCard(0.3), optics=Optics(scene_gain=0.02))
    for _ in range(90):
        clean, noisy = lit.read(1.0), dim.read(1.0)
    assert clean.info.gain == 1.0
    assert noisy.info.gain > 2
    assert noisy.image[50:70, 70:90].std() > 1.5 * clean.image[50:70, 70:90].std() > 0


def test_virtual_time_goes_frame_by_frame_and_timestamps_hardly_jitter():
    camera = _camera()
    times = [camera.read(1.0).info.t_s for _ in range(60)]
    steps = np.diff(times)
    assert steps.mean() == pytest.approx(1 / 30, rel=0.01)
    assert 0 < steps.std() < 0.002
    assert camera.clock.monotonic() == pytest.approx(times[-1], abs=0.003)


def test_a_slow_stage_on_a_real_clock_drops_frames_and_says_so():
    class Slow(GreyCard):
        def look(self, t_s, size):
            time.sleep(0.12)
            return super().look(t_s, size)

    camera = SimulatedCamera(Slow(), size=(64, 48))
    first, _, last = (camera.read(1.0) for _ in range(3))
    assert last.info.index - first.info.index >= 4
    assert last.info.t_s - first.info.t_s == pytest.approx((last.info.index - first.info.index) / 30, abs=0.01)


def test_a_closed_camera_and_too_short_a_wait_are_errors():
    camera = _camera()
    with pytest.raises(CameraError):
        camera.read(0.001)
    camera.close()
    camera.close()
    with pytest.raises(CameraError):
        camera.read(1.0)


def test_factors_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"0\.25"):
        _camera().set_exposure(9.0)


def test_a_live_person_is_filmed_in_8_bit_at_the_size_asked():
    stage = PersonStage(Person.from_seed(21), 2)
    stage.on_screen(Screen(Phase.POSITION))
    camera = SimulatedCamera(stage, clock=VirtualClock())
    frames = [camera.read(1.0) for _ in range(3)]
    assert frames[0].image.shape == (480, 640, 3)
    assert frames[0].image.dtype == np.uint8
    assert 40 < frames[-1].image.mean() < 200
    assert not np.array_equal(frames[0].image, frames[1].image)


def test_handing_control_back_returns_to_the_level_before_the_step_without_overshoot():
    camera = _camera(GreyCard(0.22))
    for _ in range(30):
        before = camera.read(1.0)
    camera.set_exposure(0.45)
    for _ in range(8):
        camera.read(1.0)
    camera.set_exposure(1.0)
    totals = [f.info.exposure_us * f.info.gain for f in (camera.read(1.0) for _ in range(20))][5:]
    assert max(totals) < 1.15 * before.info.exposure_us * before.info.gain
    assert min(totals) > 0.85 * before.info.exposure_us * before.info.gain
