"""The simulated camera's process and the clock that its frames drive."""

import time
from itertools import pairwise

import numpy as np
import pytest

from edge.errors import CameraError, ConfigError
from edge.session.machine import Phase, Screen
from simulator.film import Cast, Film, FilmClock, Role
from simulator.species import Species

PERIOD_S = 1 / 30


def test_an_actor_is_named_by_species_and_seed():
    assert Role.parse("print:7") == Role(Species.PRINT, 7)
    assert str(Role.parse("person:12")) == "person:12"
    for wrong in ("person", "person:", "person:x", "ghost:1", ""):
        with pytest.raises(ConfigError):
            Role.parse(wrong)


def test_while_a_session_is_filmed_time_waits_for_the_next_frame():
    clock = FilmClock(PERIOD_S)
    clock.on_screen(Screen(Phase.CHALLENGE))
    clock.frame_came(1e6)
    time.sleep(0.15)
    assert clock.monotonic() == pytest.approx(1e6 + PERIOD_S)
    clock.frame_came(1e6 + PERIOD_S)
    assert 1e6 + PERIOD_S <= clock.monotonic() <= 1e6 + 2 * PERIOD_S


def test_without_a_session_time_is_the_walls():
    clock = FilmClock(PERIOD_S)
    clock.on_screen(Screen(Phase.CONSENT))
    clock.frame_came(1e6)
    time.sleep(0.15)
    assert clock.monotonic() >= 1e6 + 0.15


def test_time_never_goes_back_when_a_frame_is_older_than_now():
    clock = FilmClock(PERIOD_S)
    clock.frame_came(1e6)
    time.sleep(0.05)
    before = clock.monotonic()
    clock.on_screen(Screen(Phase.POSITION))
    clock.frame_came(1e6 + 0.001)
    assert clock.monotonic() >= before


def test_one_after_the_other_comes_forward_and_nobody_between_the_sessions():
    cast = Cast([Role.parse("person:3"), Role.parse("print:3")])
    size = (160, 120)
    empty = cast.look(0.0, size)
    cast.on_screen(Screen(Phase.CONSENT))
    first = cast.look(0.1, size)
    cast.on_screen(Screen(Phase.POSITION))
    cast.on_screen(Screen(Phase.DONE))
    still = cast.look(0.2, size)
    cast.on_screen(Screen(Phase.IDLE))
    gone = cast.look(0.3, size)
    cast.on_screen(Screen(Phase.CONSENT))
    second = cast.look(0.4, size)
    assert np.array_equal(empty, gone)
    assert np.abs(first - empty).mean() > 0.01
    assert np.abs(still - first).mean() < 0.5 * np.abs(second - first).mean()


def test_the_camera_process_gives_frames_in_order_and_ends_with_its_reader():
    clock = FilmClock(PERIOD_S)
    film = Film([Role.parse("person:3")], clock, size=(320, 240), fps=30)
    process = film._process
    try:
        film.on_screen(Screen(Phase.POSITION))
        frames = [film.read(20.0) for _ in range(4)]
        times = [frame.info.t_s for frame in frames]
        assert all(0.5 * PERIOD_S < late - early < 2 * PERIOD_S for early, late in pairwise(times))
        assert frames[0].image.shape == (240, 320, 3)
        assert clock.monotonic() - times[-1] <= PERIOD_S + 1e-6
        film.on_screen(Screen(Phase.IDLE))
        time.sleep(0.5)
        late = film.read(20.0)
        assert late.info.t_s - times[-1] > 0.3  # nobody asked for a while: it is a new frame, not one that lay there
    finally:
        film.close()
    assert not process.is_alive()


def test_a_camera_process_that_dies_is_a_lost_camera():
    film = Film([Role.parse("person:3")], FilmClock(PERIOD_S), size=(320, 240), fps=30)
    try:
        film._process.kill()
        film._process.join()
        with pytest.raises(CameraError):
            film.read(5.0)
    finally:
        film.close()
