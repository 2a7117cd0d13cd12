import numpy as np
import pytest

from cosmos_engine.augment.prompts import (
    LookPrompts,
    OwnPrompts,
    PromptRequest,
    PromptWriter,
    keep_clause,
    object_colors,
    read_prompts,
    variant_prompt,
)
from cosmos_engine.data import InstanceLabel
from cosmos_engine.errors import InputError
from cosmos_engine.sim.textures import HELD_OUT_FAMILIES

from .conftest import LABELS


def request(place: int = 0, seed: int = 0) -> PromptRequest:
    return PromptRequest(0, 1, place, "lift", "lift the red cube", LABELS, np.random.default_rng(seed))


def test_prompts_name_the_objects_that_must_stay_and_vary_the_rest():
    prompts = [variant_prompt(LABELS, np.random.default_rng(seed)) for seed in range(50)]
    assert all("red cube" in prompt for prompt in prompts)
    assert len(set(prompts)) == 50


def test_the_same_seed_writes_the_same_prompt():
    for writer in (LookPrompts(), OwnPrompts(["a", "b"])):
        assert isinstance(writer, PromptWriter)
        assert writer.write(request()) == writer.write(request())


def test_no_object_lies_on_a_table_of_its_own_colour():
    prompts = [variant_prompt(LABELS, np.random.default_rng(seed)) for seed in range(300)]
    of_table = [prompt.split("table: ")[1].split(".")[0] for prompt in prompts if "table: " in prompt]
    assert len(of_table) > 50
    # The second colour of a pattern may be the object's: the surface as a whole is another colour.
    main = [words.split(" and ")[0].split() for words in of_table]
    assert all("red" not in words for words in main)
    assert any("blue" in words for words in main)


def test_prompts_never_say_a_look_that_the_benchmark_holds_out():
    said = " ".join(variant_prompt(LABELS, np.random.default_rng(seed)) for seed in range(300))
    for family, word in {"checker": "checks", "stripes": "stripes", "rings": "rings"}.items():
        assert family in HELD_OUT_FAMILIES
        assert word not in said


def test_the_keep_clause_names_every_object_and_the_robot():
    labels = {**LABELS, 4: InstanceLabel("bowl", "blue bowl", "manipulated")}
    clause = keep_clause(labels)
    assert clause.startswith("The red cube, the blue bowl and the robot arm keep their ")
    assert keep_clause({}).startswith("The robot arm keep")
    assert object_colors(labels) == {"cube": "red", "bowl": "blue"}


def test_own_prompts_go_round():
    writer = OwnPrompts(["a", "b", "c"])
    assert [writer.write(request(place)) for place in range(5)] == ["a", "b", "c", "a", "b"]


def test_a_prompt_file_gives_its_lines(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("# looks\nbrown wood table\n\n  grey wall \n")
    assert read_prompts(file) == ["brown wood table", "grey wall"]


@pytest.mark.parametrize("content", [b"", b"# only\n", b"\xff\xfe\x00"])
def test_a_prompt_file_without_prompts_is_refused(tmp_path, content):
    file = tmp_path / "prompts.txt"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"prompts\.txt"):
        read_prompts(file)
