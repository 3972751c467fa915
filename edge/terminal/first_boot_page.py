"""What the kiosk page asks of a terminal at its first boot: pictures of the request, and three presses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge.provisioning import qr
from edge.provisioning.handover import CODE_LIMIT
from edge.terminal.display import AnewPressed, AnswerPressed, CodeTyped, Display, Press
from edge.terminal.web import json_body


def routes(display: Display, press: Callable[[Press], None]) -> list[Route]:
    return [
        Route("/enrol/request-{number:int}.svg", partial(_picture, display=display)),
        Route("/api/enrol/code", partial(_code, press=press), methods=["POST"]),
        Route("/api/enrol/answer", partial(_answer, press=press), methods=["POST"]),
        Route("/api/enrol/anew", partial(_anew, press=press), methods=["POST"]),
    ]


async def _picture(request: Request, display: Display) -> Response:
    """One QR code of the request, numbered from 1."""
    enrolment = display.read()[1].enrolment
    parts = enrolment.parts if enrolment is not None else ()
    number = int(request.path_params["number"])
    if not 1 <= number <= len(parts):
        return Response(status_code=404)
    return Response(qr.svg(parts[number - 1], error="l"), media_type="image/svg+xml")


async def _code(request: Request, press: Callable[[Press], None]) -> Response:
    match await json_body(request):
        case {"code": str(code), **rest} if not rest and 1 <= len(code) <= CODE_LIMIT:
            press(CodeTyped(code))
            return Response(status_code=204)
        case _:
            return JSONResponse({"error": "expected code"}, status_code=400)


async def _answer(request: Request, press: Callable[[Press], None]) -> Response:
    match await json_body(request):
        case {"on": bool(on), **rest} if not rest:
            press(AnswerPressed(on))
            return Response(status_code=204)
        case _:
            return JSONResponse({"error": "expected on"}, status_code=400)


async def _anew(request: Request, press: Callable[[Press], None]) -> Response:
    if await json_body(request) != {}:
        return JSONResponse({"error": "expected {}"}, status_code=400)
    press(AnewPressed())
    return Response(status_code=204)
