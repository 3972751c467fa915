"""The record of packs as a state machine: whatever happens in whatever order, nothing untested or older is in force."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.errors import UpdateError, UpdateFault
from edge.updates.release import Release, parse_release
from edge.updates.report import read
from edge.updates.shelf import MAX_STARTS, State, Trial, begun, confirmed, ended, given_back


def digest(number: int) -> str:
    return f"{number:064x}"


class Life(RuleBasedStateMachine):
    """A terminal's life: installations, starts, crashes, orderly ends, proofs; power cuts are starts without an end."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State()
        self.number = 0
        self.running: str | None = None
        self.proved: set[str | None] = {None}
        self.crashes = 0
        self.floor = 0

    @rule(by_hand=st.booleans())
    def install(self, by_hand: bool) -> None:
        self.number += 1
        trial = Trial(pack=digest(self.number), release=None if by_hand else self.number)
        self.state = self.state.model_copy(update={"trial": trial, "refused": None})
        self.crashes = 0

    @rule()
    def start(self) -> None:
        before = self.state.trial
        self.state = begun(self.state)
        trial = self.state.trial
        self.running = trial.pack if trial else self.state.pack
        if before is not None:
            self.crashes += 1
            assert (trial is None) == (self.crashes > MAX_STARTS)

    @precondition(lambda self: self.state.trial is not None and self.running == self.state.trial.pack)
    @rule()
    def prove(self) -> None:
        self.proved.add(self.running)
        self.floor = max(self.floor, self.state.trial.release or 0)
        self.state = confirmed(self.state)
        assert self.state.pack == self.running

    @precondition(lambda self: self.state.trial is not None and self.running == self.state.trial.pack)
    @rule()
    def end_orderly(self) -> None:
        if self.state.trial.starts:
            self.crashes -= 1
        self.state = given_back(self.state)
        self.running = None

    @precondition(lambda self: self.state.trial is not None)
    @rule(fault=st.sampled_from(UpdateFault), why=st.text(max_size=400))
    def give_up(self, fault: UpdateFault, why: str) -> None:
        release = self.state.trial.release
        self.state = ended(self.state, fault, why)
        assert (self.state.refused.fault, self.state.refused.release) == (fault, release)

    @invariant()
    def only_what_proved_itself_is_in_force(self) -> None:
        assert self.state.pack in self.proved

    @invariant()
    def the_floor_never_falls(self) -> None:
        assert self.state.release == self.floor

    @invariant()
    def the_record_reads_back_as_it_was_written(self) -> None:
        assert State.model_validate_json(self.state.model_dump_json()) == self.state


TestLife = Life.TestCase


def parsed(raw: bytes) -> Release | None:
    """None where it is refused, and only in the way that a refusal may be."""
    refusal = None
    try:
        return parse_release(raw)
    except UpdateError as exc:
        refusal = exc
    assert refusal.fault is UpdateFault.MALFORMED
    assert refusal.todo
    return None


@given(st.binary(max_size=300))
def test_any_bytes_are_a_release_or_refused_with_what_to_do(raw: bytes) -> None:
    release = parsed(raw)
    if release is not None:
        assert parse_release(release.model_dump_json().encode()) == release


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
)


@given(
    st.fixed_dictionaries({}, optional={"format": _json, "release": _json, "pack": _json, "policy": _json, "x": _json})
)
def test_any_json_is_a_release_or_refused(told: dict) -> None:
    release = parsed(json.dumps(told).encode())
    if release is not None:
        assert type(told["release"]) is int
        assert all(name == "pack.toml" or name.endswith(".tflite") for name in release.pack)


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"[" * 4000,
        b'{"format":1,"release":0,"pack":[],"policy":true}',
        b'{"format":1,"release":1,"pack":[],"policy":false}',
        b'{"format":1,"release":"1","pack":[],"policy":true}',
        b'{"format":1,"release":1,"pack":["a.tflite"],"policy":true}',
        b'{"format":1,"release":1,"pack":["pack.toml","pack.toml"],"policy":true}',
        b'{"format":1,"release":1,"pack":["pack.toml","../a.tflite"],"policy":true}',
        b'{"format":1,"release":1,"pack":["pack.toml","/a.tflite"],"policy":true}',
        b'{"format":1,"release":1,"pack":["pack.toml","a/b.tflite"],"policy":true}',
        b'{"format":1,"release":1,"pack":["pack.toml",".tflite"],"policy":true}',
        b'{"format":2,"release":1,"pack":["pack.toml"],"policy":true}',
        b'{"format":1,"release":1,"pack":["pack.toml"],"policy":true,"more":1}',
    ],
)
def test_what_is_no_release_is_refused(wrong: bytes) -> None:
    with pytest.raises(UpdateError):
        parse_release(wrong)


def test_a_release_names_its_targets() -> None:
    release = Release(release=3, pack=["pack.toml", "a.tflite"], policy=True)
    assert release.targets() == ["pack/pack.toml", "pack/a.tflite", "policy.cose"]


@given(st.binary(max_size=300) | _json.map(lambda value: json.dumps(value).encode()))
def test_whatever_lies_in_the_spool_as_a_report_is_read_or_ignored(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "fetch.json").write_bytes(raw)
        report = read(Path(folder))
    assert report is None or len(report.why) <= 200
