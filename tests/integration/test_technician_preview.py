"""The technician's preview ends with the login that opened it, however the login ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from edge.errors import CameraError, JournalError, SignerError
from edge.log import Tail
from edge.provisioning.doctor import RoundTrip, Trip
from edge.provisioning.pin import PinGate, set_pin
from edge.provisioning.probe import Instruments
from edge.terminal.technician.page import Desk, TechnicianServer
from edge.terminal.workbench import Workbench
from simulator.camera import VirtualClock
from tests.support.wires import enrolled

PIN = "739201"
PICTURE = np.full((480, 640, 3), 90, np.uint8)


@dataclass
class Page:
    url: str
    clock: VirtualClock

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"content-type": "application/json"}, timeout=10)

    def later(self, seconds: float) -> None:
        self.clock.advance_to(self.clock.monotonic() + seconds)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    settings, clock = enrolled(tmp_path).settings, VirtualClock()
    settings.state_dir.mkdir(mode=0o700, exist_ok=True)
    set_pin(settings.state_dir, PIN)
    instruments = Instruments(
        settings=settings,
        clock=clock,
        source=CameraError("none"),
        looks=CameraError("none"),
        pack_dir=tmp_path,
        pack_digest=None,
        journal=JournalError("none"),
        signer=SignerError("none"),
        papers=lambda: None,
        round_trip=lambda _limit_s: RoundTrip(Trip.NOT_STORED),
    )
    workbench = Workbench(instruments, in_session=lambda: False, wake=lambda _nudge: None)
    desk = Desk(workbench, PinGate(settings.state_dir, clock), Tail("test"), clock, dict)
    server = TechnicianServer(desk, [socket.create_server(("127.0.0.1", 0))])
    server.start()
    enough = threading.Event()

    def film() -> None:
        while not enough.wait(0.02):
            workbench.preview.offer(PICTURE, mirrored=False)

    camera = threading.Thread(target=film)
    camera.start()
    yield Page(server.urls[0], clock)
    enough.set()
    camera.join()
    server.stop()


def log_in(client: httpx.Client) -> None:
    assert client.post("/api/login", json={"pin": PIN}).status_code == 204


def log_out(page: Page, client: httpx.Client) -> None:
    assert client.post("/api/logout", json={}).status_code == 204


def second_login(page: Page, client: httpx.Client) -> None:
    with page.client() as other:
        log_in(other)


def put_away(page: Page, client: httpx.Client) -> None:
    page.later(901)


def used_all_day(page: Page, client: httpx.Client) -> None:
    for _ in range(49):
        client.get("/api/log")
        page.later(600)


@pytest.mark.parametrize("end", [log_out, second_login, put_away, used_all_day])
def test_the_preview_ends_with_the_login(page: Page, end: Callable[[Page, httpx.Client], None]) -> None:
    with page.client() as client, page.client() as viewer:
        log_in(client)
        viewer.cookies = client.cookies
        with viewer.stream("GET", "/preview.mjpg") as response:
            assert response.status_code == 200
            pictures = response.iter_bytes()
            next(pictures)
            end(page, client)
            list(pictures)  # else it goes on until the client's patience or the test's time is over
        assert viewer.get("/api/log").status_code == 401


def test_a_preview_does_not_keep_the_login_alive(page: Page) -> None:
    with page.client() as client:
        log_in(client)
        with client.stream("GET", "/preview.mjpg") as response:
            pictures = response.iter_bytes()
            page.later(800)
            for _ in range(6):
                assert next(pictures)
            page.later(101)
            list(pictures)
        assert client.get("/api/log").status_code == 401


def test_half_a_pair_of_surrogates_is_a_wrong_pin(page: Page) -> None:
    with page.client() as client:
        answer = client.post("/api/login", content='{"pin": "\\ud800"}')
        assert (answer.status_code, answer.json()["error"]) == (401, "wrong")
