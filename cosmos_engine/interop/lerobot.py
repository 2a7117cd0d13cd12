"""LeRobot v3: a dataset of parquet files and one mp4 a camera, with tasks and statistics.

    meta/info.json                             written last: its existence means that the dataset is complete
    meta/tasks.parquet, meta/stats.json
    meta/episodes/chunk-000/file-000.parquet   a row an episode; also what the engine knows of it (engine/prompt, ...)
    data/chunk-000/file-000.parquet            a row a control step
    videos/<key>/chunk-000/file-000.mp4

Episodes are written in groups, one file of each kind a group; a group that is whole is not made again after a kill.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cosmos_engine.data.atomic import atomic_file, make_folder, write_file
from cosmos_engine.errors import InputError
from cosmos_engine.interop.export_source import ExportedEpisode, ExportSource, chosen
from cosmos_engine.interop.lerobot_stats import FeatureStats, image_stats, joined, vector_stats
from cosmos_engine.interop.lerobot_video import WriteFrames, png, video_file, video_info
from cosmos_engine.interop.workspace import RESULT, workspace

FORMAT_VERSION = "v3.0"
_CHUNK = "chunk-{:03d}/file-{:03d}"
_FILES_A_CHUNK = 1000
# Groups of about this size: LeRobot itself fills video files up to 200 MB and data files up to 100 MB.
_GROUP_RAW_BYTES = 1 << 30
_STATE, _ENVIRONMENT = "observation.state", "observation.environment_state"
_OBJECT = "object"
_ROBOT = "robot"


@dataclass(frozen=True)
class LeRobotOptions:
    """How a LeRobot dataset is written.

    Attributes:
        validation_fraction: share of source demos that come last, as the split `val`; none with 0.
        seed: draws them.
        state: observations that are joined into `observation.state`, in order; none: those of robots (`robot0_...`) by
            name, or where there are none, all but `object`.
        images: "video": H.264, one mp4 a camera and group; "png": lossless, in the data files.
        crf: of video: 0 loses nothing but what yuv does, 18 is visually lossless, 51 the smallest.
        fps: 0 is the recorded control rate, which LeRobot keeps as a whole number.
    """

    validation_fraction: float = 0.1
    seed: int = 0
    state: list[str] = field(default_factory=list)
    images: str = "video"
    crf: int = 18
    fps: int = 0

    def __post_init__(self) -> None:
        """Raise InputError for an unknown kind of images, or numbers out of range."""
        if self.images not in ("video", "png"):
            raise InputError(f"images: expected video or png, got {self.images!r}")
        if not 0 <= self.crf <= 51 or self.fps < 0:
            raise InputError(f"crf, fps: expected 0 to 51 and 0 or more, got {self.crf} and {self.fps}")


def export_lerobot(source: Path, out: Path, recording: Path | None, options: LeRobotOptions) -> int:
    """Write a dataset or a recording as a LeRobot v3 dataset; return its episodes.

    The same command goes on after a kill. Observations become `observation.state` (`LeRobotOptions.state`), `object`
    becomes `observation.environment_state`, others `observation.<name>`; the simulator's state is `sim_state`. Train
    demos come first, then those of the split `val`.

    Args:
        source: a dataset or a recording.
        out: the folder to make.
        recording: what a dataset was made from: brings rewards and outcomes.
        options: how.

    Raises:
        InputError: pyarrow is not installed, `source` cannot be exported, the control rate is no whole number, `out`
            exists, or the file system refuses.
    """
    _pyarrow()
    demos = ExportSource(source, recording)
    train, val = demos.split(options.validation_fraction, options.seed)
    order = [*train, *val]
    lengths = demos.lengths()
    first = demos.read(order[0])
    fps = _whole_rate(first, options)
    features = _features(first, fps, options)
    groups = _groups(order, lengths, sum(image[0].nbytes for image in first.images.values()) + 1024)
    tasks = _Tasks()
    made_from = {"format": "lerobot", "source": demos.identity, "options": asdict(options), "recording": str(recording)}
    with (
        workspace(out, made_from, resumable=True) as folder,
        tqdm(total=len(order), desc="export lerobot", unit="episode", leave=False) as bar,
    ):
        rows: list[dict[str, Any]] = []
        for number, group in enumerate(groups):
            done = folder / f"group_{number:06d}.json"
            if not done.is_file():
                made = _write_group(folder / RESULT, number, group, demos, features, fps, options, tasks, rows)
                write_file(done, json.dumps(made).encode())
            for row in json.loads(done.read_bytes()):
                tasks.index(row["tasks"][0])
                rows.append(row)
            bar.update(len(group))
        root = folder / RESULT
        _write_episodes(root, rows)
        _write_tasks(root, tasks.texts)
        stats = joined([{name: FeatureStats(**one) for name, one in row["stats"].items()} for row in rows])
        write_file(root / "meta/stats.json", json.dumps({name: asdict(one) for name, one in stats.items()}).encode())
        splits = {"train": f"0:{len(train)}"} | ({"val": f"{len(train)}:{len(order)}"} if val else {})
        info = {
            "codebase_version": FORMAT_VERSION,
            "robot_type": str(demos.env_args.get("env_name") or "") or None,
            "total_episodes": len(rows),
            "total_frames": sum(row["length"] for row in rows),
            "total_tasks": len(tasks.texts),
            "chunks_size": _FILES_A_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": fps,
            "splits": splits,
            "data_path": f"data/{_path_pattern()}.parquet",
            "video_path": f"videos/{{video_key}}/{_path_pattern()}.mp4" if options.images == "video" else None,
            "features": features,
        }
        write_file(root / "meta/info.json", json.dumps(info, indent=1).encode())
    return len(order)


class _Tasks:
    """Number the tasks, in words, by their first episode."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def texts(self) -> list[str]:
        return list(self._numbers)

    def index(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))


def _path_pattern() -> str:
    return "chunk-{chunk_index:03d}/file-{file_index:03d}"


def _pyarrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise InputError("lerobot: needs pyarrow: pip install 'cosmos-engine[lerobot]'") from error


def _whole_rate(episode: ExportedEpisode, options: LeRobotOptions) -> int:
    if options.fps:
        return options.fps
    if episode.step_hz != int(episode.step_hz):
        raise InputError(
            f"step_hz {episode.step_hz}: LeRobot keeps whole frames a second; say fps={round(episode.step_hz)} to "
            "write the frames at that rate"
        )
    return int(episode.step_hz)


def _groups(order: Sequence[int], lengths: Sequence[int], frame_bytes: int) -> list[list[int]]:
    groups: list[list[int]] = []
    room = 0
    for index in order:
        size = lengths[index] * frame_bytes
        if not groups or size > room:
            groups.append([])
            room = _GROUP_RAW_BYTES
        groups[-1].append(index)
        room -= size
    return groups


def _state_names(episode: ExportedEpisode, options: LeRobotOptions) -> list[str]:
    """Return the observations that become `observation.state`."""
    known = sorted(episode.observations)
    if options.state:
        return chosen(options.state, known, "state")
    return [name for name in known if name.startswith(_ROBOT)] or [name for name in known if name != _OBJECT]


def _vectors(episode: ExportedEpisode, options: LeRobotOptions) -> dict[str, NDArray[Any]]:
    """Return the arrays of an episode by LeRobot's names, (T, D) each."""
    state = _state_names(episode, options)
    arrays: dict[str, NDArray[Any]] = {"action": episode.actions}
    if state:
        arrays[_STATE] = np.concatenate([episode.observations[name] for name in state], axis=1)
    for name in sorted({*episode.observations} - {*state}):
        if name == _OBJECT:
            arrays[_ENVIRONMENT] = episode.observations[name]
        else:
            arrays[f"observation.{name}"] = episode.observations[name]
    if episode.states.shape[1]:
        arrays["sim_state"] = episode.states
    if episode.rewards is not None and episode.dones is not None:
        arrays |= {"next.reward": episode.rewards[:, None], "next.done": episode.dones[:, None]}
    return arrays


def _features(episode: ExportedEpisode, fps: int, options: LeRobotOptions) -> dict[str, Any]:
    features: dict[str, Any] = {}
    for name, array in _vectors(episode, options).items():
        names = _names(episode, name, array, options)
        features[name] = {"dtype": str(array.dtype), "shape": [array.shape[1]], "names": names}
    for camera, image in episode.images.items():
        height, width = image.shape[1:3]
        feature: dict[str, Any] = {"shape": [height, width, 3], "names": ["height", "width", "channels"]}
        if options.images == "video":
            feature |= {"dtype": "video", "info": video_info(height, width, fps)}
        else:
            feature["dtype"] = "image"
        features[f"observation.images.{camera}"] = feature
    for name, dtype in _COUNTERS.items():
        features[name] = {"dtype": dtype, "shape": [1], "names": None}
    return features


_COUNTERS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


def _names(episode: ExportedEpisode, feature: str, array: NDArray[Any], options: LeRobotOptions) -> list[str]:
    """Return what each number of a vector is: the observation that it is from and its place there."""
    if feature != _STATE:
        return [f"{feature.rpartition('.')[2]}.{place}" for place in range(array.shape[1])]
    parts = _state_names(episode, options)
    return [f"{name}.{place}" for name in parts for place in range(episode.observations[name].shape[1])]


def _write_group(
    root: Path,
    number: int,
    group: Sequence[int],
    demos: ExportSource,
    features: Mapping[str, Any],
    fps: int,
    options: LeRobotOptions,
    tasks: _Tasks,
    before: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Write the files of one group and return the rows of its episodes."""
    chunk, file = divmod(number, _FILES_A_CHUNK)
    place = _CHUNK.format(chunk, file)
    cameras = [name.removeprefix("observation.images.") for name in features if name.startswith("observation.images.")]
    columns: dict[str, list[NDArray[Any]]] = {
        name: [] for name, feature in features.items() if feature["dtype"] not in ("video", "image")
    }
    pictures: dict[str, list[bytes]] = {camera: [] for camera in cameras if options.images == "png"}
    rows: list[dict[str, Any]] = []
    start = int(before[-1]["dataset_to_index"]) if before else 0
    seconds = 0
    with ExitStack() as stack:
        videos: dict[str, WriteFrames] = {}
        for camera in cameras if options.images == "video" else ():
            path = root / f"videos/observation.images.{camera}/{place}.mp4"
            make_folder(path.parent)
            size = features[f"observation.images.{camera}"]["shape"]
            videos[camera] = stack.enter_context(video_file(path, size[0], size[1], fps, options.crf))
        for index in group:
            episode = demos.read(index)
            _check_fits(episode, features, options)
            text = episode.instruction or episode.task or "no instruction"
            length = episode.length
            frames = np.arange(length)
            counters: dict[str, NDArray[Any]] = {
                "timestamp": (frames / fps).astype(np.float32),
                "frame_index": frames,
                "episode_index": np.full(length, len(before) + len(rows)),
                "index": start + frames,
                "task_index": np.full(length, tasks.index(text)),
            }
            arrays = _vectors(episode, options) | {name: array[:, None] for name, array in counters.items()}
            for name, parts in columns.items():
                parts.append(arrays[name])
            for camera, image in episode.images.items():
                if camera in videos:
                    videos[camera](image)
                else:
                    pictures[camera].extend(png(frame) for frame in image)
            stats = {name: asdict(vector_stats(array)) for name, array in arrays.items()}
            stats |= {
                f"observation.images.{name}": asdict(image_stats(image)) for name, image in episode.images.items()
            }
            row: dict[str, Any] = {
                "episode_index": len(before) + len(rows),
                "tasks": [text],
                "length": length,
                "dataset_from_index": start,
                "dataset_to_index": start + length,
                "data/chunk_index": chunk,
                "data/file_index": file,
            }
            for camera in videos:
                key = f"videos/observation.images.{camera}"
                row |= {f"{key}/chunk_index": chunk, f"{key}/file_index": file}
                row |= {f"{key}/from_timestamp": seconds / fps, f"{key}/to_timestamp": (seconds + length) / fps}
            row |= {f"engine/{name}": getattr(episode, name) for name in _ENGINE_COLUMNS}
            row["engine/success"] = episode.success
            rows.append({**row, "stats": stats})
            start += length
            seconds += length
    _write_data(root / f"data/{place}.parquet", columns, pictures)
    return rows


_ENGINE_COLUMNS = ("source_demo", "variant", "prompt", "episode_id", "seed", "task", "instruction", "step_hz")


def _check_fits(episode: ExportedEpisode, features: Mapping[str, Any], options: LeRobotOptions) -> None:
    found = {name: [array.shape[1]] for name, array in _vectors(episode, options).items()}
    found |= {f"observation.images.{camera}": list(image.shape[1:]) for camera, image in episode.images.items()}
    wanted = {name: feature["shape"] for name, feature in features.items() if name not in _COUNTERS}
    for name in sorted({*found, *wanted}):
        if found.get(name) != wanted.get(name):
            raise InputError(
                f"demo {episode.source_demo}: {name!r} is {found.get(name, 'missing')}, in the first episode "
                f"{wanted.get(name, 'missing')}; LeRobot wants the same in all"
            )


def _write_data(path: Path, columns: Mapping[str, list[NDArray[Any]]], pictures: Mapping[str, list[bytes]]) -> None:
    pa, parquet = _pyarrow()
    arrays = {}
    for name, parts in columns.items():
        rows = np.concatenate(parts)
        flat = pa.array(rows.ravel())
        arrays[name] = flat if rows.shape[1] == 1 else pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for camera, encoded in pictures.items():
        arrays[f"observation.images.{camera}"] = pa.array([{"bytes": one, "path": None} for one in encoded], kind)
    _write_table(path, pa.table(arrays), parquet)


def _write_table(path: Path, table: Any, parquet: Any) -> None:
    make_folder(path.parent)
    with atomic_file(path) as temporary:
        parquet.write_table(table, temporary, compression="snappy")


def _write_episodes(root: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    pa, parquet = _pyarrow()
    flat = []
    for row in rows:
        stats = {
            f"stats/{name}/{key}": value for name, one in row["stats"].items() for key, value in one.items()
        }  # fmt: skip
        place = {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        flat.append({key: value for key, value in row.items() if key != "stats"} | stats | place)
    _write_table(root / "meta/episodes" / f"{_CHUNK.format(0, 0)}.parquet", pa.Table.from_pylist(flat), parquet)


def _write_tasks(root: Path, tasks: Sequence[str]) -> None:
    """Write tasks as pandas writes a frame that they index: LeRobot looks tasks up by the index."""
    pa, parquet = _pyarrow()
    index = "__index_level_0__"
    column = {"pandas_type": "int64", "numpy_type": "int64", "metadata": None}
    described = {
        "index_columns": [index],
        "column_indexes": [
            {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object",
             "metadata": {"encoding": "UTF-8"}}
        ],
        "columns": [
            {"name": "task_index", "field_name": "task_index", **column},
            {"name": None, "field_name": index, "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }  # fmt: skip
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), index: pa.array(tasks, pa.string())})
    table = table.replace_schema_metadata({"pandas": json.dumps(described)})
    _write_table(root / "meta/tasks.parquet", table, parquet)
