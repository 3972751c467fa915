"""Who feeds the service manager's watchdog: only finished frames do, so that a hung camera or model ends in a restart."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.ipc import Down, Inbound
from edge.session.machine import Phase
from edge.terminal.display import ConsentPressed
from edge.terminal.texts import Language
from edge.watchdog import Notifier
from simulator.observed import Actor
from tests.support.counter import Counter, ObservedPerson
from tests.support.wires import UplinkEnd, enrolled, until


class Manager:
    """systemd's end of $NOTIFY_SOCKET: when WATCHDOG=1 came."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0.2)
        self.said: list[str] = []
        self.fed_at: list[float] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._closing.is_set():
            try:
                text = self._socket.recv(1000).decode()
            except TimeoutError:
                continue
            self.said.append(text)
            if text == "WATCHDOG=1":
                self.fed_at.append(time.monotonic())

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


@pytest.mark.parametrize("where", ["camera", "model"])
def test_a_hang_in_a_session_starves_the_watchdog_though_every_other_thread_lives(
    tmp_path: Path, manager: Manager, where: str
) -> None:
    place = enrolled(tmp_path, extra="\n[kiosk]\nport = 0\n")
    person = ObservedPerson(Actor())
    held, let_go = threading.Event(), threading.Event()

    def hangs(_index: int) -> None:
        if counter.view()["phase"] == Phase.CHALLENGE.value:
            held.set()
            let_go.wait(60)

    if where == "camera":
        person.before_frame = hangs
    else:
        person.in_process = hangs
    notifier = Notifier(str(tmp_path / "notify"))
    with Counter(place, person, notifier=notifier) as counter, UplinkEnd(place.settings.socket_path) as uplink:
        until(lambda: len(manager.fed_at) >= 2, 10)  # fed while the camera is only looked at now and then
        uplink.send(Inbound(Down.CHALLENGE, counter.challenge()))
        until(lambda: counter.view()["phase"] == Phase.CONSENT.value)
        counter.terminal.press(ConsentPressed(True, Language.EN))
        assert held.wait(40)
        fed = len(manager.fed_at)
        time.sleep(5.0)
        assert len(manager.fed_at) - fed <= 1, "nothing else may say that the terminal is alive"
        let_go.set()
        until(lambda: len(manager.fed_at) >= fed + 2, 20)
    assert any(said.startswith("READY=1") for said in manager.said)
    assert "STOPPING=1" in manager.said
    notifier.close()
