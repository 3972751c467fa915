"""Recorded sessions: observations and the likeness of templates are enough to judge again, and nothing else is kept."""

import json
from dataclasses import replace

import pytest

from edge.errors import ConfigError
from edge.session.decision import Outcome, Policy
from edge.session.machine import Begin, Seen
from simulator.observed import Actor, Body, play, template_of
from simulator.play import Played, Terminal, replay, save
from simulator.scenario import parse

SCENARIO = parse({"name": "observed", "challenge": 5, "person": {"seed": 1}}, "test")
POLICY = Policy("test", 1, bytes(32))
TERMINAL = Terminal(None, POLICY, 0.4, "ab")  # no vision is needed to save
REFERENCE = template_of(1, 0.8, 0)


def recorded(actor: Actor) -> Played:
    begin = Begin(SCENARIO.nonce, POLICY, 0.4, exposure_control=True)
    done = play(actor, begin, reference=REFERENCE)
    seen = tuple(event.observation for _, event in done.events if isinstance(event, Seen))
    return Played(done.result, done.state.scores, len(seen), seen, REFERENCE)


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (Body(), Outcome.MATCH),
        (Body(identity=2), Outcome.NO_MATCH),
        (Body(depth=0.0), Outcome.LIVENESS_FAIL),
        (Body(bona_fide=0.1), Outcome.LIVENESS_FAIL),
    ],
)
def test_a_recorded_session_is_judged_the_same_again(tmp_path, body, outcome):
    played = recorded(Actor(body=body))
    assert played.result.outcome is outcome
    path = tmp_path / "session.jsonl"
    save(path, SCENARIO, TERMINAL, played)
    again, head = replay(path)
    assert again.result.outcome is outcome
    assert again.result.reasons == played.result.reasons
    assert again.measures.continuity == pytest.approx(played.measures.continuity, abs=0.02)
    assert head["outcome"] == outcome.name


def test_a_recording_holds_no_template(tmp_path):
    played = recorded(Actor())
    path = tmp_path / "session.jsonl"
    save(path, SCENARIO, TERMINAL, played)
    head, _, lines = path.read_text().partition("\n")
    assert set(json.loads(head)) == {
        *("scenario", "policy", "match_threshold", "outcome", "reasons", "likeness", "cohort", "templates"),
    }
    assert "template" not in lines
    vector = ", ".join(f"{value:.4f}" for value in REFERENCE.vector[:3])
    assert vector not in path.read_text()


def test_a_session_without_a_reference_cannot_be_recorded(tmp_path):
    with pytest.raises(ConfigError, match="no reference"):
        save(tmp_path / "x.jsonl", SCENARIO, TERMINAL, replace(recorded(Actor()), reference=None))


@pytest.mark.parametrize("text", ["", "{}\n", '{"scenario": {}}\n', "no json"])
def test_what_is_no_recording_is_refused(tmp_path, text):
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match="no recorded session"):
        replay(path)
