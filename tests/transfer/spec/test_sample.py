"""A spec of NVIDIA's is read as NVIDIA reads it, or refused in one line that names the key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosmos_engine.errors import InputError
from cosmos_engine.transfer.sampling import NVIDIA_NEGATIVE_PROMPT, SAMPLING
from cosmos_engine.transfer.spec.sample import ControlSpec, Sample, parse_sample, read_spec


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files of every kind that a spec may name; the parser does not look into videos."""
    folder = tmp_path_factory.mktemp("spec")
    (folder / "sub").mkdir()
    for name in ("video.mp4", "control.mp4", "mask.mp4", "labels.npz", "sub/video.mp4"):
        (folder / name).write_bytes(b"")
    (folder / "prompt.txt").write_text("  a robot arm\n")
    (folder / "blank.txt").write_text(" \n")
    return folder


def minimal(**keys: Any) -> dict[str, Any]:
    return {"name": "one", "prompt": "a kitchen", "video_path": "video.mp4", "edge": {}} | keys


def refusal(folder: Path, data: object) -> str:
    with pytest.raises(InputError) as refused:
        parse_sample(data, folder, "spec.json")
    message = str(refused.value)
    assert message.startswith("spec.json: ")
    assert "\n" not in message
    return message


def test_minimal_sample_has_nvidias_defaults(folder):
    sample = parse_sample(minimal(), folder, "spec.json")
    assert (sample.seed, sample.resolution, sample.keep_input_resolution, sample.max_frames) == (
        2025,
        "720",
        True,
        None,
    )
    assert sample.guided_generation_step_threshold == 25
    assert sample.controls == {"edge": ControlSpec(None, 1.0, None, "medium")}
    assert sample.video_path == folder / "video.mp4"
    # Keys whose default is the generator's; NVIDIA's numbers are those of the 2B.
    assert (sample.num_steps, sample.guidance, sample.num_video_frames_per_chunk) == (None, None, None)
    nvidia = SAMPLING["transfer25-2b"]
    assert (nvidia.steps, nvidia.guidance, nvidia.segment_frames, nvidia.conditional_frames) == (35, 3, 93, 1)
    assert nvidia.negative_prompt == NVIDIA_NEGATIVE_PROMPT


def test_every_supported_key_is_read(folder):
    sample = parse_sample(
        {
            "name": "all keys",
            "prompt_path": "prompt.txt",
            "negative_prompt": "blurry",
            "video_path": str(folder / "video.mp4"),
            "guidance": 7.0,
            "num_steps": 4,
            "seed": 1,
            "resolution": "480",
            "max_frames": 93,
            "num_conditional_frames": 2,
            "num_video_frames_per_chunk": 29,
            "keep_input_resolution": False,
            "show_control_condition": True,
            "show_input": True,
            "guided_generation_mask": "labels.npz",
            "guided_generation_step_threshold": 10,
            "guided_generation_foreground_labels": [2, 4],
            "seg": {"control_path": "control.mp4", "control_weight": 0.5, "mask_path": "mask.mp4"},
            "vis": {"preset_blur_strength": "very_low"},
            "edge": {"preset_edge_threshold": "high", "control_weight": 0},
            "depth": {"control_path": "control.mp4"},
        },
        folder,
        "spec.json",
    )
    control, mask = folder / "control.mp4", folder / "mask.mp4"
    assert sample == Sample(
        name="all keys",
        prompt="a robot arm",
        video_path=folder / "video.mp4",
        controls={
            "edge": ControlSpec(None, 0.0, None, "high"),
            "vis": ControlSpec(None, 1.0, None, "very_low"),
            "depth": ControlSpec(control),
            "seg": ControlSpec(control, 0.5, mask),
        },
        negative_prompt="blurry",
        seed=1,
        guidance=7,
        num_steps=4,
        resolution="480",
        max_frames=93,
        num_conditional_frames=2,
        num_video_frames_per_chunk=29,
        keep_input_resolution=False,
        show_control_condition=True,
        show_input=True,
        guided_generation_mask=folder / "labels.npz",
        guided_generation_step_threshold=10,
        guided_generation_foreground_labels=(2, 4),
    )
    assert list(sample.controls) == ["edge", "vis", "depth", "seg"]
    assert parse_sample(json.loads(json.dumps(sample.arguments())), folder / "sub", "spec.json") == sample


def test_null_is_a_key_that_was_not_given(folder):
    # As in the arguments that NVIDIA's code writes beside its outputs.
    nulls = dict.fromkeys(("prompt_path", "max_frames", "sigma_max", "image_context_path", "depth", "vis", "seg"))
    edge = {"control_path": None, "mask_path": None, "mask_prompt": None, "preset_edge_threshold": "medium"}
    assert parse_sample(minimal(**nulls, edge=edge), folder, "s") == parse_sample(minimal(), folder, "s")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"guidence": 3}, ["'guidence'", "did you mean 'guidance'"]),
        ({"edge": {"preset_blur_strength": "low"}}, ["'edge.preset_blur_strength'", "preset_edge_threshold"]),
        ({"edge": {"control_wieght": 1}}, ["'edge.control_wieght'", "'control_weight'"]),
        ({"output_dir": "outputs"}, ["'output_dir'", "--out"]),
        ({"context_frame_index": 1}, ["'context_frame_index'", "not supported"]),
        ({"image_context_path": "a.jpg"}, ["'image_context_path'", "not supported"]),
        ({"sigma_max": "80"}, ["'sigma_max'", "not supported"]),
        ({"control_weight": 1.0}, ["'control_weight'", "inside a control"]),
        ({"edge": {"mask_prompt": "cars"}}, ["'edge.mask_prompt'", "not supported", "mask_path"]),
        ({"seg": {"control_prompt": "cars"}}, ["'seg.control_prompt'", "not supported", "control_path"]),
        ({"depth": {}}, ["'depth.control_path'", "missing", "Video-Depth-Anything"]),
        ({"seg": {"control_weight": 1}}, ["'seg.control_path'", "missing", "SAM2"]),
        ({"front_wide": {"input_path": "a.mp4"}}, ["'front_wide'", "multi-view"]),
        ({"camera_sequence": ["static"], "input_path": "a.mp4"}, ["'camera_sequence'", "plenoptic"]),
        ({"edge": None}, ["expected a control (edge, vis, depth, seg)", "got none"]),
        ({"edge": {"control_weight": 0}, "vis": {"control_weight": 0.0}}, ["weight above 0", "edge, vis"]),
        ({"edge": 1.0}, ["'edge'", "expected {...}", "1.0"]),
        ({"edge": {"control_weight": 1.1}}, ["'edge.control_weight'", "[0, 1]", "1.1"]),
        ({"edge": {"control_weight": True}}, ["'edge.control_weight'", "True"]),
        ({"edge": {"control_path": "none.mp4"}}, ["'edge.control_path'", "no such file", "none.mp4"]),
        ({"edge": {"mask_path": "sub"}}, ["'edge.mask_path'", "no such file"]),
        ({"edge": {"preset_edge_threshold": "hihg"}}, ["'edge.preset_edge_threshold'", "'very_high'", "'hihg'"]),
        (
            {"vis": {"control_path": "control.mp4", "preset_blur_strength": "low"}},
            ["'vis.preset_blur_strength'", "no effect"],
        ),
        ({"video_path": None}, ["'video_path'", "missing"]),
        ({"video_path": "x" * 5000}, ["'video_path'", "cannot be a path"]),
        ({"video_path": "~nobody-of-that-name/x"}, ["'video_path'"]),
        ({"video_path": "a\0b"}, ["'video_path'", "the path of a file"]),
        ({"guidance": 7.5}, ["'guidance'", "whole number from 0 to 7", "7.5"]),
        ({"guidance": 8}, ["'guidance'", "8"]),
        ({"guidance": "3"}, ["'guidance'", "'3'"]),
        ({"num_steps": 0}, ["'num_steps'", "1"]),
        ({"seed": 10**400}, ["'seed'"]),
        ({"resolution": 720}, ["'resolution'", "'720'", "720"]),
        ({"resolution": "721"}, ["'resolution'", "'480'", "'721'"]),
        ({"max_frames": 0}, ["'max_frames'", "1 to 5000"]),
        ({"num_conditional_frames": 3}, ["'num_conditional_frames'", "0 to 2", "3"]),
        ({"num_video_frames_per_chunk": 92}, ["'num_video_frames_per_chunk'", "4k + 1", "92"]),
        ({"show_input": 1}, ["'show_input'", "true or false"]),
        ({"prompt": None}, ["'prompt'", "got none"]),
        ({"prompt": " "}, ["'prompt'"]),
        ({"prompt": None, "prompt_path": "blank.txt"}, ["'prompt'"]),
        ({"prompt_path": "prompt.txt"}, ["'prompt'", "differs", "prompt.txt"]),
        ({"prompt": "half \ud800"}, ["'prompt'"]),
        ({"guided_generation_mask": "none.npz"}, ["'guided_generation_mask'", "no such file"]),
        ({"guided_generation_foreground_labels": [1]}, ["'guided_generation_foreground_labels'", ".npz"]),
        (
            {"guided_generation_mask": "labels.npz", "guided_generation_foreground_labels": [0]},
            ["'guided_generation_foreground_labels'", "background"],
        ),
        (
            {"guided_generation_mask": "mask.mp4", "guided_generation_foreground_labels": [1]},
            ["'guided_generation_foreground_labels'", ".npz"],
        ),
        ({"guided_generation_step_threshold": -1}, ["'guided_generation_step_threshold'", "-1"]),
    ],
)
def test_what_is_wrong_or_unsupported_is_said_and_never_ignored(folder, keys, said):
    message = refusal(folder, minimal(**keys))
    for words in said:
        assert words in message


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "../a", "a\\b", "a\nb", "c:", "a.", " a", "x" * 300, 3]
)
def test_name_that_is_no_safe_file_name_is_refused(folder, name):
    assert "'name'" in refusal(folder, minimal(name=name))


def test_name_may_be_of_any_language(folder):
    assert parse_sample(minimal(name="Küche 厨房-1.2"), folder, "s").name == "Küche 厨房-1.2"


def test_prompt_beside_its_own_file_is_accepted(folder):
    assert parse_sample(minimal(prompt="a robot arm", prompt_path="prompt.txt"), folder, "s").prompt == "a robot arm"


def test_paths_are_relative_to_the_spec(folder):
    spec = folder / "sub" / "spec.json"
    spec.write_text(json.dumps(minimal(video_path="../video.mp4")))
    (sample,) = read_spec(spec)
    assert sample.video_path.samefile(folder / "video.mp4")


def test_jsonl_holds_a_sample_a_line(folder):
    spec = folder / "batch.jsonl"
    spec.write_text("\n".join([json.dumps(minimal(name="a")), "", json.dumps(minimal(name="b")), ""]))
    assert [sample.name for sample in read_spec(spec)] == ["a", "b"]
    # A character that str.splitlines takes for the end of a line is no end of a JSON line.
    spec.write_text(json.dumps(minimal(prompt="one\u2028two"), ensure_ascii=False))
    assert read_spec(spec)[0].prompt == "one\u2028two"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (minimal(name="a"), minimal(name="a")),
        (minimal(name="a"), minimal(name="A")),
        (minimal(name="a"), minimal(name="a_control_edge")),
        (minimal(name="a", edge={"mask_path": "mask.mp4"}), minimal(name="a_mask_edge")),
        (minimal(name="a", guided_generation_mask="mask.mp4"), minimal(name="a_mask_guided_generation")),
        (minimal(name="a_provenance"), minimal(name="a")),
    ],
)
def test_samples_that_would_write_the_same_file_are_refused(folder, first, second):
    spec = folder / "twice.jsonl"
    spec.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    with pytest.raises(InputError, match=r"line 2: key 'name': .* would overwrite .* line 1"):
        read_spec(spec)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("spec.yaml", "name: a", ".jsonl"),
        ("spec.json", "", "no JSON"),
        ("spec.json", "[]", "expected {...}"),
        ("spec.json", '{"name": "a", // comment\n}', "comments are no JSON"),
        ("spec.json", '{"name": "a", "name": "b"}', "'name' stands twice"),
        ("spec.json", '{"seed": NaN}', "NaN"),
        ("spec.json", "[" * 100_000, "no JSON"),
        ("spec.json", f'{{"seed": {"1" * 5000}}}', "no JSON"),
        ("spec.jsonl", "\n\n", "empty"),
        ("spec.jsonl", '{"name": "a"\n}', "line 1"),
    ],
)
def test_file_that_is_no_spec_is_refused(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said) as refused:
        read_spec(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_missing_or_binary_spec_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_spec(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        read_spec(tmp_path / "binary.json")


KEYS = [*Sample.__dataclass_fields__, "prompt_path", "edge", "vis", "depth", "seg", "sigma_max", "output_dir"]
CONTROL_KEYS = ["control_path", "control_weight", "mask_path", "preset_edge_threshold", "preset_blur_strength"]
PLAUSIBLE = [
    "video.mp4",
    "control.mp4",
    "mask.mp4",
    "labels.npz",
    "prompt.txt",
    "medium",
    "720",
    "a",
    "..",
    "/",
    "~",
    "~x",
]
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, 2, 93, 10**400, -1])
    | st.floats()
    | st.sampled_from(PLAUSIBLE)
    | st.text(st.characters(), max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
controls = st.dictionaries(st.sampled_from(CONTROL_KEYS) | st.text(max_size=4), values, max_size=4)


def refused_in_one_line(error: InputError) -> bool:
    return len(str(error).splitlines()) == 1


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    changes=st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=6), values | controls, max_size=5),
    removed=st.sets(st.sampled_from(["name", "prompt", "video_path", "edge"]), max_size=1),
)
def test_any_json_is_a_sample_or_one_line(folder, changes, removed):
    data = {key: value for key, value in (minimal() | changes).items() if key not in removed}
    try:
        sample = parse_sample(data, folder, "spec.json")
    except InputError as error:
        assert refused_in_one_line(error)  # noqa: PT017  # either outcome is right
        return
    assert parse_sample(json.loads(json.dumps(sample.arguments())), folder, "spec.json") == sample


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode(errors="surrogatepass")))
def test_any_bytes_are_a_spec_or_one_line(folder, content):
    for name in ("fuzz.json", "fuzz.jsonl"):
        (folder / name).write_bytes(content)
        try:
            read_spec(folder / name)
        except InputError as error:
            assert refused_in_one_line(error)  # noqa: PT017
