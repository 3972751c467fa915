"""Whole sessions at the counter: a real browser, the real processes, a real broker, the carrier, and a drawn person.

One house for all stories; each begins at the idle page and ends with what the carrier verified.
"""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edge.evidence.claims import clerk_pseudonym
from edge.terminal.texts import Language, consent_digest
from simulator.broker import mosquitto_path
from simulator.demo import DemoSettings, _document_picture, _House, _Interrupts
from simulator.film import Role, Species
from simulator.report import Report
from tests.browser.states import CHROMIUM, chromium
from tests.support.wires import free_port

pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed (name one with VOUCH_CHROMIUM)"),
    pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed"),
    pytest.mark.timeout(900),  # a busy machine draws people slowly; the stories have limits of their own
]
PERSON = Role(Species.PERSON, 11)
PATIENCE_MS = 240_000


class CounterHouse(_House):
    """The demo's house, with a page that keeps its port and a document that lies in a file: nobody holds a card here."""

    def _enrol(self) -> Path:
        path = super()._enrol()
        picture = self.folder / "document.jpg"
        picture.write_bytes(_document_picture())
        text = path.read_text(encoding="utf-8").replace("[kiosk]\nport = 0", f"[kiosk]\nport = {free_port()}")
        path.write_text(f'{text}\n[document]\nfile = "{picture}"\n', encoding="utf-8")
        self.config = path
        return path

    def results(self, order: str) -> list[dict[str, Any]]:
        """What the carrier verified for an order number, once there is something."""
        deadline = time.monotonic() + 60
        while not (found := self.http.get("/api/results", params={"order": order}).json()):
            assert time.monotonic() < deadline, f"the carrier has no result for {order}"
            time.sleep(0.2)
        return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CounterHouse]:
    with ExitStack() as stack:
        interrupts = _Interrupts()
        stack.callback(interrupts.restore)
        house = CounterHouse(tmp_path_factory.mktemp("house"), DemoSettings(), Report(io.StringIO()), stack, interrupts)
        house.start([PERSON])
        yield house


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser, house) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 800, "height": 480}, has_touch=True)
    page = context.new_page()
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(house.kiosk.url, wait_until="domcontentloaded")
    view(page, "idle", "done")
    yield page
    assert page.complaints == []
    context.close()


def view(page: Any, *names: str) -> None:
    page.wait_for_selector(", ".join(f'body[data-view="{name}"]' for name in names), timeout=PATIENCE_MS)


def tap_order(page: Any, number: str) -> None:
    page.tap("#staff")
    page.fill("#field", number)
    page.tap("#start")


def test_a_clerk_and_a_customer_reach_a_match_by_keyboard_alone(page, house) -> None:
    page.focus("#staff")
    page.keyboard.press("Enter")
    page.keyboard.type("A-1001")
    page.keyboard.press("Enter")
    view(page, "consent")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "agree":
            break
    page.keyboard.press("Enter")
    view(page, "challenge")
    assert page.locator("#preview").evaluate("image => image.naturalWidth") == 480
    view(page, "done")
    assert page.get_attribute("body", "data-outcome") == "verified"
    (result,) = house.results("A-1001")
    assert (result["claims"]["outcome"], result["registration"]) == ("match", "allowed")
    assert result["claims"]["cti"][:4].upper() in page.inner_text("#reference")
    assert result["claims"]["fresh"] == "online"


def test_a_customer_reads_chinese_by_touch_and_gets_another_movement(page, house) -> None:
    body = {"terminal": house.terminal_id, "order": "A-1002", "portrait": base64.b64encode(house.document).decode()}
    assert house.http.post("/api/orders", json=body).status_code == 201
    view(page, "consent")
    page.tap('[data-language="zh"]')
    page.tap("#agree")
    # For an open mouth there is no other movement.
    wait_for(lambda: page.is_visible("#cannot") and page.inner_text("#prompt") != "请张大嘴巴")
    declined = page.inner_text("#prompt")
    page.tap("#cannot")
    wait_for(lambda: page.inner_text("#prompt") != declined)
    view(page, "done")
    assert "谢谢" in page.inner_text("#prompt")
    (result,) = house.results("A-1002")
    assert result["claims"]["outcome"] == "match"
    assert result["claims"]["consent_text_digest"] == consent_digest(Language.ZH).hex()


def test_a_customer_who_wants_no_camera_is_helped_and_the_carrier_sees_that_it_is_no_match(page, house) -> None:
    tap_order(page, "A-1003")
    view(page, "consent")
    page.tap("#help")
    view(page, "assist")
    assert page.get_attribute("#preview", "src") is None
    page.tap("#here")
    page.fill("#field", "4711")
    page.tap("#start")
    view(page, "done")
    assert page.get_attribute("body", "data-outcome") == "staff-assisted"
    (result,) = house.results("A-1003")
    assert (result["claims"]["outcome"], result["registration"]) == ("staff-assisted", "review")
    assert result["claims"]["match"] == "not-run"
    assert result["claims"]["clerk"] == clerk_pseudonym("demo counter", "4711").hex()


def test_a_customer_stops_and_that_is_signed(page, house) -> None:
    tap_order(page, "A-1004")
    view(page, "consent")
    page.tap("#agree")
    view(page, "position")
    page.tap("#cancel")
    view(page, "done")
    assert house.results("A-1004")[0]["claims"]["outcome"] == "cancelled"


def test_without_a_network_a_ticket_begins_the_session_and_its_result_finds_the_order(page, house) -> None:
    wait_for(lambda: house.kiosk.view()["tickets"] > 0)
    before = house.kiosk.view()["tickets"]
    house.broker.stop()
    page.wait_for_selector("#link:visible", timeout=PATIENCE_MS)
    tap_order(page, "B-2001")
    view(page, "consent")
    page.tap("#refuse")
    view(page, "done")
    assert house.kiosk.view()["tickets"] == before - 1
    house.broker.start()
    page.wait_for_selector("#link", state="hidden", timeout=PATIENCE_MS)
    (result,) = house.results("B-2001")
    assert (result["claims"]["fresh"], result["claims"]["outcome"]) == ("ticket", "cancelled")
    assert result["trusted"]


def test_a_terminal_that_is_killed_in_a_session_comes_back_and_the_page_shows_the_truth(page, house) -> None:
    tap_order(page, "A-1005")
    view(page, "consent")
    terminal = next(child for child in house.children if child.log.stem == "terminal")
    terminal.kill()
    view(page, "wait")
    house._child("terminal", terminal_command(house))
    view(page, "idle")
    tap_order(page, "A-1006")
    view(page, "consent")
    page.tap("#refuse")
    view(page, "done")
    assert house.results("A-1006")[0]["claims"]["outcome"] == "cancelled"


def terminal_command(house: CounterHouse) -> list[str]:
    from simulator.processes import python_module

    return [*python_module("simulator.cli"), "terminal", "--config", str(house.config), str(PERSON)]


def wait_for(condition: Any, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
