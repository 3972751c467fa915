"""Whole sessions in virtual time with the shipped models: an honest person, a virtual camera, a recording replayed."""

import json
from pathlib import Path

import pytest

from edge.config import DEFAULT_PACK
from edge.session.decision import Outcome, Reason
from simulator.cli import main
from simulator.play import Terminal, play, replay, save
from simulator.scenario import load, parse
from simulator.study.session import summed_up

pytestmark = pytest.mark.timeout(600)  # drawing a session takes some ten seconds of one core


@pytest.fixture(scope="module")
def terminal() -> Terminal:
    return Terminal.open(DEFAULT_PACK)


def scenario(name: str):
    return load(Path(name)).model_copy(update={"fps": 10.0})


def test_an_honest_person_matches_and_the_recorded_observations_say_the_same_again(terminal, tmp_path):
    honest = scenario("honest")
    played = play(honest, terminal, record=True)
    assert played.result.outcome is Outcome.MATCH
    row = summed_up(honest, played)
    assert set(row.cues.values()) == {"pass"}
    assert row.sensor_s is not None
    path = tmp_path / "session.jsonl"
    save(path, honest, terminal, played)
    again, head = replay(path)
    assert (again.result.outcome, head["outcome"]) == (Outcome.MATCH, "MATCH")
    assert again.measures.duration_s == pytest.approx(played.measures.duration_s, abs=0.1)
    assert "vector" not in path.read_text()


@pytest.mark.parametrize("strength", ["ordinary", "careful"])
def test_a_virtual_camera_cannot_follow_the_exposure_steps(terminal, strength):
    told = scenario("injection").model_dump(mode="json")
    told["attack"]["strength"] = strength
    played = play(parse(told, "test"), terminal)
    assert played.result.outcome is Outcome.LIVENESS_FAIL
    assert Reason.SENSOR_MISMATCH in played.result.reasons


def test_the_command_tells_outcome_reasons_and_cues(tmp_path, capsys):
    file = tmp_path / "print.toml"
    file.write_text(
        'name = "print"\nfps = 10\nexpected = "liveness-fail"\n[person]\nseed = 6\n[document]\nseed = 11\n'
        '[attack]\nspecies = "print"\nstrength = "clumsy"\n'
    )
    assert main(["session", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["outcome"] == told["expected"] == "liveness-fail"
    assert "fail" in told["cues"].values()
