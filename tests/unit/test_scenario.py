"""Scenarios: what a file may say, and that every shipped one can be read."""

from pathlib import Path

import pytest

from edge.errors import ConfigError
from simulator.person import draw_identity
from simulator.scenario import SCENARIOS, load, parse, skin_tone
from simulator.species import Species, Strength


def test_every_shipped_scenario_is_valid_and_says_what_it_expects():
    files = sorted(SCENARIOS.glob("*.toml"))
    assert len(files) >= 6
    for file in files:
        assert load(file).expected is not None, file


def test_a_shipped_scenario_may_be_named_without_its_folder():
    assert load(Path("replay")).species is Species.REPLAY


def test_a_missing_scenario_names_the_ones_that_exist(tmp_path):
    with pytest.raises(ConfigError, match="no scenario") as told:
        load(tmp_path / "nothing.toml")
    assert "honest" in told.value.todo


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ({}, "person"),
        ({"person": {"seed": -1}}, "person.seed"),
        ({"person": {"seed": 1}, "lights": {}}, "lights"),
        ({"person": {"seed": 1}, "attack": {"species": "ghost"}}, "attack.species"),
        ({"person": {"seed": 1}, "attack": {"species": "person"}}, "a person is no attack"),
        ({"person": {"seed": 1}, "faults": {"lost": 2.0}}, "faults.lost"),
    ],
)
def test_a_wrong_scenario_says_where_it_is_wrong(raw, named):
    with pytest.raises(ConfigError, match=r"x\.toml") as told:
        parse(raw, "x.toml")
    assert named in told.value.message


def test_an_attack_shows_the_documents_holder_and_a_person_is_the_holder():
    attack = parse({"person": {"seed": 1}, "document": {"seed": 2}, "attack": {"species": "mask"}}, "x")
    assert (attack.holder, attack.attack.strength) == (2, Strength.ORDINARY)
    assert parse({"person": {"seed": 3}}, "x").holder == 3


def test_the_challenge_alone_draws_the_nonce():
    one, same, other = (parse({"challenge": c, "person": {"seed": s}}, "x") for c, s in ((1, 1), (1, 2), (2, 1)))
    assert one.nonce == same.nonce != other.nonce


def test_all_three_groups_of_skin_occur():
    assert {skin_tone(draw_identity(seed)) for seed in range(60)} == {"light", "medium", "dark"}
