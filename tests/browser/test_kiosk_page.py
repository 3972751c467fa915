"""The kiosk page in a real browser: it says what the terminal says, in both languages, and survives a restart."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator

import numpy as np
import pytest

from edge.config import KioskSettings
from edge.drivers.document import CardView
from edge.session.decision import ChallengeKind, Outcome
from edge.session.machine import Phase, Screen
from edge.session.quality import Guidance
from edge.terminal.display import CancelPressed, CannotPressed, ConsentPressed, Display, Preview, Service
from edge.terminal.kiosk import KioskServer
from edge.terminal.texts import Language
from tests.support.wires import free_port

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = os.environ.get("VOUCH_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed (name one with VOUCH_CHROMIUM)")
SIZES = [(800, 480), (1280, 800)]
SCREENS = {
    "idle": {"screen": Screen(Phase.IDLE)},
    "consent": {"screen": Screen(Phase.CONSENT)},
    "card": {"screen": Screen(Phase.DOCUMENT), "card": CardView.NO_CARD},
    "position": {"screen": Screen(Phase.POSITION, "backlit", progress=0.4)},
    "action": {"screen": Screen(Phase.CHALLENGE, "other-movement", ChallengeKind.TURN_RIGHT, 2, 3, 0.5, 3.4)},
    "checking": {"screen": Screen(Phase.CHECKING)},
    "done": {"screen": Screen(Phase.DONE, outcome=Outcome.NO_MATCH), "reference": "A1B2-C3D4"},
    "out": {"service": Service.OUT_OF_SERVICE, "fault": "journal"},
}


class Kiosk:
    """The server, restartable on one port, and what was pressed."""

    def __init__(self) -> None:
        self.display, self.preview, self.pressed = Display(), Preview(), []
        self._port = free_port()
        self.start()

    def start(self) -> None:
        self.server = KioskServer(KioskSettings(port=self._port), self.display, self.preview, self.pressed.append)
        self.server.start()

    def stop(self) -> None:
        self.server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as api:
        chromium = api.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def kiosk() -> Iterator[Kiosk]:
    kiosk = Kiosk()
    yield kiosk
    kiosk.stop()


@pytest.fixture
def page(browser, kiosk) -> Iterator[object]:
    page = browser.new_page(viewport={"width": 800, "height": 480})
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(kiosk.server.url, wait_until="domcontentloaded")
    page.wait_for_selector('body[data-view="idle"]')
    yield page
    page.close()


def prompt(page) -> str:
    return page.inner_text("#prompt")


def test_every_state_is_shown_without_a_complaint_of_the_browser(page, kiosk) -> None:
    for fields in SCREENS.values():
        kiosk.display.change(**{"card": None, "reference": None, **fields})
        time.sleep(0.15)
        assert prompt(page)
    assert page.complaints == []


@pytest.mark.parametrize("size", SIZES, ids=["800x480", "1280x800"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_everything_fits_the_screen(page, kiosk, size, language) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    for name, fields in SCREENS.items():
        kiosk.display.change(**{"card": None, "reference": None, **fields})
        time.sleep(0.15)
        page.click(f'[data-language="{language}"]')
        for part in page.query_selector_all("#prompt, #hint, #reference, button"):
            box = part.bounding_box()
            if box is None:
                continue
            assert box["x"] >= 0, (name, part.inner_text())
            assert box["y"] >= 0, (name, part.inner_text())
            assert box["x"] + box["width"] <= size[0], (name, part.inner_text())
            assert box["y"] + box["height"] <= size[1], (name, part.inner_text())
        for pressable in page.query_selector_all("button"):
            box = pressable.bounding_box()
            assert box is None or min(box["height"], box["width"]) >= 44, "a finger needs 44 px"


def test_consent_is_given_in_the_language_that_was_read(page, kiosk) -> None:
    kiosk.display.change(screen=Screen(Phase.CONSENT))
    page.wait_for_selector('body[data-view="consent"]')
    assert "No picture and no face data leaves" in page.inner_text("#consent")
    page.click('[data-language="zh"]')
    assert "不会离开本终端" in page.inner_text("#consent")
    page.click("#agree")
    page.click("#refuse")
    wait_for(lambda: len(kiosk.pressed) == 2)
    assert kiosk.pressed == [ConsentPressed(True, Language.ZH), ConsentPressed(False, Language.ZH)]


def test_a_person_may_stop_or_say_that_a_movement_is_not_possible(page, kiosk) -> None:
    kiosk.display.change(screen=Screen(Phase.CHALLENGE, None, ChallengeKind.BLINK, 1, 3, 0.0, 6.0))
    page.wait_for_selector("#cannot:visible")
    page.click("#cannot")
    page.click("#cancel")
    wait_for(lambda: len(kiosk.pressed) == 2)
    assert kiosk.pressed == [CannotPressed(), CancelPressed()]


def test_the_page_says_so_while_the_terminal_restarts_and_then_shows_the_truth(page, kiosk) -> None:
    kiosk.display.change(screen=Screen(Phase.POSITION))
    page.wait_for_selector('body[data-view="position"]')
    kiosk.stop()
    page.wait_for_selector('body[data-view="wait"]')
    kiosk.display.change(screen=Screen(Phase.IDLE))
    kiosk.start()
    page.wait_for_selector('body[data-view="idle"]', timeout=20_000)


def test_the_preview_is_shown_only_while_the_camera_is_used(page, kiosk) -> None:
    assert page.get_attribute("#preview", "src") is None
    kiosk.display.change(screen=Screen(Phase.POSITION))
    page.wait_for_selector('body[data-stage="face"]')
    picture = np.full((480, 640, 3), 128, np.uint8)

    def arrived() -> bool:
        kiosk.preview.offer(picture, mirrored=True)
        return page.evaluate("document.getElementById('preview').naturalWidth") == 480

    wait_for(arrived)
    kiosk.display.change(screen=Screen(Phase.DONE, outcome=Outcome.MATCH))
    page.wait_for_selector('body[data-view="done"]')
    assert page.get_attribute("#preview", "src") is None
    assert not page.is_visible(".stage")


def test_every_word_exists_in_every_language(page) -> None:
    words = page.evaluate("import('/words.js').then(({words}) => JSON.parse(JSON.stringify(words)))")

    def shape(value):
        return {key: shape(inner) for key, inner in value.items()} if isinstance(value, dict) else type(value)

    assert shape(words["en"]) == shape(words["zh"])
    for language in words.values():
        assert set(language["guidance"]) == {guidance.value for guidance in Guidance}
        assert set(language["card"]) == {view.value for view in CardView}
        prompted = {kind.name.lower().replace("_", "-") for kind in ChallengeKind} - {"exposure"}
        assert prompted <= set(language)
        assert set(language["outcome"]) == {"verified", "not-verified", "cancelled", "error"}
        assert all(language["guidance"].values())


def wait_for(condition, timeout_s: float = 8.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
