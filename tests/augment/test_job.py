import hashlib
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from cosmos_engine.augment.config import AugmentConfig
from cosmos_engine.augment.curation import CurationConfig
from cosmos_engine.augment.job import augment
from cosmos_engine.augment.ladder import LadderConfig
from cosmos_engine.augment.prompts import OwnPrompts
from cosmos_engine.controls import Recipe
from cosmos_engine.data import Dataset, InstanceLabel, Recording, RecordingWriter, verify_dataset
from cosmos_engine.data.rejected import read_rejected
from cosmos_engine.errors import InputError

from .conftest import SeededGate, SeededGenerator, make_episode

CONFIG = AugmentConfig(variants=2, seed=3)
GATED = AugmentConfig(variants=4, seed=3, batch=2)


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    """Spare the disk: nothing here cuts the power."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


def tree(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".writer.lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def record(folder: Path, *episodes) -> Recording:
    with RecordingWriter(folder, {"env_name": "test", "type": 1, "env_kwargs": {}}) as writer:
        for episode in episodes:
            writer.append(episode)
    return Recording(folder)


def with_pixels(episode, change):
    cameras = {name: replace(passes, rgb=change(passes.rgb)) for name, passes in episode.cameras.items()}
    return replace(episode, cameras=cameras)


def test_every_demo_comes_with_its_variants_in_order(recording, tmp_path):
    augment(Recording(recording), tmp_path / "x.zarr", SeededGenerator(), CONFIG)
    dataset = Dataset(tmp_path / "x.zarr")
    assert dataset.source_demo.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert dataset.variant.tolist() == [0, 1, 2] * 3
    assert np.diff(dataset.episode_ends, prepend=0).tolist() == [8, 8, 8, 9, 9, 9, 10, 10, 10]
    assert sorted(path.name for path in (tmp_path / "x.zarr").iterdir() if path.name[0] != ".") == [
        "certificate.json",
        "data",
        "meta",
        "rejected.json",
    ]


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


@pytest.mark.parametrize("batch", [1, 2])
def test_all_cameras_share_prompt_and_seed_and_variants_do_not(batch, recording, tmp_path):
    generator = SeededGenerator()
    augment(Recording(recording), tmp_path / "x.zarr", generator, replace(CONFIG, batch=batch))
    by_call = list(zip(generator.calls[::2], generator.calls[1::2], strict=True))
    assert all(agentview == eye_in_hand for agentview, eye_in_hand in by_call)
    assert all(len(seeds) == batch for (_, seeds), _ in by_call)
    asked = [pair for (prompts, seeds), _ in by_call for pair in zip(prompts, seeds, strict=True)]
    assert len(set(asked)) == 6
    info = Dataset(tmp_path / "x.zarr").info
    assert [(i["prompt"], i["seed"]) for i in info if "prompt" in i] == asked
    assert all("red cube" in prompt for prompt, _ in asked)


def test_a_variant_does_not_depend_on_how_many_there_are(recording, tmp_path):
    for variants in (1, 3):
        augment(Recording(recording), tmp_path / f"{variants}.zarr", SeededGenerator(), AugmentConfig(variants))
    few, many = (Dataset(tmp_path / f"{variants}.zarr") for variants in (1, 3))
    assert few.episode(3)["agentview_image"].tobytes() == many.episode(5)["agentview_image"].tobytes()
    assert few.info[3] == many.info[5]


@pytest.mark.parametrize("calls", range(12))
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
    assert len(resumed.calls) == 12 - calls // 2 * 2


def test_another_config_or_gate_does_not_go_on_with_a_job(recording, tmp_path):
    generator = SeededGenerator()
    generator.fail_at_call = 2
    with pytest.raises(KeyboardInterrupt):
        augment(Recording(recording), tmp_path / "x.zarr", generator, CONFIG)
    for config, more in (
        (replace(CONFIG, seed=4), {}),
        (CONFIG, {"gate": SeededGate()}),
        (CONFIG, {"exclusions": {(1, 1)}}),
    ):
        with pytest.raises(InputError, match=r"x\.zarr: begun with another job"):
            augment(Recording(recording), tmp_path / "x.zarr", SeededGenerator(), config, **more)


def test_own_prompts_are_used_in_turn_and_checked_before_any_work(recording, tmp_path):
    generator = SeededGenerator()
    augment(Recording(recording), tmp_path / "x.zarr", generator, CONFIG, OwnPrompts(["a", "b", "c"]))
    assert [prompt for prompts, _ in generator.calls[::2] for prompt in prompts] == ["a", "b", "c", "a", "b", "c"]
    generator = SeededGenerator()
    with pytest.raises(InputError, match="too long"):
        augment(Recording(recording), tmp_path / "y.zarr", generator, CONFIG, OwnPrompts(["a", "w " * 61]))
    assert generator.calls == []
    assert not (tmp_path / "y.zarr").exists()


def test_no_variants_is_a_plain_export(recording, tmp_path):
    generator = SeededGenerator()
    made = augment(Recording(recording), tmp_path / "x.zarr", generator, AugmentConfig(variants=0, recipe=Recipe()))
    assert Dataset(tmp_path / "x.zarr").episode_count == 3
    assert generator.calls == []
    assert (made.accepted, made.asked, made.tries) == (0, 0, 0)


class Short(SeededGenerator):
    def generate(self, clips, prompts, seeds):
        return [videos[:, :-1] for videos in super().generate(clips, prompts, seeds)]


def test_a_generator_that_drops_frames_is_a_defect_without_a_gate_and_a_reject_with_one(recording, tmp_path):
    with pytest.raises(ValueError, match="expected uint8"):
        augment(Recording(recording), tmp_path / "x.zarr", Short(), CONFIG)
    made = augment(Recording(recording), tmp_path / "y.zarr", Short(), CONFIG, gate=SeededGate(100))
    assert made.rejected == {"gate": 6}
    assert Dataset(tmp_path / "y.zarr").variant.tolist() == [0, 0, 0]


def test_rejected_variants_climb_the_ladder_and_are_reported(recording, tmp_path):
    generator, gate = SeededGenerator(), SeededGate(70)
    made = augment(Recording(recording), tmp_path / "x.zarr", generator, GATED, gate=gate)
    dataset, rejected = Dataset(tmp_path / "x.zarr"), read_rejected(tmp_path / "x.zarr")
    judgements = [info["gate"] for info in dataset.info if "gate" in info]
    assert made.accepted == len(judgements) == int((dataset.variant > 0).sum())
    assert made.accepted + len(rejected) == made.asked == 12
    assert made.tries == gate.judged == sum(g["tries"] for g in judgements) + 4 * len(rejected)
    assert made.failures == {"agentview/score": made.tries - made.accepted}
    assert {g["tries"] for g in judgements} > {1}  # some passed at once, some later
    assert all(g["measures"]["agentview/score"] >= 70 for g in judgements)
    assert all(g["recipe"] == ("stricter" if g["tries"] == 4 else "default") for g in judgements)
    assert rejected
    missing = {(demo, v) for demo in range(3) for v in range(1, 5)} - set(
        zip(dataset.source_demo.tolist(), dataset.variant.tolist(), strict=True)
    )
    assert {(entry.source_demo, entry.variant) for entry in rejected} == missing
    for entry in rejected:
        assert entry.reason == "gate"
        assert "red cube" in entry.prompt
        assert [one.recipe for one in entry.tries] == ["default", "default", "default", "stricter"]
        assert len({one.seed for one in entry.tries}) == 4
        assert all(one.failures and one.measures["agentview/score"] < 70 for one in entry.tries)
        for path in entry.strips.values():
            picture = cv2.imread(str(tmp_path / "x.zarr" / path))
            assert picture.shape == (16, 16 * 8, 3)
    assert verify_dataset(tmp_path / "x.zarr", recording).intact


def test_the_strip_shows_the_last_try(recording, tmp_path):
    generator = SeededGenerator()
    augment(
        Recording(recording),
        tmp_path / "x.zarr",
        generator,
        AugmentConfig(variants=1, ladder=LadderConfig(1, 0)),
        gate=SeededGate(100),
    )
    entry = read_rejected(tmp_path / "x.zarr")[0]
    source = Recording(recording).episode(0).cameras["agentview"].rgb
    tint = np.random.default_rng((entry.tries[-1].seed, len(entry.prompt))).integers(0, 256, 3)
    shown = cv2.cvtColor(cv2.imread(str(tmp_path / "x.zarr" / entry.strips["agentview"])), cv2.COLOR_BGR2RGB)
    expected = np.concatenate(list((source // 2 + tint // 2).astype(np.uint8)[:8]), axis=1)
    assert np.abs(shown.mean((0, 1)) - expected.mean((0, 1))).max() < 3


def test_the_stricter_recipe_is_what_the_last_tries_see(recording, tmp_path):
    class Seen(SeededGenerator):
        def __init__(self):
            super().__init__()
            self.kept = []

        def generate(self, clips, prompts, seeds):
            self.kept.append([clip.keep is not None for clip in clips])
            return super().generate(clips, prompts, seeds)

    derived, own = Seen(), Seen()
    config = AugmentConfig(variants=1, ladder=LadderConfig(new_seeds=1, stricter=2))
    augment(Recording(recording), tmp_path / "x.zarr", derived, config, gate=SeededGate(100))
    assert derived.kept == [[False] * 2, [False] * 2, [True] * 2, [True] * 2] * 3
    stricter = Recipe(keep_roles=["scene"])
    augment(Recording(recording), tmp_path / "y.zarr", own, replace(config, stricter=stricter), gate=SeededGate(100))
    assert own.kept == derived.kept


def test_static_and_black_variants_are_tried_again_and_left_out(recording, tmp_path):
    class Frozen(SeededGenerator):
        def generate(self, clips, prompts, seeds):
            videos = super().generate(clips, prompts, seeds)
            videos[0][:] = videos[0][:, :1]
            return videos

    class Black(SeededGenerator):
        def generate(self, clips, prompts, seeds):
            return [video // 64 for video in super().generate(clips, prompts, seeds)]

    for name, generator, measure in (("x", Frozen(), "agentview/change"), ("y", Black(), "agentview/brightest_frame")):
        made = augment(Recording(recording), tmp_path / f"{name}.zarr", generator, CONFIG)
        assert made.rejected == {"static": 6}
        assert made.tries == 24
        assert made.failures[measure] == 24
        assert all(entry.reason == "static" and entry.strips for entry in read_rejected(tmp_path / f"{name}.zarr"))


def test_near_duplicates_of_a_sibling_or_the_original_are_dropped(recording, tmp_path):
    class Dull(SeededGenerator):
        def generate(self, clips, prompts, seeds):
            # The first variant of each demo is the original with one level more, the others are all alike.
            made = super().generate(clips, ["same"] * len(prompts), [7] * len(seeds))
            number = (len(self.calls) // 2 - 1) % 3
            return [
                np.minimum(clip.rgb[None], 254) + 1 if number == 0 else video
                for clip, video in zip(clips, made, strict=True)
            ]

    made = augment(Recording(recording), tmp_path / "x.zarr", Dull(), AugmentConfig(variants=3))
    assert Dataset(tmp_path / "x.zarr").variant.tolist() == [0, 2] * 3
    assert made.rejected == {"near-duplicate": 6}
    lines = [entry.tries[-1].failures[0] for entry in read_rejected(tmp_path / "x.zarr")]
    assert ["the original" in line for line in lines] == [True, False] * 3
    assert ["to variant 2" in line for line in lines] == [False, True] * 3
    keep_all = AugmentConfig(variants=3, curation=CurationConfig(near_duplicate=0.0))
    assert augment(Recording(recording), tmp_path / "y.zarr", Dull(), keep_all).accepted == 9


def test_short_failed_and_blind_demos_are_left_out_and_counted(tmp_path):
    recording = record(
        tmp_path / "demos",
        make_episode(0, length=7),
        replace(make_episode(1, length=9), success=False),
        with_pixels(make_episode(2, length=9), lambda rgb: rgb // 64),
        with_pixels(make_episode(3, length=9), lambda rgb: np.repeat(rgb[:1], len(rgb), 0)),
        make_episode(4, length=9),
    )
    made = augment(recording, tmp_path / "x.zarr", SeededGenerator(), CONFIG)
    assert Dataset(tmp_path / "x.zarr").source_demo.tolist() == [4, 4, 4]
    assert made.left_out == {"short": 1, "no success": 1, "static": 2}
    entries = [(e.source_demo, e.variant, e.reason) for e in read_rejected(tmp_path / "x.zarr")]
    assert entries == [(0, 0, "short"), (1, 0, "no success"), (2, 0, "static"), (3, 0, "static")]
    keep = replace(CONFIG, curation=CurationConfig(min_frames=1, keep_failures=True))
    augment(recording, tmp_path / "y.zarr", SeededGenerator(), keep)
    assert Dataset(tmp_path / "y.zarr").source_demo.tolist() == [0] * 3 + [1] * 3 + [4] * 3
    only_bad = record(tmp_path / "bad", make_episode(0, length=7))
    with pytest.raises(InputError, match="no demo is left: 1 short; curation"):
        augment(only_bad, tmp_path / "z.zarr", SeededGenerator(), CONFIG)
    assert not (tmp_path / "z.zarr").exists()
    still = record(
        tmp_path / "still", with_pixels(make_episode(3, length=9), lambda rgb: np.repeat(rgb[:1], len(rgb), 0))
    )
    with pytest.raises(InputError, match=r"no episode is left: demos left out: 1 static; its rejected\.json says more"):
        augment(still, tmp_path / "still.zarr", SeededGenerator(), CONFIG)


def test_excluded_variants_are_not_made_and_their_siblings_stay_the_same(recording, tmp_path):
    whole, generator = tmp_path / "whole.zarr", SeededGenerator()
    augment(Recording(recording), whole, SeededGenerator(), CONFIG)
    out = tmp_path / "x.zarr"
    made = augment(Recording(recording), out, generator, CONFIG, exclusions={(0, 1), (2, 0)})
    dataset, before = Dataset(out), Dataset(whole)
    assert list(zip(dataset.source_demo.tolist(), dataset.variant.tolist(), strict=True)) == [
        (0, 0), (0, 2), (1, 0), (1, 1), (1, 2)
    ]  # fmt: skip
    assert [dataset.info[i] for i in range(5)] == [before.info[i] for i in (0, 2, 3, 4, 5)]
    assert dataset.episode(1)["agentview_image"].tobytes() == before.episode(2)["agentview_image"].tobytes()
    assert len(generator.calls) == 6
    assert (made.rejected, made.left_out) == ({"excluded": 1}, {"excluded": 1})
    excluded, demo = read_rejected(out)
    assert (excluded.source_demo, excluded.variant, excluded.prompt) == (0, 1, before.info[1]["prompt"])
    assert (demo.source_demo, demo.variant) == (2, 0)
    for pair, line in (((3, 1), "no demo 3; the recording has 3"), ((0, 3), "demo 0 has no variant 3")):
        with pytest.raises(InputError, match=line):
            augment(Recording(recording), tmp_path / "y.zarr", generator, CONFIG, exclusions={pair})


def test_a_gate_needs_a_robot_in_the_labels(tmp_path):
    labels = {2: InstanceLabel("cube", "red cube", "manipulated"), 3: InstanceLabel("table", "table", "scene")}
    episode = replace(make_episode(0, length=9), labels={1: InstanceLabel("arm", "arm", "scene"), **labels})
    recording = record(tmp_path / "demos", episode)
    with pytest.raises(InputError, match=r"the gate needs instances of role 'robot', got .* manipulated, scene"):
        augment(recording, tmp_path / "x.zarr", SeededGenerator(), CONFIG, gate=SeededGate())
    assert not (tmp_path / "x.zarr").exists()
    augment(recording, tmp_path / "x.zarr", SeededGenerator(), CONFIG)


def test_a_try_that_was_cut_short_on_disk_is_made_again(recording, tmp_path):
    whole, stopped = tmp_path / "whole.zarr", tmp_path / "stopped.zarr"
    augment(Recording(recording), whole, SeededGenerator(), GATED, gate=SeededGate())
    generator = SeededGenerator()
    generator.fail_at_call = 6
    with pytest.raises(KeyboardInterrupt):
        augment(Recording(recording), stopped, generator, GATED, gate=SeededGate())
    staged = sorted((stopped / "work").glob("*.safetensors"))
    assert staged
    for file in staged:
        file.write_bytes(file.read_bytes()[:-100])
    augment(Recording(recording), stopped, SeededGenerator(), GATED, gate=SeededGate())
    assert tree(stopped) == tree(whole)


def test_a_torn_line_of_the_journal_is_forgotten_and_a_damaged_one_is_named(recording, tmp_path):
    whole, out = tmp_path / "whole.zarr", tmp_path / "x.zarr"
    augment(Recording(recording), whole, SeededGenerator(), CONFIG)
    generator = SeededGenerator()
    generator.fail_at_call = 9
    with pytest.raises(KeyboardInterrupt):
        augment(Recording(recording), out, generator, CONFIG)
    journal = out / "work" / "outcomes.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2
    journal.write_bytes(b"{}\n")
    with pytest.raises(InputError, match=r"outcomes\.jsonl: damaged"):
        augment(Recording(recording), out, SeededGenerator(), CONFIG)
    journal.write_bytes(lines[0] + lines[1][:-20])
    augment(Recording(recording), out, SeededGenerator(), CONFIG)
    assert tree(out) == tree(whole)


def test_rejected_json_is_whole_while_the_job_runs(recording, tmp_path):
    generator = SeededGenerator()
    generator.fail_at_call = 20  # of 16 a demo, since each variant is tried four times and there are two cameras
    with pytest.raises(KeyboardInterrupt):
        augment(Recording(recording), tmp_path / "x.zarr", generator, CONFIG, gate=SeededGate(100))
    entries = json.loads((tmp_path / "x.zarr" / "rejected.json").read_bytes())
    assert [(entry["source_demo"], entry["variant"]) for entry in entries] == [(0, 1), (0, 2)]


@pytest.mark.parametrize("key", ["variants", "seed", "batch", "threads"])
def test_a_number_out_of_range_is_named(key):
    with pytest.raises(InputError, match=f"{key}: expected"):
        AugmentConfig(**{key: -1})


def test_same_job_on_its_complete_dataset_changes_nothing_and_counts_the_same(recording, tmp_path):
    out = tmp_path / "x.zarr"
    first = augment(Recording(recording), out, SeededGenerator(), GATED, gate=SeededGate())
    before = tree(out)
    (out / "work").mkdir()  # as if the job had been killed right after the certificate
    again = augment(Recording(recording), out, SeededGenerator(), GATED, gate=SeededGate())
    assert tree(out) == before
    assert not (out / "work").exists()
    assert (again.accepted, again.asked, again.tries) == (first.accepted, first.asked, first.tries)
    assert (dict(again.rejected), dict(again.left_out)) == (dict(first.rejected), dict(first.left_out))
    with pytest.raises(InputError, match="exists and is complete; choose another output"):
        augment(Recording(recording), out, SeededGenerator(), replace(GATED, seed=4), gate=SeededGate())
