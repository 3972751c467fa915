"""Crops that the passive model learns from: drawn by the simulator's sessions as a terminal would cut them."""

import numpy as np
import pytest

from models.evaluation.rendered import BONA_FIDE, rendered
from models.training import presentations
from simulator.species import Species

STRENGTHS = ("clumsy", "ordinary", "careful")


def test_every_species_with_a_sensor_before_it_is_drawn_and_people_as_often_as_masks():
    drawn = [scenario for seed in range(100_000, 100_016) for scenario in presentations.scenarios(seed, 2)]
    kinds = [scenario.species for scenario in drawn]
    assert set(kinds) == {species for species in Species if not species.injected} - {Species.TARGET}
    assert kinds.count(Species.PERSON) == kinds.count(Species.MASK) + kinds.count(Species.CUT_OUT)
    strengths = {(scenario.species, scenario.attack.strength.value) for scenario in drawn if scenario.attack}
    assert {strength for species, strength in strengths if species is Species.CUT_OUT} == {*STRENGTHS}
    assert {strength for species, strength in strengths if species is Species.MASK} == {*STRENGTHS} - {"careful"}


@pytest.mark.timeout(240)
def test_a_holders_crops_are_kept_with_their_species_and_drawn_evenly(tmp_path, monkeypatch):
    drawn = list(presentations.scenarios(100_001, 4))
    few = [drawn[1], next(scenario for scenario in drawn if scenario.species is Species.BENT_PRINT)]
    monkeypatch.setattr(presentations, "scenarios", lambda _seed, _takes: iter(few))
    count = presentations.draw(100_001, tmp_path, 1)
    crops = presentations.Crops.load(tmp_path)
    assert crops.crops.shape == (count, 96, 96, 3)
    assert 0 < np.count_nonzero(crops.species == "person") <= presentations.EACH
    assert set(crops.species) == {"person", "bent-print"}
    assert set(crops.strength[crops.species == "bent-print"]) <= {"clumsy", "ordinary", "careful"}
    assert not crops.part(held_out=True).crops.size
    labels = [label for _, label in next(crops.batches(np.random.default_rng(1), 10))]
    assert labels.count(1.0) == labels.count(0.0) == 5
    # Upright faces before a background: the middle is skin, redder than blue.
    person = crops.crops[crops.species == "person"].astype(int)
    middle = person[:, 40:60, 40:56].mean(axis=(0, 1, 2))
    assert middle[0] > middle[2] + 5


def test_an_empty_folder_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"models\.training\.presentations"):
        presentations.Crops.load(tmp_path)


def test_the_evaluation_shows_five_stills_of_every_attack_that_a_sensor_sees():
    shown = [still.species for still in rendered(1)]
    attacks = {f"{species.value}, clumsy" for species in Species if species.attack and not species.injected}
    assert set(shown) == {BONA_FIDE} | attacks
    assert all(shown.count(kind) == 5 for kind in set(shown))
