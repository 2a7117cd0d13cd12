from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cosmos_engine.data import (
    Dataset,
    DatasetWriter,
    Episode,
    Recording,
    RecordingWriter,
    build_certificate,
    verify_dataset,
)
from cosmos_engine.data.digest import array_sha256, json_sha256, rows_sha256
from cosmos_engine.data.row_array import RowArray, RowArrayWriter
from cosmos_engine.data.signature import make_key, sign_certificate
from cosmos_engine.data.trailer import with_trailer
from cosmos_engine.errors import InputError

STRIP = "rejected/000001_002_agentview.jpg"
REJECTED = [
    {
        "source_demo": 1,
        "variant": 2,
        "prompt": "look 1 2",
        "reason": "gate",
        "tries": [{"seed": 5, "recipe": "default", "failures": ["agentview/iou 0.1"], "measures": {}}],
        "strips": {"agentview": STRIP},
    },
    {"source_demo": 2, "variant": 2, "reason": "near-duplicate"},
]


@pytest.fixture
def dataset_path(tmp_path: Path, recording_folder: Path, dataset_arrays) -> Path:
    """The original and one variant of each of the recording's three demos, certified, and what was rejected."""
    recording = Recording(recording_folder)
    with DatasetWriter(tmp_path / "lift.zarr", attrs={"task": "lift"}) as writer:
        for demo in range(3):
            for variant in range(2):
                arrays = dataset_arrays(recording.episode(demo))
                if variant:
                    arrays |= {key: 255 - rows for key, rows in arrays.items() if key.endswith("_image")}
                info = {"prompt": f"look {demo} {variant}"}
                writer.append(arrays, source_demo=demo, variant=variant, accepted=True, info=info)
        (writer.path / "rejected").mkdir()
        (writer.path / STRIP).write_bytes(b"a strip of frames")
        (writer.path / "rejected.json").write_text(json.dumps(REJECTED))
        certificate = build_certificate(
            recording, writer, config={"variants": 1}, weights_sha256={"tiny.safetensors": "ab" * 32}
        )
        writer.finish(certificate)
    return tmp_path / "lift.zarr"


def _change_rows(path: Path, key: str, change: Callable[[np.ndarray], Any]) -> None:
    array = RowArray(path / key)
    rows = array[:].copy()
    change(rows)
    shutil.rmtree(array.path)
    RowArrayWriter(array.path, array.layout).append(rows)


def _change_json(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def _forge(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a certificate and make its own digest anew, as anyone can."""

    def forge(certificate: dict[str, Any]) -> None:
        change(certificate)
        del certificate["sha256"]
        certificate["sha256"] = json_sha256(certificate)

    _change_json(path / "certificate.json", forge)


def _swap_episodes(path: Path, first: int, second: int) -> None:
    """Swap two episodes wherever they are told of, as if the dataset had been written in that order."""
    dataset = Dataset(path)
    order = list(range(dataset.episode_count))
    order[first], order[second] = second, first
    rows = np.concatenate([np.arange(dataset.episode_ends[-1])[dataset.rows(index)] for index in order])
    lengths = np.diff(dataset.episode_ends, prepend=0)[order]
    for key in dataset.keys:
        _change_rows(path, f"data/{key}", lambda array: array.__setitem__(slice(None), array[rows]))
    for name in ("source_demo", "variant", "accepted"):
        _change_rows(path, f"meta/{name}", lambda array: array.__setitem__(slice(None), array[order]))
    _change_rows(path, "meta/episode_ends", lambda ends: ends.__setitem__(slice(None), np.cumsum(lengths)))
    _change_json(
        path / "meta" / ".zattrs", lambda attrs: attrs.update(episodes=[attrs["episodes"][index] for index in order])
    )


def test_untouched_dataset_verifies(dataset_path: Path, recording_folder: Path) -> None:
    report = verify_dataset(dataset_path, recording_folder)
    assert (report.intact, report.first_difference) == (True, None)
    assert (report.episodes, report.against_recording) == (6, True)
    assert verify_dataset(dataset_path).intact
    assert not verify_dataset(dataset_path).against_recording


def test_certificate_is_the_same_for_the_same_inputs(dataset_path: Path, recording_folder: Path) -> None:
    certificate = json.loads((dataset_path / "certificate.json").read_text())
    assert certificate["config"] == {"variants": 1}
    assert certificate["weights_sha256"] == {"tiny.safetensors": "ab" * 32}
    assert {"cosmos-engine", "numpy", "torch", "python"} <= certificate["versions"].keys()
    source = Recording(recording_folder).episode(1)
    assert certificate["sources"]["1"]["sha256"]["action"] == array_sha256(source.actions)
    assert certificate["sources"]["1"]["episode_id"] == source.episode_id


@pytest.mark.parametrize("key", ["action", "state", "timestamp", "robot0_eef_pos", "agentview_image"])
def test_one_changed_element_is_found(dataset_path: Path, recording_folder: Path, key: str) -> None:
    row = Dataset(dataset_path).rows(3).start
    _change_rows(dataset_path, f"data/{key}", lambda rows: rows[row : row + 1].view("u1").__ixor__(1))
    assert verify_dataset(dataset_path, recording_folder).first_difference == f"episode 3: {key} changed"


@pytest.mark.parametrize(
    ("key", "name"), [("source_demo", "source_demo"), ("variant", "variant"), ("accepted", "accepted")]
)
def test_changed_origin_is_found(dataset_path: Path, key: str, name: str) -> None:
    def flip_last(rows: np.ndarray) -> None:
        rows[-1] = not rows[-1]

    _change_rows(dataset_path, f"meta/{key}", flip_last)
    assert verify_dataset(dataset_path).first_difference == f"episode 5: {name} changed"


def test_changed_episode_order_is_found(dataset_path: Path) -> None:
    dataset = Dataset(dataset_path)
    first, third = dataset.rows(0), dataset.rows(2)
    for key in dataset.keys:

        def swap(rows: np.ndarray) -> None:
            rows[:] = np.concatenate([rows[third], rows[first.stop : third.start], rows[first], rows[third.stop :]])

        _change_rows(dataset_path, f"data/{key}", swap)
    assert (verify_dataset(dataset_path).first_difference or "").startswith("episode 0: ")


def test_episodes_swapped_with_all_that_belongs_to_them_are_found(dataset_path: Path) -> None:
    _swap_episodes(dataset_path, 1, 3)
    assert Dataset(dataset_path).info[1] == {"prompt": "look 1 1"}
    assert (verify_dataset(dataset_path).first_difference or "").startswith("episode 1: ")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda path: (path / "rejected.json").unlink(), "rejected.json: missing"),
        (lambda path: (path / "rejected.json").write_text("[]"), "rejected.json: changed"),
        (lambda path: (path / STRIP).write_bytes(b"other frames"), f"{STRIP}: changed"),
        (lambda path: (path / STRIP).unlink(), f"{STRIP}: missing"),
        (lambda path: (path / "rejected" / "9.jpg").write_bytes(b""), "rejected/9.jpg: not in the certificate"),
    ],
)
def test_changed_rejections_are_found(dataset_path: Path, change: Callable[[Path], Any], found: str) -> None:
    change(dataset_path)
    assert verify_dataset(dataset_path).first_difference == found


def test_rejections_added_to_a_dataset_without_any_are_found(dataset_path: Path) -> None:
    _forge(dataset_path, lambda certificate: certificate.update(rejected=None))
    assert verify_dataset(dataset_path).first_difference == "rejected.json: not in the certificate"


def test_variant_both_rejected_and_written_is_found(dataset_path: Path) -> None:
    content = json.dumps([{**REJECTED[0], "variant": 1}])
    (dataset_path / "rejected.json").write_text(content)
    digest = hashlib.sha256(content.encode()).hexdigest()
    _forge(dataset_path, lambda certificate: certificate.update(rejected=digest))
    found = verify_dataset(dataset_path).first_difference
    assert found == "rejected.json: demo 1 variant 1 is in the dataset all the same"


def test_changed_prompt_attribute_or_key_is_found(dataset_path: Path) -> None:
    _change_json(dataset_path / "meta" / ".zattrs", lambda attrs: attrs["episodes"][4].update(prompt="another"))
    assert verify_dataset(dataset_path).first_difference == "episode 4: info_sha256 changed"
    _change_json(dataset_path / ".zattrs", lambda attrs: attrs.update(task="stack"))
    assert verify_dataset(dataset_path).first_difference == ".zattrs: changed"


def test_missing_or_added_key_is_found(dataset_path: Path) -> None:
    action = dataset_path / "data" / "action"
    shutil.copytree(action, action.with_name("more"))
    assert verify_dataset(dataset_path).first_difference == "data/more: not in the certificate"
    shutil.rmtree(action.with_name("more"))
    shutil.rmtree(action)
    assert verify_dataset(dataset_path).first_difference == "data/action: missing"


def test_removed_episode_is_found(dataset_path: Path) -> None:
    dataset = Dataset(dataset_path)
    for key in dataset.keys:
        array = dataset.array(key)
        RowArrayWriter(array.path, array.layout, int(dataset.episode_ends[-2]))
    for name in ("episode_ends", "source_demo", "variant", "accepted"):
        meta = RowArray(dataset_path / "meta" / name)
        RowArrayWriter(meta.path, meta.layout, 5)
    _change_json(dataset_path / "meta" / ".zattrs", lambda attrs: attrs["episodes"].pop())
    found = verify_dataset(dataset_path).first_difference
    assert found == "meta/episode_ends: 5 episodes where the certificate has 6"


def test_damaged_storage_chunk_is_found(dataset_path: Path) -> None:
    chunk = dataset_path / "data" / "agentview_image" / "0.0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:-10])
    assert "storage chunk is truncated or damaged" in (verify_dataset(dataset_path).first_difference or "")


def test_only_the_recording_contradicts_an_original_whose_image_was_forged_throughout(
    dataset_path: Path, recording_folder: Path
) -> None:
    _change_rows(dataset_path, "data/agentview_image", lambda rows: rows[:1].__ixor__(1))
    dataset = Dataset(dataset_path)
    digest = array_sha256(dataset.array("agentview_image")[dataset.rows(0)])

    def claim(certificate: dict[str, Any]) -> None:
        certificate["episodes"][0]["sha256"]["agentview_image"] = digest
        certificate["sources"]["0"]["sha256"]["agentview_image"] = digest

    _forge(dataset_path, claim)
    assert verify_dataset(dataset_path).intact
    found = verify_dataset(dataset_path, recording_folder).first_difference or ""
    assert found.endswith("episode_000000.hdf5: agentview_image differs from what the dataset was made from")


def test_only_a_signature_finds_a_certificate_made_anew(dataset_path: Path, tmp_path: Path) -> None:
    public = make_key(tmp_path / "mine")
    sign_certificate(dataset_path, tmp_path / "mine")
    report = verify_dataset(dataset_path, public_key=public)
    assert (report.intact, report.signature) == (True, "valid")
    assert verify_dataset(dataset_path).signature == "not checked"
    _forge(dataset_path, lambda certificate: certificate["config"].update(variants=2))
    assert verify_dataset(dataset_path).intact
    report = verify_dataset(dataset_path, public_key=public)
    assert report.signature == "invalid"
    assert (report.first_difference or "").startswith(f"certificate.sig: not made by {public}, or certificate.json was")
    (dataset_path / "certificate.sig").unlink()
    report = verify_dataset(dataset_path, public_key=public)
    assert (report.signature, report.intact) == ("none", False)
    assert report.first_difference == "certificate.sig: missing; nobody signed the certificate"


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["config"].update(variants=2),
        lambda c: c["strips"].clear(),
        lambda c: c["weights_sha256"].clear(),
        lambda c: c["episodes"].pop(),
        lambda c: c["sources"]["0"].update(seed=5),
        lambda c: c.update(sha256="0" * 64),
    ],
)
def test_changed_certificate_is_found(dataset_path: Path, change) -> None:
    _change_json(dataset_path / "certificate.json", change)
    assert verify_dataset(dataset_path).first_difference == "certificate.json: changed since it was written"


def test_actions_that_are_not_the_demos_are_found_under_a_certificate_made_anew(dataset_path: Path) -> None:
    _change_rows(dataset_path, "data/action", lambda rows: rows[:1].view("u1").__ixor__(1))
    dataset = Dataset(dataset_path)
    rows = dataset.rows(0)
    forged = array_sha256(dataset.array("action")[rows])

    _forge(dataset_path, lambda certificate: certificate["episodes"][0]["sha256"].update(action=forged))
    assert verify_dataset(dataset_path).first_difference == "episode 0: action is not that of demo 0"


def test_another_recording_is_found(dataset_path: Path, tmp_path: Path, env_args, make_episode) -> None:
    with RecordingWriter(tmp_path / "others", env_args) as writer:
        for seed in (0, 5, 2):
            writer.append(make_episode(seed))
    found = verify_dataset(dataset_path, tmp_path / "others").first_difference or ""
    assert "episode_000001.hdf5: another episode than the one the dataset was made from" in found


def test_changed_recording_is_found(dataset_path: Path, recording_folder: Path) -> None:
    changed = Recording(recording_folder).path(2)
    with h5py.File(changed, "r+") as file:
        file["data/demo_0/states"][0, 0] += 1e-12
    changed.write_bytes(with_trailer(changed.read_bytes()))
    found = verify_dataset(dataset_path, recording_folder).first_difference or ""
    assert "episode_000002.hdf5: state differs from what the dataset was made from" in found


@pytest.mark.parametrize(
    "dataset", ["obs/agentview_depth", "obs/agentview_instance", "cameras/agentview/intrinsics_px"]
)
def test_changed_passes_of_the_recording_are_found(dataset_path: Path, recording_folder: Path, dataset: str) -> None:
    changed = Recording(recording_folder).path(1)
    with h5py.File(changed, "r+") as file:
        file[f"data/demo_0/{dataset}"][0] += 1
    changed.write_bytes(with_trailer(changed.read_bytes()))
    found = verify_dataset(dataset_path, recording_folder).first_difference or ""
    assert found.endswith("episode_000001.hdf5: the file is not the one that the dataset was made from")


@pytest.mark.parametrize("key", ["robot0_eef_pos", "agentview_image"])
def test_certificate_is_refused_to_an_original_that_is_not_the_demo(
    tmp_path: Path, recording_folder: Path, dataset_arrays: Callable[[Episode], dict[str, Any]], key: str
) -> None:
    recording = Recording(recording_folder)
    arrays = dataset_arrays(recording.episode(0))
    arrays[key] = arrays[key] // 2
    with DatasetWriter(tmp_path / "a.zarr", attrs={}) as writer:
        writer.append(arrays, source_demo=0, variant=0, accepted=True, info={})
        with pytest.raises(InputError, match=f"episode 0: {key} is not that of demo 0"):
            build_certificate(recording, writer, config={}, weights_sha256={})


def test_certificate_is_refused_to_damaged_rejections(
    tmp_path: Path, recording_folder: Path, dataset_arrays: Callable[[Episode], dict[str, Any]]
) -> None:
    recording = Recording(recording_folder)
    with DatasetWriter(tmp_path / "a.zarr", attrs={}) as writer:
        writer.append(dataset_arrays(recording.episode(0)), source_demo=0, variant=0, accepted=True, info={})
        (writer.path / "rejected.json").write_text('[{"source_demo": 3')
        with pytest.raises(InputError, match=r"rejected\.json: truncated or damaged JSON"):
            build_certificate(recording, writer, config={}, weights_sha256={})


def test_certificate_is_refused_to_rows_that_are_not_the_demos(
    tmp_path: Path, recording_folder: Path, dataset_arrays: Callable[[Episode], dict[str, Any]]
) -> None:
    recording = Recording(recording_folder)
    arrays = dataset_arrays(recording.episode(0))
    arrays["action"] = arrays["action"] + np.float32(1e-3)
    with DatasetWriter(tmp_path / "a.zarr", attrs={}) as writer:
        writer.append(arrays, source_demo=0, variant=0, accepted=True, info={})
        with pytest.raises(InputError, match="episode 0: action is not that of demo 0"):
            build_certificate(recording, writer, config={}, weights_sha256={})


def test_what_cannot_be_verified_is_one_line(dataset_path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such dataset"):
        verify_dataset(tmp_path / "absent.zarr")
    with pytest.raises(InputError, match="no recording here"):
        verify_dataset(dataset_path, tmp_path / "absent")
    _change_json(dataset_path / "certificate.json", lambda certificate: certificate.update(schema=99))
    with pytest.raises(
        InputError, match=r"expected 'cosmos-engine/certificate' schema 2, got .* schema 99: made by another version"
    ):
        verify_dataset(dataset_path)
    (dataset_path / "certificate.json").write_text('{"kind": ')
    with pytest.raises(InputError, match=r"certificate\.json: truncated or damaged JSON"):
        verify_dataset(dataset_path)
    (dataset_path / "certificate.json").unlink()
    with pytest.raises(InputError, match=r"no certificate\.json: the dataset is unfinished"):
        verify_dataset(dataset_path)


def test_digest_tells_type_shape_and_bits() -> None:
    array = np.zeros((4, 3), dtype=np.float32)
    others = [array.reshape(3, 4), array.astype(np.float64), array.view(np.int32), -array, array[:3]]
    assert len({array_sha256(other) for other in [array, *others]}) == 6
    assert rows_sha256(array.dtype, array.shape, [array[:1], array[1:]]) == array_sha256(array)
