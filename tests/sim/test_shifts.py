"""Shifts: seeded, and outside of what training looks have."""

import dataclasses

import pytest

from cosmos_engine.errors import InputError
from cosmos_engine.sim.appearance import default_appearance
from cosmos_engine.sim.shifts import SHIFTS, shifted
from cosmos_engine.sim.textures import HELD_OUT_FAMILIES

BASE = default_appearance({"cubeA": "red", "cubeB": "green"})


def test_vanilla_changes_nothing():
    assert shifted("vanilla", BASE, seed=5) == BASE


def test_table_texture_draws_held_out_families_only():
    drawn = {shifted("table_texture", BASE, seed=seed).table.family for seed in range(200)}
    assert drawn == HELD_OUT_FAMILIES


def test_table_texture_changes_the_table_only():
    changed = shifted("table_texture", BASE, seed=1)
    assert changed.table != BASE.table
    assert dataclasses.replace(changed, table=BASE.table) == BASE


def test_table_texture_hides_no_object():
    for seed in range(200):
        table = shifted("table_texture", BASE, seed=seed).table
        assert len({table.color, table.accent, "red", "green"}) == 4


@pytest.mark.parametrize("name", sorted(SHIFTS))
def test_trial_seed_decides_the_look(name):
    assert shifted(name, BASE, seed=7) == shifted(name, BASE, seed=7)


def test_trials_differ():
    assert len({shifted("table_texture", BASE, seed=seed).table for seed in range(50)}) == 50


def test_unknown_shift_is_answered_with_the_nearest():
    with pytest.raises(InputError, match=r"'table_textur'.*did you mean 'table_texture'"):
        shifted("table_textur", BASE, seed=0)
