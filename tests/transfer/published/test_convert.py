from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cosmos_engine.controls import MODALITIES, Modality
from cosmos_engine.data.digest import file_sha256
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.config import TransferConfig
from cosmos_engine.transfer.network import TransferNetwork
from cosmos_engine.transfer.published import convert as weights_convert
from cosmos_engine.transfer.published.convert import convert_transfer
from cosmos_engine.transfer.published.folder import DISTILLED, GENERAL, Part, Source, WeightsFolder
from cosmos_engine.transfer.published.nvidia_checkpoint import image_path_keys, network_shapes
from cosmos_engine.transfer.published.verify import base_verdict, verify_weights
from cosmos_engine.transfer.weights import load_weights, overlay_weights, read_header, tensor_shapes

CONFIG = TransferConfig(
    width=32,
    blocks=2,
    heads=2,
    adaln_rank=4,
    control_channels=4,
    text_width=8,
    text_width_in=12,
    image_width=6,
    inject_after=(0, 1),
)
FROZEN = "blocks.1.mlp.layer1.weight"


def published(
    config: TransferConfig = CONFIG, *, frozen: int = 0, image: int = 0, branch: int = 0
) -> dict[str, Tensor]:
    """A published file; each part of it is drawn from its own seed."""
    base, own = network_shapes(config)
    image_path = image_path_keys(config)
    parts = (
        (frozen, {key: shape for key, shape in base.items() if key not in image_path}),
        (image, {key: shape for key, shape in base.items() if key in image_path}),
        (100 + branch, own),
    )
    return {
        f"net.{key}": torch.randn(shape, generator=generator).bfloat16()
        for seed, shapes in parts
        for generator in (torch.Generator().manual_seed(seed),)
        for key, shape in shapes.items()
    }


def convert(
    weights: WeightsFolder,
    modality: Modality,
    tensors: dict[str, Tensor],
    *,
    model: str = GENERAL,
    config: TransferConfig = CONFIG,
    own_base: bool = False,
    said: list[str] | None = None,
) -> Part:
    weights.path.mkdir(exist_ok=True)
    file = weights.path.parent / f"{modality}.pt"
    torch.save(tensors, file)
    source = Source(file.name, "nvidia/repository", "abc", file_sha256(file))
    with weights.writing():
        return convert_transfer(
            file,
            weights,
            model,
            modality,
            source,
            config,
            own_base=own_base,
            say=said.append if said is not None else lambda line: None,
        )


@pytest.fixture
def weights(tmp_path: Path) -> WeightsFolder:
    return WeightsFolder(tmp_path / "weights")


def test_four_files_become_one_base_and_four_branches_bit_by_bit(weights: WeightsFolder) -> None:
    files = {modality: published(branch=index) for index, modality in enumerate(MODALITIES)}
    for modality, tensors in files.items():
        convert(weights, modality, tensors)
    names = ["base", *MODALITIES]
    assert sorted(file.stem for file in (weights.path / GENERAL).iterdir()) == sorted(names)
    with torch.device("meta"):
        network = TransferNetwork(CONFIG).bfloat16()
    load_weights(weights.file(f"{GENERAL}/base.safetensors"), {"base": network.base}, CONFIG)
    for modality, tensors in files.items():
        file = weights.file(f"{GENERAL}/{modality}.safetensors")
        header = load_weights(file, {modality: network.branch(modality)}, CONFIG)
        assert header.notes["source"]["sha256"] == file_sha256(weights.path.parent / f"{modality}.pt")
        loaded = network.base.state_dict() | network.branch(modality).state_dict()
        assert set(tensors) == {f"net.{key}" for key in loaded}
        for key, value in loaded.items():
            assert torch.equal(value, tensors[f"net.{key}"]), key
    assert base_verdict(weights, GENERAL, CONFIG) == (
        "base of transfer25-2b: equal in the files of depth, edge, seg, vis"
    )
    assert all(not report.problems for report in verify_weights(weights, full=True, config=CONFIG))


@pytest.mark.parametrize("order", [("edge", "vis"), ("vis", "edge")])
def test_image_path_of_each_branch_is_kept(weights: WeightsFolder, order: tuple[Modality, Modality]) -> None:
    files = {"edge": published(image=1, branch=1), "vis": published(image=2, branch=2)}
    said: list[str] = []
    for modality in order:
        convert(weights, modality, files[modality], said=said)
    count = len(image_path_keys(CONFIG))
    assert f"{GENERAL}/{order[1]}: its base differs in {count} tensors, all of the image path; kept beside" in said
    for modality, tensors in files.items():
        network = TransferNetwork(CONFIG).bfloat16()
        load_weights(weights.file(f"{GENERAL}/base.safetensors"), {"base": network.base}, CONFIG)
        own = weights.own_base(GENERAL, modality)
        assert (own is None) == (modality == order[0])
        if own is not None:
            overlay_weights(own, {"base": network.base}, CONFIG)
        for key, value in network.base.state_dict().items():
            assert torch.equal(value, tensors[f"net.{key}"]), key
    assert base_verdict(weights, GENERAL, CONFIG) == (
        f"base of transfer25-2b: equal in the files of {order[0]}; "
        f"{order[1]} has {count} tensors of its own, all in the image path"
    )
    assert all(not report.problems for report in verify_weights(weights, full=True, config=CONFIG))


def test_base_that_differs_elsewhere_is_refused_unless_asked_for(weights: WeightsFolder) -> None:
    convert(weights, "edge", published())
    other = published(branch=1)
    other[f"net.{FROZEN}"] = other[f"net.{FROZEN}"] * 2
    with pytest.raises(InputError) as raised:
        convert(weights, "seg", other)
    assert str(raised.value) == (
        f"{weights.path.parent}/seg.pt: its base differs from {GENERAL}/base.safetensors "
        f"(of nvidia/repository edge.pt) in 1 tensors, 1 of them outside the image path, "
        f"the first {FROZEN}; --own-base keeps both"
    )
    assert list(weights.parts()) == [f"{GENERAL}/base", f"{GENERAL}/edge"]
    convert(weights, "seg", other, own_base=True)
    own = weights.own_base(GENERAL, "seg")
    assert own is not None
    assert list(tensor_shapes(own)) == [f"base.{FROZEN}"]
    assert "seg has 1 tensors of its own, 1 outside the image path" in base_verdict(weights, GENERAL, CONFIG)


def test_own_base_is_removed_when_the_branch_comes_anew_without_one(weights: WeightsFolder) -> None:
    convert(weights, "edge", published())
    convert(weights, "vis", published(image=3))
    assert weights.own_base(GENERAL, "vis") is not None
    convert(weights, "vis", published())
    assert weights.own_base(GENERAL, "vis") is None
    assert not (weights.path / GENERAL / "vis-base.safetensors").exists()


def test_distilled_model_has_a_base_of_its_own_and_no_image_path(weights: WeightsFolder) -> None:
    without = replace(CONFIG, image_width=None)
    convert(weights, "edge", published())
    convert(weights, "edge", published(without, frozen=7), model=DISTILLED)
    assert read_header(weights.file(f"{DISTILLED}/base.safetensors")).config == without
    network = TransferNetwork(without)
    load_weights(weights.file(f"{DISTILLED}/base.safetensors"), {"base": network.base}, without)
    load_weights(weights.file(f"{DISTILLED}/edge.safetensors"), {"edge": network.branch("edge")}, without)
    assert all(not report.problems for report in verify_weights(weights, config=CONFIG))
    assert base_verdict(weights, DISTILLED, CONFIG) == "base of transfer25-2b-distilled: equal in the files of edge"


def test_file_without_an_image_path_does_not_join_a_base_with_one(weights: WeightsFolder) -> None:
    convert(weights, "edge", published())
    with pytest.raises(InputError, match="for a network of another size: image_width 6 instead of None"):
        convert(weights, "seg", published(replace(CONFIG, image_width=None)))


def test_branch_for_another_size_is_refused_by_name(weights: WeightsFolder) -> None:
    wide = replace(CONFIG, width=64)
    convert(weights, "edge", published(wide), config=wide)
    network = TransferNetwork(CONFIG)
    file = weights.file(f"{GENERAL}/edge.safetensors")
    with pytest.raises(InputError, match=r"for a network of another size: width 64 instead of 32$"):
        load_weights(file, {"edge": network.branch("edge")}, CONFIG)
    narrow = TransferNetwork(replace(wide, modalities=("edge",)))
    load_weights(file, {"edge": narrow.branch("edge")}, narrow.config)


def test_branch_of_another_modality_is_refused(weights: WeightsFolder) -> None:
    convert(weights, "edge", published())
    with pytest.raises(InputError, match=r"missing tensors: seg\.control_embedder"):
        load_weights(
            weights.file(f"{GENERAL}/edge.safetensors"), {"seg": TransferNetwork(CONFIG).branch("seg")}, CONFIG
        )


def test_overlay_refuses_what_is_not_of_the_module_and_an_empty_one(weights: WeightsFolder) -> None:
    convert(weights, "edge", published())
    file = weights.file(f"{GENERAL}/edge.safetensors")
    with pytest.raises(InputError, match=r"extra tensors: edge\.control"):
        overlay_weights(file, {"base": TransferNetwork(CONFIG).base}, CONFIG)
    with torch.device("meta"):
        network = TransferNetwork(CONFIG)
    with pytest.raises(ValueError, match="load_weights first"):
        overlay_weights(file, {"edge": network.branch("edge")}, CONFIG)


def test_interrupted_conversion_goes_on(weights: WeightsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = weights_convert.save_tensors

    def interrupted(path: Path, *rest: Any) -> None:
        if path.name.startswith("edge"):
            raise KeyboardInterrupt
        saved(path, *rest)

    monkeypatch.setattr(weights_convert, "save_tensors", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(weights, "edge", published())
    assert list(weights.parts()) == [f"{GENERAL}/base"]
    before = (weights.path / GENERAL / "base.safetensors").stat().st_mtime_ns
    monkeypatch.undo()
    convert(weights, "edge", published())
    assert (weights.path / GENERAL / "base.safetensors").stat().st_mtime_ns == before
    assert all(not report.problems for report in verify_weights(weights, full=True, config=CONFIG))


def test_lost_base_comes_again_from_its_own_file_only(weights: WeightsFolder) -> None:
    convert(weights, "edge", published(image=1))
    convert(weights, "vis", published(image=2))
    digest = weights.sha256(f"{GENERAL}/base.safetensors")
    (weights.path / GENERAL / "base.safetensors").unlink()
    with pytest.raises(InputError, match=r"base\.safetensors: missing; it came from nvidia/repository edge\.pt"):
        convert(weights, "vis", published(image=2))
    convert(weights, "edge", published(image=1))
    assert weights.sha256(f"{GENERAL}/base.safetensors") == digest


def test_value_that_is_not_finite_is_refused_and_nothing_is_written(weights: WeightsFolder) -> None:
    tensors = published()
    tensors[f"net.{FROZEN}"][0, 0] = float("nan")
    with pytest.raises(InputError, match=rf"base\.{FROZEN} has values that are not finite"):
        convert(weights, "edge", tensors)
    assert weights.parts() == {}
    assert list((weights.path / GENERAL).iterdir()) == []


def test_verify_names_every_damage(weights: WeightsFolder) -> None:
    for index, modality in enumerate(MODALITIES):
        convert(weights, modality, published(image=index))
    folder = weights.path / GENERAL
    (folder / "edge.safetensors").unlink()
    os.truncate(folder / "seg.safetensors", 1000)
    tensors = load_file(folder / "depth.safetensors")
    tensors["depth.surplus"] = tensors.pop("depth.control_embedder.proj.1.weight")
    for index in range(2):
        tensors[f"depth.control_blocks.{index}.after_proj.bias"] = torch.zeros(5)
    with (folder / "depth.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    save_file(tensors, folder / "depth.safetensors", header["__metadata__"])
    flipped = bytearray((folder / "vis-base.safetensors").read_bytes())
    flipped[-1] ^= 1
    (folder / "vis-base.safetensors").write_bytes(flipped)

    def found(full: bool) -> dict[str, list[str]]:
        reports = verify_weights(weights, full=full, config=CONFIG)
        return {
            report.name.removeprefix(f"{GENERAL}/"): [problem.removeprefix(f"{folder}/") for problem in report.problems]
            for report in reports
        }

    assert found(full=False)["base"] == found(full=False)["vis"] == []
    problems = found(full=True)
    assert problems["base"] == []
    assert problems["edge"] == ["edge.safetensors: missing"]
    assert problems["vis"] == ["vis-base.safetensors: its SHA-256 is not that of the manifest"]
    assert len(problems["seg"]) == 1
    assert problems["seg"][0].startswith("seg.safetensors: 1000 bytes instead of ")
    assert len(problems["depth"]) == 5
    assert problems["depth"][0].startswith(f"depth.safetensors: {(folder / 'depth.safetensors').stat().st_size} bytes ")
    assert problems["depth"][1:] == [
        "depth.safetensors: missing tensor depth.control_embedder.proj.1.weight (32, 24)",
        "depth.safetensors: extra tensor depth.surplus",
        "depth.safetensors: depth.control_blocks.0.after_proj.bias is (5,) instead of (32,)",
        "depth.safetensors: depth.control_blocks.1.after_proj.bias is (5,) instead of (32,)",
    ]


def test_verify_refuses_another_size(weights: WeightsFolder) -> None:
    convert(weights, "edge", published())
    for report in verify_weights(weights, config=replace(CONFIG, blocks=3)):
        (problem,) = report.problems
        assert problem.endswith(": for a network of another size: blocks 2 instead of 3")


def test_verify_of_a_folder_without_a_manifest_is_one_line(weights: WeightsFolder) -> None:
    weights.path.mkdir()
    with pytest.raises(InputError, match=r"no folder of weights \(no manifest\.json\)"):
        verify_weights(weights)
