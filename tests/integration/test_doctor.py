"""The doctor, alone and through a running terminal: each fault is shown by its own check, and nothing secret is told."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge.clock import SystemClock
from edge.config import DEFAULT_PACK, load
from edge.drivers.camera import open_source
from edge.errors import BusyError, ConfigError
from edge.evidence import messages
from edge.evidence.claims import Fresh, Mode
from edge.evidence.journal import Journal
from edge.ipc import Down, Inbound, Papers, Publish, Up
from edge.provisioning.doctor import Name
from edge.provisioning.examination import TIME_LIMIT_S
from edge.session.machine import Phase
from edge.terminal.alone import alone
from edge.terminal.doctor import examine, exit_code
from edge.terminal.workbench import HOLD_NAME
from simulator.observed import Actor
from tests.support.counter import Counter, ObservedPerson, opened, receipt_for
from tests.support.house import carrier, filmed_terminal, technician_place, uplink, verdicts
from tests.support.wires import REPOSITORY, Place, UplinkEnd, enrolled, until

ABSENT = '\n[kiosk]\nport = 0\n[technician]\nport = 0\n[camera]\nsource = "v4l2:97"\n'


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return enrolled(tmp_path, extra=ABSENT)


class WrongClock(SystemClock):
    """Of a board whose battery is empty."""

    def utc(self) -> int:
        return 1_000_000


def run_doctor(place: Place, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge.cli", "doctor", "--config", str(place.config), *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=150, check=False)


def secrets_of(place: Place) -> list[str]:
    """What no report may hold: every private key in the forms that text takes, and the PIN's hash."""
    found = []
    for path in [*place.config.parent.rglob("*.key"), *place.config.parent.rglob("*.pin")]:
        text = path.read_text()
        found += [line for line in text.splitlines() if len(line) > 20]
        body = "".join(line for line in text.splitlines() if not line.startswith("-"))
        if path.suffix == ".key":
            raw = base64.b64decode(body)
            found += [raw[36:68].hex(), base64.b64encode(raw[36:68]).decode()]
    assert found
    return found


@pytest.mark.timeout(200)
def test_alone_each_fault_is_shown_by_its_own_check(tmp_path: Path) -> None:
    place = enrolled(tmp_path, extra=ABSENT, enrolled_at=datetime.now(UTC) - timedelta(days=800))
    pack = place.config.parent / "pack"
    shutil.copytree(DEFAULT_PACK, pack, ignore=shutil.ignore_patterns("training", "evaluation", "__pycache__", "*.md"))
    model = pack / "landmarks.tflite"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    Journal.open(place.settings.journal_path, max_rows=100).close()
    with sqlite3.connect(place.settings.journal_path) as database:
        database.execute("UPDATE state SET head_ctr = 7")
    database.close()
    place.config.write_text(f'pack_dir = "{pack}"\n' + place.config.read_text())
    report = examine(load(place.config), clock=WrongClock())
    by_name = {check["name"]: check for check in report["checks"]}
    assert [check["name"] for check in report["checks"]] == [name.value for name in Name]
    assert by_name["camera-frames"]["verdict"] == "fail"
    assert "camera 97 cannot be opened" in by_name["camera-frames"]["says"]["en"]
    assert by_name["models"]["verdict"] == "fail"
    assert "landmarks.tflite" in by_name["models"]["says"]["en"]
    assert by_name["journal"]["verdict"] == "fail"
    assert "damaged" in by_name["journal"]["says"]["en"]
    assert by_name["clock"]["verdict"] == "fail"
    assert by_name["broker"]["verdict"] == "fail"
    assert by_name["camera-exposure"]["verdict"] == "not-possible", "what needs the camera is not blamed"
    assert exit_code(report) == 1
    assert report["took_s"] <= TIME_LIMIT_S
    later = examine(load(place.config))  # by the right clock
    assert verdicts(later)["certificate"] == "fail"
    assert verdicts(later)["clock"] != "fail"


@pytest.mark.timeout(150)
def test_the_command_alone_says_what_is_wrong_and_keeps_a_report(place: Place, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    done = run_doctor(place, "--lang", "zh", "--export", str(stick))
    assert done.returncode == 1, done.stderr
    assert "摄像头：帧率" in done.stdout
    (kept,) = stick.iterdir()
    report = json.loads(kept.read_text())
    assert report["by"] == "doctor"
    assert report["verdict"] == "fail"
    for secret in secrets_of(place):
        assert secret not in kept.read_text()


def test_what_cannot_be_examined_ends_with_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge.cli", "doctor", "--config", str(tmp_path / "none.toml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=100, check=False)
    assert done.returncode == 2
    assert "does not exist" in done.stderr


def test_a_report_that_has_no_place_is_refused_before_anything_is_examined(place: Place, tmp_path: Path) -> None:
    done = run_doctor(place, "--export", str(tmp_path / "gone" / "report.json"))
    assert done.returncode == 2
    assert "cannot be written: No such file" in done.stderr
    assert "examining" not in done.stderr


def test_two_doctors_do_not_meet(place: Place) -> None:
    with alone(place.settings.state_dir, wait_s=0), pytest.raises(ConfigError, match="another terminal or doctor"):
        examine(place.settings, open_camera=open_source)


@pytest.fixture
def counter(tmp_path: Path):
    place = enrolled(tmp_path, extra="\n[kiosk]\nport = 0\n[technician]\nport = 0\n")
    with Counter(place, ObservedPerson(Actor())) as counter:
        yield counter


@pytest.mark.timeout(150)
def test_a_self_test_goes_the_whole_road_and_only_the_signed_receipt_counts(counter: Counter) -> None:
    path = counter.place.settings.socket_path
    with UplinkEnd(path) as end:
        end.send(Papers(1_700_000_000, 2_000_000_000, 2_100_000_000))
        examination = counter.terminal.workbench.examine()
        sent = end.expect(lambda m: isinstance(m, Publish) and m.topic is Up.RESULT, timeout_s=40)
        claims = opened(counter.place, sent.payload)
        assert (claims.mode, claims.fresh) == (Mode.SELF_TEST, Fresh.NONE)
        assert not claims.consent_given
        end.send(Inbound(Down.RECEIPT, receipt_for(counter, sent.payload, cti=b"x" * 16)))  # of another result
        end.send(Inbound(Down.RECEIPT, receipt_for(counter, sent.payload)))
        report = examination.wait(60)
    found = {check.name: check for check in report.checks}
    assert found[Name.BROKER].finding == "received"
    assert found[Name.CLOCK].finding in {"wrong", "off", "unsynchronised", "agrees"}
    assert found[Name.CERTIFICATE].measured["days_left"] > 0


@pytest.mark.timeout(150)
def test_without_a_link_no_self_test_piles_up(counter: Counter) -> None:
    report = counter.terminal.workbench.examine().wait(60)
    found = {check.name: check for check in report.checks}
    assert found[Name.BROKER].finding == "no-uplink"
    assert counter.terminal._journal.pending_count() == 0


@pytest.mark.timeout(150)
def test_a_customer_goes_first(counter: Counter) -> None:
    with UplinkEnd(counter.place.settings.socket_path) as end:
        bench = counter.terminal.workbench
        assert bench.assist() is not None
        until(lambda: bench.wants_frames)
        end.send(Inbound(Down.CHALLENGE, counter.challenge()))
        until(lambda: counter.view()["phase"] == Phase.CONSENT.value, 40)
        assert not bench.wants_frames, "live focus ended: nobody sees the customer"
        assert bench.assist() is None
        with pytest.raises(BusyError, match="customer"):
            bench.examine()
        with pytest.raises(BusyError, match="customer"):
            examine(counter.place.settings)


@pytest.mark.timeout(150)
def test_out_of_service_starts_no_session_until_it_is_taken_back(counter: Counter) -> None:
    with UplinkEnd(counter.place.settings.socket_path) as end:
        counter.terminal.workbench.hold(True)
        until(lambda: counter.view()["fault"] == "technician")
        end.send(Inbound(Down.CHALLENGE, counter.challenge()))
        until(lambda: counter.terminal._desk.busy)
        assert counter.view()["phase"] == Phase.IDLE.value
        assert (counter.place.settings.state_dir / HOLD_NAME).exists()
        counter.terminal.workbench.hold(False)
        until(lambda: counter.view()["phase"] == Phase.CONSENT.value, 40)


@pytest.mark.timeout(150)
def test_out_of_service_survives_a_restart(place: Place) -> None:
    with Counter(place, ObservedPerson(Actor())) as counter:
        counter.terminal.workbench.hold(True)
        until(lambda: counter.view()["fault"] == "technician")
    with Counter(place, ObservedPerson(Actor())) as counter, UplinkEnd(place.settings.socket_path) as end:
        until(lambda: counter.view()["fault"] == "technician")
        end.send(Inbound(Down.CHALLENGE, counter.challenge()))
        until(lambda: counter.terminal._desk.busy)
        assert counter.view()["phase"] == Phase.IDLE.value
        counter.terminal.workbench.hold(False)
        until(lambda: counter.view()["phase"] == Phase.CONSENT.value, 40)


@pytest.mark.timeout(150)
def test_only_the_terminal_s_user_may_ask(counter: Counter) -> None:
    path = counter.place.settings.control_path
    until(path.exists)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    report = examine(counter.place.settings)
    assert report["by"] == "terminal"
    assert verdicts(report)["camera-sensor"] == "not-possible"


@pytest.mark.timeout(400)
def test_a_good_terminal_examined_while_it_runs(tmp_path: Path) -> None:
    place, url = technician_place(tmp_path)
    with (
        place.broker(),
        carrier(place) as http,
        filmed_terminal(place, url, "--idle", "target:2"),
        uplink(place),
    ):
        done = run_doctor(place, "--json")
        report = json.loads(done.stdout)
        found = verdicts(report)
        assert report["by"] == "terminal"
        assert found["broker"] == "pass", done.stdout
        assert found["self-match"] == "pass"
        assert found["certificate"] == "pass"
        assert found["models"] == "pass"
        # How many frames a busy machine draws is not the terminal's to answer for.
        assert [name for name, verdict in found.items() if verdict == "fail"] in ([], ["camera-frames"])
        assert done.returncode == int("fail" in found.values())
        (terminal,) = http.get("/api/terminals").json()
        assert terminal["results"] == 0
        assert terminal["self_tests"] >= 1  # a carrier asks a new terminal for one of its own, too
        result = next(one for one in http.get("/api/results").json() if one["claims"]["fresh"] == "none")
        assert (result["self_test"], result["alarms"], result["receipts"]) == (True, [], 1)
        envelope = http.get(f"/api/results/{result['digest']}").content
        assert messages.open_result(envelope, _result_key(place)).mode is Mode.SELF_TEST
        for secret in secrets_of(place):
            assert secret not in done.stdout


def _result_key(place: Place):
    from edge.evidence.signer import load_private_key

    return load_private_key(place.settings.keys.result_key).public_key()
