import dataclasses
import json

import numpy as np
import pytest
import torch

from cosmos_engine.errors import InputError
from cosmos_engine.sim.textures import HELD_OUT_FAMILIES
from cosmos_engine.transfer.text import HashedTextEncoder
from cosmos_engine.transfer.training.batch import PRESENCE, draw_batch, latent_foreground, make_batch
from cosmos_engine.transfer.training.clips import ClipPool, ClipPoolConfig, render_clips
from cosmos_engine.transfer.training.posttrain import (
    PosttrainConfig,
    held_out_indices,
    posttrain,
    training_indices,
)
from cosmos_engine.transfer.training.stage import StageConfig
from cosmos_engine.transfer.training.text_stage import (
    FAMILIES,
    LIGHT_WORDS,
    PART_NUMBERS,
    PARTS,
    draw_prompts,
    train_text,
)
from cosmos_engine.transfer.transfer25 import Transfer25

CLIPS = ClipPoolConfig(clips=8, frames=5, image_size=32, workers=1)


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> ClipPool:
    return render_clips(tmp_path_factory.mktemp("pool"), CLIPS)


def test_clips_are_described_by_words_that_no_shift_uses(pool):
    for index in range(len(pool)):
        clip = pool.clip(index)
        assert clip.rgb.shape == (5, 32, 32, 3)
        said = str(clip.words)
        assert not any(word in said for word in ("checks", "stripes", "rings"))
        assert clip.words.objects
    assert {"checker", "stripes", "rings"} == HELD_OUT_FAMILIES


def test_rendering_again_changes_nothing_and_another_config_is_refused(pool, tmp_path):
    again = render_clips(tmp_path / "a", CLIPS)
    for index in range(len(pool)):
        np.testing.assert_array_equal(again.clip(index).rgb, pool.clip(index).rgb)
    with pytest.raises(InputError, match="seed"):
        render_clips(tmp_path / "a", dataclasses.replace(CLIPS, seed=1))


def test_a_pool_without_manifest_is_not_read(tmp_path):
    with pytest.raises(InputError, match="no complete clip pool"):
        ClipPool(tmp_path)


def test_held_out_clips_are_never_drawn(pool):
    assert set(training_indices(pool)).isdisjoint(held_out_indices(pool))
    assert len(training_indices(pool)) + len(held_out_indices(pool)) == len(pool)


def test_every_subset_of_controls_is_drawn_but_never_none(pool):
    drawn = {tuple(draw_batch(pool, range(8), 1, 5, np.random.default_rng(seed)).controls) for seed in range(120)}
    assert () not in drawn
    assert {modality for subset in drawn for modality in subset} == set(PRESENCE)
    assert len(drawn) > 8


def test_foreground_weight_covers_robot_and_objects(pool):
    batch = make_batch([pool.clip(0)], ["seg"], [""], np.random.default_rng(0))
    share = latent_foreground(batch.foreground_BTHW)
    assert share.shape == (1, 1, 2, 4, 4)
    expected = batch.foreground_BTHW[0, 1:, :8, :8].float().mean()
    torch.testing.assert_close(share[0, 0, 1, 0, 0], expected)


def test_posttraining_ends_in_a_checkpoint_that_generates(tmp_path, pool):
    stage = StageConfig(updates=2, batch=2, frames=5, warmup=1)
    file = posttrain(tmp_path, PosttrainConfig(clips=CLIPS, codec=stage, text=stage, network=stage, decoder=stage))
    from tests.transfer.test_transfer25 import clip

    assert Transfer25.tiny(file).generate([clip()], ["brown wood table"], [0])[0].shape == (1, 5, 32, 32, 3)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert len(lines) == 8
    posttrain(tmp_path, PosttrainConfig(clips=CLIPS, codec=stage, text=stage, network=stage, decoder=stage))
    assert (tmp_path / "log.jsonl").read_text().splitlines() == lines


def test_part_numbers_say_the_colours_and_families_of_a_look():
    rng = np.random.default_rng(0)
    prompts, parts, lights = draw_prompts(20, rng)
    assert parts.shape == (20, len(PARTS), PART_NUMBERS)
    families = parts[:, :4, 6 : 6 + len(FAMILIES)]
    assert (families.sum(-1) == 1).all()
    for prompt, light in zip(prompts, lights, strict=True):
        for word, said in zip(LIGHT_WORDS, light, strict=True):
            assert not said or word in prompt


def test_the_text_stage_teaches_what_a_prompt_says(tmp_path):
    torch.manual_seed(0)
    text = HashedTextEncoder(width=32, tokens=8, buckets=256)
    train_text(text, StageConfig(updates=60, batch=32, rate=5e-3, ema=0.5, warmup=5), tmp_path)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
