"""A terminal that gets a new pack while it works: the real child, the real self-test, restarts, crashes, the way back."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cli import main
from edge.clock import SystemClock
from edge.config import DEFAULT_PACK, load
from edge.errors import PackError, UpdateError, UpdateFault
from edge.ipc import Down, Inbound, Publish, Up
from edge.session.decision import Outcome
from edge.session.machine import Phase
from edge.terminal import updating
from edge.terminal.display import ConsentPressed
from edge.terminal.texts import Language
from edge.terminal.updating import open_vision
from edge.updates.install import install
from edge.updates.job import Job
from edge.updates.selftest import examine, run_checks
from edge.updates.shelf import MAX_STARTS, State, confirmed, shelf_of
from edge.vision.pack import Pack
from models.training.seal import seal
from simulator.carrier.updates import UpdateRepository, now
from simulator.observed import Actor
from tests.support.counter import Counter, ObservedPerson, opened
from tests.support.updating import variant
from tests.support.wires import Place, Process, UplinkEnd, enrolled, until
from tests.tiny_models import Output, build

pytestmark = pytest.mark.timeout(900)
OWN = tomllib.loads((DEFAULT_PACK / "pack.toml").read_text(encoding="utf-8"))["version"]


def blind(folder: Path) -> Path:
    """A pack that is whole and whose embedder takes everybody for everybody."""
    variant(folder, "9.9")
    answers = [Output((1, 128), bias=np.ones(128)), Output((1, 128))]  # a direction; nothing in common with the cohort
    (folder / "embedder.tflite").write_bytes(build(112, 112, answers))
    manifest = folder / "pack.toml"
    before, after = manifest.read_text().split("[embedder]\n")
    manifest.write_text(before + "[embedder]\n" + after.replace('dtype = "int8"', 'dtype = "float32"'))
    seal(folder)
    return folder


@pytest.fixture
def carrier(tmp_path: Path) -> UpdateRepository:
    repository = UpdateRepository(tmp_path / "repository", tmp_path / "offline", tmp_path / "online")
    repository.create(now())
    return repository


@pytest.fixture
def place(tmp_path: Path, carrier: UpdateRepository) -> Place:
    """A terminal whose spool is the carrier's own folder: what the uplink would have put there."""
    clip = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 30, (640, 480))
    clip.write(np.full((480, 640, 3), 90, np.uint8))
    clip.release()
    root = shutil.copy(carrier.first_root, tmp_path / "root.json")
    extra = f'\n[kiosk]\nport = 0\n[camera]\nsource = "file:{tmp_path / "clip.avi"}"\n'
    return enrolled(tmp_path, extra=f'{extra}[updates]\nroot = "{root}"\nspool = "{carrier.folder}"\n')


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updating, "LOOK_EACH_S", 0.2)


def counter(place: Place) -> Counter:
    """A terminal's start, with the pack that the shelf gives it."""
    pack, vision, updates = open_vision(place.settings, SystemClock().monotonic())
    vision.close()
    return Counter(place, ObservedPerson(Actor()), pack=pack, updating=updates)


def status(uplink: UplinkEnd, wanted) -> dict:
    message = uplink.expect(
        lambda m: isinstance(m, Publish) and m.topic is Up.STATUS and wanted(json.loads(m.payload)), 120
    )
    return json.loads(message.payload)


def session(terminal: Counter, uplink: UplinkEnd) -> Outcome:
    uplink.send(Inbound(Down.CHALLENGE, terminal.challenge()))
    until(lambda: terminal.view()["phase"] == Phase.CONSENT.value, 60)
    terminal.terminal.press(ConsentPressed(True, Language.EN))
    sent = uplink.expect(lambda m: isinstance(m, Publish) and m.topic is Up.RESULT, timeout_s=120)
    return opened(terminal.place, sent.payload).outcome


def overview(place: Place, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict]:
    capsys.readouterr()
    code = main(["update", "status", "--json", "--config", str(place.config)])
    return code, json.loads(capsys.readouterr().out)


def test_a_release_is_tested_taken_between_sessions_and_in_force_after_the_first(place, carrier, tmp_path, capsys):
    carrier.publish(now(), pack=variant(tmp_path / "next", "0.9"), policy=None)
    with counter(place) as terminal, UplinkEnd(place.settings.socket_path):
        assert terminal.join(300) == 4, "the process ends for the new pack, with nobody before it"
    code, told = overview(place, capsys)
    assert (code, told["trial"]["release"], told["release"]) == (0, 1, 0)
    with counter(place) as terminal, UplinkEnd(place.settings.socket_path) as uplink:
        assert session(terminal, uplink) is Outcome.MATCH
        seen = status(uplink, lambda s: s["updates"].get("release") == 1)
        assert "trial" not in seen["updates"]
    code, told = overview(place, capsys)
    assert (code, told["pack"]["version"], told["release"], told["trial"]) == (0, "0.9", 1, None)


def test_a_pack_that_takes_everybody_for_everybody_never_comes_and_the_carrier_hears_why(
    place, carrier, tmp_path, capsys
):
    carrier.publish(now(), pack=blind(tmp_path / "blind"), policy=None)
    with counter(place) as terminal, UplinkEnd(place.settings.socket_path) as uplink:
        until(lambda: overview(place, capsys)[1]["refused"] is not None, 300)
        assert session(terminal, uplink) is Outcome.MATCH, "service goes on"
        seen = status(uplink, lambda s: "refused" in s["updates"])
    assert (seen["updates"]["refused"]["fault"], seen["updates"]["refused"]["release"]) == ("self-test", 1)
    assert "strangers" in seen["updates"]["refused"]["why"]
    code, told = overview(place, capsys)
    assert (code, told["pack"]["version"]) == (1, OWN)


def test_a_pack_that_kills_the_process_is_rolled_back_after_three_starts(place, carrier, tmp_path, capsys) -> None:
    carrier.publish(now(), pack=variant(tmp_path / "next", "0.9"), policy=None)
    install(Job(place.settings), carrier.folder, self_test=lambda _: None)
    for number in range(MAX_STARTS):
        log = tmp_path / f"run-{number}.log"
        with Process("run", "--config", str(place.config), log=log) as process:
            until(lambda: any(e["event"] == "pack-on-trial" for e in process.events()), 100)
            process.kill()
    assert overview(place, capsys)[1]["trial"]["starts"] == MAX_STARTS
    with Process("run", "--config", str(place.config), log=tmp_path / "last.log") as process:
        until(lambda: any(e["event"] == "ready" for e in process.events()), 100)
        assert not any(e["event"] == "pack-on-trial" for e in process.events())
    code, told = overview(place, capsys)
    assert (code, told["pack"]["version"], told["refused"]["fault"]) == (1, OWN, "crashed")


def test_a_shop_that_closes_for_the_night_does_not_use_up_a_trial(place, carrier, tmp_path) -> None:
    carrier.publish(now(), pack=variant(tmp_path / "next", "0.9"), policy=None)
    install(Job(place.settings), carrier.folder, self_test=lambda _: None)
    for _ in range(MAX_STARTS + 2):
        with counter(place) as terminal:
            until(lambda: terminal.terminal.page is not None)
        assert terminal.exit_code == 0
    assert open_vision(place.settings, 0.0)[0].manifest.version == "0.9"


def test_a_pack_that_serves_ten_minutes_without_a_customer_is_in_force(place, carrier, tmp_path, monkeypatch, capsys):
    carrier.publish(now(), pack=variant(tmp_path / "next", "0.9"), policy=None)
    install(Job(place.settings), carrier.folder, self_test=lambda _: None)
    monkeypatch.setattr(updating, "CONFIRM_S", 0.5)
    with counter(place):
        until(lambda: overview(place, capsys)[1]["trial"] is None)
    assert overview(place, capsys)[1]["pack"]["version"] == "0.9"


def test_a_damaged_pack_in_force_is_told_and_nothing_older_is_taken_for_it(place, carrier, tmp_path, capsys) -> None:
    carrier.publish(now(), pack=variant(tmp_path / "next", "0.9"), policy=None)
    install(Job(place.settings), carrier.folder, self_test=lambda _: None)
    with counter(place) as terminal, UplinkEnd(place.settings.socket_path) as uplink:
        assert session(terminal, uplink) is Outcome.MATCH
    told = overview(place, capsys)[1]
    broken = place.settings.state_dir / "packs" / told["pack"]["digest"] / "detector.tflite"
    broken.write_bytes(broken.read_bytes()[:-1])
    with pytest.raises(PackError):
        open_vision(load(place.config), 0.0)
    code, told = overview(place, capsys)
    assert code == 1
    assert "truncated" in told["fault"]


def test_our_own_pack_passes_the_self_test_and_one_of_constant_answers_fails_it(tmp_path: Path) -> None:
    assert all(check.passed for check in run_checks(DEFAULT_PACK))
    failed = {check.name for check in run_checks(blind(tmp_path / "blind")) if not check.passed}
    assert failed == {"strangers are not"}


@pytest.fixture
def use(place: Place, capsys: pytest.CaptureFixture[str]) -> Callable[[Path | str], tuple[int, str]]:
    def run(folder: Path | str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(["models", "use", str(folder), "--config", str(place.config)])
        out = capsys.readouterr()
        return code, out.out + out.err

    return run


def test_a_pack_of_ones_own_is_copied_tested_and_taken_at_the_next_start(place, use, tmp_path) -> None:
    stick = variant(tmp_path / "stick", "3.1")
    code, said = use(stick)
    assert (code, "on trial" in said) == (0, True)
    shutil.rmtree(stick)
    assert open_vision(place.settings, 0.0)[0].manifest.version == "3.1"


def test_the_command_says_what_is_in_force_and_goes_back_to_the_built_in_pack(place, use, tmp_path) -> None:
    code, said = use(DEFAULT_PACK)
    assert (code, "is in force and stays so" in said) == (0, True)
    assert shelf_of(place.settings).state() == State()
    use(variant(tmp_path / "stick", "3.1"))
    shelf_of(place.settings).change(confirmed)
    assert open_vision(place.settings, 0.0)[0].manifest.version == "3.1"
    code, said = use("--built-in")
    assert (code, "is on trial" in said) == (0, True)
    code, said = use("--built-in")
    assert (code, "is on trial already" in said) == (0, True)
    pack, _, updating = open_vision(place.settings, 0.0)
    assert pack.digest == Pack.load(DEFAULT_PACK).digest
    assert updating.on_trial
    assert not updating.wants_restart
    updating.session_over(good=True)
    assert shelf_of(place.settings).state().pack is None


def test_the_command_looks_at_what_is_in_force_and_on_trial_and_built_in(place, use, tmp_path, capsys) -> None:
    def looked(step: str) -> str:
        capsys.readouterr()
        assert main(["models", step, "--config", str(place.config)]) == 0
        return capsys.readouterr().out

    assert looked("list").startswith("in force, built in: ")
    use(variant(tmp_path / "stick", "3.1"))
    shelf_of(place.settings).change(confirmed)
    use(variant(tmp_path / "other", "3.2"))
    for step in ("list", "verify"):
        told = looked(step)
        assert told.index("in force: ") < told.index(" 3.1") < told.index("on trial: ") < told.index(" 3.2")
        assert told.index(" 3.2") < told.index("built in: ") < told.index(f" {OWN}")
    use("--built-in")
    assert "on trial, built in: " in looked("list")


def test_a_broken_pack_of_ones_own_is_refused_with_everything_that_is_wrong(place, use, tmp_path) -> None:
    stick = variant(tmp_path / "stick", "3.1")
    manifest = stick / "pack.toml"
    text = manifest.read_text()
    text = text.replace('licence = "Apache-2.0"\n# One grid', "# One grid", 1)  # detector: licence
    text = text.replace("shape = [1, 276]", "shape = [1, 277]", 1)  # landmarks: shape
    text = text.replace('dtype = "int8"\ncolour = "rgb"', 'dtype = "float32"\ncolour = "rgb"', 3)  # types
    text = text.replace("{ fmr_ppm = 100, score", "{ fmr_ppm = 100000, score", 1)  # thresholds
    manifest.write_text(text)
    antispoof = bytearray((stick / "antispoof.tflite").read_bytes())
    antispoof[100] ^= 1
    (stick / "antispoof.tflite").write_bytes(antispoof)  # hash
    (stick / "embedder.tflite").write_bytes((stick / "embedder.tflite").read_bytes()[:-1])  # size
    code, said = use(stick)
    assert code == 2
    for wrong in (
        "detector.licence",
        "landmarks.tflite: input is [1, 128, 128, 3] int8, the manifest says [1, 128, 128, 3] float32",
        "output 0 is [1, 276]",
        "match must go from loose to strict",
        "antispoof.tflite has SHA-256",
        "embedder.tflite has",
        "detector.tflite: input is",
    ):
        assert wrong in said, said
    assert "what to do" in said
    assert not (place.settings.state_dir / "packs" / "state.json").exists()


def test_a_pack_of_ones_own_that_fails_its_self_test_is_refused(place, use, tmp_path) -> None:
    code, said = use(blind(tmp_path / "blind"))
    assert code == 2
    assert "strangers" in said
    assert "what to do: take a pack that passes" in said
    assert "carrier" not in said
    assert open_vision(place.settings, 0.0)[0].manifest.version == OWN


@pytest.mark.parametrize(
    ("child", "fault", "words"),
    [
        ("import os; os.kill(os.getpid(), 11)", UpdateFault.SELF_TEST, "SIGSEGV"),
        ("import os; os._exit(3)", UpdateFault.SELF_TEST, "ended with 3 and no report"),
        ("print('[]'); import sys; sys.exit(1)", UpdateFault.SELF_TEST, "fails its self-test"),
        ("print('nonsense')", UpdateFault.SELF_TEST, "no report"),
        ("import time; time.sleep(60)", UpdateFault.SLOW, "took longer"),
    ],
)
def test_a_model_that_crashes_or_hangs_takes_only_its_own_process_along(tmp_path, child, fault, words) -> None:
    limit_s = 3.0 if fault is UpdateFault.SLOW else 100.0
    with pytest.raises(UpdateError, match=words) as caught:
        examine(tmp_path, time_limit_s=limit_s, command=(sys.executable, "-c", child))
    assert caught.value.fault is fault


def test_a_model_that_computes_for_ever_is_ended_by_its_share_of_the_processor(tmp_path) -> None:
    child = (
        "from edge.updates import selftest; selftest.CPU_LIMIT_S = 1;\n"
        "def forever(_folder):\n    while True: pass\n"
        "selftest.run_checks = forever; selftest.main(['x'])"
    )
    with pytest.raises(UpdateError, match=r"SIGXCPU|SIGKILL") as caught:
        examine(tmp_path, time_limit_s=300.0, command=(sys.executable, "-c", child))
    assert caught.value.fault is UpdateFault.SELF_TEST
