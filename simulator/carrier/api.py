"""The carrier over HTTP: JSON for the point of sale and for engineers, and one page; loopback only, no rules here."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge.clock import Clock
from edge.errors import LinkError, ProvisioningError, VouchError
from edge.evidence.claims import Mode, order_commitment
from edge.provisioning import qr
from edge.provisioning.enrolment import parse_request
from edge.session.decision import Outcome
from edge.words import word_of
from simulator.carrier.judgement import Alarm, Registration, registration
from simulator.carrier.pki import CarrierPki
from simulator.carrier.service import Carrier
from simulator.carrier.store import SELF_TEST, Order, Store, StoredAlarm, StoredResult, Terminal, json_object

_BODY_LIMIT = 12_000_000  # bytes: a portrait in base64
_PAGE_TYPES = {
    "index.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "enrol.html": "text/html",
    "enrol.js": "text/javascript",
}
_FOR_USE = {word_of(mode) for mode in Mode if mode not in (Mode.TRAINING, Mode.SELF_TEST)}
_OUTCOMES = {word_of(outcome): outcome for outcome in Outcome}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def create_app(
    carrier: Carrier,
    store: Store,
    pki: CarrierPki,
    clock: Clock,
    *,
    link_is_up: Callable[[], bool],
    broker: tuple[str, int],
) -> Starlette:
    """The application. `broker` (host, port) is what an enrolled terminal is told to connect to."""
    api = _Api(carrier, store, pki, clock, link_is_up, broker)
    routes = [
        Route("/api/overview", api.overview),
        Route("/api/terminals", api.terminals),
        Route("/api/requests", api.read_request, methods=["POST"]),
        Route("/api/enrolments", api.enrol, methods=["POST"]),
        Route("/api/orders", api.orders),
        Route("/api/orders", api.issue, methods=["POST"]),
        Route("/api/orders/{order}", api.order),
        Route("/api/results", api.results),
        Route("/api/results/{digest}", api.envelope),
        Route("/api/alarms", api.alarms),
        Route("/{name:path}", _page),
    ]
    # A page of another origin must not reach this port through a name of its own that points here.
    guard = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"], www_redirect=False)
    return Starlette(routes=routes, middleware=[guard], exception_handlers={VouchError: _refused})


class _Api:
    def __init__(
        self,
        carrier: Carrier,
        store: Store,
        pki: CarrierPki,
        clock: Clock,
        link_is_up: Callable[[], bool],
        broker: tuple[str, int],
    ) -> None:
        self._carrier = carrier
        self._store = store
        self._pki = pki
        self._clock = clock
        self._link_is_up = link_is_up
        self._broker = broker

    def overview(self, request: Request) -> Response:
        """Everything that the page shows; 204 while nothing changed since `?version=`."""
        now = self._clock.utc()
        living = sum(order.expires_at >= now for order in self._store.orders(50))
        version = f"{self._store.version()}-{living}-{int(self._link_is_up())}"
        if request.query_params.get("version") == version:
            return Response(status_code=204, headers=_HEADERS)
        return _json(
            {
                "version": version,
                "now": now,
                "broker": {"host": self._broker[0], "port": self._broker[1], "up": self._link_is_up()},
                "terminals": [self._terminal(item) for item in self._store.terminals()],
                "orders": [self._order(item) for item in self._store.orders(50)],
                "results": self._results(50),
                "alarms": [_alarm(item) for item in self._store.alarms(50)],
            }
        )

    def terminals(self, _request: Request) -> Response:
        return _json([self._terminal(item) for item in self._store.terminals()])

    async def enrol(self, request: Request) -> Response:
        """{request: base64 of a terminal's signed request, site: optional} -> bundle, code, QR codes."""
        body = await _body(request)
        site = body.get("site") or None
        if site is not None and not isinstance(site, str):
            raise ProvisioningError("the site is no text")
        message = _base64(body.get("request"), "the request")
        made = await run_in_threadpool(self._carrier.enrol, message, broker=self._broker, site=site)
        return _json(
            {
                "terminal": made.request.terminal_id.hex(),
                "fingerprint": made.request.fingerprint,
                "site": made.site,
                "code": made.code,
                "bundle": base64.b64encode(made.bundle).decode(),
                "pictures": [_picture(part) for part in qr.split(qr.Kind.BUNDLE, made.bundle)],
            },
            status=201,
        )

    async def read_request(self, request: Request) -> Response:
        """{parts: the texts of QR codes} or {request: base64} -> who asks, for a person to compare; nothing is kept."""
        body = await _body(request)
        parts, message = body.get("parts"), b""
        if parts is not None:
            if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts) or not parts:
                raise ProvisioningError("the parts are no texts")
            collector = qr.Collector(qr.Kind.REQUEST)
            found = [collector.add(part) for part in parts]
            message = next((whole for whole in found if whole is not None), b"")
            if not message:
                return _json({"seen": collector.seen, "total": collector.total, "missing": collector.missing})
        else:
            message = _base64(body.get("request"), "the request")
        asked = parse_request(message)
        return _json(
            {
                "terminal": asked.terminal_id.hex(),
                "fingerprint": asked.fingerprint,
                "purpose": asked.purpose.name.lower(),
                "key_store": asked.key_store.name.lower(),
                "hardware_model": asked.hardware_model,
                "software_version": asked.software_version,
                "site": asked.site,
                "request": base64.b64encode(message).decode(),
            }
        )

    def orders(self, _request: Request) -> Response:
        """The newest orders. Once one is answered, `registration` alone says what to do with its number."""
        return _json([self._order(item) for item in self._store.orders()])

    async def issue(self, request: Request) -> Response:
        """{terminal, order, portrait: base64 of JPEG or PNG, optional} -> the order, on its way to the terminal."""
        body = await _body(request)
        terminal, reference, portrait = body.get("terminal"), body.get("order"), body.get("portrait")
        if not isinstance(terminal, str) or not isinstance(reference, str):
            raise ProvisioningError("an order names a terminal and an order, both text")
        picture = None
        if portrait is not None:
            picture = _base64(portrait, "the portrait")
        order = await run_in_threadpool(self._carrier.issue_order, terminal, reference, picture)
        return _json(self._order(order), status=201)

    def order(self, request: Request) -> Response:
        """The order as in the list, and the first result that answered it."""
        order = self._store.order(request.path_params["order"])
        if order is None:
            return _json({"error": "no such order"}, status=404)
        result = self._store.result_for(order.nonce)
        return _json({**self._order(order), "result": self._result(result) if result else None})

    def results(self, request: Request) -> Response:
        """All, or with `?order=` those of one order number: a ticket's result is found by its commitment."""
        wanted = request.query_params.get("order")
        if wanted is None:
            return _json(self._results(200))
        found = [item for item in self._store.results(10_000) if self._order_number(item, [wanted]) == wanted]
        return _json([self._result(item) for item in found])

    def envelope(self, request: Request) -> Response:
        """The signed bytes as they came, for `vouch evidence verify`."""
        try:
            result = self._store.result(bytes.fromhex(request.path_params["digest"]))
        except ValueError:
            result = None
        if result is None:
            return _json({"error": "no such result"}, status=404)
        return Response(result.envelope, media_type="application/cose; cose-type=cose-sign1", headers=_HEADERS)

    def alarms(self, _request: Request) -> Response:
        return _json([_alarm(item) for item in self._store.alarms()])

    def _terminal(self, terminal: Terminal) -> dict[str, Any]:
        results, self_tests = self._store.count(terminal.id)
        return {
            "id": terminal.id,
            "site": terminal.site,
            "enrolled_at": terminal.enrolled_at,
            "seen_at": terminal.seen_at,
            "retired_at": self._store.retired_at(terminal.id),
            "results": results,
            "self_tests": self_tests,
            "status": _status(terminal.status) if terminal.status else None,
        }

    def _order(self, order: Order) -> dict[str, Any]:
        result = self._store.result_for(order.nonce)
        unanswered = "waiting" if self._clock.utc() <= order.expires_at else "expired"
        return {
            "id": order.id,
            "terminal": order.terminal,
            "order": order.reference,
            "self_test": order.reference == SELF_TEST,
            "session": order.session.hex(),
            "issued_at": order.issued_at,
            "expires_at": order.expires_at,
            "state": "answered" if result else unanswered,
            "outcome": result.claims.get("outcome", "unreadable") if result else None,
            "trusted": result.trusted if result else None,
            "registration": _registration(result) if result else None,
        }

    def _results(self, limit: int) -> list[dict[str, Any]]:
        return [self._result(item) for item in self._store.results(limit)]

    def _result(self, result: StoredResult) -> dict[str, Any]:
        return {
            "terminal": result.terminal,
            "order": self._order_number(result, self._store.references(result.terminal)),
            "counter": result.ctr,
            "digest": result.digest.hex(),
            "bytes": len(result.envelope),
            "signature": "valid",  # nothing else is ever stored
            "trusted": result.trusted,
            "self_test": result.claims.get("mode") == "self-test",
            "registration": _registration(result),
            "alarms": [_kind(alarm) for alarm in self._store.alarms_about(result.digest)],
            "received_at": result.received_at,
            "times": result.times,
            "receipts": result.receipts,
            "claims": dict(result.claims),
        }

    def _order_number(self, result: StoredResult, candidates: Iterable[str]) -> str | None:
        """The order that a result answers: its challenge's, or the candidate that a ticket's result commits to."""
        order = self._store.order_of(result.nonce)
        if order is None or not order.ticket:
            return order.reference if order else None
        tag = result.claims.get("order_commitment")
        return next((one for one in candidates if order_commitment(result.nonce, one).hex() == tag), None)


def _registration(result: StoredResult) -> str:
    """allowed, review or refused. That a result is trusted and a match is not enough: it may be practice.

    What the record does not say, or in words of a later carrier, allows nothing.
    """
    outcome = _OUTCOMES.get(result.claims.get("outcome", ""))
    if outcome is None:
        return Registration.REFUSED.value
    return registration(outcome, trusted=result.trusted and result.claims.get("mode") in _FOR_USE).value


def _status(text: str) -> dict[str, Any]:
    status = json_object(text)
    return {"unreadable": f"{len(text)} characters"} if status is None else status


def _kind(alarm: StoredAlarm) -> str:
    return alarm.kind.value if isinstance(alarm.kind, Alarm) else alarm.kind


def _base64(value: object, what: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)  # type: ignore[arg-type]
    except (TypeError, binascii.Error, ValueError) as exc:
        raise ProvisioningError(f"{what} is not base64") from exc


def _picture(part: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(qr.svg(part).encode()).decode()


def _alarm(alarm: StoredAlarm) -> dict[str, Any]:
    return {
        "at": alarm.at,
        "terminal": alarm.terminal,
        "kind": _kind(alarm),
        "detail": alarm.detail,
        "digest": alarm.digest.hex() if alarm.digest else None,
        "closed_at": alarm.closed_at,
    }


def _page(request: Request) -> Response:
    name = request.path_params["name"] or "index.html"
    if name not in _PAGE_TYPES:
        return _json({"error": "no such page"}, status=404)
    content = files("simulator.carrier").joinpath("static", name).read_bytes()
    return Response(content, media_type=_PAGE_TYPES[name], headers=_HEADERS)


async def _body(request: Request) -> dict[str, Any]:
    """A JSON object. The content type is asked for because a foreign page cannot send it without our consent."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise ProvisioningError("send application/json")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > _BODY_LIMIT:
            raise ProvisioningError(f"more than {_BODY_LIMIT} bytes")
    try:
        body = json.loads(data)
        json.dumps(body, ensure_ascii=False).encode()  # half of a UTF-16 pair is no text, but json reads it
    except (ValueError, RecursionError) as exc:
        raise ProvisioningError("the body is no JSON") from exc
    if not isinstance(body, dict):
        raise ProvisioningError("the body is no JSON object")
    return body


def _refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, VouchError):
        raise error
    status = 503 if isinstance(error, LinkError) else 400
    return _json({"error": error.message, "todo": error.todo}, status=status)


def _json(content: Any, status: int = 200) -> JSONResponse:
    return JSONResponse(content, status_code=status, headers=_HEADERS)
