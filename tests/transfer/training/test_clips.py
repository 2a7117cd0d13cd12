import dataclasses
import shutil

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from cosmos_engine.errors import InputError
from cosmos_engine.sim.textures import HELD_OUT_FAMILIES
from cosmos_engine.transfer.training.clips import (
    ClipPool,
    ClipPoolConfig,
    group_file,
    held_out_indices,
    render_clips,
    training_indices,
)
from tests.transfer.training.conftest import write_pool

RENDERED = ClipPoolConfig(clips=4, frames=5, image_size=32, workers=1)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> ClipPool:
    return render_clips(tmp_path_factory.mktemp("rendered"), RENDERED)


def test_clips_are_described_by_words_that_no_shift_uses(rendered):
    for index in range(len(rendered)):
        clip = rendered.clip(index)
        assert clip.rgb.shape == (5, 32, 32, 3)
        said = str(clip.words)
        assert not any(word in said for word in ("checks", "stripes", "rings"))
        assert clip.words.objects
    assert {"checker", "stripes", "rings"} == HELD_OUT_FAMILIES


def test_rendering_again_changes_nothing_and_another_config_is_refused(rendered):
    before = group_file(rendered.folder, 0).read_bytes()
    group_file(rendered.folder, 0).unlink()
    again = render_clips(rendered.folder, RENDERED)
    assert group_file(rendered.folder, 0).read_bytes() == before
    assert again.config == dataclasses.replace(RENDERED, workers=again.config.workers)
    with pytest.raises(InputError, match="seed"):
        render_clips(rendered.folder, dataclasses.replace(RENDERED, seed=1))


def test_a_pool_without_manifest_is_not_read(tmp_path):
    with pytest.raises(InputError, match="no complete clip pool"):
        ClipPool(tmp_path)


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:100])])
def test_a_pool_with_a_missing_or_cut_group_is_refused_before_work(tmp_path, damage):
    write_pool(tmp_path / "clips")
    damage(group_file(tmp_path / "clips", 1))
    with pytest.raises(InputError, match=r"000001\.safetensors: missing, truncated or damaged"):
        ClipPool(tmp_path / "clips")


def test_held_out_clips_are_never_drawn(pool):
    assert set(training_indices(pool)).isdisjoint(held_out_indices(pool))
    assert len(training_indices(pool)) + len(held_out_indices(pool)) == len(pool)


def test_a_prompt_needs_no_pixels_and_is_the_clips_own(pool):
    for index in range(len(pool)):
        own = pool.clip(index).prompt(np.random.default_rng(index))
        assert pool.prompt(index, np.random.default_rng(index)) == own
        assert "brown wood" in own


def test_a_group_of_another_version_is_named(pool, tmp_path):
    folder = tmp_path / "clips"
    shutil.copytree(pool.folder, folder)
    file = group_file(folder, 0)
    with safe_open(file, "numpy") as stored:
        kept = {name: stored.get_tensor(name) for name in stored.keys() if name != "world_from_camera"}  # noqa: SIM118
        metadata = stored.metadata()
    save_file(kept, file, metadata)
    with pytest.raises(InputError, match=r"000000.safetensors: no group of this version: .*world_from_camera"):
        ClipPool(folder).clip(0)
