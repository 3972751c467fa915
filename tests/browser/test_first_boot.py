"""From a blank box to the first accepted receipt at the kiosk alone: real browser, real processes, the carrier's own page
for its API, and a telephone that is a picture of the screen and pictures before the camera.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from edge.provisioning import identity, qr
from edge.provisioning.qr import Collector, Kind
from simulator.broker import Broker, BrokerTls, mosquitto_path
from simulator.carrier.desk import write_pictures
from simulator.carrier.pki import CarrierPki, create_pki
from simulator.processes import Child, python_module
from tests.browser.states import CHROMIUM, chromium
from tests.support.enrolment import CODE, signed_bundle
from tests.support.wires import free_port, until

pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed (name one with VOUCH_CHROMIUM)"),
    pytest.mark.timeout(900),
]
PATIENCE_S = 240
PATIENCE_MS = 1000 * PATIENCE_S
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}


class Box:
    """A terminal's folder with keys and nothing else, and the process that serves its first boot."""

    def __init__(self, folder: Path, root: Path, language: str) -> None:
        self.home, self.codes, self.stick = folder / "box", folder / "codes", folder / "box" / "stick"
        self.asked = identity.create(self.home, site="Shop 7", root=root, desk=True)
        self.url = f"http://127.0.0.1:{free_port()}"
        port = self.url.rpartition(":")[2]
        own = self.home / identity.IDENTITY
        own.write_text(own.read_text() + f'\n[kiosk]\nport = {port}\nlanguage = "{language}"\n')
        assert self.stick.is_dir()
        self._log = folder / "terminal.log"

    @contextmanager
    def running(self) -> Iterator[Child]:
        command = [*python_module("simulator.cli"), "terminal", "person:11", "--phone", str(self.codes)]
        child = Child([*command, "--config", str(self.settings)], self._log)
        try:
            until(lambda: "kiosk_url" in self._log.read_text(), PATIENCE_S)
            yield child
        finally:
            child.stop(20)

    @property
    def settings(self) -> Path:
        return self.home / identity.SETTINGS

    def request(self) -> identity.Asked:
        asked = identity.waiting(self.home)
        assert asked is not None
        return asked


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@contextmanager
def opened(browser: Any, box: Box) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 800, "height": 480}, has_touch=True, reduced_motion="reduce")
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(box.url, wait_until="domcontentloaded")
    yield page
    assert complaints == []
    context.close()


def view(page: Any, name: str) -> None:
    page.wait_for_selector(f'body[data-view="{name}"]', timeout=PATIENCE_MS)


def says(page: Any, selector: str, words: str) -> None:
    page.wait_for_selector(f'{selector}:has-text("{words}")', timeout=PATIENCE_MS)


def check_accessibility(page: Any) -> None:
    found = pytest.importorskip("axe_playwright_python.sync_playwright").Axe().run(page, options=RULES)
    assert [(rule["id"], [node["target"] for node in rule["nodes"]]) for rule in found.response["violations"]] == []


def scanned(page: Any) -> list[str]:
    """What a telephone reads from the screen: its own finer picture of it, a little out of focus, not the page's data."""
    page.wait_for_function("document.getElementById('request-code').complete")
    collector, parts = Collector(Kind.REQUEST), []
    while True:
        screen = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
        photo = cv2.resize(cv2.GaussianBlur(screen, (0, 0), 0.8), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        text, _, _ = cv2.QRCodeDetectorAruco().detectAndDecode(photo)
        assert text, "the code on the screen cannot be read"
        if text not in parts:
            parts.append(text)
            if collector.add(text) is not None:
                return parts


def tap_code(page: Any, code: str) -> None:
    for letter in code.replace("-", ""):
        page.tap(f'#code-keys button:text-is("{letter}")')
    page.tap("#install")


@contextmanager
def carrier(folder: Path, pki: CarrierPki, broker: Broker) -> Iterator[httpx.Client]:
    files = ["--keys", str(folder / "keys"), "--db", str(folder / "records.sqlite")]
    log = folder / "carrier.log"
    command = [*python_module("simulator.cli"), "carrier", *files, "--broker", f"localhost:{broker.port}"]
    child = Child([*command, "--http-port", "0"], log)
    try:
        until(lambda: "carrier page " in log.read_text(), PATIENCE_S)
        url = next(line for line in log.read_text().splitlines() if line.startswith("carrier page ")).split()[-1]
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as http:
            yield http
    finally:
        child.stop()


@pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed")
def test_a_technician_enrols_by_telephone_and_the_first_receipt_ends_the_training(browser, tmp_path) -> None:
    pki = create_pki(tmp_path / "keys", now=datetime.now(UTC))
    box = Box(tmp_path, pki.root, "en")
    with (
        Broker(tmp_path / "broker", BrokerTls.of(pki)) as broker,
        carrier(tmp_path, pki, broker) as http,
        box.running(),
        opened(browser, box) as page,
    ):
        view(page, "enrol-request")
        assert page.inner_text("#link") == "Not enrolled yet"
        check_accessibility(page)
        asked = http.post("/api/requests", json={"parts": scanned(page)}).json()
        assert asked["fingerprint"].upper() in page.inner_text("#enrol-facts")
        made = http.post("/api/enrolments", json={"request": asked["request"], "site": "Shop 7"}).json()

        page.tap("#have-answer")
        view(page, "enrol-answer")
        check_accessibility(page)
        until(lambda: page.evaluate("document.getElementById('preview').naturalWidth") == 480, PATIENCE_S)
        write_pictures(base64.b64decode(made["bundle"]), box.codes)
        says(page, "#parts-text", " of ")
        view(page, "enrol-code")
        check_accessibility(page)
        tap_code(page, "2222-2222-2222")
        says(page, "#code-error", "Tries left: 4")
        assert not box.settings.exists()
        tap_code(page, made["code"])

        view(page, "idle")
        assert page.inner_text("#link") == "Training: nothing is registered"
        uplink = Child([*python_module("edge.cli"), "uplink", "--config", str(box.settings)], tmp_path / "uplink.log")
        try:
            page.wait_for_selector("#link", state="hidden", timeout=PATIENCE_MS)
        finally:
            uplink.stop()
        assert (box.home / "state" / "accepted.cose").exists()
        (first,) = http.get("/api/results").json()
        assert (first["claims"]["mode"], first["trusted"]) == ("self-test", True)


def test_a_technician_enrols_by_stick_in_chinese_and_reads_what_is_wrong_with_each_answer(browser, tmp_path) -> None:
    pki = create_pki(tmp_path / "keys", now=datetime.now(UTC))
    stranger = create_pki(tmp_path / "stranger", now=datetime.now(UTC))
    box = Box(tmp_path, pki.root, "zh")
    other = identity.create(tmp_path / "other", site="Shop 8", root=pki.root)

    def put(message: bytes, name: str = box.asked.request.terminal_id.hex()) -> None:
        for path in box.stick.iterdir():
            path.unlink()
        (box.stick / f"{name}.vouch").write_bytes(message)

    with box.running(), opened(browser, box) as page:
        view(page, "enrol-request")
        assert "登记本终端" in page.inner_text("#enrol-title")
        put(signed_bundle(stranger, box.asked.request))
        says(page, "#hint", "不是本终端的运营商")
        check_accessibility(page)
        put(signed_bundle(pki, other.request), other.request.terminal_id.hex())
        says(page, "#hint", "另一台终端")
        put(signed_bundle(pki, box.asked.request)[:-1] + b"\0")
        says(page, "#hint", "不是本终端的运营商")

        # Half of one answer, then another: the page says so and reads the second from its beginning.
        first, second = (qr.split(Kind.BUNDLE, signed_bundle(pki, box.asked.request, site=site)) for site in "ab")
        page.tap("#back")
        view(page, "enrol-request")
        show_codes(box.codes, first[:2])
        says(page, "#parts-text", f"已读 2 个，共 {len(first)} 个")
        show_codes(box.codes, second[:1])
        says(page, "#hint", "另一个答复")
        says(page, "#parts-text", f"已读 1 个，共 {len(second)} 个")
        show_codes(box.codes, [])
        page.tap("#back")

        earlier = signed_bundle(pki, box.asked.request)
        put(earlier)
        view(page, "enrol-code")
        page.tap("#anew")
        view(page, "enrol-request")
        until(lambda: box.request().message != box.asked.message)
        page.tap("#have-answer")
        says(page, "#hint", "已过期")
        put(signed_bundle(pki, box.request().request))
        view(page, "enrol-code")
        check_accessibility(page)
        for left in (4, 3, 2, 1):
            page.fill("#code-field", "2222-2222-2222")
            page.tap("#install")
            says(page, "#code-error", f"还可尝试 {left} 次")
        page.fill("#code-field", "2222-2222-2222")
        page.tap("#install")
        says(page, "#enrol-trouble", "错误五次")
        assert not box.settings.exists()

        put(signed_bundle(pki, box.request().request))
        view(page, "enrol-code")
        page.focus("#code-field")
        page.keyboard.type(CODE.replace("0", "o").lower())  # as somebody hears it
        page.keyboard.press("Enter")
        view(page, "idle")
        assert page.inner_text("#link") == "培训模式：不作实名登记"
        assert box.settings.exists()


def show_codes(folder: Path, parts: list[str]) -> None:
    """What the telephone shows from now on."""
    for path in folder.glob("*.png"):
        path.unlink()
    folder.mkdir(exist_ok=True)
    for number, part in enumerate(parts, 1):
        (folder / f"part-{number:02}.png").write_bytes(qr.png(part))
