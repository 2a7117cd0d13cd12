import json

import numpy as np
import torch

from cosmos_engine.transfer.text import HashedTextEncoder
from cosmos_engine.transfer.training.stage import StageConfig
from cosmos_engine.transfer.training.text_stage import (
    FAMILIES,
    LIGHT_WORDS,
    PART_NUMBERS,
    PARTS,
    draw_prompts,
    train_text,
)


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
    train_text(text, StageConfig(updates=40, batch=16, rate=5e-3, ema=0.5, warmup=5), tmp_path)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
