import pytest

from cosmos_engine.augment.ladder import LadderConfig, rungs, stricter_recipe, try_seed
from cosmos_engine.controls import Recipe
from cosmos_engine.errors import InputError


def test_the_ladder_is_new_seeds_then_the_stricter_recipe():
    recipe, stricter = Recipe(seg=0.0), Recipe(vis=1.0)
    ladder = rungs(LadderConfig(new_seeds=1, stricter=2), recipe, stricter)
    assert [(rung.number, rung.recipe_name) for rung in ladder] == [
        (0, "default"),
        (1, "default"),
        (2, "stricter"),
        (3, "stricter"),
    ]
    assert [rung.recipe for rung in ladder] == [recipe, recipe, stricter, stricter]
    assert len(ladder) == LadderConfig(1, 2).tries
    assert len(rungs(LadderConfig(0, 0), recipe, stricter)) == 1


def test_every_try_has_a_seed_of_its_own():
    seeds = {try_seed(3, demo, variant, rung) for demo in range(6) for variant in range(6) for rung in range(6)}
    assert len(seeds) == 6**3
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_a_stricter_recipe_has_the_same_controls_and_keeps_the_foreground():
    recipe = Recipe(edge=0.3, depth=0.5, seg=0.0, edge_by_role={"robot": 0.5}, guidance=3.0)
    stricter = stricter_recipe(recipe, ["robot", "manipulated", "scene"])
    assert stricter.weights.keys() == recipe.weights.keys()
    assert stricter.edge == 1.0
    assert stricter.edge_by_role == {}
    assert stricter.keep_roles == ["manipulated", "robot"]
    assert (stricter.depth, stricter.guidance) == (recipe.depth, recipe.guidance)
    assert stricter_recipe(Recipe(edge=0.0), ["scene"]) == Recipe(edge=0.0)
    assert stricter_recipe(stricter, ["robot", "manipulated", "scene"]) == stricter


@pytest.mark.parametrize("key", ["new_seeds", "stricter"])
def test_a_number_below_zero_is_named(key):
    with pytest.raises(InputError, match=f"ladder.{key}: expected 0 or more"):
        LadderConfig(**{key: -1})
