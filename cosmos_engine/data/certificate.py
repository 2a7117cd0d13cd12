"""Certificate: what ties every row of a dataset to the recording it came from, for anyone to recompute."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import cosmos_engine
from cosmos_engine.data.dataset import CERTIFICATE, IMAGE_SUFFIX, Dataset, DatasetEpisode, read_json
from cosmos_engine.data.dataset_writer import DatasetWriter
from cosmos_engine.data.digest import array_sha256, file_sha256, json_sha256, rows_sha256
from cosmos_engine.data.episode_file import DEMO, reading_own
from cosmos_engine.data.recording import Recording
from cosmos_engine.data.rejected import REJECTED, read_rejected, rejected_digests
from cosmos_engine.data.signature import SIGNATURE, SignatureState, check_signature
from cosmos_engine.errors import InputError

SCHEMA = 2
"""1 listed neither the sources' images and observations nor what was rejected."""
_KIND = "cosmos-engine/certificate"
_FRAMES_READ = 64  # at a time, of a source's images
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
    signature: SignatureState
    """Whether the certificate is signed, and by the key that was given."""

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

    It covers every row of every episode, their order and provenance, what was rejected and the strips of it, and the
    recording: its actions, states, times, observations and images, and each episode's file as a whole, by which also
    depth, instance ids, cameras and labels are held fast.

    Args:
        recording: the source of the dataset's episodes.
        dataset: its writer, after the last episode, and with `rejected.json` in place.
        config: what the dataset was made with; JSON values. The gate's provenance stands under "gate".
        weights_sha256: digest of every weights file that made it, by name.

    Raises:
        InputError: if the actions, states, times or observations of an episode, or the images of an original, are not
            those of its demo, bit for bit; or `rejected.json` is damaged.
    """
    episodes = [_listed(episode) for episode in dataset.episodes]
    sources = {str(demo): _source(recording, demo) for demo in sorted({e.source_demo for e in dataset.episodes})}
    for index, episode in enumerate(episodes):
        if difference := next(_origin_differences(index, episode, sources), None):
            raise InputError(f"{dataset.path}: {difference}")
    read_rejected(dataset.path)
    rejected, strips = rejected_digests(dataset.path)
    content = {
        "kind": _KIND,
        "schema": SCHEMA,
        "versions": _versions(),
        "config": dict(config),
        "weights_sha256": dict(weights_sha256),
        "attrs": dataset.attrs,
        "sources": sources,
        "episodes": episodes,
        "rejected": rejected,
        "strips": strips,
    }
    return {**content, "sha256": json_sha256(content)}


def verify_dataset(
    dataset: str | Path, recording: str | Path | None = None, public_key: Path | None = None
) -> VerificationReport:
    """Recompute the certificate of a dataset and say what differs first.

    Whoever changes a dataset can make its certificate anew. What then still speaks is the recording, and a signature.

    Args:
        dataset: the zarr folder.
        recording: the folder it was made from; without it the dataset is compared with its certificate alone.
        public_key: of who must have signed the certificate; without it a signature is not checked.

    Raises:
        InputError: if there is no dataset, recording, key or certificate to compare, or the certificate is of another
            version.
    """
    path = Path(dataset)
    certificate = read_certificate(path)
    source = None if recording is None else Recording(recording)
    signature = check_signature(path, public_key)
    try:
        episodes = len(certificate["episodes"])
        first = next(_differences(path, certificate, source, _signature_fault(signature, public_key)), None)
    except InputError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path / CERTIFICATE}: damaged certificate ({error!r})") from error
    return VerificationReport(
        episodes=episodes, against_recording=source is not None, first_difference=first, signature=signature
    )


def _signature_fault(signature: SignatureState, public_key: Path | None) -> str:
    """Return what is wrong with the signature that was asked for, or nothing."""
    if public_key is None or signature == "valid":
        return ""
    if signature == "none":
        return f"{SIGNATURE}: missing; nobody signed the certificate"
    return f"{SIGNATURE}: not made by {public_key}, or {CERTIFICATE} was changed after it was signed"


def _differences(
    path: Path, certificate: dict[str, Any], recording: Recording | None, signature_fault: str
) -> Iterator[str]:
    content = {key: value for key, value in certificate.items() if key != "sha256"}
    if json_sha256(content) != certificate["sha256"]:
        yield f"{CERTIFICATE}: changed since it was written"
    if signature_fault:
        yield signature_fault
    try:
        dataset = Dataset(path)
        yield from _dataset_differences(dataset, certificate)
        for index in range(dataset.episode_count):
            yield from _episode_differences(dataset, index, certificate["episodes"][index])
        for index, episode in enumerate(certificate["episodes"]):
            yield from _origin_differences(index, episode, certificate["sources"])
        yield from _rejected_differences(dataset, certificate)
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
    source = sources[str(demo)]["sha256"]
    for key, sha256 in listed["sha256"].items():
        of_source = listed["variant"] == 0 or not key.endswith(IMAGE_SUFFIX)
        if of_source and source.get(key) != sha256:
            yield f"episode {index}: {key} is not that of demo {demo}"


def _rejected_differences(dataset: Dataset, certificate: dict[str, Any]) -> Iterator[str]:
    rejected, strips = rejected_digests(dataset.path)
    if rejected != certificate["rejected"]:
        state = "missing" if rejected is None else "changed" if certificate["rejected"] else "not in the certificate"
        yield f"{REJECTED}: {state}"
    for path in sorted({*strips, *certificate["strips"]}):
        if path not in strips:
            yield f"{path}: missing"
        elif strips[path] != certificate["strips"].get(path):
            yield f"{path}: {'changed' if path in certificate['strips'] else 'not in the certificate'}"
    written = set(zip(dataset.source_demo.tolist(), dataset.variant.tolist(), strict=True))
    for entry in read_rejected(dataset.path):
        if (entry.source_demo, entry.variant) in written:
            yield f"{REJECTED}: demo {entry.source_demo} variant {entry.variant} is in the dataset all the same"


def _source_differences(recording: Recording, demo: int, listed: dict[str, Any]) -> Iterator[str]:
    found = _source(recording, demo)
    if found["episode_id"] != listed["episode_id"]:
        yield f"{recording.path(demo)}: another episode than the one the dataset was made from"
    for key in sorted({*found["sha256"], *listed["sha256"]}):
        if found["sha256"].get(key) != listed["sha256"].get(key):
            yield f"{recording.path(demo)}: {key} differs from what the dataset was made from"
    if found["file_sha256"] != listed["file_sha256"]:
        # Nothing of the above: depth, instance ids, cameras, labels, or the file was packed anew.
        yield f"{recording.path(demo)}: the file is not the one that the dataset was made from"


def _source(recording: Recording, demo: int) -> dict[str, Any]:
    episode = recording.episode(demo, cameras=())
    arrays = {
        "action": episode.actions,
        "state": episode.states,
        "timestamp": episode.timestamps_s,
        **episode.observations,
    }
    return {
        "episode_id": episode.episode_id,
        "seed": episode.seed,
        "file_sha256": file_sha256(recording.path(demo)),
        "sha256": {
            **{key: array_sha256(array) for key, array in arrays.items()},
            **{
                f"{camera}{IMAGE_SUFFIX}": _image_sha256(recording.path(demo), camera)
                for camera in recording.header(demo).cameras
            },
        },
    }


def _image_sha256(file: Path, camera: str) -> str:
    """Return the digest of a camera's images; depth and ids, most of the bytes, are not decompressed for it."""
    with reading_own(file) as content:
        images = content[f"{DEMO}/obs/{camera}{IMAGE_SUFFIX}"]
        starts = range(0, len(images), _FRAMES_READ)
        return rows_sha256(images.dtype, images.shape, (images[start : start + _FRAMES_READ] for start in starts))


def _listed(episode: DatasetEpisode) -> dict[str, Any]:
    fields = asdict(episode)
    info = fields.pop("info")
    return {**fields, "info_sha256": json_sha256(info)}


def _versions() -> dict[str, str]:
    installed = {name: metadata.version(name) for name in _PACKAGES}
    return {"cosmos-engine": cosmos_engine.__version__, "python": platform.python_version(), **installed}


def read_certificate(path: Path) -> dict[str, Any]:
    """Read the certificate of the dataset `path`, unchecked.

    Raises:
        InputError: there is none, it is damaged, or of another kind or version.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such dataset")
    if not (path / CERTIFICATE).is_file():
        raise InputError(f"{path}: no {CERTIFICATE}: the dataset is unfinished, or it is not one of this engine's")
    certificate = read_json(path / CERTIFICATE)
    if (certificate.get("kind"), certificate.get("schema")) != (_KIND, SCHEMA):
        found = f"{certificate.get('kind')!r} schema {certificate.get('schema')!r}"
        raise InputError(
            f"{path / CERTIFICATE}: expected {_KIND!r} schema {SCHEMA}, got {found}: made by another version"
        )
    return certificate
