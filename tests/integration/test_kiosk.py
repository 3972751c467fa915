"""The kiosk page's server: our own page may look and press, nobody else's may, and no scores are to be found in it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import numpy as np
import pytest

from edge.config import KioskSettings
from edge.drivers.document import CardView
from edge.session.decision import Outcome
from edge.session.machine import Phase, Screen
from edge.terminal.display import CancelPressed, CannotPressed, ConsentPressed, Display, Preview
from edge.terminal.kiosk import KioskServer
from edge.terminal.texts import Language, consent_digest, consent_text

JSON = {"content-type": "application/json"}


@dataclass
class Page:
    display: Display
    preview: Preview
    url: str
    pressed: list = field(default_factory=list)


@pytest.fixture
def page() -> Iterator[Page]:
    display, preview, pressed = Display(), Preview(), []
    server = KioskServer(KioskSettings(port=0), display, preview, pressed.append)
    server.start()
    yield Page(display, preview, server.url.rstrip("/"), pressed)
    server.stop()


@pytest.fixture
def client(page: Page) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=page.url, trust_env=False, timeout=5) as client:
        yield client


def first_event(client: httpx.Client, **headers: str) -> dict[str, object]:
    with client.stream("GET", "/events", headers=headers) as response:
        for line in response.iter_lines():
            if line.startswith("data: "):
                return json.loads(line[6:])
    raise AssertionError


def test_the_page_and_all_that_it_loads_come_from_here_under_a_strict_policy(client) -> None:
    index = client.get("/").text
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', index)
    assert loaded
    assert all(client.get(path).status_code == 200 for path in loaded)
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert client.get("/").headers["cache-control"] == "no-store"
    assert "http" not in re.sub(r"http://www\.w3\.org/\S+", "", index + client.get("/kiosk.js").text)


def test_presses_of_our_own_page_arrive(client, page) -> None:
    own = {**JSON, "origin": page.url, "sec-fetch-site": "same-origin"}
    assert client.post("/api/consent", json={"given": True, "language": "zh"}, headers=own).status_code == 204
    assert client.post("/api/cannot", json={}, headers=own).status_code == 204
    assert client.post("/api/cancel", json={}, headers=own).status_code == 204
    assert page.pressed == [ConsentPressed(True, Language.ZH), CannotPressed(), CancelPressed()]


@pytest.mark.parametrize(
    "headers",
    [
        {**JSON, "origin": "http://evil.example"},
        {**JSON, "origin": "null"},
        {**JSON, "sec-fetch-site": "cross-site"},
        {**JSON, "sec-fetch-site": "same-site"},
        {**JSON, "host": "evil.example"},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {},
    ],
)
def test_presses_of_anybody_else_do_not(client, page, headers) -> None:
    for path in ("/api/consent", "/api/cancel", "/api/cannot"):
        assert client.post(path, content=b"{}", headers=headers).status_code == 403
    assert page.pressed == []


@pytest.mark.parametrize("path", ["/events", "/preview.mjpg", "/"])
def test_a_page_of_another_site_cannot_look(client, path) -> None:
    assert client.get(path, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert client.get(path, headers={"host": "evil.example:80"}).status_code == 403


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b'{"given": 1, "language": "en"}', b'{"given": true}', b'{"given": true, "language": "xx"}',
     b'{"given": true, "language": "en", "more": 1}', b"x" * 100_000],
)  # fmt: skip
def test_a_malformed_consent_is_refused(client, page, body) -> None:
    assert client.post("/api/consent", content=body, headers=JSON).status_code == 400
    assert page.pressed == []


def test_nothing_may_be_pressed_by_a_mere_look(client) -> None:
    assert client.get("/api/consent").status_code == 405
    assert client.get("/api/cancel").status_code == 405


def test_a_page_that_connects_again_sees_the_present_state_first(client, page) -> None:
    page.display.change(screen=Screen(Phase.POSITION, "too-far", progress=0.333))
    view = first_event(client)
    assert (view["phase"], view["guidance"], view["progress"], view["preview"]) == ("position", "too-far", 0.33, True)
    page.display.change(screen=Screen(Phase.DOCUMENT), card=CardView.TOO_FAR)
    view = first_event(client)
    assert (view["card"], view["mirrored"], view["preview"]) == ("too-far", False, True)


def test_changes_are_pushed(client, page) -> None:
    with client.stream("GET", "/events") as response:
        lines = response.iter_lines()
        assert '"phase": "idle"' in next(lines)
        next(lines)
        page.display.change(screen=Screen(Phase.CONSENT))
        assert '"phase": "consent"' in next(lines)


@pytest.mark.parametrize("outcome", Outcome)
def test_the_view_never_tells_an_attack_from_another_refusal(page, outcome) -> None:
    page.display.change(screen=Screen(Phase.DONE, outcome=outcome))
    text = page.display.read()[1].to_json()
    shown = json.loads(text)["outcome"]
    assert shown in {"verified", "not-verified", "cancelled", "staff-assisted", "error"}
    refusals = {Outcome.NO_MATCH, Outcome.LIVENESS_FAIL, Outcome.INCONCLUSIVE}
    assert (shown == "not-verified") == (outcome in refusals)
    assert "liveness" not in text.lower()
    assert "score" not in text.lower()


def test_the_consent_texts_are_the_ones_whose_digest_is_claimed(client) -> None:
    texts = client.get("/api/consent-text").json()
    assert texts == {language.value: consent_text(language) for language in Language}
    assert len({consent_digest(language) for language in Language}) == len(Language)


def test_the_preview_is_mirrored_and_only_made_while_somebody_watches(client, page) -> None:
    import cv2

    picture = np.zeros((480, 640, 3), np.uint8)
    picture[:, :320] = 255
    page.preview.offer(picture, mirrored=True)
    assert page.preview._small is None, "nobody watches"
    enough = threading.Event()

    def film() -> None:
        while not enough.wait(0.03):
            page.preview.offer(picture, mirrored=True)

    camera = threading.Thread(target=film)
    camera.start()
    with client.stream("GET", "/preview.mjpg") as response:
        data = b""
        for chunk in response.iter_bytes():
            data += chunk
            if b"\xff\xd9" in data:
                break
        enough.set()
        camera.join()
        jpeg = data[data.index(b"\xff\xd8") :]
        seen = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert seen[:, :200].mean() < 10
    assert seen[:, 280:].mean() > 245


def test_the_preview_is_overwritten_when_the_session_ends(page) -> None:
    page.preview.watch()
    page.preview.offer(np.full((480, 640, 3), 200, np.uint8), mirrored=True)
    kept = page.preview._small
    assert kept.any()
    page.preview.clear()
    assert not kept.any()
    page.preview.unwatch()
