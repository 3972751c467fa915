"""The technician's page in a real browser on a phone's screen: PIN, live checks, focus, self-test, out of service."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from edge.provisioning.pin import set_pin
from tests.support.house import filmed_terminal, technician_place
from tests.support.wires import Place, until

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = os.environ.get("VOUCH_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed (name one with VOUCH_CHROMIUM)"),
    pytest.mark.timeout(300),
]
PIN = "739201"
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def terminal(tmp_path_factory) -> Iterator[tuple[Place, str]]:
    place, url = technician_place(tmp_path_factory.mktemp("house"))
    set_pin(place.settings.state_dir, PIN)
    with filmed_terminal(place, url, "--idle", "target:2"):
        yield place, url


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as api:
        chromium = api.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, terminal) -> Iterator[object]:
    context = browser.new_context(viewport=PHONE, color_scheme="dark", has_touch=True, locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.asked, page.faults = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.goto(f"{terminal[1]}/", wait_until="domcontentloaded")
    page.wait_for_selector('body[data-view="login"]')
    yield page
    assert page.faults == []
    assert all(url.startswith(terminal[1]) for url in page.asked), "no request leaves the page's own origin"
    context.close()


def log_in(page) -> None:
    page.fill("#pin", PIN)
    page.tap("#form button")
    page.wait_for_selector('body[data-view="desk"]')


def test_nothing_is_shown_before_the_pin(page, terminal) -> None:
    assert not page.is_visible("#desk")
    for path in ("/api/state", "/api/log", "/api/report", "/preview.mjpg"):
        assert httpx.get(terminal[1] + path).status_code == 401
    for path in ("/api/examine", "/api/hold", "/api/assist", "/api/self-test", "/api/logout"):
        assert httpx.post(terminal[1] + path, json={}).status_code == 401


def test_all_checks_live_then_the_report_as_a_file(page, terminal) -> None:
    log_in(page)
    page.tap("#examine")
    page.wait_for_selector("#export:not([hidden])", timeout=120_000)
    cards = page.query_selector_all("#checks li")
    state = page.evaluate("fetch('/api/state').then((answer) => answer.json())")
    assert len(cards) == state["count"] == len(state["checks"])
    verdicts = {check["name"]: check["verdict"] for check in state["checks"]}
    assert verdicts["self-match"] == "pass"
    assert verdicts["broker"] == "fail", "no uplink runs here"
    broker = page.inner_text('[data-name="broker"]')
    assert "FAIL" in broker
    assert "systemctl restart vouch-uplink" in broker
    with page.expect_download() as download:
        page.tap("#export")
    report = json.loads(Path(download.value.path()).read_text())
    assert report["checks"] == state["checks"]
    page.tap('[data-language="zh"]')
    assert "联网进程没有运行" in page.inner_text('[data-name="broker"]')


def test_everything_fits_a_phone_and_a_thumb(page) -> None:
    log_in(page)
    page.tap("#show-log")
    page.wait_for_selector("#log li")
    for language in ("zh", "en"):
        page.tap(f'[data-language="{language}"]')
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        for button in page.query_selector_all("button, .button"):
            box = button.bounding_box()
            assert box is None or min(box["width"], box["height"]) >= 48, button.inner_text()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 20, 27)"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_rule_of_wcag_22_aa_that_a_machine_can_check_is_broken(page, language) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    rules = {
        "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    }
    page.tap(f'[data-language="{language}"]')
    broken = axe.run(page, options=rules).response["violations"]
    log_in(page)
    page.tap("#assist")
    page.tap("#show-log")
    page.wait_for_selector("#log li")
    broken += axe.run(page, options=rules).response["violations"]
    assert [(rule["id"], [node["html"][:120] for node in rule["nodes"]]) for rule in broken] == []


def test_live_focus_shows_a_picture_and_a_figure_and_ends(page) -> None:
    log_in(page)
    page.tap("#assist")
    until(lambda: page.inner_text("#figure").isdigit() and int(page.inner_text("#figure")) > 0, 60)
    until(lambda: page.evaluate("document.querySelector('#preview').naturalWidth") > 0, 60)
    assert "best" in page.inner_text("#best")
    page.tap("#assist")
    assert not page.is_visible("#live")


def test_out_of_service_and_back(page, terminal) -> None:
    log_in(page)
    page.tap("#hold")
    until(lambda: "by a technician" in page.inner_text("#service"), 60)
    place = terminal[0]
    assert (place.settings.state_dir / "out-of-service").exists()
    page.tap("#hold")
    until(lambda: page.inner_text("#service") == "In service", 60)
    assert not (place.settings.state_dir / "out-of-service").exists()


def test_the_cookie_is_out_of_reach_and_a_second_login_ends_the_first(page, terminal) -> None:
    log_in(page)
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert page.evaluate("document.cookie") == ""
    with httpx.Client(base_url=terminal[1]) as other:
        assert other.post("/api/login", json={"pin": PIN}).status_code == 204
        assert other.get("/api/state").status_code == 200
        page.wait_for_selector('body[data-view="login"]')
        for headers in (
            {"origin": "http://shop.example"},
            {"sec-fetch-site": "cross-site"},
            {"host": "shop.example"},
            {"content-type": "text/plain"},
        ):
            content = b'{"held": true}'
            answer = other.post("/api/hold", content=content, headers={"content-type": "application/json", **headers})
            assert answer.status_code == 403, headers
        assert not other.get("/api/state").json()["held"]
        policy = other.get("/").headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_hostile_guessing_is_slowed_down_and_outlives_a_restart(tmp_path: Path) -> None:
    place, url = technician_place(tmp_path)
    set_pin(place.settings.state_dir, PIN)
    with filmed_terminal(place, url), httpx.Client(base_url=url, timeout=30) as guesser:
        answers = [guesser.post("/api/login", json={"pin": f"{guess:06}"}).status_code for guess in range(40)]
        assert answers[:2] == [401, 401]
        assert set(answers[2:]) == {429}
        assert guesser.get("/api/login").json()["wait_s"] > 0
        for odd in (b"[]", b'{"pin": 1}', b'{"pin": "1", "x": 1}', b"{" * 5000):
            headers = {"content-type": "application/json"}
            assert guesser.post("/api/login", content=odd, headers=headers).status_code == 400
    with filmed_terminal(place, url), httpx.Client(base_url=url, timeout=30) as guesser:
        until(lambda: guesser.get("/api/login").json()["wait_s"] > 0)
        assert guesser.post("/api/login", json={"pin": PIN}).status_code == 429
