"""The camera's checks before the simulator's camera: real vision, lenses and rooms that are not as they should be."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.config import DEFAULT_PACK, CameraSettings
from edge.drivers.focus import FocusMeter
from edge.errors import ConfigError
from edge.provisioning import doctor, target
from edge.provisioning.camera_checks import CameraChecks, Looks
from edge.provisioning.doctor import Name, Verdict
from edge.vision.pack import Pack
from edge.vision.pipeline import Pipeline
from simulator.attacks import Print, PrintStage
from simulator.camera import Optics, SimulatedCamera, Stage, VirtualClock
from simulator.person import Person
from simulator.room import draw_room

FPS = 12


class Wall:
    """Nobody there."""

    def look(self, t_s: float, size: tuple[int, int]):
        return draw_room(4, size)

    def on_screen(self, screen: object) -> None: ...


@pytest.fixture(scope="module")
def looks() -> Looks:
    pack = Pack.load(DEFAULT_PACK)
    return Looks(Pipeline(pack), pack.match_threshold(1000))


@pytest.fixture(scope="module")
def held_target() -> Stage:
    sheet = Print(width_cm=target.WIDTH_MM / 10, border_cm=0.0, gloss=0.1, halftone=0.15)
    return PrintStage(Person.from_seed(2), 2, how=sheet, picture=target.draw())


def examined(stage: Stage, looks: Looks | None, source: type = SimulatedCamera, **optics: float) -> dict[Name, object]:
    camera = source(stage, fps=FPS, clock=VirtualClock(), optics=Optics(**optics))
    for _ in range(25):  # automatic exposure settles
        camera.read(1.0)
    checks = CameraChecks(camera, CameraSettings(fps=FPS), looks)
    frames = 0
    while not checks.over:
        checks.frame(camera.read(1.0))
        frames += 1
        assert frames < 12 * FPS
    found = {check.name: check for check in checks.checks()}
    checks.end()
    return found


@pytest.mark.timeout(300)
def test_a_good_camera_before_the_reference_target(held_target, looks) -> None:
    found = examined(held_target, looks)
    assert {name: check.verdict for name, check in found.items()} == {
        Name.SENSOR: Verdict.SKIP,  # this one does not say
        Name.FRAMES: Verdict.WARN,  # twelve a second are few
        Name.EXPOSURE: Verdict.PASS,
        Name.FOCUS: Verdict.PASS,
        Name.LIGHT: Verdict.PASS,
        Name.SELF_MATCH: Verdict.PASS,
    }


@pytest.mark.timeout(300)
def test_a_blurred_lens_fails_in_focus_and_nowhere_else(held_target, looks) -> None:
    found = examined(held_target, looks, blur_px=4.0)
    assert found[Name.FOCUS].verdict is Verdict.FAIL
    assert found[Name.LIGHT].verdict is Verdict.PASS
    assert found[Name.EXPOSURE].verdict is Verdict.PASS


@pytest.mark.parametrize("left", range(40, 76, 5))
def test_what_the_area_cuts_through_is_no_fine_detail(left) -> None:
    """A face's box cuts through hair and neck: before, each such slope counted as an edge of one pixel."""
    coarse = np.random.default_rng(1).uniform(0, 255, (24, 32)).astype(np.float32)
    soft = cv2.GaussianBlur(cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC), (0, 0), 5)
    image = cv2.cvtColor(np.clip(soft, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    assert FocusMeter().measure(image, (left, 60, 115, 147)) < 15


@pytest.mark.timeout(300)
def test_a_dark_room_fails_in_light_and_focus_is_not_judged(held_target, looks) -> None:
    found = examined(held_target, looks, scene_gain=0.0008)
    assert found[Name.LIGHT].verdict is Verdict.FAIL
    assert found[Name.LIGHT].finding == "dark"
    assert found[Name.FOCUS].verdict is Verdict.SKIP


@pytest.mark.timeout(300)
def test_an_empty_counter_is_no_fault_of_the_terminal(looks) -> None:
    found = examined(Wall(), looks)
    assert found[Name.SELF_MATCH].verdict is Verdict.SKIP
    assert found[Name.FOCUS].verdict is Verdict.SKIP


class Deaf(SimulatedCamera):
    """Injected pictures: the metadata are not of these frames."""

    def set_exposure(self, factor: float) -> None: ...


def test_a_camera_that_ignores_exposure_fails_there(looks) -> None:
    assert examined(Wall(), None, Deaf)[Name.EXPOSURE].verdict is Verdict.FAIL


def test_focus_falls_as_the_lens_softens_whatever_the_light(held_target) -> None:
    figures = []
    for blur_px in (0.6, 1.5, 4.0):
        camera = SimulatedCamera(held_target, clock=VirtualClock(), optics=Optics(blur_px=blur_px))
        meter = FocusMeter()
        figures.append([meter.measure(camera.read(1.0).image) for _ in range(12)][-1])
    assert figures[0] > doctor.FOCUS_WARN > figures[2]
    assert figures == sorted(figures, reverse=True)


def test_a_bare_wall_has_no_figure() -> None:
    meter = FocusMeter()
    grey = cv2.merge([cv2.resize(draw_room(1, (64, 64))[..., 0] * 0 + 120, (640, 480)).astype("uint8")] * 3)
    assert meter.measure(grey) is None


def test_the_target_is_known_by_its_mark_alone(tmp_path: Path) -> None:
    sheet = target.draw()
    assert target.is_seen(sheet)
    sheet[900:] = 255
    assert not target.is_seen(sheet)
    target.save(tmp_path / "t.pdf")
    assert (tmp_path / "t.pdf").read_bytes().startswith(b"%PDF-1.4")
    target.save(tmp_path / "t.png")
    assert target.is_seen(cv2.imread(str(tmp_path / "t.png")))
    with pytest.raises(ConfigError, match=r"neither .pdf nor .png"):
        target.save(tmp_path / "t.doc")
