"""The kiosk page in a real browser: it says what the terminal says, in both languages, and survives a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from edge.drivers.document import CardView
from edge.session.decision import ChallengeKind, Outcome
from edge.session.machine import Phase, Screen
from edge.session.quality import Guidance
from edge.terminal.display import (
    CancelPressed,
    CannotPressed,
    ConsentPressed,
    DeskState,
    HelpPressed,
    MoreTimePressed,
    OrderPressed,
    PersonOutcome,
    ScanPressed,
    StaffPressed,
)
from edge.terminal.texts import Language
from edge.words import word_of
from tests.browser.states import CHROMIUM, SIZES, STATES, Kiosk, chromium, show

pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed (name one with VOUCH_CHROMIUM)")
# A voice for each language, and what it was told to say: a container has none.
VOICES = """
  window.said = [];
  window.SpeechSynthesisUtterance = class { constructor(text) { this.text = text; } };
  Object.defineProperty(window, "speechSynthesis", { value: {
    addEventListener() {}, cancel() {}, getVoices: () => [{ lang: "en-GB" }, { lang: "zh-CN" }],
    speak: (said) => window.said.push([said.lang, said.text]),
  } });
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with chromium() as browser:
        yield browser


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


def outside(page, size) -> list[str]:
    """What sticks out of the screen, is too small for a finger, or is cut off within its own box."""
    return page.evaluate(
        """([width, height]) => [...document.querySelectorAll("h1, #hint, #reference, #time, .soon, #consent, button, input, label")]
          .filter((part) => part.checkVisibility())
          .filter((part) => {
            const box = part.getBoundingClientRect();
            const finger = part.tagName !== "BUTTON" || Math.min(box.width, box.height) >= 44;
            const cut = part.tagName !== "INPUT" && (
              part.scrollWidth > part.clientWidth + 1 || part.id === "consent" && part.scrollHeight > part.clientHeight);
            return box.left < 0 || box.top < 0 || box.right > width + .5 || box.bottom > height + .5 || !finger || cut;
          })
          .map((part) => `${part.id || part.tagName} ${part.textContent}`)""",
        list(size),
    )


def overlaps(page) -> list[str]:
    """Words and buttons that lie on each other."""
    return page.evaluate(
        """() => {
          const parts = [...document.querySelectorAll("h1, #hint, #reference, .soon, button, #consent")]
            .filter((part) => part.checkVisibility());
          const found = [];
          for (const a of parts) for (const b of parts) {
            if (a === b || a.contains(b) || b.contains(a)) continue;
            const p = a.getBoundingClientRect(), q = b.getBoundingClientRect();
            const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
            const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
            if (wide > 1 && high > 1) found.push(`${a.id} ${b.id} ${b.textContent}`);
          }
          return found;
        }"""
    )


@pytest.mark.parametrize("size", SIZES, ids=["800x480", "1280x800", "480x800", "800x1280"])
def test_everything_fits_every_screen_in_both_languages_without_a_complaint(page, kiosk, size) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    for language in ("en", "zh"):
        for name in STATES:
            show(kiosk.display, name)
            page.wait_for_timeout(40)
            page.click(f'[data-language="{language}"]')
            assert prompt(page), name
            assert outside(page, size) == [], (name, language)
            assert overlaps(page) == [], (name, language)
    for opener, state in (("#staff", "idle"), ("#here", "assist")):
        show(kiosk.display, state)
        page.click(opener)
        for _ in range(2):
            assert outside(page, size) == [], opener
            page.click("#keys button:nth-child(10)")  # letters
        page.click("#close")
    assert page.complaints == []


def test_what_the_guidance_says_is_told_for_every_gate_as_something_to_do(page, kiosk) -> None:
    for guidance in Guidance:
        kiosk.display.change(screen=Screen(Phase.POSITION, guidance.value))
        page.wait_for_timeout(30)
        assert page.inner_text("#hint") == page.evaluate(
            "key => import('/words.js').then(({words}) => words.en.guidance[key])", guidance.value
        )


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_rule_of_wcag_22_aa_that_a_machine_can_check_is_broken(browser, kiosk, language) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    rules = {
        "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    }
    page = browser.new_page(viewport={"width": 800, "height": 480}, reduced_motion="reduce")
    page.goto(kiosk.server.url, wait_until="domcontentloaded")
    broken = {}
    for name in [*STATES, "panel", "staff-panel"]:
        show(kiosk.display, {"panel": "idle", "staff-panel": "assist"}.get(name, name))
        page.wait_for_timeout(60)
        page.click(f'[data-language="{language}"]')
        if name.endswith("panel"):
            page.click("#staff" if name == "panel" else "#here")
        found = axe.run(page, options=rules).response["violations"]
        if found:
            broken[name] = [(rule["id"], [node["html"][:120] for node in rule["nodes"]]) for rule in found]
        if name.endswith("panel"):
            page.click("#close")
    page.close()
    assert broken == {}


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


def test_the_clerk_begins_an_order_by_keyboard_alone(page, kiosk) -> None:
    page.focus("#staff")
    page.keyboard.press("Enter")
    page.keyboard.type("A-1001")
    page.keyboard.press("Enter")
    wait_for(lambda: kiosk.pressed == [OrderPressed("A-1001")])
    kiosk.display.change(desk=DeskState.ASKING, order="A-1001")
    page.wait_for_selector('body[data-view="desk"]:not([data-panel])')
    assert "A-1001" in prompt(page)


def test_the_clerk_begins_an_order_by_touch_alone(browser, kiosk) -> None:
    context = browser.new_context(viewport={"width": 800, "height": 480}, has_touch=True)
    page = context.new_page()
    page.goto(kiosk.server.url, wait_until="domcontentloaded")
    page.tap("#staff")
    page.tap("#start")
    assert "1 to 32" in page.inner_text("#field-error")
    for key in ("ABC", "B", "-", "123", "2", "0", "⌫", "7"):
        page.tap(f'#keys button:text-is("{key}")')
    page.tap("#start")
    page.tap("#scan")
    wait_for(lambda: kiosk.pressed == [OrderPressed("B-27"), ScanPressed(True)])
    context.close()


def test_the_clerk_reads_what_to_do_and_the_last_references(page, kiosk) -> None:
    show(kiosk.display, "no-ticket")
    page.wait_for_selector('body[data-view="desk"]')
    assert "network cable" in page.inner_text("#hint")
    page.click("#staff")  # the clerk looks the number up, and types another
    page.wait_for_selector("#panel:visible")
    page.keyboard.press("Escape")
    page.click("#again")
    page.click("#back")
    wait_for(lambda: kiosk.pressed == [OrderPressed("A-1002"), ScanPressed(False)])
    show(kiosk.display, "offline")
    page.wait_for_selector('body[data-view="idle"]')
    page.click("#staff")
    assert "3" in page.inner_text("#panel-note")
    assert "A1B2-C3D4" in page.inner_text("#finished")
    assert "not confirmed" in page.inner_text("#finished")


def test_a_terminal_in_training_says_so_in_both_languages(page, kiosk) -> None:
    show(kiosk.display, "training")
    page.wait_for_selector("#link:not([hidden])")
    assert page.inner_text("#link") == "Training: nothing is registered"
    page.click('[data-language="zh"]')
    assert "培训" in page.inner_text("#link")
    show(kiosk.display, "idle")
    page.wait_for_selector("#link", state="hidden")


def test_staff_help_is_called_and_answered_with_a_number(page, kiosk) -> None:
    show(kiosk.display, "consent")
    page.wait_for_selector('body[data-view="consent"]')
    page.click("#help")
    page.click("#staff")
    show(kiosk.display, "assist")
    page.click("#here")
    page.click("#start")
    assert page.inner_text("#field-error")
    page.keyboard.type("4711")
    page.click("#start")
    page.click("#decline")
    answers = [StaffPressed(True, "4711"), StaffPressed(False, "4711")]
    wait_for(lambda: kiosk.pressed == [HelpPressed(False), HelpPressed(True), *answers])
    show(kiosk.display, "staff-assisted")
    page.wait_for_selector('body[data-view="done"]:not([data-panel])')


def test_more_time_is_offered_before_a_wait_ends_and_said_once(page, kiosk) -> None:
    show(kiosk.display, "consent")
    page.wait_for_selector("#soon", state="hidden")
    for left_s in (19.0, 17.5, 16.0):
        kiosk.display.change(screen=Screen(Phase.CONSENT, time_left_s=left_s))
        page.wait_for_timeout(100)
    page.wait_for_timeout(1100)
    assert "More time" in page.inner_text("#live")
    assert not any(number in page.inner_text("#live") for number in "123456789")
    page.click("#more-time")
    wait_for(lambda: kiosk.pressed == [MoreTimePressed()])


def test_what_is_said_aloud_is_what_is_read_in_its_language_and_can_be_muted(browser, kiosk) -> None:
    page = browser.new_page(viewport={"width": 800, "height": 480})
    page.add_init_script(VOICES)
    page.goto(kiosk.server.url, wait_until="domcontentloaded")
    show(kiosk.display, "turn-left")
    page.wait_for_selector('body[data-view="challenge"]')
    for left_s in (4.0, 3.9, 3.8):  # time alone says nothing
        kiosk.display.change(screen=Screen(Phase.CHALLENGE, None, ChallengeKind.TURN_LEFT, 1, 3, 0.3, left_s))
        page.wait_for_timeout(40)
    page.click('[data-language="zh"]')
    said = page.evaluate("window.said.splice(0)")
    assert [text.split(". ")[0] for tag, text in said if tag == "en-GB"][-1] == "Turn your head to the left"
    assert [tag for tag, _ in said].count("zh-CN") == 1
    assert said[-1][1].startswith("请向左转头")
    page.click("#sound")
    show(kiosk.display, "blink")
    wait_for(lambda: prompt(page) == "请眨眼")
    assert page.evaluate("window.said") == []
    page.reload(wait_until="domcontentloaded")
    assert page.get_attribute("#sound", "aria-pressed") == "true", "a muted terminal stays muted"
    page.close()


def test_who_is_told_to_try_again_hears_what(page, kiosk) -> None:
    kiosk.display.change(screen=Screen(Phase.CHALLENGE, "other-movement", ChallengeKind.TURN_RIGHT, 2, 3, 0.0, 6.0))
    heard = "That was another movement. Try this one. Turn your head to the right"
    wait_for(lambda: page.text_content("#live") == heard)


def test_an_open_mouth_is_asked_to_close_and_no_arrow_points_on_once_a_turn_was_seen(page, kiosk) -> None:
    kiosk.display.change(screen=Screen(Phase.CHALLENGE, "come-back", ChallengeKind.MOUTH_OPEN, 3, 3, 1.0, 2.0))
    wait_for(lambda: page.inner_text("#hint") == "Good. Now close your mouth")
    kiosk.display.change(screen=Screen(Phase.CHALLENGE, None, ChallengeKind.TURN_LEFT, 1, 3, 0.3, 5.0))
    wait_for(lambda: page.locator("#arrow path").count() == 1)
    kiosk.display.change(screen=Screen(Phase.CHALLENGE, "come-back", ChallengeKind.TURN_LEFT, 1, 3, 1.0, 3.0))
    wait_for(lambda: page.inner_text("#hint") == "Good. Now look straight again")
    assert page.locator("#arrow path").count() == 0


def test_a_screen_reader_hears_the_newest_at_most_once_a_second(page, kiosk) -> None:
    page.evaluate(
        "window.heard = []; new MutationObserver(() => heard.push([performance.now(), document.getElementById('live').textContent]))"
        ".observe(document.getElementById('live'), {childList: true})"
    )
    for _ in range(3):
        for guidance in (Guidance.TOO_FAR, Guidance.TOO_NEAR, Guidance.OFF_CENTRE):
            kiosk.display.change(screen=Screen(Phase.POSITION, guidance.value))
            page.wait_for_timeout(150)
    page.wait_for_timeout(1300)
    heard = page.evaluate("window.heard")
    assert heard[-1][1] == "Move to the middle of the oval"
    assert all(later[0] - earlier[0] >= 950 for earlier, later in pairwise(heard))


def test_reduced_motion_moves_nothing_and_still_shows_the_movement(browser, kiosk) -> None:
    page = browser.new_page(viewport={"width": 800, "height": 480}, reduced_motion="reduce")
    page.goto(kiosk.server.url, wait_until="domcontentloaded")
    show(kiosk.display, "turn-left")
    page.wait_for_selector("#picture .features")
    assert page.evaluate("document.getAnimations().length") == 0
    assert page.evaluate("getComputedStyle(document.querySelector('#picture .features')).transform") != "none"
    page.close()


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
        assert set(language["cardView"]) == {view.value for view in CardView}
        assert set(language["short"]) == {outcome.value for outcome in PersonOutcome}
        prompted = {word_of(kind) for kind in ChallengeKind} - {"exposure"}
        assert prompted <= set(language)
        assert set(language["outcome"]) == {outcome.value for outcome in PersonOutcome}
        assert all(language["guidance"].values())


def wait_for(condition, timeout_s: float = 8.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
