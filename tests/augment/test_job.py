import hashlib
from pathlib import Path

import numpy as np
import pytest

from cosmos_engine.augment.job import AugmentConfig, augment
from cosmos_engine.controls import Recipe
from cosmos_engine.data import Dataset, Recording, verify_dataset
from cosmos_engine.errors import InputError

from .conftest import SeededGenerator

CONFIG = AugmentConfig(variants=2, seed=3)


def tree(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".writer.lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_demo_comes_with_its_variants_in_order(recording, tmp_path):
    augment(Recording(recording), tmp_path / "x.zarr", SeededGenerator(), CONFIG)
    dataset = Dataset(tmp_path / "x.zarr")
    assert dataset.source_demo.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert dataset.variant.tolist() == [0, 1, 2] * 3
    assert np.diff(dataset.episode_ends, prepend=0).tolist() == [5, 5, 5, 6, 6, 6, 7, 7, 7]


def test_variant_keeps_actions_states_and_times_bitwise(recording, tmp_path):
    augment(Recording(recording), tmp_path / "x.zarr", SeededGenerator(), CONFIG)
    dataset = Dataset(tmp_path / "x.zarr")
    for index in range(dataset.episode_count):
        source = Recording(recording).episode(int(dataset.source_demo[index]))
        rows = dataset.episode(index)
        assert rows["action"].tobytes() == source.actions.tobytes()
        assert rows["state"].tobytes() == source.states.tobytes()
        assert rows["timestamp"].tobytes() == source.timestamps_s.tobytes()
    assert verify_dataset(tmp_path / "x.zarr", recording).intact


def test_the_original_keeps_its_pixels_and_variants_do_not(recording, tmp_path):
    augment(Recording(recording), tmp_path / "x.zarr", SeededGenerator(), CONFIG)
    dataset = Dataset(tmp_path / "x.zarr")
    source = Recording(recording).episode(1).cameras["agentview"].rgb
    original, first, second = (dataset.episode(i)["agentview_image"] for i in (3, 4, 5))
    assert original.tobytes() == source.tobytes()
    assert (first != source).any()
    assert (first != second).any()


def test_all_cameras_share_prompt_and_seed_and_variants_do_not(recording, tmp_path):
    generator = SeededGenerator()
    augment(Recording(recording), tmp_path / "x.zarr", generator, CONFIG)
    by_demo = [generator.calls[i : i + 2] for i in range(0, 6, 2)]
    assert all(agentview == eye_in_hand for agentview, eye_in_hand in by_demo)
    asked = [pair for (prompts, seeds), _ in by_demo for pair in zip(prompts, seeds, strict=True)]
    assert len(set(asked)) == 6
    info = Dataset(tmp_path / "x.zarr").info
    assert [(i["prompt"], i["seed"]) for i in info if "prompt" in i] == asked
    assert all("red cube" in prompt for prompt, _ in asked)


@pytest.mark.parametrize("calls", range(6))
def test_a_stopped_job_goes_on_and_ends_in_the_same_bytes(recording, tmp_path, calls):
    whole, stopped = tmp_path / "whole.zarr", tmp_path / "stopped.zarr"
    augment(Recording(recording), whole, SeededGenerator(), CONFIG)
    generator = SeededGenerator()
    generator.fail_at_call = calls
    with pytest.raises(KeyboardInterrupt):
        augment(Recording(recording), stopped, generator, CONFIG)
    with pytest.raises(InputError, match="unfinished"):
        Dataset(stopped)
    resumed = SeededGenerator()
    augment(Recording(recording), stopped, resumed, CONFIG)
    assert tree(stopped) == tree(whole)
    assert len(resumed.calls) <= 6 - 2 * (calls // 2)


def test_another_config_does_not_go_on_with_a_job(recording, tmp_path):
    generator = SeededGenerator()
    generator.fail_at_call = 2
    with pytest.raises(KeyboardInterrupt):
        augment(Recording(recording), tmp_path / "x.zarr", generator, CONFIG)
    with pytest.raises(InputError, match=r"x\.zarr"):
        augment(Recording(recording), tmp_path / "x.zarr", SeededGenerator(), AugmentConfig(variants=2, seed=4))


def test_a_finished_dataset_is_not_written_again(recording, tmp_path):
    augment(Recording(recording), tmp_path / "x.zarr", SeededGenerator(), CONFIG)
    before = tree(tmp_path / "x.zarr")
    with pytest.raises(InputError, match=r"x\.zarr"):
        augment(Recording(recording), tmp_path / "x.zarr", SeededGenerator(), CONFIG)
    assert tree(tmp_path / "x.zarr") == before


def test_own_prompts_are_used_in_turn_and_checked_before_any_work(recording, tmp_path):
    generator = SeededGenerator()
    augment(Recording(recording), tmp_path / "x.zarr", generator, CONFIG, ["a", "b", "c"])
    assert [prompt for prompts, _ in generator.calls[::2] for prompt in prompts] == ["a", "b", "c", "a", "b", "c"]
    generator = SeededGenerator()
    with pytest.raises(InputError, match="too long"):
        augment(Recording(recording), tmp_path / "y.zarr", generator, CONFIG, ["a", "w " * 61])
    assert generator.calls == []
    assert not (tmp_path / "y.zarr").exists()


def test_no_variants_is_a_plain_export(recording, tmp_path):
    generator = SeededGenerator()
    augment(Recording(recording), tmp_path / "x.zarr", generator, AugmentConfig(variants=0, recipe=Recipe()))
    assert Dataset(tmp_path / "x.zarr").episode_count == 3
    assert generator.calls == []


def test_a_generator_that_drops_frames_is_found(recording, tmp_path):
    class Short(SeededGenerator):
        def generate(self, clips, prompts, seeds):
            return [videos[:, :-1] for videos in super().generate(clips, prompts, seeds)]

    with pytest.raises(ValueError, match="expected uint8"):
        augment(Recording(recording), tmp_path / "x.zarr", Short(), CONFIG)
