"""NVIDIA's inference spec: the JSON that cosmos-transfer2.5 reads, as checked samples.

A `.json` file holds one sample, a `.jsonl` file one a line. Keys, defaults and ranges are those of NVIDIA's
`cosmos_transfer2/config.py` (InferenceArguments), and the fields below keep NVIDIA's names, so that a message, a spec
and NVIDIA's documentation say the same. Where we differ:

- a key that is not supported is an error that says so, and so is an unknown key, also inside a control, where NVIDIA
  drops it without a word;
- `num_steps`, `guidance`, `num_video_frames_per_chunk`, `num_conditional_frames` and `negative_prompt` that are not
  given take the default of the chosen generator; that of `transfer25-2b` is NVIDIA's;
- `prompt` beside `prompt_path` must be the text of that file; NVIDIA ignores the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from cosmos_engine.config import nearest
from cosmos_engine.controls.edge import THRESHOLDS
from cosmos_engine.controls.framing import RESOLUTIONS
from cosmos_engine.controls.modality import MODALITIES, Modality
from cosmos_engine.controls.vis import FACTORS
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.flow import TRAIN_TIMESTEPS

ValueT = TypeVar("ValueT")

MAX_GUIDANCE = 7  # NVIDIA's range is 0 to 7
MAX_FRAMES = 5000  # NVIDIA reads no more of a video
MAX_NAME_BYTES = 180  # leaves room for the endings of the outputs in the 255 of a file system
PRESETS: dict[str, Sequence[str]] = {
    "preset_edge_threshold": tuple(THRESHOLDS),
    "preset_blur_strength": tuple(FACTORS),
}
PRESET_KEY: dict[Modality, str] = {"edge": "preset_edge_threshold", "vis": "preset_blur_strength"}
_MEDIUM = "medium"  # NVIDIA's default of both presets

# Keys of NVIDIA's that are not supported, and what to do about it.
_REFUSED = {
    "context_frame_index": "not supported: the image context is not; describe the style in the prompt",
    "image_context_path": "not supported: the image context is not; describe the style in the prompt",
    "sigma_max": "not supported: generation starts from noise; use guided_generation_mask to keep parts of the video",
    "output_dir": "no key of a spec (NVIDIA's code refuses it too); give the folder by --out",
    "control_weight": "belongs inside a control, as in 'edge': {'control_weight': 1.0}",
    "camera_sequence": "not supported: this is a spec of NVIDIA's plenoptic model",
}
_REFUSED_IN_CONTROL = {
    "mask_prompt": "not supported: masks are not made from text; give the mask as mask_path",
    "control_prompt": "not supported: segmentation is not made from text; give the video as control_path",
}
_COMPUTED_ELSEWHERE = {
    "depth": "depth is not computed here (NVIDIA runs Video-Depth-Anything): give a disparity video, near bright",
    "seg": "segmentation is not computed here (NVIDIA runs SAM2): give a video with one colour for each instance",
}


@dataclass(frozen=True)
class ControlSpec:
    """One control of a sample.

    Attributes:
        control_path: the control video; None computes it from the sample's video (edge and vis only).
        control_weight: within [0, 1]; at 0 the branch is not run.
        mask_path: a video, white where the control counts; None counts everywhere.
        preset: of a computed edge or vis; "medium" for the others, where it means nothing.
    """

    control_path: Path | None = None
    control_weight: float = 1.0
    mask_path: Path | None = None
    preset: str = _MEDIUM


@dataclass(frozen=True)
class Sample:
    """One sample of a spec; None is a key that was not given.

    Attributes:
        name: names the outputs; safe as the beginning of a file name.
        prompt: not blank.
        video_path: a video, or an image for a single frame.
        controls: in the order of `MODALITIES`, at least one with a weight above 0.
        max_frames: how many frames to read, from the first.
        guided_generation_mask: a video, or an .npz with `arr_0` of labels (t, h, w): what keeps its content.
        guided_generation_step_threshold: index of the last denoise step that is guided.
        guided_generation_foreground_labels: the labels of an .npz that are foreground; None is every label but 0.

    The others as in NVIDIA's documentation.
    """

    name: str
    prompt: str
    video_path: Path
    controls: Mapping[Modality, ControlSpec]
    negative_prompt: str | None = None
    seed: int = 2025
    guidance: int | None = None
    num_steps: int | None = None
    resolution: str = "720"
    max_frames: int | None = None
    num_conditional_frames: int | None = None
    num_video_frames_per_chunk: int | None = None
    keep_input_resolution: bool = True
    show_control_condition: bool = False
    show_input: bool = False
    guided_generation_mask: Path | None = None
    guided_generation_step_threshold: int = 25
    guided_generation_foreground_labels: tuple[int, ...] | None = None

    @property
    def output_stems(self) -> tuple[str, ...]:
        """The names of the outputs without their endings: NVIDIA's, and a `_provenance` of ours."""
        masks = [modality for modality, control in self.controls.items() if control.mask_path is not None]
        if self.guided_generation_mask is not None:
            masks.append("guided_generation")  # type: ignore[arg-type]
        parts = [*(f"control_{modality}" for modality in self.controls), *(f"mask_{key}" for key in masks)]
        return (self.name, *(f"{self.name}_{part}" for part in (*parts, "provenance")))

    def arguments(self) -> dict[str, Any]:
        """Return the sample as NVIDIA writes it beside its outputs: JSON values, reads back as the same sample."""
        values = {key: _json_value(value) for key, value in vars(self).items() if key != "controls"}
        for modality in MODALITIES:
            control = self.controls.get(modality)
            if control is None:
                values[modality] = None
                continue
            written = vars(control).copy()
            preset = written.pop("preset")
            if modality in PRESET_KEY:
                written[PRESET_KEY[modality]] = preset
            values[modality] = {key: _json_value(value) for key, value in written.items()}
        return values


def read_spec(path: Path) -> tuple[Sample, ...]:
    """Return the samples of a spec file; their paths are relative to it. Prompt files are read, no video is.

    Raises:
        InputError: the file cannot be read, is no JSON, or a sample is not as described above; names sample and key.
    """
    if path.suffix not in {".json", ".jsonl"}:
        raise InputError(f"{path}: expected a .json file of one sample or a .jsonl file of one a line")
    text = _read_text(path)
    if path.suffix == ".json":
        return (parse_sample(_parse_json(text, str(path)), path.parent, str(path)),)
    # Not splitlines(): JSON strings may hold characters that it takes for the end of a line.
    rows = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not rows:
        raise InputError(f"{path}: expected a sample a line, got an empty file")
    places = [f"{path} line {number}" for number, _ in rows]
    samples = [
        parse_sample(_parse_json(line, place), path.parent, place)
        for place, (_, line) in zip(places, rows, strict=True)
    ]
    written: dict[str, str] = {}
    for place, sample in zip(places, samples, strict=True):
        for stem in sample.output_stems:
            # Without case: macOS and Windows would write both samples to the same file.
            other = written.setdefault(stem.casefold(), place)
            if other != place:
                raise InputError(f"{place}: key 'name': {sample.name!r} would overwrite {stem!r} of {other}")
    return tuple(samples)


def parse_sample(data: object, folder: Path, place: str) -> Sample:
    """Return a sample from its JSON value.

    Args:
        data: what was parsed.
        folder: relative paths start here.
        place: where it stands, for messages.

    Raises:
        InputError: names `place` and the key.
    """
    keys = _Keys(data, folder, place)
    _check_keys(keys)
    sample = Sample(
        name=_name(keys),
        prompt=_prompt(keys),
        video_path=keys.required("video_path", keys.file("video_path")),
        controls=_controls(keys),
        negative_prompt=keys.text("negative_prompt", None),
        seed=keys.whole("seed", -(2**63), 2**63 - 1, 2025),
        guidance=keys.whole("guidance", 0, MAX_GUIDANCE, None),
        num_steps=keys.whole("num_steps", 1, TRAIN_TIMESTEPS, None),
        resolution=keys.choice("resolution", RESOLUTIONS, "720"),
        max_frames=keys.whole("max_frames", 1, MAX_FRAMES, None),
        num_conditional_frames=keys.whole("num_conditional_frames", 0, 2, None),
        num_video_frames_per_chunk=keys.whole("num_video_frames_per_chunk", 1, MAX_FRAMES, None),
        keep_input_resolution=keys.flag("keep_input_resolution", True),
        show_control_condition=keys.flag("show_control_condition", False),
        show_input=keys.flag("show_input", False),
        guided_generation_mask=keys.file("guided_generation_mask"),
        guided_generation_step_threshold=keys.whole("guided_generation_step_threshold", 0, None, 25),
        guided_generation_foreground_labels=_foreground_labels(keys),
    )
    chunk = sample.num_video_frames_per_chunk
    if chunk is not None and (chunk - 1) % 4:
        keys.refuse("num_video_frames_per_chunk", f"expected 1, 5, 9, ... (4k + 1, the codec's steps), got {chunk}")
    return sample


class _Keys:
    """The keys of one JSON object, read by type; a key that is null counts as not given."""

    def __init__(self, data: object, folder: Path, place: str, prefix: str = "") -> None:
        if not isinstance(data, dict):
            raise InputError(f"{place}: {f'key {prefix!r}: ' if prefix else ''}expected {{...}}, got {_shown(data)}")
        self.given = {key: value for key, value in data.items() if value is not None}
        self.folder, self.place, self.prefix = folder, place, f"{prefix}." if prefix else ""

    def refuse(self, key: str, reason: str) -> NoReturn:
        raise InputError(f"{self.place}: key {f'{self.prefix}{key}'[:80]!r}: {reason}")

    def required(self, key: str, value: ValueT | None) -> ValueT:
        if value is None:
            self.refuse(key, "missing")
        return value

    def text(self, key: str, default: str | None) -> str | None:
        return self._read(key, default, lambda value: isinstance(value, str) and _writable(value), "a text")

    def flag(self, key: str, default: bool) -> bool:
        return self._read(key, default, lambda value: isinstance(value, bool), "true or false")

    def choice(self, key: str, options: Iterable[str], default: str) -> str:
        expected = f"one of {', '.join(map(repr, options))}"
        return self._read(key, default, lambda value: isinstance(value, str) and value in options, expected)

    def whole(self, key: str, low: int, high: int | None, default: Any) -> Any:
        expected = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
        value = self._read(
            key, default, lambda v: _is_number(v) and v == int(v) and low <= v and (high is None or v <= high), expected
        )
        return value if value is None else int(value)

    def weight(self, key: str, default: float) -> float:
        return float(self._read(key, default, lambda v: _is_number(v) and 0 <= v <= 1, "a number within [0, 1]"))

    def file(self, key: str) -> Path | None:
        """Return the existing file that a key names, as an absolute path."""
        text = self._read(key, None, lambda value: isinstance(value, str) and _writable(value), "the path of a file")
        if text is None:
            return None
        try:
            path = self.folder.absolute() / Path(text).expanduser()
            exists = path.is_file()
        except (OSError, RuntimeError, ValueError) as error:  # a name too long, no such user for ~
            self.refuse(key, f"{text[:80]!r} cannot be a path: {getattr(error, 'strerror', None) or error}")
        if not exists:
            self.refuse(key, f"no such file: {str(path)!r}")
        return path

    def _read(self, key: str, default: Any, fits: Callable[[Any], bool], expected: str) -> Any:
        if key not in self.given:
            return default
        value = self.given[key]
        if not fits(value):
            self.refuse(key, f"expected {expected}, got {_shown(value)}")
        return value


def _check_keys(keys: _Keys) -> None:
    known = [key for key in Sample.__dataclass_fields__ if key != "controls"] + ["prompt_path", *MODALITIES]
    for key, reason in _REFUSED.items():
        if key in keys.given:
            keys.refuse(key, reason)
    for key, value in keys.given.items():
        if key not in known:
            if isinstance(value, dict) and {"input_path", "control_path"} & set(value):
                keys.refuse(key, "not supported: this is a spec of NVIDIA's multi-view models; one video a sample here")
            keys.refuse(key, f"unknown key{nearest(key[:80], known)}")


def _name(keys: _Keys) -> str:
    name = keys.required("name", keys.text("name", None))
    bad = next((char for char in name if char in '/\\<>:"|?*' or not char.isprintable()), None)
    if bad is not None:
        keys.refuse("name", f"names files, so it cannot hold {bad!r}: {_shown(name)}")
    if not name or name[0] in ". " or name[-1] in ". " or len(name.encode()) > MAX_NAME_BYTES:
        keys.refuse(
            "name",
            f"names files, so expected 1 to {MAX_NAME_BYTES} bytes without a dot or space at either end, "
            f"got {_shown(name)}",
        )
    return name


def _prompt(keys: _Keys) -> str:
    prompt, path = keys.text("prompt", None), keys.file("prompt_path")
    if path is not None:
        written = _read_text(path).strip()
        if prompt is not None and prompt.strip() != written:
            keys.refuse("prompt", f"differs from the text of prompt_path {str(path)!r}; give one of them")
        prompt = written if prompt is None else prompt
    if prompt is None or not prompt.strip():
        keys.refuse("prompt", "expected a prompt here or in the file prompt_path, got none")
    return prompt


def _controls(keys: _Keys) -> dict[Modality, ControlSpec]:
    controls = {
        modality: _control(_Keys(keys.given[modality], keys.folder, keys.place, modality), modality)
        for modality in MODALITIES
        if modality in keys.given
    }
    if not any(control.control_weight > 0 for control in controls.values()):
        got = f"got weight 0 for {', '.join(controls)}" if controls else "got none"
        raise InputError(f"{keys.place}: expected a control ({', '.join(MODALITIES)}) with a weight above 0, {got}")
    return controls


def _control(keys: _Keys, modality: Modality) -> ControlSpec:
    preset_key = PRESET_KEY.get(modality)
    known = ["control_path", "control_weight", "mask_path", *([preset_key] if preset_key else [])]
    for key in keys.given:
        if key in _REFUSED_IN_CONTROL:
            keys.refuse(key, _REFUSED_IN_CONTROL[key])
        if key not in known:
            keys.refuse(key, f"unknown key{nearest(key[:80], known)}")
    preset = keys.choice(preset_key, PRESETS[preset_key], _MEDIUM) if preset_key else _MEDIUM
    control = ControlSpec(keys.file("control_path"), keys.weight("control_weight", 1.0), keys.file("mask_path"), preset)
    if control.control_path is None and modality in _COMPUTED_ELSEWHERE:
        keys.refuse("control_path", f"missing: {_COMPUTED_ELSEWHERE[modality]}")
    if preset_key and control.control_path is not None and preset != _MEDIUM:
        keys.refuse(preset_key, "has no effect on the video of control_path; give one of them")
    return control


def _foreground_labels(keys: _Keys) -> tuple[int, ...] | None:
    key = "guided_generation_foreground_labels"
    labels = keys.given.get(key)
    if labels is None:
        return None
    if not isinstance(labels, list) or not labels or not all(_is_number(v) and v == int(v) and v > 0 for v in labels):
        keys.refuse(key, f"expected a list of whole numbers above 0 (0 is background), got {_shown(labels)}")
    if not str(keys.given.get("guided_generation_mask", "")).endswith(".npz"):
        keys.refuse(key, "expected an .npz of labels as guided_generation_mask")
    return tuple(int(label) for label in labels)


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {getattr(error, 'strerror', None) or error}") from error
    return text


def _parse_json(text: str, place: str) -> object:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = dict(pairs)
        if len(keys) < len(pairs):
            twice = next(key for position, (key, _) in enumerate(pairs) if key in dict(pairs[:position]))
            raise InputError(f"{place}: key {twice[:80]!r} stands twice")
        return keys

    def no_number(constant: str) -> NoReturn:
        raise InputError(f"{place}: {constant} is no JSON number")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=no_number)
    except json.JSONDecodeError as error:
        comments = "; comments are no JSON" if "//" in text or "#" in text else ""
        at = f"line {error.lineno} column {error.colno}"
        raise InputError(f"{place}: no JSON: {error.msg} at {at}{comments}") from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise InputError(f"{place}: no JSON that can be read: {error}") from error


def _is_number(value: object) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, float) and math.isfinite(value)
    )


def _writable(text: str) -> bool:
    """Say whether a text can be written to a file and handed to the system: JSON may hold halves of characters."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def _json_value(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _shown(value: object) -> str:
    """Return a value for a message: as Python shows it, on one line and not long."""
    try:
        shown = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, deep nesting
        return type(value).__name__
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
