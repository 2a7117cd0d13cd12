import numpy as np
import pytest

from cosmos_engine.augment.prompts import read_prompts, variant_prompt
from cosmos_engine.errors import InputError
from cosmos_engine.sim.textures import HELD_OUT_FAMILIES

from .conftest import LABELS


def test_prompts_name_the_objects_that_must_stay_and_vary_the_rest():
    prompts = [variant_prompt(LABELS, np.random.default_rng(seed)) for seed in range(50)]
    assert all("red cube" in prompt for prompt in prompts)
    assert len(set(prompts)) == 50


def test_prompts_never_say_a_look_that_the_benchmark_holds_out():
    said = " ".join(variant_prompt(LABELS, np.random.default_rng(seed)) for seed in range(300))
    for family, word in {"checker": "checks", "stripes": "stripes", "rings": "rings"}.items():
        assert family in HELD_OUT_FAMILIES
        assert word not in said


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
