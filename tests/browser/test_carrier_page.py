"""The carrier's page in a real browser: an answer that is none of its news is shown, and never passed over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.carrier.api import create_app
from tests.browser.states import CHROMIUM, chromium
from tests.support.carrier_house import House, served

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed (name one with VOUCH_CHROMIUM)"),
    pytest.mark.timeout(240),
]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.store.close()


@pytest.fixture
def address(house: House) -> Iterator[str]:
    app = create_app(
        *(house.carrier, house.store, house.pki, house.clock), link_is_up=lambda: True, broker=("localhost", 8883)
    )
    with served(app) as address:
        yield f"{address}/"


def test_the_page_says_that_it_is_old_while_the_carrier_answers_with_an_error(address: str) -> None:
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(address)
        page.wait_for_selector("#link.good")
        page.route("**/api/overview*", lambda route: route.fulfill(status=500, body="Internal Server Error"))
        page.wait_for_selector("#link.bad")
        assert "error (500)" in page.inner_text("#link")
        page.unroute("**/api/overview*")
        page.wait_for_selector("#link.good")


def test_a_result_whose_claims_are_damaged_is_shown_as_that_beside_the_others(house: House, address: str) -> None:
    terminal = house.terminal()
    for _ in range(2):
        house.deliver(terminal, terminal.answer(house.order(terminal)))
    house.store._write("UPDATE results SET claims='{' WHERE ctr=1", ())
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(address)
        page.wait_for_selector("#link.good")
        cards = [card.inner_text() for card in page.query_selector_all("#results article")]
    assert len(cards) == 2
    assert "damaged" in cards[1]
    assert "do not register" in cards[1]
    assert "turn-left done" in cards[0]
