"""The customer's side of the kiosk page, without a browser: reads its events, presses its buttons; knows no process."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from dataclasses import dataclass
from typing import Any

import httpx

from edge.errors import LinkError

_RETRY_S = 0.2


@dataclass(frozen=True, slots=True)
class Seen:
    """What the page showed from `at_s` (monotonic, the wall's) on; `view` is the page's own JSON."""

    at_s: float
    view: dict[str, Any]


class KioskClient:
    """Follows /events in a thread, and again after an interruption."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=5.0)
        self._changes: queue.Queue[Seen] = queue.Queue()
        self._latest: dict[str, Any] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="kiosk-client", daemon=True)
        self._thread.start()

    def view(self) -> dict[str, Any]:
        """The newest view; empty before the first."""
        return self._latest

    def changes(self) -> list[Seen]:
        """Everything shown since the last call, oldest first."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._changes.get_nowait())
        return found

    def consent(self, *, given: bool = True) -> None:
        """Press the button. LinkError where the page does not take it."""
        answer = self._http.post("/api/consent", json={"given": given, "language": "en"})
        if answer.status_code != 204:
            raise LinkError(f"the kiosk page does not take the consent: {answer.status_code} {answer.text}")

    def close(self) -> None:
        """Its thread ends when the page does, or with this process."""
        self._closing.set()

    def _follow(self) -> None:
        while not self._closing.is_set():
            with (
                contextlib.suppress(httpx.HTTPError),  # the page is away
                self._http.stream("GET", "/events", timeout=httpx.Timeout(5.0, read=None)) as answer,
            ):
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        self._latest = json.loads(line[6:])
                        self._changes.put(Seen(time.monotonic(), self._latest))
            self._closing.wait(_RETRY_S)
