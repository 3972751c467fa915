"""What the terminal's pages share: who may ask, the headers on every answer, a server in a thread; no page lives here.

A page is reached by its own addresses only. Every answer forbids foreign content (CSP), every request must name us as
host, and a press must come from our own page: a page of another origin in the same browser can neither press nor look.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.errors import ConfigError
from edge.log import Log
from edge.terminal.display import Preview

_BODY_LIMIT = 1024
_PREVIEW_WAIT_S = 1.0
_PREVIEW_EACH_S = 1 / 20  # from picture to picture: the next frame of a camera of 30 a second keeps it above 15
_BOUNDARY = "vouch-frame"
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


class Guard:
    """Refuses what does not come from our own page, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        """`hosts`: the values of the Host header, with port, that are ours."""
        self._app = app
        self._hosts = frozenset(hosts)
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


class PageServer:
    """An application in a thread of its own, on sockets that listen already."""

    def __init__(self, app: ASGIApp, sockets: Sequence[socket.socket], *, name: str) -> None:
        self.failed = False  # whether the thread ended by itself
        self._sockets = list(sockets)
        self._name = name
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=1,
            limit_concurrency=32,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End within seconds. Endless answers must have been told to end before."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(4.0)
        for sock in self._sockets:
            sock.close()

    def _serve(self) -> None:
        try:
            self._server.run(sockets=self._sockets)
        except Exception as exc:  # noqa: BLE001 - a page that fails must not take the session with it
            Log(f"terminal.{self._name}").error(f"{self._name}-failed", exc=exc)
            self.failed = True


def loopback_hosts(port: int) -> set[str]:
    """Values of the Host header by which a browser on this machine may call us."""
    return {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}


def file_answer(path: Path, kind: str) -> Callable[[Request], FileResponse]:
    """An endpoint that answers with this file, as this media type."""

    def serve(_request: Request) -> FileResponse:
        return FileResponse(path, media_type=kind)

    return serve


async def json_body(request: Request) -> Any:
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


async def mjpeg(
    request: Request, preview: Preview, closing: threading.Event, allowed: Callable[[], bool] = lambda: True
) -> Response:
    """The preview as a stream of JPEGs, at most 20 a second; it ends when `allowed`, asked before each, says no."""

    async def stream() -> AsyncIterator[bytes]:
        preview.watch()
        try:
            number, due_s = 0, 0.0
            while not closing.is_set() and not await request.is_disconnected():
                found = await run_in_threadpool(preview.next_jpeg, number, _PREVIEW_WAIT_S)
                if not allowed():  # asked after the wait: the picture that ended it may be a second younger
                    return
                if found is None:
                    continue
                number, jpeg = found
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                yield head.encode() + jpeg + b"\r\n"
                now = asyncio.get_running_loop().time()
                due_s = max(now, due_s + _PREVIEW_EACH_S)
                await asyncio.sleep(due_s - now)
        finally:
            preview.unwatch()

    return StreamingResponse(stream(), media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY}")


def listening(host: str, port: int, *, section: str) -> socket.socket:
    """A listening socket.

    ConfigError where another program has the port or the address is not there; `section` is of terminal.toml.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as exc:  # under systemd this process may open none
        raise ConfigError(
            f"no socket may be opened: {exc.strerror}", todo=f"let systemd open it: enable vouch-{section}.socket"
        ) from exc
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(64)
    except OSError as exc:
        sock.close()
        raise ConfigError(
            f"the page cannot be served at {host}:{port}: {exc.strerror}",
            todo=f"stop the other terminal or program that uses this port, or set [{section}] port in terminal.toml",
        ) from exc
    return sock
