"""The technician's page: who may look (a PIN), what they see and may press; no judgement and no camera of its own.

It is served on loopback only (sockets.py), to our own page only (web.py). The cookie is HttpOnly
and SameSite=Strict and lives in this process's memory: a restart logs everybody out, a second login the first one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from edge.clock import Clock
from edge.errors import VouchError
from edge.log import Log, Tail
from edge.provisioning import doctor
from edge.provisioning.examination import record_of
from edge.provisioning.pin import PinGate
from edge.terminal.sockets import hosts_of
from edge.terminal.web import Guard, PageServer, file_answer, json_body, mjpeg
from edge.terminal.workbench import Workbench

_STATIC = Path(__file__).resolve().parent / "static"
_PAGES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/words.js": ("words.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_COOKIE = "vouch_technician"
_IDLE_S = 900.0  # a phone that is put away is logged out
_LONGEST_S = 8 * 3600.0
_ROUND_TRIP_S = 12.0

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Desk:
    """What the page shows and moves. `standing`: the terminal's state as JSON types; any thread may ask."""

    workbench: Workbench
    gate: PinGate
    tail: Tail
    clock: Clock
    standing: Callable[[], dict[str, Any]]


class TechnicianServer:
    """The page in a thread of its own, on sockets that listen already; with none, nothing is served."""

    def __init__(self, desk: Desk, sockets: list[socket.socket], gadget_address: str | None = None) -> None:
        self._desk = desk
        self._closing = threading.Event()
        self._sockets = sockets
        app = build_app(desk, hosts=hosts_of(sockets, gadget_address), closing=self._closing)
        self._server = PageServer(app, sockets, name="technician") if sockets else None

    @property
    def urls(self) -> list[str]:
        return [f"http://{sock.getsockname()[0]}:{sock.getsockname()[1]}/" for sock in self._sockets]

    def start(self) -> None:
        self._desk.tail.attach()
        if self._server is not None:
            self._server.start()
            Log("terminal.technician").info("page", url=self.urls[0], pin_set=self._desk.gate.is_set)

    def stop(self) -> None:
        self._closing.set()
        if self._server is not None:
            self._server.stop()
        self._desk.tail.detach()


def build_app(desk: Desk, *, hosts: set[str], closing: threading.Event) -> ASGIApp:
    """The page as an ASGI application that answers only to `hosts`, and but for the login only to who knows the PIN."""
    badge = _Badge(desk.clock)

    def private(endpoint: Endpoint) -> Endpoint:
        async def checked(request: Request) -> Response:
            if not badge.is_worn(request.cookies.get(_COOKIE)):
                return JSONResponse({"error": "log in"}, status_code=401)
            return await endpoint(request)

        return checked

    handlers = _Handlers(desk, badge, closing)
    pages = [Route(path, file_answer(_STATIC / name, kind)) for path, (name, kind) in _PAGES.items()]
    post = partial(Route, methods=["POST"])
    app = Starlette(
        routes=[
            *pages,
            Route("/api/login", handlers.gate),
            post("/api/login", handlers.login),
            post("/api/logout", private(handlers.logout)),
            Route("/api/state", private(handlers.state)),
            Route("/api/log", private(handlers.log)),
            Route("/api/report", private(handlers.report)),
            post("/api/examine", private(handlers.examine)),
            post("/api/self-test", private(handlers.self_test)),
            post("/api/assist", private(handlers.assist)),
            post("/api/hold", private(handlers.hold)),
            Route("/preview.mjpg", private(handlers.preview)),
        ],
        exception_handlers={VouchError: _told},
    )
    return Guard(app, hosts)


class _Badge:
    """Who is logged in: one at a time, by a random token of which only the hash is kept."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._digest: bytes | None = None
        self._since_s = self._used_s = 0.0

    def issue(self) -> str:
        token = secrets.token_urlsafe(32)
        self._digest = hashlib.sha256(token.encode()).digest()
        self._since_s = self._used_s = self._clock.monotonic()
        return token

    def is_worn(self, token: str | None) -> bool:
        """Whether this is who is logged in; being asked for is use, and puts the end for idleness off."""
        if not self.is_still_worn(token):
            return False
        self._used_s = self._clock.monotonic()
        return True

    def is_still_worn(self, token: str | None) -> bool:
        """The same, for what goes on by itself: it must not keep the login alive."""
        now = self._clock.monotonic()
        if self._digest is None or token is None:
            return False
        if now - self._used_s > _IDLE_S or now - self._since_s > _LONGEST_S:
            self._digest = None
            return False
        return hmac.compare_digest(hashlib.sha256(token.encode()).digest(), self._digest)

    def take_back(self) -> None:
        self._digest = None


class _Handlers:
    def __init__(self, desk: Desk, badge: _Badge, closing: threading.Event) -> None:
        self._desk = desk
        self._badge = badge
        self._closing = closing
        self._log = Log("terminal.technician")

    async def gate(self, _request: Request) -> Response:
        """Whether there is a PIN, and how long the next attempt must wait."""
        return JSONResponse({"pin_set": self._desk.gate.is_set, "wait_s": round(self._desk.gate.wait_s(), 1)})

    async def login(self, request: Request) -> Response:
        body = await json_body(request)
        match body:
            case {"pin": str(pin)} if len(body) == 1:
                pass
            case _:
                return JSONResponse({"error": "expected a pin"}, status_code=400)
        gate = self._desk.gate
        if not await run_in_threadpool(gate.opens, pin):
            self._log.warning("login-refused", wait_s=round(gate.wait_s(), 1))
            status = 429 if gate.wait_s() > 0 else 401
            return JSONResponse({"error": "wrong", "wait_s": round(gate.wait_s(), 1)}, status_code=status)
        self._log.info("login")
        answer = Response(status_code=204)
        answer.set_cookie(_COOKIE, self._badge.issue(), httponly=True, samesite="strict", max_age=int(_LONGEST_S))
        return answer

    async def logout(self, _request: Request) -> Response:
        self._badge.take_back()
        answer = Response(status_code=204)
        answer.delete_cookie(_COOKIE, httponly=True, samesite="strict")
        return answer

    async def state(self, _request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._state))

    async def log(self, _request: Request) -> Response:
        return JSONResponse({"lines": [json.loads(line) for line in self._desk.tail.lines()]})

    async def report(self, _request: Request) -> Response:
        """The last report as a file to keep."""
        report = self._desk.workbench.last_report()
        if report is None:
            return JSONResponse({"error": "no report yet", "todo": "run the checks first"}, status_code=404)
        name = f"vouch-doctor-{report.terminal_id[:8]}-{report.made_at_s}.json"
        body = json.dumps(report.as_record(), ensure_ascii=False, indent=1)
        disposition = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(body, media_type="application/json", headers=disposition)

    async def examine(self, _request: Request) -> Response:
        await run_in_threadpool(self._desk.workbench.examine)
        return Response(status_code=202)

    async def self_test(self, _request: Request) -> Response:
        """A test receipt alone: the answer is the check of the round trip."""
        trip = await run_in_threadpool(self._desk.workbench.instruments.round_trip, _ROUND_TRIP_S)
        return JSONResponse(record_of(doctor.broker(trip)))

    async def assist(self, _request: Request) -> Response:
        """Live focus for the next seconds; asked for again and again while it is on the screen."""
        assist = self._desk.workbench.assist()
        if assist is None:
            return JSONResponse({"error": "busy"}, status_code=409)
        return JSONResponse(
            {
                "figure": assist.figure,
                "best": assist.best,
                "enough": doctor.FOCUS_WARN,
                "light": record_of(doctor.light(assist.light)),
            }
        )

    async def preview(self, request: Request) -> Response:
        """The camera's picture, for as long as this login lasts."""
        worn = partial(self._badge.is_still_worn, request.cookies.get(_COOKIE))
        return await mjpeg(request, self._desk.workbench.preview, self._closing, worn)

    async def hold(self, request: Request) -> Response:
        body = await json_body(request)
        match body:
            case {"held": bool(held)} if len(body) == 1:
                await run_in_threadpool(self._desk.workbench.hold, held)
                return Response(status_code=204)
            case _:
                return JSONResponse({"error": "expected held"}, status_code=400)

    def _state(self) -> dict[str, Any]:
        workbench = self._desk.workbench
        examination = workbench.examination
        return {
            **self._desk.standing(),
            "held": workbench.held,
            "examining": examination is not None and not examination.over,
            "report": workbench.last_report() is not None,
            "checks": [] if examination is None else [record_of(check) for check in examination.checks()],
            "count": len(doctor.Name),
        }


async def _told(_request: Request, error: Exception) -> Response:
    if not isinstance(error, VouchError):
        raise error
    return JSONResponse({"error": error.message, "todo": error.todo}, status_code=409)
