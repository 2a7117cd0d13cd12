import numpy as np

from cosmos_engine.transfer.prompt import PHRASINGS, SceneWords, scene_prompt

WORDS = SceneWords(
    "brown wood", "plain grey", "blue tiles", "plain white", "warm soft light from above", {"a": "red cube"}
)


def test_every_phrasing_says_every_part():
    prompts = {scene_prompt(WORDS, np.random.default_rng(seed)) for seed in range(30)}
    assert len(prompts) == len(PHRASINGS)
    for prompt in prompts:
        for part in ("brown wood", "plain grey", "blue tiles", "plain white", "warm soft light from above", "red cube"):
            assert part in prompt


def test_the_same_seed_gives_the_same_prompt():
    assert scene_prompt(WORDS, np.random.default_rng(5)) == scene_prompt(WORDS, np.random.default_rng(5))
