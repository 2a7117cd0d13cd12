from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cosmos_engine.data.atomic import temporaries
from cosmos_engine.data.digest import file_sha256
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.published.folder import (
    DISTILLED,
    GENERAL,
    MANIFEST,
    VAE,
    Source,
    WeightsFolder,
    default_weights_folder,
)

EDGE = f"{GENERAL}/edge.safetensors"
SOURCE = Source("general/edge/x.pt", "nvidia/Cosmos-Transfer2.5-2B", "b67b64", "0" * 64, "NVIDIA Open Model License")


@pytest.fixture
def weights(tmp_path: Path) -> WeightsFolder:
    weights = WeightsFolder(tmp_path / "weights")
    with weights.writing():
        for name in (EDGE, f"{GENERAL}/edge-base.safetensors", f"{VAE}/config.json", f"{VAE}/x.safetensors"):
            file = weights.path / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(name)
        weights.record(f"{GENERAL}/edge", SOURCE, [EDGE, f"{GENERAL}/edge-base.safetensors"], "1" * 64)
        weights.record(VAE, Source("tokenizer.pth"), [f"{VAE}/config.json", f"{VAE}/x.safetensors"])
    return weights


def test_recorded_parts_come_back(weights: WeightsFolder) -> None:
    again = WeightsFolder(weights.path)
    assert list(again.parts()) == [f"{GENERAL}/edge", VAE]
    part = again.parts()[f"{GENERAL}/edge"]
    assert part.source == SOURCE
    assert part.base_sha256 == "1" * 64
    assert part.size == len(EDGE) + len(f"{GENERAL}/edge-base.safetensors")
    assert again.file(EDGE) == weights.path / EDGE
    assert again.folder(VAE) == weights.path / VAE
    assert again.sha256(EDGE) == file_sha256(weights.path / EDGE)
    assert again.own_base(GENERAL, "edge") == weights.path / GENERAL / "edge-base.safetensors"
    assert again.own_base(GENERAL, "seg") is None


def test_digest_of_a_folder_names_its_files(weights: WeightsFolder) -> None:
    before = weights.sha256(VAE)
    assert len(before) == 64
    (weights.path / VAE / "config.json").write_text("{}")
    with weights.writing():
        weights.record(VAE, Source("tokenizer.pth"), [f"{VAE}/config.json", f"{VAE}/x.safetensors"])
    assert weights.sha256(VAE) != before


@pytest.mark.parametrize(
    ("name", "command"),
    [
        (f"{GENERAL}/seg.safetensors", "weights download --controls seg --to "),
        (f"{GENERAL}/base.safetensors", "weights download --to "),
        (f"{DISTILLED}/base.safetensors", "weights download --distilled --to "),
        ("reason1", "weights download --to "),
    ],
)
def test_what_is_not_there_is_one_line_with_the_command_that_fetches_it(
    weights: WeightsFolder, name: str, command: str
) -> None:
    for find in (weights.file, weights.folder, weights.sha256):
        with pytest.raises(InputError) as raised:
            find(name)
        assert str(raised.value) == (
            f"{weights.path / name}: not among these weights; `cosmos-engine {command}{weights.path}` fetches it"
        )


def test_empty_or_absent_folder_has_nothing(tmp_path: Path) -> None:
    weights = WeightsFolder(tmp_path / "absent")
    assert weights.parts() == {}
    with pytest.raises(InputError, match="not among these weights"):
        weights.file(EDGE)
    assert not weights.path.exists()


def test_truncated_or_removed_file_is_one_line(weights: WeightsFolder) -> None:
    os.truncate(weights.path / EDGE, 3)
    with pytest.raises(InputError, match=rf"edge\.safetensors: 3 bytes instead of {len(EDGE)}; `cosmos-engine"):
        weights.file(EDGE)
    assert not weights.has(f"{GENERAL}/edge")
    (weights.path / VAE / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json: missing; `cosmos-engine"):
        weights.folder(VAE)


def test_file_that_the_manifest_does_not_name_is_not_there(weights: WeightsFolder) -> None:
    (weights.path / GENERAL / "seg.safetensors").write_text("killed before the manifest")
    with pytest.raises(InputError, match="not among these weights"):
        weights.file(f"{GENERAL}/seg.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "damaged: JSONDecodeError"),
        ("[]", "damaged: TypeError"),
        ('{"version": 1}', "damaged: KeyError: 'parts'"),
        ('{"version": 2, "parts": {}}', "expected format version 1, got 2"),
        ('{"version": 1, "parts": []}', "damaged: AttributeError"),
        ('{"version": 1, "parts": {"x": {"files": {}}}}', "damaged: KeyError: 'source'"),
        ('{"version": 1, "parts": {"x": {"files": {"y": {}}}}}', "damaged: TypeError"),
        (b"\xff", "damaged: UnicodeDecodeError"),
    ],
)
def test_damaged_manifest_is_one_line(weights: WeightsFolder, content: str | bytes, message: str) -> None:
    (weights.path / MANIFEST).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=rf"manifest\.json: {message}") as raised:
        weights.parts()
    assert "\n" not in str(raised.value)


def test_second_writer_is_refused_and_the_first_clears_what_a_killed_one_left(weights: WeightsFolder) -> None:
    leftover = weights.path / GENERAL / ".edge.safetensors.tmp-0123"
    leftover.write_text("half")
    with weights.writing():
        assert not leftover.exists()
        with pytest.raises(InputError, match="is writing here"), WeightsFolder(weights.path).writing():
            pass
    assert temporaries(weights.path) == []
    with weights.writing():
        pass


def test_manifest_is_read_by_a_person(weights: WeightsFolder) -> None:
    described = json.loads((weights.path / MANIFEST).read_text())
    edge = described["parts"][f"{GENERAL}/edge"]
    assert edge["source"]["licence"] == "NVIDIA Open Model License"
    assert edge["files"][EDGE] == {"size": len(EDGE), "sha256": file_sha256(weights.path / EDGE)}


def test_default_folder_is_the_users_cache_or_what_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COSMOS_ENGINE_WEIGHTS", str(tmp_path))
    assert default_weights_folder() == tmp_path
    monkeypatch.delenv("COSMOS_ENGINE_WEIGHTS")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_weights_folder() == tmp_path / ".cache" / "cosmos-engine" / "weights"
