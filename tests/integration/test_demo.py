"""The whole house as `make demo` runs it: real broker, real processes, drawn people; and what happens when it is stopped."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from edge.config import DEFAULT_PACK
from simulator.broker import mosquitto_path
from simulator.processes import child_environment, python_module

DEMO = [*python_module("simulator.cli"), "demo"]


@pytest.fixture
def start(tmp_path):
    """Start the demo with its folder below `tmp_path`; whatever the test leaves is stopped by its id."""
    started = []

    def run(*options):
        out, err = (tmp_path / "out").open("wb"), (tmp_path / "err").open("wb")
        with out, err:
            started.append(
                subprocess.Popen(
                    [*DEMO, *options], stdout=out, stderr=err, env={**child_environment(), "TMPDIR": str(tmp_path)}
                )
            )
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(30)


def running_below(folder):
    """Processes whose command names the demo's folder, by reading /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if f"{folder}/vouch-" in command:
                found.append(command)
    return found


def wait_for(path, text, patience_s):
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if text in path.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(path.read_text())


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_stopped_leaves_no_process_and_no_file(start, tmp_path, how):
    demo = start()
    wait_for(tmp_path / "out", "enrolment", 60)
    assert running_below(tmp_path)
    demo.send_signal(how)
    assert demo.wait(40) == 130
    assert running_below(tmp_path) == []
    assert list(tmp_path.glob("vouch-*")) == []


def test_a_demo_whose_terminal_cannot_start_says_why_and_stops_everything(start, tmp_path):
    broken = tmp_path / "pack"
    broken.mkdir()
    (broken / "pack.toml").write_text("format = 1\n")
    demo = start("--pack", str(broken))
    assert demo.wait(100) == 2
    said = (tmp_path / "err").read_text()
    assert "the terminal does not start" in said
    assert "pack.toml" in said
    assert running_below(tmp_path) == []
    assert list(tmp_path.glob("vouch-*")) == []


@pytest.mark.parametrize(
    "options",
    [("--video", "nowhere.mp4", "--portrait", __file__), ("--video", __file__), ("--portrait", "nowhere.jpg")],
)
def test_real_input_that_is_not_there_is_refused_before_anything_starts(options):
    answer = subprocess.run([*DEMO, *options], check=False, capture_output=True, text=True, env=child_environment())
    assert answer.returncode == 2
    assert "what to do" in answer.stderr
    assert "Setting up" not in answer.stdout


@pytest.mark.timeout(900)
def test_three_sessions_end_as_they_must_and_the_carrier_verifies_each(start, tmp_path):
    if mosquitto_path() is None:
        pytest.skip("mosquitto is not installed")
    if not (DEFAULT_PACK / "pack.toml").is_file():
        pytest.skip("there is no model pack")
    demo = start("--json")
    code = demo.wait(850)
    told = (tmp_path / "err").read_text()
    assert code == 0, told
    answer = json.loads((tmp_path / "out").read_text())
    assert answer["as_expected"]
    right, other, printed = answer["sessions"]
    assert [one["outcome"] for one in answer["sessions"]] == ["match", "no-match", "liveness-fail"]
    for number, one in enumerate(answer["sessions"], 2):  # 1 is the self-test, by which the terminal was provisioned
        assert one["released"]
        assert one["result"]["trusted"]
        assert one["result"]["alarms"] == []
        assert one["result"]["counter"] == number
        assert one["result"]["bytes"] <= 1024
        assert one["result"]["claims"]["consent_given"]
    assert right["result"]["claims"]["match"] == "pass"
    assert right["result"]["claims"]["pad"] == "pass"
    assert other["result"]["claims"]["match"] == "fail"
    assert printed["result"]["claims"]["pad"] == "fail"
    assert printed["result"]["claims"]["match"] == "not-run"
    assert right["measured"]["scores"]["score"] > other["measured"]["scores"]["score"]
    assert "score" not in json.dumps(right["result"]["claims"])
