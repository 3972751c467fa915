"""The record of packs as a state machine: whatever happens in whatever order, nothing untested or older is in force."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.config import UpdateSettings
from edge.errors import UpdateError, UpdateFault
from edge.session.decision import Policy
from edge.terminal import updating
from edge.updates.overview import Overview, lines_of
from edge.updates.release import Release, parse_release
from edge.updates.report import Report, leave, read
from edge.updates.shelf import MAX_STARTS, State, Trial, begun, confirmed, ended, given_back
from tests.support.updating import make_world


def digest(number: int) -> str:
    return f"{number:064x}"


class Life(RuleBasedStateMachine):
    """A terminal's life: installations, starts, crashes, orderly ends, proofs; power cuts are starts without an end."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State()
        self.number = 0
        self.running: str | None = ""  # none runs yet
        self.proved: set[str | None] = {None}
        self.crashes = 0
        self.floor = 0

    @rule(by_hand=st.booleans())
    def install(self, by_hand: bool) -> None:
        self.number += 1
        trial = Trial(pack=digest(self.number), release=None if by_hand else self.number)
        self.state = self.state.model_copy(update={"trial": trial, "refused": None})
        self.crashes = 0

    @precondition(lambda self: self.state.pack is not None)
    @rule()
    def go_back_to_the_built_in_pack(self) -> None:
        self.state = self.state.model_copy(update={"trial": Trial(pack=None), "refused": None})
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
        self.running = ""

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


TOLD = {"at_s": 1_700_000_000, "release": None, "fault": "slow", "why": "the server is too slow"}


def left(folder: Path, **changes: object) -> Report | None:
    (folder / "fetch.json").write_text(json.dumps(TOLD | changes))
    return read(folder)


def test_a_report_that_the_uplink_left_is_read(tmp_path: Path) -> None:
    assert left(tmp_path) == Report(1_700_000_000, None, UpdateFault.SLOW, "the server is too slow")


@pytest.mark.parametrize(
    "wrong",
    [
        {"at_s": 10**20},
        {"at_s": -(10**20)},
        {"at_s": -1},
        {"at_s": 253402300800},
        {"why": "\x1b]0;owned\x07"},
        {"why": "two\nlines"},
        {"why": "\u202eback"},
    ],
)
def test_a_report_that_root_s_console_should_not_show_is_none(tmp_path: Path, wrong: dict[str, object]) -> None:
    assert left(tmp_path, **wrong) is None


@given(at_s=st.integers(), why=st.text(max_size=300))
def test_whatever_a_report_says_the_technician_gets_a_line_that_prints(at_s: int, why: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = left(Path(folder), at_s=at_s, why=why)
    assert all(line.isprintable() for line in lines_of(Overview(None, "broken", State(), report, False, True)))


def test_the_latest_time_that_a_report_may_name_is_shown(tmp_path: Path) -> None:
    report = left(tmp_path, at_s=253402300799)
    assert lines_of(Overview(None, "broken", State(), report, False, True))[-1].startswith("fetched    9999-12-31")


def test_a_reason_that_does_not_print_is_left_as_one_that_does(tmp_path: Path) -> None:
    leave(tmp_path, Report(1, None, UpdateFault.UNREACHABLE, "bad status\n\x1b[2J " + "x" * 5000))
    assert read(tmp_path).why == ("bad status  [2J " + "x" * 5000)[:200]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("target", [None, "/dev/zero", "elsewhere.json"])
def test_a_report_that_is_no_plain_file_is_none_at_once(tmp_path: Path, target: str | None) -> None:
    (tmp_path / "elsewhere.json").write_text(json.dumps(TOLD))
    if target is None:
        os.mkfifo(tmp_path / "fetch.json")
    else:
        (tmp_path / "fetch.json").symlink_to(target)
    assert read(tmp_path) is None


@pytest.mark.timeout(60)
@pytest.mark.parametrize("target", [None, "/dev/zero"])
def test_a_terminal_does_not_wait_for_a_spool_that_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str | None
) -> None:
    updates = UpdateSettings(root=tmp_path / "root.json", spool=tmp_path)
    settings = make_world(tmp_path).job.settings.model_copy(update={"updates": updates})
    (tmp_path / "metadata").mkdir()
    timestamp = tmp_path / "metadata" / "timestamp.json"
    if target is None:
        os.mkfifo(timestamp)
    else:
        timestamp.symlink_to(target)
    children: list[list[str]] = []
    monkeypatch.setattr(updating.subprocess, "Popen", lambda command, **_: children.append(command))
    one = updating.Updating(settings, State(), 0.0)
    one.turn(31.0, idle=True, in_service=True, policy=Policy(id="p", version=1, digest=bytes(32)))
    assert children == []
    timestamp.unlink()
    timestamp.write_bytes(b"{}")
    one.turn(62.0, idle=True, in_service=True, policy=Policy(id="p", version=1, digest=bytes(32)))
    assert len(children) == 1


@given(st.binary(max_size=300) | _json.map(lambda value: json.dumps(value).encode()))
def test_whatever_lies_in_the_spool_as_a_report_is_read_or_ignored(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "fetch.json").write_bytes(raw)
        report = read(Path(folder))
    assert report is None or len(report.why) <= 200
