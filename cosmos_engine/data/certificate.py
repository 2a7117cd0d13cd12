"""Certificate: what ties every row of a dataset to the recording it came from, for anyone to recompute."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import cosmos_engine
from cosmos_engine.data.dataset import CERTIFICATE, Dataset, DatasetEpisode, read_json
from cosmos_engine.data.dataset_writer import DatasetWriter
from cosmos_engine.data.digest import array_sha256, json_sha256, rows_sha256
from cosmos_engine.data.recording import Recording
from cosmos_engine.errors import InputError

SCHEMA = 1
_KIND = "cosmos-engine/certificate"
_FROM_SOURCE = ("action", "state", "timestamp")
_PACKAGES = ("numpy", "numcodecs", "torch")


@dataclass(frozen=True)
class VerificationReport:
    """The outcome of `verify_dataset`."""

    episodes: int
    """How many episodes the certificate lists."""
    against_recording: bool
    """Whether the recording was there to compare with."""
    first_difference: str | None
    """What differs first from the certificate, or None if nothing does."""

    @property
    def intact(self) -> bool:
        """Whether nothing differs."""
        return self.first_difference is None


def build_certificate(
    recording: Recording,
    dataset: DatasetWriter,
    *,
    config: Mapping[str, Any],
    weights_sha256: Mapping[str, str],
) -> dict[str, Any]:
    """Return the certificate of a dataset that is about to be finished; a JSON object, the same for the same inputs.

    Args:
        recording: the source of the dataset's episodes.
        dataset: its writer, after the last episode.
        config: what the dataset was made with; JSON values.
        weights_sha256: digest of every weights file that made it, by name.

    Raises:
        InputError: if the actions, states or times of an episode are not those of its demo, bit for bit.
    """
    sources = {demo: _source(recording, demo) for demo in sorted({e.source_demo for e in dataset.episodes})}
    for index, episode in enumerate(dataset.episodes):
        for key in _FROM_SOURCE:
            if episode.sha256[key] != sources[episode.source_demo]["sha256"][key]:
                raise InputError(f"{dataset.path}: episode {index}: {key} differs from demo {episode.source_demo}")
    content = {
        "kind": _KIND,
        "schema": SCHEMA,
        "versions": _versions(),
        "config": dict(config),
        "weights_sha256": dict(weights_sha256),
        "attrs": dataset.attrs,
        "sources": {str(demo): source for demo, source in sources.items()},
        "episodes": [_listed(episode) for episode in dataset.episodes],
    }
    return {**content, "sha256": json_sha256(content)}


def verify_dataset(dataset: str | Path, recording: str | Path | None = None) -> VerificationReport:
    """Recompute the certificate of a dataset and say what differs first.

    Args:
        dataset: the zarr folder.
        recording: the folder it was made from; without it the dataset is compared with its certificate alone.

    Raises:
        InputError: if there is no dataset, recording or certificate to compare, or the certificate is of another
            version.
    """
    path = Path(dataset)
    certificate = _read_certificate(path)
    source = None if recording is None else Recording(recording)
    try:
        episodes = len(certificate["episodes"])
        first = next(_differences(path, certificate, source), None)
    except InputError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path / CERTIFICATE}: damaged certificate ({error!r})") from error
    return VerificationReport(episodes=episodes, against_recording=source is not None, first_difference=first)


def _differences(path: Path, certificate: dict[str, Any], recording: Recording | None) -> Iterator[str]:
    content = {key: value for key, value in certificate.items() if key != "sha256"}
    if json_sha256(content) != certificate["sha256"]:
        yield f"{CERTIFICATE}: changed since it was written"
    try:
        dataset = Dataset(path)
        yield from _dataset_differences(dataset, certificate)
        for index in range(dataset.episode_count):
            yield from _episode_differences(dataset, index, certificate["episodes"][index])
        for index, episode in enumerate(certificate["episodes"]):
            yield from _origin_differences(index, episode, certificate["sources"])
        if recording is not None:
            for demo, source in certificate["sources"].items():
                yield from _source_differences(recording, int(demo), source)
    except InputError as error:
        yield str(error)


def _dataset_differences(dataset: Dataset, certificate: dict[str, Any]) -> Iterator[str]:
    if dataset.attrs != certificate["attrs"]:
        yield ".zattrs: changed"
    listed = certificate["episodes"]
    if dataset.episode_count != len(listed):
        yield f"meta/episode_ends: {dataset.episode_count} episodes where the certificate has {len(listed)}"
    expected = sorted(listed[0]["sha256"])
    for key in sorted({*expected} ^ {*dataset.keys}):
        yield f"data/{key}: {'missing' if key in expected else 'not in the certificate'}"


def _episode_differences(dataset: Dataset, index: int, listed: dict[str, Any]) -> Iterator[str]:
    rows = dataset.rows(index)
    found = {
        "first_row": rows.start,
        "end_row": rows.stop,
        "source_demo": int(dataset.source_demo[index]),
        "variant": int(dataset.variant[index]),
        "accepted": bool(dataset.accepted[index]),
        "info_sha256": json_sha256(dataset.info[index]),
    }
    for name, value in found.items():
        if value != listed[name]:
            yield f"episode {index}: {name} changed"
    for key in dataset.keys:
        array = dataset.array(key)
        shape = (rows.stop - rows.start, *array.shape[1:])
        if rows_sha256(array.dtype, shape, array.blocks(rows.start, rows.stop)) != listed["sha256"][key]:
            yield f"episode {index}: {key} changed"


def _origin_differences(index: int, listed: dict[str, Any], sources: dict[str, Any]) -> Iterator[str]:
    demo = listed["source_demo"]
    for key in _FROM_SOURCE:
        if listed["sha256"][key] != sources[str(demo)]["sha256"][key]:
            yield f"episode {index}: {key} is not that of demo {demo}"


def _source_differences(recording: Recording, demo: int, listed: dict[str, Any]) -> Iterator[str]:
    found = _source(recording, demo)
    if found["episode_id"] != listed["episode_id"]:
        yield f"{recording.path(demo)}: another episode than the one the dataset was made from"
    for key in _FROM_SOURCE:
        if found["sha256"][key] != listed["sha256"][key]:
            yield f"{recording.path(demo)}: {key} differs from what the dataset was made from"


def _source(recording: Recording, demo: int) -> dict[str, Any]:
    episode = recording.episode(demo, cameras=())
    arrays = {"action": episode.actions, "state": episode.states, "timestamp": episode.timestamps_s}
    return {
        "episode_id": episode.episode_id,
        "seed": episode.seed,
        "sha256": {key: array_sha256(array) for key, array in arrays.items()},
    }


def _listed(episode: DatasetEpisode) -> dict[str, Any]:
    fields = asdict(episode)
    info = fields.pop("info")
    return {**fields, "info_sha256": json_sha256(info)}


def _versions() -> dict[str, str]:
    installed = {name: metadata.version(name) for name in _PACKAGES}
    return {"cosmos-engine": cosmos_engine.__version__, "python": platform.python_version(), **installed}


def _read_certificate(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise InputError(f"{path}: no such dataset")
    if not (path / CERTIFICATE).is_file():
        raise InputError(f"{path}: no {CERTIFICATE}: the dataset is unfinished, or it is not one of this engine's")
    certificate = read_json(path / CERTIFICATE)
    if (certificate.get("kind"), certificate.get("schema")) != (_KIND, SCHEMA):
        found = f"{certificate.get('kind')!r} schema {certificate.get('schema')!r}"
        raise InputError(f"{path / CERTIFICATE}: expected {_KIND!r} schema {SCHEMA}, got {found}")
    return certificate
