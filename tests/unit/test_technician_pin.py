"""The technician's PIN: kept slowly, guessed ever more slowly, whatever is restarted or cut in between."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.errors import ProvisioningError
from edge.provisioning import pin
from edge.provisioning.pin import PinGate, set_pin

RIGHT, WRONG = "739201", "111213"


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def monotonic(self) -> float:
        return self.now

    def utc(self) -> int:
        return 0

    def is_synchronised(self) -> bool:
        return False


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """The cost is stored with the hash; here it need not be slow."""
    monkeypatch.setattr(pin, "_COST", 2**4)


def test_the_right_pin_opens_and_no_other(tmp_path: Path) -> None:
    set_pin(tmp_path, RIGHT)
    gate = PinGate(tmp_path, Clock())
    assert gate.opens(RIGHT)
    assert not gate.opens(WRONG)
    assert not gate.opens("")
    assert gate.opens(RIGHT)


def test_without_a_pin_nobody_gets_in(tmp_path: Path) -> None:
    gate = PinGate(tmp_path, Clock())
    assert not gate.is_set
    assert not gate.opens("")


@pytest.mark.parametrize("bad", ["", "12345", "1234567890123", "12ab56", "111111", "123456", "987654", "１２３９８７"])
def test_a_weak_or_odd_pin_is_refused_and_the_old_one_stays(tmp_path: Path, bad: str) -> None:
    set_pin(tmp_path, RIGHT)
    with pytest.raises(ProvisioningError, match="no good PIN"):
        set_pin(tmp_path, bad)
    assert PinGate(tmp_path, Clock()).opens(RIGHT)


def test_neither_file_holds_the_pin_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    set_pin(tmp_path, RIGHT)
    PinGate(tmp_path, Clock()).opens(WRONG)
    for path in tmp_path.iterdir():
        assert RIGHT not in path.read_text()
        assert path.stat().st_mode & 0o077 == 0


def test_each_wrong_attempt_after_the_third_waits_twice_as_long(tmp_path: Path) -> None:
    set_pin(tmp_path, RIGHT)
    clock = Clock()
    gate = PinGate(tmp_path, clock)
    waits = []
    for _ in range(14):
        assert not gate.opens(WRONG)
        waits.append(gate.wait_s())
        clock.now += gate.wait_s()
    assert waits == [0, 0, *(min(3600.0, 5.0 * 2**n) for n in range(12))]


def test_while_it_waits_even_the_right_pin_is_not_looked_at(tmp_path: Path) -> None:
    set_pin(tmp_path, RIGHT)
    clock = Clock()
    gate = PinGate(tmp_path, clock)
    for _ in range(3):
        gate.opens(WRONG)
    assert not gate.opens(RIGHT)
    clock.now += 5.1
    assert gate.opens(RIGHT)
    assert gate.wait_s() == 0


def test_a_restart_begins_the_wait_anew_and_forgets_no_attempt(tmp_path: Path) -> None:
    set_pin(tmp_path, RIGHT)
    gate = PinGate(tmp_path, Clock())
    for _ in range(3):
        gate.opens(WRONG)
    again = PinGate(tmp_path, Clock())
    assert again.wait_s() == 5.0
    assert not again.opens(RIGHT)


def test_a_new_pin_opens_at_once_however_often_the_old_one_was_guessed(tmp_path: Path) -> None:
    set_pin(tmp_path, RIGHT)
    clock = Clock()
    gate = PinGate(tmp_path, clock)
    for _ in range(12):
        gate.opens(WRONG)
        clock.now += gate.wait_s()
    gate.opens(WRONG)
    assert gate.wait_s() == 3600.0
    set_pin(tmp_path, "802915")  # as `vouch technician pin` does, in another process
    assert gate.wait_s() == 0
    assert not gate.opens(RIGHT)
    assert gate.wait_s() == 0, "the count began anew"
    assert gate.opens("802915")


def test_what_is_no_text_is_a_wrong_pin_like_any_other(tmp_path: Path) -> None:
    set_pin(tmp_path, RIGHT)
    gate = PinGate(tmp_path, Clock())
    assert not gate.opens("\ud800")
    assert json.loads((tmp_path / pin.ATTEMPTS_NAME).read_text()) == {"wrong": 1}


def test_an_attempt_is_on_the_disk_before_it_is_judged(tmp_path: Path, monkeypatch) -> None:
    set_pin(tmp_path, RIGHT)
    gate = PinGate(tmp_path, Clock())

    def cut(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(pin, "_hash", cut)
    with pytest.raises(KeyboardInterrupt):
        gate.opens(WRONG)
    assert json.loads((tmp_path / pin.ATTEMPTS_NAME).read_text()) == {"wrong": 1}


def test_attempts_that_cannot_be_written_down_are_not_judged(tmp_path: Path, monkeypatch) -> None:
    set_pin(tmp_path, RIGHT)
    gate = PinGate(tmp_path, Clock())

    def full(*_: object) -> None:
        raise ProvisioningError("the disk is full")

    monkeypatch.setattr(pin, "_write", full)
    with pytest.raises(ProvisioningError):
        gate.opens(RIGHT)


def test_damaged_files_let_nobody_in(tmp_path: Path) -> None:
    set_pin(tmp_path, RIGHT)
    (tmp_path / pin.ATTEMPTS_NAME).write_text("?")
    assert PinGate(tmp_path, Clock()).wait_s() == 3600.0
    (tmp_path / pin.ATTEMPTS_NAME).unlink()
    (tmp_path / pin.PIN_NAME).write_text("{}")
    assert not PinGate(tmp_path, Clock()).opens(RIGHT)


DAMAGES = {
    "salt": ["zz", "", 5, None],
    "hash": ["zz", "00", [], None],
    "scrypt": [[], [16, 8], [16, 8, 1, 1], ["16", 8, 1], [15, 8, 1], [0, 8, 1], [2**40, 8, 1], [16, 2**40, 1], 5],
    "v": [2, "1", None],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in DAMAGES.items() for value in values])
def test_a_pin_file_with_a_damaged_field_lets_nobody_in_and_nothing_falls_over(tmp_path: Path, field, value) -> None:
    set_pin(tmp_path, RIGHT)
    path = tmp_path / pin.PIN_NAME
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {field: value}))
    assert not PinGate(tmp_path, Clock()).opens(RIGHT)
    del kept[field]
    path.write_text(json.dumps(kept))
    assert not PinGate(tmp_path, Clock()).opens(RIGHT)


@pytest.mark.parametrize("text", ["[" * 60000, "[]", "5", "null", '"v"', "1" * 5000])
def test_a_pin_file_of_another_shape_lets_nobody_in(tmp_path: Path, text: str) -> None:
    (tmp_path / pin.PIN_NAME).write_text(text)
    assert not PinGate(tmp_path, Clock()).opens(RIGHT)


@pytest.mark.parametrize(
    "text", ['{"wrong": 1e400}', '{"wrong": NaN}', '{"wrong": -3}', '{"wrong": true}', '{"wrong": "2"}', "[" * 60000]
)
def test_a_damaged_count_of_attempts_makes_the_longest_wait(tmp_path: Path, text: str) -> None:
    set_pin(tmp_path, RIGHT)
    (tmp_path / pin.ATTEMPTS_NAME).write_text(text)
    assert PinGate(tmp_path, Clock()).wait_s() == 3600.0
