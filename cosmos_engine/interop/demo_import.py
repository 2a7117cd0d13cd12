"""Import HDF5 files of robomimic's layout, whoever wrote them, as a recording; the same command goes on after a kill.

Whatever has no place in a recording is carried as extras (`Episode.extras`), bit for bit, so that an export gives it
back: arrays of other types and shapes, attributes that are text, images of cameras without depth.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cosmos_engine.data import CameraPasses, Episode, InstanceLabel, Recording, RecordingWriter
from cosmos_engine.data.digest import file_sha256, json_sha256
from cosmos_engine.data.recording import committed_episodes
from cosmos_engine.errors import InputError
from cosmos_engine.interop.foreign_camera import PassPaths, read_camera
from cosmos_engine.interop.foreign_hdf5 import ForeignDemo, foreign_file
from cosmos_engine.interop.import_config import CameraConfig, ImportConfig, LabelConfig
from cosmos_engine.interop.segmentation import read_labels

TEXT, NUMBER = "attribute/text/", "attribute/number/"
"""Extras under these are attributes of the demo: text as UTF-8 bytes, and numbers."""
FINAL_STATE = "final_state/"
"""Extras under this are what the simulator was in after the last action: a recording has no row for it."""
IMPORT = "import"
"""Key of env_kwargs: what an import noted."""
STATE_LAYOUT = "state_layout"
"""Key of env_kwargs["import"]: the arrays that a recording's states are made of, in order: [path, width]."""

# Isaac Lab's annotators and robomimic's next_obs can be large; text that is not (model_file) is a megabyte at most.
_MOST_TEXT_BYTES = 16 << 20
_READ_ATTRIBUTES = frozenset(
    ("num_samples", "success", "seed", "step_hz", "episode_id", "source", "task", "instruction", "labels", "variant")
    + ("source_demo", "prompt", "rewards_from", "total", "sha256")
)


@dataclass(frozen=True)
class DemoFormat:
    """What a project's HDF5 files call things.

    Attributes:
        name: of the format.
        passes: where cameras are kept.
        image_suffix: of arrays that are a camera's rgb; "" where the camera's name alone is.
        no_image: suffixes of image-shaped arrays that are other passes.
        nested_states: states are groups, recorded after each action, and `initial_state` before the first (Isaac Lab);
            else `states` is one array, recorded before each action.
    """

    name: str
    passes: PassPaths
    image_suffix: str
    no_image: tuple[str, ...]
    nested_states: bool


@dataclass(frozen=True)
class Imported:
    """What an import came to.

    Attributes:
        made: episodes written now.
        before: episodes that an earlier run wrote.
        variants: demos that were left out because they are variants of others (of a dataset exported from here).
    """

    made: int
    before: int
    variants: int


def import_demos(file: Path, out: Path, config: ImportConfig, style: DemoFormat) -> Imported:
    """Write every demo of `file` to the recording `out`, or go on where an earlier call was stopped.

    Raises:
        InputError: names the first thing that is missing, and how to supply it; nothing is written of that demo, and no
            recording is begun if it is the first.
    """
    with foreign_file(file) as foreign:
        env_args, masks = foreign.env_args(), foreign.masks()
        originals = [index for index in range(len(foreign)) if not foreign.demo(index).attribute("variant")]
        layout = _state_layout(foreign.demo(originals[0])) if style.nested_states and originals else []
        variants = len(foreign) - len(originals)
    if not originals:
        raise InputError(f"{file}: all its demos are variants; import the recording that they were made from")
    kwargs = env_args.get("env_kwargs")
    kept: dict[str, Any] = {
        "format": style.name,
        "source_sha256": file_sha256(file),
        "config_sha256": json_sha256(asdict(config)),
        "colors": {label.name: label.color for label in config.labels if label.color},
        "masks": _masks_of(masks, originals),
        STATE_LAYOUT: layout,
    }
    described = {
        **env_args,
        "env_name": str(env_args.get("env_name") or config.task),
        "type": int(env_args.get("type", 2)),
        "env_kwargs": {**(kwargs if isinstance(kwargs, Mapping) else {}), IMPORT: kept},
    }

    def read(position: int) -> Episode:
        with foreign_file(file) as foreign:
            return _episode(foreign.demo(originals[position]), described, config, style, kept["source_sha256"], layout)

    # Before the recording is begun: a config that lacks something is mended and tried again.
    begun = committed_episodes(out)
    if begun:
        _check_same_import(out, kept)
    first = read(begun) if begun < len(originals) else None
    with RecordingWriter(out, described) as writer:
        before = len(writer)
        bar = tqdm(desc=f"import {style.name}", unit="episode", total=len(originals), initial=before, leave=False)
        for position in range(before, len(originals)):
            writer.append(first if first is not None and position == begun else read(position))
            first = None
            bar.update()
        bar.close()
    return Imported(len(originals) - before, before, variants)


def _masks_of(masks: Mapping[str, Sequence[int]], originals: Sequence[int]) -> dict[str, list[int]]:
    """Return masks by the demos that are imported."""
    position = {demo: place for place, demo in enumerate(originals)}
    return {name: [position[demo] for demo in listed if demo in position] for name, listed in masks.items()}


def _check_same_import(out: Path, wanted: Mapping[str, Any]) -> None:
    begun_with = Recording(out).env_args["env_kwargs"].get(IMPORT, {})
    for key, what in {"format": "format", "source_sha256": "file", "config_sha256": "config"}.items():
        if begun_with.get(key) != wanted[key]:
            raise InputError(f"{out}: begun with another {what}; choose another output")


def _episode(
    demo: ForeignDemo,
    env_args: Mapping[str, Any],
    config: ImportConfig,
    style: DemoFormat,
    file_digest: str,
    layout: Sequence[tuple[str, int]],
) -> Episode:
    paths = list(demo.paths())
    written = demo.array("actions")
    if written is None:
        raise InputError(f"{demo.name}: no 'actions'; a demo without them cannot be trained on")
    if written.ndim != 2 or written.dtype.kind not in "fiu":
        raise InputError(f"{demo.name}/actions: expected numbers (T, A), got {written.dtype} {written.shape}")
    whole: set[str] = set()  # arrays that the episode says all of
    actions = _mapped(written, "actions", np.float32, whole)
    length = len(actions)
    cameras, labels, used = _cameras(demo, paths, config, style, whole)
    observations = _observations(demo, paths, config, length, used, whole)
    states = _states(demo, style, layout, length, whole)
    rewards, dones = demo.array("rewards"), demo.array("dones")
    if rewards is not None and rewards.dtype == np.float32:
        whole.add("rewards")
    if dones is not None and dones.dtype == bool:
        whole.add("dones")
    # What comes after the last action is not recorded, and of images it could not be made for a variant.
    again = {path for path in paths if path.startswith("next_obs/") and f"obs/{path.removeprefix('next_obs/')}" in used}
    left = [path for path in paths if path not in whole | again]
    extras = {path: array for path in left if (array := demo.array(path)) is not None}
    if style.nested_states:
        extras |= _final_state(demo, layout, length)
    for name in demo.attributes():
        value = demo.attribute(name)
        if name in _READ_ATTRIBUTES or value is None:
            continue
        if not isinstance(value, str):
            extras[f"{NUMBER}{name}"] = np.asarray(value)
        elif len(value) <= _MOST_TEXT_BYTES:
            extras[f"{TEXT}{name}"] = np.frombuffer(value.encode(), np.uint8)
    if rewards is not None and rewards.shape != (length,):
        raise InputError(f"{demo.name}/rewards: expected ({length},), got {rewards.shape}")
    if dones is not None and dones.shape != (length,):
        raise InputError(f"{demo.name}/dones: expected ({length},), got {dones.shape}")
    identity = demo.attribute("episode_id")
    return Episode(
        actions=actions,
        states=states,
        rewards=np.zeros(length, np.float32) if rewards is None else rewards.astype(np.float32),
        dones=np.arange(length) == length - 1 if dones is None else dones.astype(bool),
        observations=observations,
        cameras=cameras,
        labels=labels,
        success=_success(demo, rewards, config),
        seed=int(demo.attribute("seed") or 0),
        step_hz=_step_hz(demo, env_args, config),
        episode_id=str(identity or uuid.uuid5(uuid.NAMESPACE_OID, f"{file_digest}/{demo.name}")),
        source=str(demo.attribute("source") or style.name),
        task=config.task or str(demo.attribute("task") or env_args["env_name"]),
        instruction=_instruction(demo, config),
        extras=extras,
    )


def _cameras(
    demo: ForeignDemo, paths: Sequence[str], config: ImportConfig, style: DemoFormat, whole: set[str]
) -> tuple[dict[str, CameraPasses], dict[int, InstanceLabel], set[str]]:
    """Return the cameras, the labels, and the paths that they were made from."""
    names = [name for name in _image_names(demo, paths, style) if name not in config.skip]
    for camera in config.cameras:
        if camera not in names and camera not in config.skip:
            names.append(camera)
    cameras: dict[str, CameraPasses] = {}
    labels: dict[int, InstanceLabel] = {}
    used: set[str] = set()
    for camera in sorted(names):
        settings = config.cameras.get(camera, CameraConfig())
        found = read_camera(demo, camera, style.passes, settings, _labels(demo, config))
        cameras[camera] = found.passes
        labels = dict(found.labels)
        used |= set(found.used)
        whole |= set(found.used) - set(found.lossy)
    return cameras, _named_in_file(demo, config, cameras, labels), used


def _labels(demo: ForeignDemo, config: ImportConfig) -> list[LabelConfig]:
    if config.labels:
        return list(config.labels)
    text = demo.attribute("labels")
    if not isinstance(text, str):
        return []
    # A label for each id from 1 on, so that instance ids stay what they were.
    by_id = read_labels(text)
    background = by_id.pop(0, LabelConfig(name="background", role="background", color=[0, 0, 0], ids=[0]))
    count = max(by_id, default=0)
    gap = LabelConfig(name="", role="background")
    return [*(by_id.get(number, gap) for number in range(1, count + 1)), background]


def _named_in_file(
    demo: ForeignDemo, config: ImportConfig, cameras: Mapping[str, CameraPasses], labels: Mapping[int, InstanceLabel]
) -> dict[int, InstanceLabel]:
    """Return the labels, also of a demo without cameras whose file has them."""
    text = demo.attribute("labels")
    if cameras or config.labels or not isinstance(text, str):
        return dict(labels)
    return {
        number: InstanceLabel(label.name, label.class_name, label.role)  # type: ignore[arg-type]
        for number, label in read_labels(text).items()
        if label.role != "background"
    }


def _image_names(demo: ForeignDemo, paths: Sequence[str], style: DemoFormat) -> Iterator[str]:
    """Yield the names of the cameras that a demo has rgb of."""
    for path in paths:
        name = path.removeprefix("obs/")
        if name == path or "/" in name or not name.endswith(style.image_suffix) or name.endswith(style.no_image):
            continue
        dataset = demo.dataset(path)
        if dataset is not None and dataset.dtype == np.uint8 and dataset.ndim == 4 and dataset.shape[3] in (3, 4):
            yield name.removesuffix(style.image_suffix) if style.image_suffix else name


def _observations(
    demo: ForeignDemo, paths: Sequence[str], config: ImportConfig, length: int, used: set[str], whole: set[str]
) -> dict[str, NDArray[np.float32]]:
    found: dict[str, NDArray[np.float32]] = {}
    for path in paths:
        name = path.removeprefix("obs/")
        if name == path or "/" in name or path in used:
            continue
        dataset = demo.dataset(path)
        if dataset is None or dataset.ndim not in (1, 2) or dataset.shape[0] != length:
            continue
        new_name = config.rename.get(name, name)
        if new_name in found:
            raise InputError(f"{demo.name}: two observations become {new_name!r}; give one another name by rename")
        try:
            found[new_name] = _mapped(dataset[...], path if new_name == name else "", np.float32, whole)
        except InputError as error:
            raise InputError(f"{demo.name}/{path}: {error}") from error
    return found


def _mapped(array: NDArray[Any], path: str, dtype: type[np.generic], whole: set[str]) -> NDArray[Any]:
    """Return an array as the engine's type, (T, D); note `path` as whole if nothing was lost on the way."""
    mapped = array.astype(dtype).reshape(len(array), -1)
    if path and array.dtype == mapped.dtype and array.shape == mapped.shape:
        whole.add(path)
    return mapped


def _state_layout(demo: ForeignDemo) -> list[tuple[str, int]]:
    """Return the arrays under `initial_state` that `states` has too: path and width."""
    layout: list[tuple[str, int]] = []
    for path in demo.paths():
        name = path.removeprefix("initial_state/")
        if name == path:
            continue
        first, later = demo.dataset(path), demo.dataset(f"states/{name}")
        if first is None or later is None:
            continue
        if later.ndim == 2 and first.shape == (1, later.shape[1]):
            layout.append((name, int(later.shape[1])))
    return layout


def _states(
    demo: ForeignDemo, style: DemoFormat, layout: Sequence[tuple[str, int]], length: int, whole: set[str]
) -> NDArray[np.float64]:
    """Return what the simulator was in before each action."""
    if not style.nested_states:
        states = demo.array("states")
        if states is None:
            return np.zeros((length, 0))
        if states.ndim != 2 or len(states) != length:
            raise InputError(f"{demo.name}/states: expected ({length}, S), got {states.shape}")
        return _mapped(states, "states", np.float64, whole)
    columns = []
    for name, width in layout:
        first, later = demo.array(f"initial_state/{name}"), demo.array(f"states/{name}")
        if first is None or later is None or first.shape != (1, width) or later.shape != (length, width):
            raise InputError(
                f"{demo.name}/states/{name}: expected ({length}, {width}) and initial_state (1, {width}) as in the "
                "other demos"
            )
        # Recorded after each action: what was before action t is what came after action t - 1.
        columns.append(np.concatenate([first, later[:-1]]).astype(np.float64))
        if first.dtype == later.dtype == np.float32:
            whole |= {f"initial_state/{name}", f"states/{name}"}
    return np.concatenate(columns, axis=1) if columns else np.zeros((length, 0))


def _final_state(demo: ForeignDemo, layout: Sequence[tuple[str, int]], length: int) -> dict[str, NDArray[Any]]:
    """Return the state after the last action, which a recording has no row for."""
    final: dict[str, NDArray[Any]] = {}
    for name, _ in layout:
        states = demo.array(f"states/{name}")
        if states is not None:
            final[f"{FINAL_STATE}{name}"] = states[length - 1 :]
    return final


def _success(demo: ForeignDemo, rewards: NDArray[Any] | None, config: ImportConfig) -> bool:
    success = demo.attribute("success")
    if success is not None:
        return bool(success)
    if rewards is not None and rewards.size and bool((rewards > 0).any()):
        return True
    if config.assume_success:
        return True
    raise InputError(
        f"{demo.name}: does not say whether it succeeded (no attribute 'success', no reward above 0); if all did, "
        "say assume_success=true"
    )


def _step_hz(demo: ForeignDemo, env_args: Mapping[str, Any], config: ImportConfig) -> float:
    found = config.step_hz or demo.attribute("step_hz") or env_args["env_kwargs"].get("control_freq")
    if not isinstance(found, int | float) or isinstance(found, bool) or not found > 0:
        raise InputError(f"{demo.name}: the control rate is not in the file; say step_hz=20")
    return float(found)


def _instruction(demo: ForeignDemo, config: ImportConfig) -> str:
    own = demo.attribute("instruction")
    if isinstance(own, str) and own:
        return own
    meta = demo.attribute("ep_meta")  # robocasa's: JSON with the task in words under "lang"
    if isinstance(meta, str):
        try:
            lang = json.loads(meta).get("lang")
        except (ValueError, AttributeError):
            lang = None
        if isinstance(lang, str) and lang:
            return lang
    return config.instruction
