"""Studies: exact intervals, plans, resuming, counting and the report; sessions are played in tests/integration."""

import json
from dataclasses import replace

import numpy as np
import pytest

from edge.errors import ConfigError
from simulator import cli
from simulator.species import Species, Strength
from simulator.study import command
from simulator.study.intervals import clopper_pearson
from simulator.study.plan import People, Plan
from simulator.study.report import rate, summary, taken_for_bona_fide, write_report
from simulator.study.run import SESSIONS, Setup, _remembered
from simulator.study.session import Row

SETUP = Setup("tuning", 15.0, "ab" * 32, "reference")
ROW = Row(
    "person/0",
    "person",
    "",
    "shop",
    "dark",
    "match",
    "pass",
    (),
    (),
    9.0,
    130,
    4.0,
    {"passive": "pass", "sensor": "pass"},
    {"passive": 1.9},
    1.4,
)
ATTACK = replace(
    ROW,
    name="print/careful/0",
    species="print",
    strength="careful",
    outcome="liveness-fail",
    reasons=("flat-face",),
    cues={"passive": "pass", "depth": "fail", "sensor": "pass"},
)


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [
        (0, 300, 0.0, 0.01222),
        (5, 100, 0.01643, 0.11284),
        (1, 150, 0.00017, 0.03658),
        (10, 10, 0.69150, 1.0),
        (0, 0, 0, 1),
    ],
)
def test_intervals_are_those_of_the_tables(hits, trials, low, high):
    assert clopper_pearson(hits, trials) == (pytest.approx(low, abs=2e-5), pytest.approx(high, abs=2e-5))


def test_an_interval_covers_what_it_promises():
    rng = np.random.default_rng(1)
    inside = 0
    for hits in rng.binomial(40, 0.1, 400):
        low, high = clopper_pearson(int(hits), 40)
        inside += low <= 0.1 <= high
    assert inside >= 0.95 * 400


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="3 of 2"):
        clopper_pearson(3, 2)


def test_the_two_sets_of_people_share_nobody():
    def people(which):
        plan = Plan(which, bona_fide=300, attacks=150)
        return {seed for s in plan.scenarios() for seed in (s.holder, s.person.seed)}

    assert not people(People.TUNING) & people(People.REPORT)


def test_a_plan_has_what_was_asked_for_and_every_strength_in_every_light():
    scenarios = list(Plan(bona_fide=40, attacks=18).scenarios())
    assert len({s.name for s in scenarios}) == len(scenarios) == 40 + 18 * 8
    seen = {(s.attack.strength, s.light.kind) for s in scenarios if s.species is Species.MASK}
    assert len(seen) == len(Strength) * 6


def test_a_larger_plan_contains_the_smaller_one_so_that_a_study_can_be_made_longer():
    small, large = ({s.name: s for s in Plan(bona_fide=b, attacks=a).scenarios()} for b, a in ((6, 3), (12, 6)))
    assert all(large[name] == scenario for name, scenario in small.items())


def test_a_killed_study_goes_on_behind_its_last_whole_line(tmp_path):
    assert _remembered(tmp_path, SETUP) == {}
    path = tmp_path / SESSIONS
    line = json.dumps(ROW.to_json())
    with path.open("a") as file:
        file.write(line + "\n" + line[:40])
    assert _remembered(tmp_path, SETUP) == {"person/0": ROW}
    assert path.read_text().endswith("}\n")
    assert _remembered(tmp_path, SETUP) == {"person/0": ROW}


def test_a_folder_with_another_study_is_refused_and_says_what_differs(tmp_path):
    _remembered(tmp_path, SETUP)
    with pytest.raises(ConfigError, match="another pack"):
        _remembered(tmp_path, replace(SETUP, pack="cd" * 32))
    (tmp_path / SESSIONS).write_text("no json\n")
    with pytest.raises(ConfigError, match="no study"):
        _remembered(tmp_path, SETUP)


def test_an_attack_that_is_another_person_for_the_comparison_still_counts_as_taken_for_bona_fide():
    rows = [replace(ATTACK, outcome=outcome) for outcome in ("match", "no-match", "liveness-fail", "inconclusive")]
    assert (rate(rows, taken_for_bona_fide).hits, rate(rows, taken_for_bona_fide).trials) == (2, 4)


def test_the_report_says_that_it_is_no_evidence_and_counts_by_species_light_and_skin(tmp_path):
    plan = Plan(bona_fide=1, attacks=1)
    paths = write_report([ROW, ATTACK], SETUP, plan, tmp_path, wall_s=1.0)
    text = paths[0].read_text()
    assert "no evidence of APCER on physical attacks" in text
    assert "| print | 0.0 % [0.0, 97.5] (0 of 1)" in text
    assert "light: shop" in text
    assert "skin: dark" in text
    told = json.loads(paths[1].read_text())
    assert told == json.loads(json.dumps(summary([ROW, ATTACK], SETUP, plan, wall_s=1.0)))
    assert told["cues"]["print"]["depth"]["refuses"]["hits"] == 1
    assert told["bona_fide"]["matched"]["hits"] == 1
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in paths[2:])


def test_the_report_tells_the_time_of_late_people_apart(tmp_path):
    late = replace(ROW, name="person/1", obeys="late", duration_s=17.0)
    rows = [replace(ROW, obeys="promptly"), late, replace(late, outcome="inconclusive", duration_s=30.0)]
    text = write_report(rows, SETUP, Plan(bona_fide=3, attacks=0), tmp_path, wall_s=1.0)[0].read_text()
    assert "Of those who obey promptly: 9.0 s and 9.0 s. Of those who obey late: 17.0 s and 17.0 s." in text
    older = write_report([ROW], SETUP, Plan(bona_fide=1, attacks=0), tmp_path, wall_s=1.0)[0].read_text()
    assert "Of those who obey" not in older


def test_a_study_that_was_stopped_says_how_much_of_it_was_played(tmp_path):
    paths = write_report([ROW, ATTACK], SETUP, Plan(bona_fide=2, attacks=1), tmp_path, wall_s=1.0)
    assert "2 of the plan's 10 sessions" in paths[0].read_text(encoding="utf-8")
    assert json.loads(paths[1].read_text(encoding="utf-8"))["sessions"] == {"played": 2, "planned": 10}


def test_the_command_in_the_report_names_the_same_sessions_again(tmp_path, monkeypatch):
    plan = Plan(People.REPORT, bona_fide=3, attacks=2, fps=20, species=(Species.PERSON, Species.MASK))
    asked = []
    monkeypatch.setattr(command, "carry_out", lambda plan, *_, **__: (asked.append(plan), ([ROW], SETUP))[1])
    for wanted in (plan, Plan(People.REPORT, bona_fide=3)):
        assert cli.main([*wanted.command.split()[1:], "--out", str(tmp_path)]) == 0
        assert asked[-1] == wanted
