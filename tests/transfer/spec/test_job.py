"""A spec becomes files of NVIDIA's names, each sample whole or not at all, and a stopped job goes on."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosmos_engine.controls import ControlClip, identity_framing
from cosmos_engine.data.lock import WriterLock
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.sampling import SAMPLING, SamplingConfig
from cosmos_engine.transfer.spec.job import JobSummary, run_samples, sampling_of, with_defaults
from cosmos_engine.transfer.spec.sample import read_spec
from cosmos_engine.transfer.spec.video_file import probe_video, read_video, write_image, write_video
from cosmos_engine.transfer.transfer25 import Transfer25

FRAMES, HEIGHT, WIDTH = 5, 48, 84
TWO_B = SAMPLING["transfer25-2b"]
DISTILLED = SAMPLING["transfer25-2b-distilled"]
MADE_WITH = {"generator": "fake"}


class FakeGenerator:
    """Turn red and blue around; note what it was asked. `stop_at` raises at that call of `generate`."""

    name = "fake"
    uses_prompts = True

    def __init__(self, stop_at: int | None = None) -> None:
        self.sampling: SamplingConfig | None = None
        self.calls: list[tuple[str, Any]] = []
        self.stop_at = stop_at

    @property
    def provenance(self) -> dict[str, Any]:
        return {"weights_sha256": {"fake": "0"}, "steps": self.sampling.steps if self.sampling else None}

    def with_sampling(self, sampling: SamplingConfig) -> FakeGenerator:
        other = copy.copy(self)
        other.sampling = sampling
        return other

    def framing(self, height: int, width: int) -> Any:
        return identity_framing(height, width)

    def prepare(self, prompts: Sequence[str]) -> None:
        if any("forbidden" in prompt for prompt in prompts):
            raise InputError("prompt: forbidden")
        self.calls.append(("prepare", list(prompts)))

    def plan(self, sizes: Sequence[tuple[int, int]], modalities: Sequence[str], rows: int) -> str:
        self.calls.append(("plan", (list(sizes), list(modalities), rows)))
        return ""

    def generate(self, clips: Sequence[ControlClip], prompts: Sequence[str], seeds: Sequence[int]) -> list[np.ndarray]:
        self.calls.append(("generate", (self.sampling, clips, prompts, seeds)))
        if self.stop_at is not None and self.count("generate") == self.stop_at:
            raise KeyboardInterrupt
        return [clip.rgb[None, ..., ::-1].copy() for clip in clips]

    def close(self) -> None:
        self.calls.append(("close", None))

    def count(self, what: str) -> int:
        return sum(call == what for call, _ in self.calls)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    clip = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    clip[..., 0] = 200
    clip[:, 10:30, 10:30] = (10, 200, 10)
    write_video(folder / "video.mp4", clip, Fraction(12))
    mask = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    mask[:, :, WIDTH // 2 :] = 255
    write_video(folder / "mask.mp4", mask, Fraction(12))
    write_image(folder / "image.jpg", clip[0])
    return folder


def spec(inputs: Path, *samples: dict[str, Any]) -> Path:
    file = inputs / "spec.jsonl"
    base = {"name": "one", "prompt": "a kitchen", "video_path": "video.mp4", "resolution": "256", "edge": {}}
    file.write_text("\n".join(json.dumps(base | given) for given in samples))
    return file


def run(
    inputs: Path,
    *samples: dict[str, Any],
    generator: FakeGenerator | None = None,
    sampling: SamplingConfig = TWO_B,
    made_with: dict[str, Any] = MADE_WITH,
) -> tuple[JobSummary, FakeGenerator]:
    made_by = generator or FakeGenerator()
    file = spec(inputs, *samples)

    def opened(modalities: Sequence[str], first: SamplingConfig) -> FakeGenerator:
        made_by.calls.append(("open", (list(modalities), first)))
        return made_by

    return run_samples(read_spec(file), out(inputs), sampling, opened, made_with, inputs=[file]), made_by


def out(inputs: Path) -> Path:
    return inputs.parent / "out"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_sample_is_written_under_nvidias_names(inputs):
    summary, _ = run(
        inputs,
        {
            "vis": {"mask_path": "mask.mp4", "control_weight": 0.5},
            "guided_generation_mask": "mask.mp4",
            "prompt": "a kitchen\nwith a robot",
        },
    )
    assert summary == JobSummary(made=1, skipped=0)
    assert sorted(path.name for path in out(inputs).iterdir()) == [
        "one.json",
        "one.mp4",
        "one.txt",
        "one_control_edge.mp4",
        "one_control_vis.mp4",
        "one_mask_guided_generation.mp4",
        "one_mask_vis.mp4",
        "one_provenance.json",
    ]
    for file in out(inputs).glob("*.mp4"):
        info = probe_video(file)
        assert (info.frames, info.height, info.width, info.fps) == (FRAMES, HEIGHT, WIDTH, 12)
    assert (out(inputs) / "one.txt").read_text() == "a kitchen\nwith a robot"
    video = read_video(out(inputs) / "one.mp4").astype(int)
    assert np.abs(video[:, 40, 60] - (0, 0, 200)).max() < 8  # the fake swaps red and blue


def test_arguments_read_back_as_the_sample_with_every_default_said(inputs):
    run(inputs, {"seed": 7})
    (given,) = read_spec(inputs / "spec.jsonl")
    (written,) = read_spec(out(inputs) / "one.json")
    assert written == with_defaults(given, TWO_B)
    assert (written.num_steps, written.guidance, written.num_video_frames_per_chunk) == (35, 3, 93)
    assert (written.seed, written.negative_prompt) == (7, TWO_B.negative_prompt)


def test_provenance_says_what_made_the_pixels(inputs):
    run(inputs, {"num_steps": 4})
    provenance = json.loads((out(inputs) / "one_provenance.json").read_text())
    assert provenance["generator"] == {"name": "fake", "weights_sha256": {"fake": "0"}, "steps": 4}
    assert provenance["record"]["made_with"] == MADE_WITH
    assert set(provenance["record"]["inputs_sha256"]) == {"video_path"}


def test_keys_reach_the_generator(inputs):
    _, generator = run(
        inputs,
        {
            "num_steps": 9,
            "guidance": 0,
            "num_video_frames_per_chunk": 5,
            "num_conditional_frames": 2,
            "negative_prompt": "blurry",
            "seed": 11,
            "guided_generation_mask": "mask.mp4",
            "guided_generation_step_threshold": 3,
        },
    )
    (sampling, (clip,), prompts, seeds) = next(what for call, what in generator.calls if call == "generate")
    assert sampling == replace(
        TWO_B, steps=9, guidance=0.0, segment_frames=5, conditional_frames=2, negative_prompt="blurry"
    )
    assert (list(prompts), list(seeds)) == (["a kitchen"], [11])
    assert clip.keep_steps == 4
    assert clip.rgb.shape == (FRAMES, 192, 320, 3)


def test_everything_is_prepared_and_planned_before_the_first_frame(inputs):
    _, generator = run(
        inputs,
        {"name": "a", "prompt": "one"},
        {"name": "b", "prompt": "two", "edge": {"control_weight": 0}, "vis": {}, "negative_prompt": "blurry"},
    )
    calls = [call for call, _ in generator.calls]
    assert calls[:2] == ["open", "prepare"]
    assert calls.index("generate") > 3
    assert calls[-1] == "close"
    assert dict(generator.calls)["prepare"] == ["one", TWO_B.negative_prompt, "two", "blurry"]
    assert generator.calls[0][1][0] == ["edge", "vis"]
    assert all(what == ([(192, 320)], ["edge", "vis"], 1) for call, what in generator.calls if call == "plan")


def test_single_frame_is_written_as_an_image(inputs):
    run(inputs, {"name": "image", "video_path": "image.jpg"}, {"name": "first", "max_frames": 1})
    for name in ("image", "first"):
        assert read_video(out(inputs) / f"{name}.jpg").shape == (1, HEIGHT, WIDTH, 3)
        assert (out(inputs) / f"{name}_control_edge.jpg").is_file()
        assert not (out(inputs) / f"{name}.mp4").exists()


def test_shown_pictures_stand_left_of_the_output(inputs):
    run(inputs, {"show_input": True, "show_control_condition": True, "vis": {"mask_path": "mask.mp4"}})
    video = read_video(out(inputs) / "one.mp4").astype(int)
    assert video.shape == (FRAMES, HEIGHT, 4 * WIDTH, 3)
    edge, vis, source, made = np.split(video, 4, axis=2)
    assert (edge[:, 40, 60] < 20).all()
    assert (vis[:, :, : WIDTH // 2 - 6] < 40).all()
    assert (np.abs(source[:, 40, 60] - (200, 0, 0)) < 12).all()
    assert (np.abs(made[:, 40, 60] - (0, 0, 200)) < 12).all()


def test_models_size_is_kept_on_request(inputs):
    run(inputs, {"keep_input_resolution": False})
    for name in ("one.mp4", "one_control_edge.mp4"):
        info = probe_video(out(inputs) / name)
        assert (info.height, info.width) == (192, 320)


def test_whole_samples_are_skipped_without_opening_the_generator(inputs):
    run(inputs, {"name": "a"}, {"name": "b"})
    before = contents(out(inputs))
    summary, generator = run(inputs, {"name": "a"}, {"name": "b"})
    assert summary == JobSummary(made=0, skipped=2)
    assert generator.calls == []
    assert contents(out(inputs)) == before


@pytest.mark.parametrize("lost", ["a.json", "a.mp4", "a.txt", "a_control_edge.mp4", "a_provenance.json"])
def test_sample_that_lacks_a_file_is_made_again(inputs, lost):
    run(inputs, {"name": "a"}, {"name": "b"})
    before = contents(out(inputs))
    (out(inputs) / lost).unlink()
    summary, generator = run(inputs, {"name": "a"}, {"name": "b"})
    assert summary == JobSummary(made=1, skipped=1)
    assert generator.count("generate") == 1
    assert contents(out(inputs)) == before


def test_sample_with_other_arguments_inputs_or_generator_is_made_again(inputs):
    run(inputs, {})
    assert run(inputs, {"guidance": 5})[0].made == 1
    assert run(inputs, {"guidance": 5})[0].made == 0
    assert run(inputs, {"guidance": 5}, made_with={"generator": "other"})[0].made == 1
    write_video(inputs / "video.mp4", np.full((FRAMES, HEIGHT, WIDTH, 3), 90, np.uint8), Fraction(12))
    assert run(inputs, {"guidance": 5}, made_with={"generator": "other"})[0].made == 1


def test_controls_of_whole_samples_count_for_the_generator(inputs):
    samples = ({"name": "a"}, {"name": "b", "edge": None, "vis": {}})
    _, first = run(inputs, *samples)
    (out(inputs) / "b.json").unlink()
    _, second = run(inputs, *samples)
    assert first.calls[0][1][0] == second.calls[0][1][0] == ["edge", "vis"]


def test_stopped_job_goes_on_where_it_was(inputs):
    samples = [{"name": name, "seed": seed} for seed, name in enumerate("abc")]
    with pytest.raises(KeyboardInterrupt):
        run(inputs, *samples, generator=FakeGenerator(stop_at=2))
    assert sorted(path.name for path in out(inputs).glob("*.json")) == ["a.json", "a_provenance.json"]
    summary, _ = run(inputs, *samples)
    assert summary == JobSummary(made=2, skipped=1)
    stopped = contents(out(inputs))
    for file in out(inputs).iterdir():
        file.unlink()
    run(inputs, *samples)
    assert contents(out(inputs)) == stopped


def test_writer_that_was_killed_leaves_nothing_behind(inputs):
    out(inputs).mkdir()
    (out(inputs) / ".one.mp4.tmp-00000000").write_bytes(b"half")
    (out(inputs) / ".other.mp4.tmp-00000000").write_bytes(b"of another job")
    run(inputs, {})
    hidden = [path.name for path in out(inputs).iterdir() if path.name.startswith(".")]
    assert hidden == [".other.mp4.tmp-00000000"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_frames": 6}, "max_frames is 6"),
        ({"num_video_frames_per_chunk": 1}, "clip of 5; expected at most 1"),
        ({"edge": {"control_path": "image.jpg"}}, "expected the 5 frames of the video, got 1"),
    ],
)
def test_bad_sample_is_refused_before_anything_is_opened_or_written(inputs, wrong, said):
    generator = FakeGenerator()
    with pytest.raises(InputError, match=said) as refused:
        run(inputs, {"name": "good"}, {"name": "bad", **wrong}, generator=generator)
    assert "sample 'bad'" in str(refused.value)
    assert generator.calls == []
    assert not out(inputs).exists()


def test_prompt_that_the_generator_refuses_stops_the_job_before_the_first_sample(inputs):
    generator = FakeGenerator()
    with pytest.raises(InputError, match="forbidden"):
        run(inputs, {"name": "a"}, {"name": "b", "prompt": "forbidden"}, generator=generator)
    assert generator.count("generate") == 0
    assert generator.count("close") == 1
    assert list(out(inputs).iterdir()) == []


@pytest.mark.parametrize("name", ["video", "spec"])
def test_outputs_never_overwrite_inputs(inputs, name):
    before = contents(inputs)
    file = inputs / "spec.json"
    sample = {"name": name, "prompt": "p", "video_path": "video.mp4", "edge": {}}
    file.write_text(json.dumps(sample))
    with pytest.raises(InputError, match="would overwrite the input"):
        run_samples(read_spec(file), inputs, TWO_B, lambda *_: FakeGenerator(), MADE_WITH, inputs=[file])
    assert contents(inputs) == before | {"spec.json": json.dumps(sample).encode()}


def test_one_writer_at_a_time(inputs):
    out(inputs).mkdir()
    lock = WriterLock(out(inputs))
    with pytest.raises(InputError, match="is writing here"):
        run(inputs, {})
    lock.release()
    assert run(inputs, {})[0].made == 1


def test_distilled_checkpoint_takes_nvidias_example_and_says_what_it_does_not_use(inputs, capsys):
    _, generator = run(inputs, {"guidance": 3, "num_steps": 4, "seed": 1}, sampling=DISTILLED)
    assert "guidance is not used" in capsys.readouterr().err
    assert next(what for call, what in generator.calls if call == "generate")[0] == DISTILLED
    assert json.loads((out(inputs) / "one.json").read_text())["guidance"] == 0


@pytest.mark.parametrize(
    ("given", "frames", "said"),
    [
        ({"num_steps": 35}, 93, "takes 1 to 4, got 35"),
        ({"num_video_frames_per_chunk": 17}, 93, "num_video_frames_per_chunk: expected the 93"),
        ({}, 94, "clip of 94; expected at most 93"),
    ],
)
def test_distilled_checkpoint_refuses_what_it_was_not_made_for(inputs, given, frames, said):
    (sample,) = read_spec(spec(inputs, given))
    with pytest.raises(InputError, match=said) as refused:
        sampling_of(sample, DISTILLED, frames)
    assert str(refused.value).startswith("sample 'one': ")


def test_one_frame_segments_make_a_single_frame(inputs):
    # NVIDIA's image examples: one frame, and the default of one conditional frame that there is no room for.
    (sample,) = read_spec(spec(inputs, {"num_video_frames_per_chunk": 1, "max_frames": 1}))
    sampling = sampling_of(sample, TWO_B, 1)
    assert (sampling.segment_frames, sampling.conditional_frames) == (1, 0)


def test_tiny_generator_makes_a_sample(inputs):
    clip = np.random.default_rng(0).integers(0, 256, (FRAMES, 64, 64, 3), np.uint8)
    write_video(inputs / "small.mp4", clip, Fraction(20))
    file = spec(
        inputs,
        {"video_path": "small.mp4", "num_video_frames_per_chunk": 5, "vis": {"control_weight": 0.5}, "max_frames": 5},
    )
    tiny = SAMPLING["transfer25-tiny"]
    summary = run_samples(
        read_spec(file), out(inputs), tiny, lambda _, first: Transfer25.tiny(sampling=first), {"generator": "tiny"}
    )
    assert summary.made == 1
    info = probe_video(out(inputs) / "one.mp4")
    assert (info.frames, info.height, info.width, info.fps) == (FRAMES, 64, 64, 20)
    written = json.loads((out(inputs) / "one.json").read_text())
    assert (written["num_steps"], written["guidance"], written["negative_prompt"]) == (1, 0, "")
    assert json.loads((out(inputs) / "one_provenance.json").read_text())["generator"]["name"] == "transfer25-tiny"
