"""The kiosk page on loopback: serves the page, its state and the preview, and takes three kinds of press; no judgement.

Only the browser on this machine talks to it. Every answer forbids foreign content (CSP), every request must name us as
host, and a press must come from our own page: a page of another origin in the same browser can neither press nor look.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.config import KioskSettings
from edge.errors import ConfigError
from edge.log import Log
from edge.terminal.display import CancelPressed, CannotPressed, ConsentPressed, Display, Press, Preview
from edge.terminal.texts import STATIC, Language, consent_text

_BODY_LIMIT = 1024
_KEEP_ALIVE_S = 10.0
_PREVIEW_WAIT_S = 1.0
_PREVIEW_EACH_S = 1 / 15
_BOUNDARY = "vouch-frame"
_PAGES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/kiosk.css": ("kiosk.css", "text/css; charset=utf-8"),
    "/kiosk.js": ("kiosk.js", "text/javascript; charset=utf-8"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
    "/words.js": ("words.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


def build_app(
    display: Display, preview: Preview, press: Callable[[Press], None], *, port: int, closing: threading.Event
) -> ASGIApp:
    """The page as an ASGI application that answers only to our own loopback names and this port.

    Once `closing` is set, its endless answers end at the next nudge of the display.
    """
    pages = [Route(path, _page(STATIC / name, kind)) for path, (name, kind) in _PAGES.items()]
    app = Starlette(
        routes=[
            *pages,
            Route("/events", partial(_events, display=display, closing=closing)),
            Route("/preview.mjpg", partial(_preview, preview=preview, closing=closing)),
            Route("/api/consent-text", _consent_texts),
            Route("/api/consent", partial(_consent, press=press), methods=["POST"]),
            Route("/api/cancel", partial(_plain, press=press, item=CancelPressed()), methods=["POST"]),
            Route("/api/cannot", partial(_plain, press=press, item=CannotPressed()), methods=["POST"]),
        ]
    )
    return _Guard(app, port)


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
    ) -> None:
        self._socket = inherited or _listening(settings)
        self.port = int(self._socket.getsockname()[1])
        self.failed = False  # whether the thread ended by itself
        self._display = display
        self._closing = threading.Event()
        config = uvicorn.Config(
            build_app(display, preview, press, port=self.port, closing=self._closing),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=1,
            limit_concurrency=32,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="kiosk", daemon=True)

    @property
    def url(self) -> str:
        host = self._socket.getsockname()[0]
        return f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._closing.set()
        self._display.nudge()
        self._server.should_exit = True
        self._thread.join(4.0)
        self._socket.close()

    def _serve(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except Exception as exc:  # noqa: BLE001 - a page that fails must not take the session with it
            Log("terminal.kiosk").error("kiosk-failed", exc=exc)
            self.failed = True


class _Guard:
    """Refuses what does not come from our own page, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
        self._origins = {f"http://{host}" for host in self._hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            await send(message)

        refusal = self._refusal(request)
        answer = self._app if refusal is None else JSONResponse({"error": refusal}, status_code=403)
        await answer(scope, receive, send_guarded)

    def _refusal(self, request: Request) -> str | None:
        """1. Our own name as host (no DNS rebinding). 2. Our own page as origin. 3. JSON: no foreign form sends it."""
        if request.headers.get("host") not in self._hosts:
            return "another host"
        if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            return "another site"
        origin = request.headers.get("origin")
        if origin is not None and origin not in self._origins:
            return "another origin"
        if request.method == "POST" and request.headers.get("content-type") != "application/json":
            return "not JSON"
        return None


def _page(path: Path, kind: str) -> Callable[[Request], FileResponse]:
    def serve(_request: Request) -> FileResponse:
        return FileResponse(path, media_type=kind)

    return serve


async def _consent_texts(_request: Request) -> JSONResponse:
    return JSONResponse({language.value: consent_text(language) for language in Language})


async def _consent(request: Request, press: Callable[[Press], None]) -> Response:
    body = await _json_body(request)
    match body:
        case {"given": bool(given), "language": str(tag)} if len(body) == 2 and tag in {la.value for la in Language}:
            press(ConsentPressed(given, Language(tag)))
            return Response(status_code=204)
        case _:
            return JSONResponse({"error": "expected given and language"}, status_code=400)


async def _plain(request: Request, press: Callable[[Press], None], item: Press) -> Response:
    if await _json_body(request) != {}:
        return JSONResponse({"error": "expected {}"}, status_code=400)
    press(item)
    return Response(status_code=204)


async def _json_body(request: Request) -> Any:
    """The request's JSON; None where it is too long or no JSON."""
    data = b""
    with contextlib.suppress(ClientDisconnect):
        async for chunk in request.stream():
            data += chunk
            if len(data) > _BODY_LIMIT:
                return None
    try:
        return json.loads(data)
    except ValueError:
        return None


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


async def _preview(request: Request, preview: Preview, closing: threading.Event) -> Response:
    """The mirrored preview as a stream of JPEGs, at most 15 a second."""

    async def stream() -> AsyncIterator[bytes]:
        preview.watch()
        try:
            number = 0
            while not closing.is_set() and not await request.is_disconnected():
                found = await run_in_threadpool(preview.next_jpeg, number, _PREVIEW_WAIT_S)
                if found is None:
                    continue
                number, jpeg = found
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                yield head.encode() + jpeg + b"\r\n"
                await asyncio.sleep(_PREVIEW_EACH_S)
        finally:
            preview.unwatch()

    return StreamingResponse(stream(), media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY}")


def _listening(settings: KioskSettings) -> socket.socket:
    """ConfigError where another program has the port."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((settings.host, settings.port))
        sock.listen(64)
    except OSError as exc:
        sock.close()
        raise ConfigError(
            f"the page cannot be served at {settings.host}:{settings.port}: {exc.strerror}",
            todo="stop the other terminal or program that uses this port, or set [kiosk] port in terminal.toml",
        ) from exc
    return sock
