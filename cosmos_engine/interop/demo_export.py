"""Export as one HDF5 file of robomimic's layout: originals and variants as demo_0 to demo_N-1, with masks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cosmos_engine.interop.committed_stream import CommittedStream
from cosmos_engine.interop.demo_import import FINAL_STATE, IMPORT, NUMBER, STATE_LAYOUT, TEXT
from cosmos_engine.interop.export_source import ExportedEpisode, ExportSource
from cosmos_engine.interop.segmentation import colorized, labels_json
from cosmos_engine.interop.workspace import RESULT, workspace

# As recordings: every HDF5 reader has deflate, and one frame a storage chunk is what random windows read.
_COMPRESSION = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
_ROWS_PER_STORAGE_CHUNK = 1024


@dataclass(frozen=True)
class ExportOptions:
    """How demos are exported.

    Attributes:
        validation_fraction: share of source demos in the mask `valid`; none with 0.
        seed: draws them.
    """

    validation_fraction: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class ExportStyle:
    """What a project calls things.

    Attributes:
        name: of the format.
        image, depth, segmentation: names under `obs`; `{}` stands for the camera.
        colored: segmentation in colours, and depth 0 where nothing was hit, as Isaac Lab has them; else ids, and inf.
        nested_states: states as groups, after each action (Isaac Lab); else one array, before each action.
    """

    name: str
    image: str
    depth: str
    segmentation: str
    colored: bool
    nested_states: bool


def export_demos(source: Path, out: Path, recording: Path | None, options: ExportOptions, style: ExportStyle) -> int:
    """Write one HDF5 file; return its demos. It appears whole or not at all; a killed export starts anew.

    Args:
        source: a dataset or a recording.
        out: the file.
        recording: what a dataset was made from: brings rewards, outcomes, depth, segmentation and all that an import
            carried.
        options: how it is split.
        style: of the format.

    Raises:
        InputError: `source` or `recording` cannot be exported, `out` exists, or the file system refuses.
    """
    demos = ExportSource(source, recording)
    train, valid = demos.split(options.validation_fraction, options.seed)
    env_args = demos.env_args
    kept = env_args.get("env_kwargs", {}).get(IMPORT, {})
    order = {"format": style.name, "source": demos.identity, "options": asdict(options)}
    with (
        workspace(out, order) as folder,
        CommittedStream(folder / RESULT) as stream,
        # Format 1.10 puts checksums on the file's structure; any HDF5 from 2016 on reads it.
        h5py.File(stream, "w", libver=("v110", "v110")) as file,
    ):
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(env_args, sort_keys=True)
        total = 0
        for index in tqdm(range(len(demos)), desc=f"export {style.name}", unit="episode", leave=False):
            episode = demos.read(index)
            _write_demo(data.create_group(f"demo_{index}"), episode, style, kept)
            total += episode.length
            stream.check()
        data.attrs["total"] = total
        masks = {"train": train, "valid": valid}
        for name, listed in kept.get("masks", {}).items():
            wanted = set(listed)
            masks[name] = [index for index, demo in enumerate(demos.source_demos) if demo in wanted]
        for name, listed in masks.items():
            if listed:
                file.create_dataset(f"mask/{name}", data=np.array([f"demo_{index}" for index in listed], dtype="S"))
    return len(demos)


def _write_demo(demo: h5py.Group, episode: ExportedEpisode, style: ExportStyle, kept: Mapping[str, Any]) -> None:
    length = episode.length
    demo.attrs["num_samples"] = length
    for name in ("seed", "step_hz", "episode_id", "task", "instruction", "prompt", "source", "source_demo", "variant"):
        demo.attrs[name] = getattr(episode, name)
    if episode.success is not None:
        demo.attrs["success"] = episode.success
    arrays: dict[str, NDArray[Any]] = {
        "actions": episode.actions,
        # robomimic reads rewards and dones of every demo. A dataset has none: nothing is claimed to be rewarded.
        "rewards": np.zeros(length, np.float32) if episode.rewards is None else episode.rewards,
        "dones": np.arange(length) == length - 1 if episode.dones is None else episode.dones,
        **{f"obs/{name}": array for name, array in episode.observations.items()},
        **{f"obs/{style.image.format(camera)}": image for camera, image in episode.images.items()},
    }
    demo.attrs["rewards_from"] = "recording" if episode.rewards is not None else "none"
    arrays |= _states(episode, style, kept) | _passes(episode, style, kept)
    if episode.labels:
        demo.attrs["labels"] = labels_json(episode.labels, _colors(episode, kept))
    for path, array in episode.extras.items():
        if path.startswith(TEXT):
            demo.attrs[path.removeprefix(TEXT)] = bytes(array).decode()
        elif path.startswith(NUMBER):
            demo.attrs[path.removeprefix(NUMBER)] = array[()]
        elif not path.startswith(FINAL_STATE):
            arrays[path] = array
    for path, array in arrays.items():
        _write(demo, path, array)


def _states(episode: ExportedEpisode, style: ExportStyle, kept: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    if episode.states.shape[1] == 0:
        return {}
    if not style.nested_states:
        return {"states": episode.states}
    # What an Isaac Lab file held comes back as the groups that it had, in their type; any other state is one group.
    layout = kept.get(STATE_LAYOUT) or [["simulator", episode.states.shape[1]]]
    dtype = np.float32 if kept.get(STATE_LAYOUT) else np.float64
    arrays: dict[str, NDArray[Any]] = {}
    first = 0
    for name, width in layout:
        part = episode.states[:, first : first + width].astype(dtype)
        first += width
        # After the last action; where nobody recorded it, the state before.
        final = episode.extras.get(f"{FINAL_STATE}{name}", part[-1:])
        arrays[f"initial_state/{name}"] = part[:1]
        arrays[f"states/{name}"] = np.concatenate([part[1:], final.astype(dtype)])
    return arrays


def _passes(episode: ExportedEpisode, style: ExportStyle, kept: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    colors = _colors(episode, kept)
    for camera, passes in episode.passes.items():
        depth, seg = f"obs/{style.depth.format(camera)}", f"obs/{style.segmentation.format(camera)}"
        hit = np.isfinite(passes.depth_m)
        arrays[depth] = (np.where(hit, passes.depth_m, np.float32(0)) if style.colored else passes.depth_m)[..., None]
        arrays[seg] = colorized(passes.instance, colors) if style.colored else passes.instance[..., None]
        arrays[f"cameras/{camera}/intrinsics_px"] = passes.intrinsics_px
        arrays[f"cameras/{camera}/world_from_camera"] = passes.world_from_camera
    return arrays


def _colors(episode: ExportedEpisode, kept: Mapping[str, Any]) -> dict[int, tuple[int, int, int]]:
    """Return the colours that the imported segmentation had, by instance id."""
    chosen = kept.get("colors", {})
    names = {0: "background"} | {number: label.name for number, label in episode.labels.items()}
    return {
        number: (int(chosen[name][0]), int(chosen[name][1]), int(chosen[name][2]))
        for number, name in names.items()
        if name in chosen
    }


def _write(demo: h5py.Group, path: str, array: NDArray[Any]) -> None:
    if array.ndim == 0 or array.size == 0:
        demo.create_dataset(path, data=array)
        return
    rows = 1 if array.ndim >= 3 else min(len(array), _ROWS_PER_STORAGE_CHUNK)
    demo.create_dataset(path, data=array, chunks=(rows, *array.shape[1:]), **_COMPRESSION)
