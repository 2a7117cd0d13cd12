import dataclasses
import json
from dataclasses import dataclass, field

import pytest

from cosmos_engine.config import as_yaml, config_folder, load_config
from cosmos_engine.controls import Recipe
from cosmos_engine.data import InstanceLabel
from cosmos_engine.errors import InputError

PRESETS = sorted(file.stem for file in (config_folder() / "recipe").glob("*.yaml"))
LABELS = {
    1: InstanceLabel("panda", "robot", "robot"),
    2: InstanceLabel("cube", "cube", "manipulated"),
    3: InstanceLabel("table", "table", "scene"),
}


@dataclass(frozen=True)
class Job:
    recipe: Recipe = field(default_factory=Recipe)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"edge": 1.5}, r"'edge': expected a weight in \[0, 1\], got 1.5"),
        ({"edge": float("nan")}, "'edge'.*nan"),
        ({"edge": 0.0, "depth": 0.0, "seg": 0.0}, "at least one"),
        ({"edge_preset": "medum"}, "did you mean 'medium'"),
        ({"vis_by_role": {"robt": 1.0}}, "'vis_by_role': unknown role 'robt'; did you mean 'robot'"),
        ({"seg_by_role": {"scene": -0.5}}, r"'seg_by_role.scene': expected a factor in \[0, 1\], got -0.5"),
        ({"keep_roles": ["manipulate"]}, "'keep_roles': unknown role 'manipulate'; did you mean 'manipulated'"),
        ({"keep_steps": 0}, "'keep_steps': expected at least 1, got 0"),
        ({"guidance": -1.0}, "'guidance': expected 0 or more"),
    ],
)
def test_recipe_refuses(fields, message):
    with pytest.raises(InputError, match=message) as caught:
        Recipe(**fields)
    assert "\n" not in str(caught.value)


def test_a_recipe_whose_factors_are_all_zero_has_no_control():
    nowhere = {"robot": 0.0, "manipulated": 0.0, "scene": 0.0}
    assert set(Recipe(edge_by_role=nowhere).weights) == {"depth", "seg"}
    with pytest.raises(InputError, match="at least one"):
        Recipe(depth=0.0, seg=0.0, edge_by_role=nowhere)


def test_overrides_reach_every_field():
    overrides = [
        "recipe.vis=1",
        "recipe.vis_by_role.robot=1",
        "recipe.vis_by_role.scene=0",
        "recipe.keep_roles=[robot]",
    ]
    recipe = load_config(Job, None, [*overrides, "recipe.keep_steps=4", "recipe.guidance=2"]).recipe
    assert recipe == Recipe(
        vis=1.0, vis_by_role={"robot": 1.0, "scene": 0.0}, keep_roles=["robot"], keep_steps=4, guidance=2.0
    )
    assert load_config(Job, None, ["recipe.guidance=null"]).recipe.guidance is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("recipe.vis_by_role.robt=1", "did you mean 'robot'"),
        ("recipe.vis_by_roles.robot=1", "did you mean 'recipe.vis_by_role"),
        ("recipe.vis_by_role.robot=much", "recipe.vis_by_role.robot"),
        ("recipe.vis_by_role=0.5", "recipe.vis_by_role"),
        ("recipe.keep_roles=robot", "recipe.keep_roles"),
        ("recipe.guidance=high", "recipe.guidance"),
    ],
)
def test_a_wrong_override_is_one_line(override, message):
    with pytest.raises(InputError, match=message) as caught:
        load_config(Job, None, [override])
    assert "\n" not in str(caught.value)


def test_a_recipe_survives_yaml_and_provenance(tmp_path):
    recipe = Recipe(vis=0.5, vis_by_role={"scene": 0.25}, keep_roles=["robot"], guidance=3.0)
    (tmp_path / "r.yaml").write_text(as_yaml(recipe))
    assert load_config(Recipe, tmp_path / "r.yaml") == recipe
    assert Recipe(**json.loads(json.dumps(dataclasses.asdict(recipe)))) == recipe


@pytest.mark.parametrize("preset", PRESETS)
def test_every_shipped_recipe_loads_fits_a_labelled_recording_and_warns_of_nothing(preset):
    recipe = load_config(Recipe, f"recipe/{preset}")
    recipe.check_labels(LABELS)
    assert recipe.warnings == ()


def test_shipped_recipes_are_those_of_their_sources():
    shipped = {preset: load_config(Recipe, f"recipe/{preset}") for preset in PRESETS}
    numbers = {name: (r.edge, r.seg, r.depth, r.vis, r.guidance) for name, r in shipped.items()}
    assert numbers == {
        "edge": (1.0, 0.0, 0.0, 0.0, None),
        "tiny": (1.0, 1.0, 1.0, 0.0, None),
        "strict": (1.0, 0.4, 0.6, 0.0, 3.0),
        "loose": (0.2, 0.4, 0.6, 0.0, 2.0),
        "photoreal": (1.0, 0.9, 0.9, 0.0, 7.0),
        "paper": (1.0, 0.0, 0.0, 1.0, 3.0),
        "isaaclab": (0.3, 0.7, 0.6, 0.3, None),
        "tiny_strict": (1.0, 1.0, 1.0, 1.0, None),
        "keep_foreground": (0.5, 0.5, 0.5, 0.0, 3.0),
    }
    assert [shipped["paper"].factor("vis", role) for role in ("robot", "manipulated", "scene")] == [1, 0, 0]
    assert shipped["keep_foreground"].keep_roles == ["robot", "manipulated"]


@pytest.mark.parametrize(
    ("fields", "lacking", "key"),
    [
        ({"vis": 1.0, "vis_by_role": {"robot": 1.0, "scene": 0.0}}, "robot", "vis_by_role"),
        ({"edge_by_role": {"robot": 0.0}}, "robot", "edge_by_role"),
        ({"keep_roles": ["robot", "manipulated"]}, "manipulated", "keep_roles"),
    ],
)
def test_a_recording_that_lacks_a_role_of_the_recipe_is_one_line(fields, lacking, key):
    labels = {number: label for number, label in LABELS.items() if label.role != lacking}
    with pytest.raises(InputError, match=f"recipe key '{key}' needs instances of role '{lacking}'") as caught:
        Recipe(**fields).check_labels(labels)
    assert "\n" not in str(caught.value)


def test_a_role_treated_like_the_scene_need_not_be_labelled():
    Recipe().check_labels({})
    Recipe(vis=1.0, vis_by_role={"robot": 1.0, "manipulated": 0.0, "scene": 0.0}).check_labels({1: LABELS[1]})
    Recipe(vis=0.0, vis_by_role={"robot": 0.0}).check_labels({})


def test_a_recipe_warns_of_factors_without_weight_and_of_seg_alone():
    assert Recipe(vis=0.0, vis_by_role={"robot": 1.0}).warnings == (
        "recipe: vis_by_role has no effect, since vis is 0",
    )
    assert "seg without edge" in Recipe(edge=0.0, depth=0.0).warnings[0]
    assert "vis and seg without edge" in Recipe(edge=0.0, vis=1.0, depth=0.0).warnings[0]
    assert Recipe(edge=0.0, seg=0.0, depth=1.0).warnings == ()
