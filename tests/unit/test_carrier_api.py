"""The carrier over HTTP without a port: what the point of sale is told, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3

import httpx
import pytest

from edge.evidence.claims import Mode
from edge.session.decision import Outcome
from simulator.carrier.api import create_app
from simulator.carrier.store import Store, Terminal
from tests.support.carrier_house import House


class Http:
    """Calls of the application; what it raises comes out here."""

    def __init__(self, house):
        self._app = create_app(
            *(house.carrier, house.store, house.pki, house.clock), link_is_up=lambda: True, broker=("localhost", 8883)
        )

    def get(self, path, **options):
        return asyncio.run(self._call("GET", path, **options))

    def post(self, path, **options):
        return asyncio.run(self._call("POST", path, **options))

    async def _call(self, method, path, **options):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self._app), base_url="http://localhost") as client:
            return await client.request(method, path, **options)


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path)
    yield house
    house.store.close()


@pytest.fixture
def http(house):
    return Http(house)


@pytest.mark.parametrize(
    "body",
    [rb'{"terminal":"\ud800","order":"a"}', rb'{"\ud800":1}', b"[" * 100_000, b"{"],
    ids=["half of a pair", "such a name", "open brackets", "unfinished"],
)
def test_a_body_that_is_no_json_is_refused_with_a_reason(http, body):
    answer = http.post("/api/orders", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]) == (400, "the body is no JSON")


@pytest.mark.parametrize("status", [b'{"a":NaN}', rb'{"a":"\ud800"}', b'{"a":' + b"[" * 900 + b"]" * 900 + b"}"])
def test_no_status_of_one_terminal_takes_the_page_from_the_others(house, http, status):
    terminal = house.terminal()
    house.carrier.received(f"fv1/up/{terminal.id}/status", status)
    for path in ("/api/overview", "/api/terminals"):
        assert http.get(path).status_code == 200


@pytest.mark.parametrize(
    ("mode", "outcome", "registration"),
    [
        (Mode.TRAINING, Outcome.MATCH, "refused"),
        (Mode.PRODUCTION, Outcome.MATCH, "allowed"),
        (Mode.PRODUCTION, Outcome.NO_MATCH, "refused"),
    ],
)
def test_the_list_of_orders_says_what_may_be_registered_as_the_order_itself_does(
    house, http, mode, outcome, registration
):
    terminal = house.terminal()
    challenge = house.order(terminal)
    (waiting,) = http.get("/api/orders").json()
    assert (waiting["state"], waiting["registration"]) == ("waiting", None)
    house.deliver(terminal, terminal.answer(challenge, outcome, mode=mode))
    (answered,) = http.get("/api/orders").json()
    assert (answered["trusted"], answered["registration"]) == (True, registration)
    alone = http.get(f"/api/orders/{answered['id']}").json()
    assert alone["registration"] == alone["result"]["registration"] == registration


def test_the_page_hears_of_what_another_process_wrote(house, http):
    version = http.get("/api/overview").json()["version"]
    assert http.get("/api/overview", params={"version": version}).status_code == 204
    with contextlib.closing(Store(house.folder / "carrier.sqlite")) as other:
        other.add_terminal(Terminal("f" * 32, "shop b", "", "", house.clock.now))
    news = http.get("/api/overview", params={"version": version})
    assert [terminal["site"] for terminal in news.json()["terminals"]] == ["shop b"]
    assert http.get("/api/overview", params={"version": news.json()["version"]}).status_code == 204


@pytest.mark.parametrize(
    "damage",
    [
        "INSERT INTO alarms(at, terminal, kind, detail) VALUES (1, 'f', 'a later kind', 'what it means')",
        "UPDATE terminals SET status='no json'",
        """UPDATE terminals SET status='{"a":NaN}'""",
        "UPDATE terminals SET status='[1]'",
        "UPDATE terminals SET status=CAST(x'ff' AS TEXT)",
        "UPDATE results SET claims='{'",
        "UPDATE results SET claims='{}'",
        "UPDATE results SET claims='[]'",
        "UPDATE results SET claims=CAST(x'ff' AS TEXT)",
        """UPDATE results SET claims=json_set(claims, '$.outcome', 'a later outcome')""",
        """UPDATE results SET claims=json_set(claims, '$.mode', 'a later mode')""",
        """UPDATE results SET claims=json_remove(claims, '$.outcome')""",
    ],
)
def test_a_record_that_cannot_be_read_takes_nothing_else_from_the_page_and_allows_nothing(house, http, damage):
    terminal = house.terminal()
    challenge = house.order(terminal)
    house.carrier.received(f"fv1/up/{terminal.id}/status", b'{"state": "idle"}')
    house.deliver(terminal, terminal.answer(challenge, mode=Mode.PRODUCTION))
    with contextlib.closing(sqlite3.connect(house.folder / "carrier.sqlite")) as db, db:
        db.execute(damage)
    for path in ("/api/terminals", "/api/orders", "/api/results", "/api/alarms"):
        assert http.get(path).status_code == 200
    seen = http.get("/api/overview").json()
    assert [len(seen[what]) for what in ("terminals", "orders", "results")] == [1, 1, 1]
    allowed = "results" not in damage
    assert (seen["results"][0]["registration"] == "allowed") is allowed
    assert (seen["orders"][0]["registration"] == "allowed") is allowed
    if "alarms" in damage:
        assert seen["alarms"][0]["kind"] == "a later kind"
