"""The kiosk page on loopback: serves the page, its state and the preview, and takes presses; no judgement.

Only the browser on this machine talks to it; who else is refused, and how, is web.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from edge.config import KioskSettings
from edge.evidence.requests import is_order_number
from edge.terminal.display import (
    CancelPressed,
    CannotPressed,
    ConsentPressed,
    Display,
    HelpPressed,
    MoreTimePressed,
    OrderPressed,
    Press,
    Preview,
    ScanPressed,
    StaffPressed,
)
from edge.terminal.texts import STATIC, Language, consent_text
from edge.terminal.web import Guard, PageServer, file_answer, json_body, listening, loopback_hosts, mjpeg

_KEEP_ALIVE_S = 10.0
_STAFF_NUMBER = re.compile(r"[A-Za-z0-9]{1,16}")
_PLAIN: dict[str, Press] = {
    "/api/cancel": CancelPressed(),
    "/api/cannot": CannotPressed(),
    "/api/more-time": MoreTimePressed(),
}
_PAGES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/kiosk.css": ("kiosk.css", "text/css; charset=utf-8"),
    "/kiosk.js": ("kiosk.js", "text/javascript; charset=utf-8"),
    "/dom.js": ("dom.js", "text/javascript; charset=utf-8"),
    "/enrol.js": ("enrol.js", "text/javascript; charset=utf-8"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
    "/panel.js": ("panel.js", "text/javascript; charset=utf-8"),
    "/speech.js": ("speech.js", "text/javascript; charset=utf-8"),
    "/words.js": ("words.js", "text/javascript; charset=utf-8"),
}


def build_app(
    display: Display,
    preview: Preview,
    press: Callable[[Press], None],
    *,
    port: int,
    closing: threading.Event,
    more: Sequence[Route] = (),
) -> ASGIApp:
    """The page as an ASGI application that answers only to our own loopback names and this port.

    Once `closing` is set, its endless answers end at the next nudge of the display.
    """
    pages = [Route(path, file_answer(STATIC / name, kind)) for path, (name, kind) in _PAGES.items()]
    app = Starlette(
        routes=[
            *pages,
            *more,
            Route("/events", partial(_events, display=display, closing=closing)),
            Route("/preview.mjpg", partial(mjpeg, preview=preview, closing=closing)),
            Route("/api/consent-text", _consent_texts),
            Route("/api/consent", partial(_consent, press=press), methods=["POST"]),
            Route("/api/help", partial(_help, press=press), methods=["POST"]),
            Route("/api/staff", partial(_staff, press=press), methods=["POST"]),
            Route("/api/order", partial(_order, press=press), methods=["POST"]),
            Route("/api/scan", partial(_scan, press=press), methods=["POST"]),
            *(Route(path, partial(_plain, press=press, item=item), methods=["POST"]) for path, item in _PLAIN.items()),
        ]
    )
    return Guard(app, loopback_hosts(port))


class KioskServer:
    """The application in a thread of its own, on an inherited socket or on the settings' loopback port."""

    def __init__(
        self,
        settings: KioskSettings,
        display: Display,
        preview: Preview,
        press: Callable[[Press], None],
        *,
        inherited: socket.socket | None = None,
        more: Sequence[Route] = (),
    ) -> None:
        """`more`: what the page asks for besides."""
        self._socket = inherited or listening(settings.host, settings.port, section="kiosk")
        self.port = int(self._socket.getsockname()[1])
        self._display = display
        self._closing = threading.Event()
        app = build_app(display, preview, press, port=self.port, closing=self._closing, more=more)
        self._server = PageServer(app, [self._socket], name="kiosk")

    @property
    def failed(self) -> bool:
        """Whether the server ended by itself."""
        return self._server.failed

    @property
    def url(self) -> str:
        host = self._socket.getsockname()[0]
        return f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._closing.set()
        self._display.nudge()
        self._server.stop()


async def _consent_texts(_request: Request) -> JSONResponse:
    return JSONResponse({language.value: consent_text(language) for language in Language})


async def _consent(request: Request, press: Callable[[Press], None]) -> Response:
    body = await json_body(request)
    match body:
        case {"given": bool(given), "language": str(tag)} if len(body) == 2 and tag in {la.value for la in Language}:
            press(ConsentPressed(given, Language(tag)))
            return Response(status_code=204)
        case _:
            return JSONResponse({"error": "expected given and language"}, status_code=400)


async def _help(request: Request, press: Callable[[Press], None]) -> Response:
    match await json_body(request):
        case {"by_clerk": bool(by_clerk), **rest} if not rest:
            press(HelpPressed(by_clerk))
            return Response(status_code=204)
        case _:
            return JSONResponse({"error": "expected by_clerk"}, status_code=400)


async def _staff(request: Request, press: Callable[[Press], None]) -> Response:
    match await json_body(request):
        case {"vouches": bool(vouches), "number": str(number), **rest} if not rest and _STAFF_NUMBER.fullmatch(number):
            press(StaffPressed(vouches, number))
            return Response(status_code=204)
        case _:
            return JSONResponse({"error": "expected vouches and number, 1 to 16 letters and digits"}, status_code=400)


async def _order(request: Request, press: Callable[[Press], None]) -> Response:
    match await json_body(request):
        case {"order": str(order), **rest} if not rest and is_order_number(order):
            press(OrderPressed(order))
            return Response(status_code=204)
        case _:
            return JSONResponse({"error": "expected order, 1 to 32 letters, digits and - . _ /"}, status_code=400)


async def _scan(request: Request, press: Callable[[Press], None]) -> Response:
    match await json_body(request):
        case {"on": bool(on), **rest} if not rest:
            press(ScanPressed(on))
            return Response(status_code=204)
        case _:
            return JSONResponse({"error": "expected on"}, status_code=400)


async def _plain(request: Request, press: Callable[[Press], None], item: Press) -> Response:
    if await json_body(request) != {}:
        return JSONResponse({"error": "expected {}"}, status_code=400)
    press(item)
    return Response(status_code=204)


async def _events(request: Request, display: Display, closing: threading.Event) -> Response:
    """Server-sent events: the whole view at once and after each change, so that a reconnected page shows the truth."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody listens any more
            loop.call_soon_threadsafe(changed.set)

    async def stream() -> AsyncIterator[str]:
        stop = display.listen(wake)
        try:
            sent = -1
            while not closing.is_set() and not await request.is_disconnected():
                changed.clear()
                version, view = display.read()
                if version != sent:
                    sent = version
                    yield f"data: {view.to_json()}\n\n"
                try:
                    await asyncio.wait_for(changed.wait(), _KEEP_ALIVE_S)
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            stop()

    return StreamingResponse(stream(), media_type="text/event-stream")
