"""The technician's desk of the carrier, without a network: it answers for a carrier that is there, and makes none."""

from __future__ import annotations

import contextlib

import pytest

from edge.errors import ProvisioningError
from simulator.blind_terminal import BlindTerminal
from simulator.carrier.desk import enrol
from simulator.carrier.server import CarrierSettings
from tests.support.carrier_house import House


@pytest.fixture
def house(tmp_path):
    with contextlib.closing((house := House(tmp_path)).store):
        yield house


def settings(folder, keys="pki"):
    return CarrierSettings(folder / keys, folder / "carrier.sqlite", "localhost", 8883)


def test_keys_that_are_not_there_are_refused_and_nothing_is_made(tmp_path, house):
    asked = BlindTerminal(tmp_path / "new", site="shop", clock=house.clock).asked
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ProvisioningError, match="mistyped"):
        enrol(settings(tmp_path, "mistyped"), asked.message, site=None)
    assert sorted(tmp_path.iterdir()) == before
    assert house.store.terminals() == []


def test_an_answer_at_the_desk_says_nothing_of_terminals_that_are_no_matter_of_its(tmp_path, house, caplog):
    seen = house.terminal("seen")
    house.carrier.received(f"fv1/up/{seen.id}/status", b"{}")
    asked = BlindTerminal(tmp_path / "new", site="shop", clock=house.clock).asked
    caplog.clear()
    assert enrol(settings(tmp_path), asked.message, site=None).request == asked.request
    assert [record.message for record in caplog.records if record.levelname != "INFO"] == []
