"""`cosmos-engine weights` as a user types it: what it prints, its exit code, and one line for each bad input."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from cosmos_engine.commands.weights import add_weights_command
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.config import SIZES, TransferConfig
from cosmos_engine.transfer.published import download as weights_download
from cosmos_engine.transfer.published.download import PUBLISHED, HuggingFaceHub
from cosmos_engine.transfer.published.folder import DISTILLED, GENERAL
from cosmos_engine.transfer.published.nvidia_checkpoint import image_path_keys, network_shapes, vae_shapes

CONFIG = TransferConfig(
    width=32,
    blocks=1,
    heads=2,
    adaln_rank=4,
    control_channels=4,
    text_width=8,
    text_width_in=12,
    image_width=6,
    inject_after=(0,),
)
EDGE, VIS, SEG = (Path(PUBLISHED[f"{GENERAL}/{name}"].file).name for name in ("edge", "vis", "seg"))

Run = Callable[..., tuple[int, list[str], str]]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "2b", CONFIG)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**12))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run as `cli.main` does; return the exit code, the lines printed and the error."""

    def run(*words: object) -> tuple[int, list[str], str]:
        parser = argparse.ArgumentParser(prog="cosmos-engine")
        add_weights_command(parser.add_subparsers(dest="command", required=True))
        args = parser.parse_args(["weights", *map(str, words)])
        try:
            code, error = int(args.run(args)), ""
        except InputError as raised:
            code, error = 2, str(raised)
        assert "\n" not in error
        return code, capsys.readouterr().out.splitlines(), error

    return run


def tensors(config: TransferConfig = CONFIG, *, frozen: int = 0, own: int = 0) -> dict[str, Tensor]:
    base, branch = network_shapes(config)
    image_path = image_path_keys(config)
    seeds = dict.fromkeys(base, frozen) | dict.fromkeys((*image_path, *branch), own)
    return {
        f"net.{key}": torch.randn(shape, generator=torch.Generator().manual_seed(seeds[key])).bfloat16()
        for key, shape in (base | branch).items()
    }


def file(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [
        file(tmp_path / EDGE, tensors(own=1)),
        file(tmp_path / "general" / "blur" / "x.pt", tensors(own=2)),
        file(tmp_path / "seg.pt", tensors(own=3)),
    ]


def test_published_files_are_converted_by_name_and_verified(run: Run, files: list[Path], tmp_path: Path) -> None:
    code, lines, error = run("convert", *files, "--to", tmp_path / "w")
    assert (code, error) == (0, "")
    assert lines[-1] == f"weights: {tmp_path / 'w'}"
    assert sorted(path.name for path in (tmp_path / "w" / GENERAL).iterdir()) == [
        "base.safetensors",
        "edge.safetensors",
        "seg-base.safetensors",
        "seg.safetensors",
        "vis-base.safetensors",
        "vis.safetensors",
    ]
    code, lines, error = run("verify", tmp_path / "w", "--full")
    assert (code, error) == (0, "")
    assert lines == [
        f"{GENERAL}/base: 0.00 GB, intact, of {EDGE}",
        f"{GENERAL}/edge: 0.00 GB, intact, of {EDGE}",
        f"{GENERAL}/seg: 0.00 GB, intact, of seg.pt",
        f"{GENERAL}/vis: 0.00 GB, intact, of x.pt",
        f"base of {GENERAL}: equal in the files of edge; seg has 7 tensors of its own, all in the image path; "
        "vis has 7 tensors of its own, all in the image path",
        "intact",
    ]


def test_conversion_goes_on_where_it_stopped(run: Run, files: list[Path], tmp_path: Path) -> None:
    broken = file(tmp_path / SEG, {})
    code, _, error = run("convert", files[0], broken, "--to", tmp_path / "w")
    assert (code, error) == (2, f"{broken}: expected tensors by name, got a dict")
    _, lines, _ = run("convert", files[0], files[2], "--to", tmp_path / "w")
    assert lines[0] == f"{GENERAL}/edge: already here"
    assert lines[-2] == f"{GENERAL}/seg: {len(network_shapes(CONFIG)[1])} tensors, of seg.pt"


@pytest.mark.parametrize(
    ("name", "options", "part"),
    [
        ("mine.pt", ("--modality", "depth"), f"{GENERAL}/depth"),
        ("mine.pt", ("--modality", "edge", "--distilled"), f"{DISTILLED}/edge"),
        (f"anywhere/{VIS}", (), f"{GENERAL}/vis"),
        (Path(PUBLISHED[f"{DISTILLED}/edge"].file).name, (), f"{DISTILLED}/edge"),
        ("distilled/general/edge/mine.pt", (), f"{DISTILLED}/edge"),
        ("depth/seg.pt", ("--modality", "seg"), f"{GENERAL}/seg"),
    ],
)
def test_name_or_option_says_what_a_file_holds(
    run: Run, tmp_path: Path, name: str, options: tuple[str, ...], part: str
) -> None:
    source = file(tmp_path / name, tensors())
    code, lines, error = run("convert", source, "--to", tmp_path / "w", *options)
    assert (code, error) == (0, "")
    assert lines[-2].startswith(f"{part}: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("convert", "{tmp}/absent.pt", "--to", "{tmp}/w"), "absent.pt: no such file"),
        (
            ("convert", "{tmp}/mine.pt", "--to", "{tmp}/w"),
            "mine.pt: its name does not tell the control; say --modality",
        ),
        (("convert", "{tmp}/depth/seg.pt", "--to", "{tmp}/w"), "seg.pt: its name does not tell the control"),
        (("convert", "{tmp}/mine.pt", "--modality", "segm", "--to", "{tmp}/w"), "did you mean 'seg'"),
        (
            ("convert", "{tmp}/mine.pt", "{tmp}/seg.pt", "--modality", "seg", "--to", "{tmp}/w"),
            "--modality: says what one file holds, got 2 files",
        ),
        (("convert", "{tmp}/cut.pt", "--modality", "seg", "--to", "{tmp}/w"), "cut.pt: not a whole PyTorch file"),
        (("convert", "{tmp}/evil.pt", "--modality", "seg", "--to", "{tmp}/w"), "evil.pt: holds posix.system, which"),
        (("convert", "{tmp}/wide.pt", "--modality", "seg", "--to", "{tmp}/w"), "tensors of another shape: "),
        (("convert", "{tmp}/tokenizer.pth", "--to", "{tmp}/w"), "tokenizer.pth: not the Wan2.1 VAE: missing tensors: "),
        (("convert", "{tmp}/seg.pt", "--to", "{tmp}/seg.pt"), "seg.pt: cannot be written: "),
        (("verify", "{tmp}"), "no folder of weights (no manifest.json)"),
        (("verify", "{tmp}/absent"), "no folder of weights (no manifest.json)"),
        (("download", "--controls", "lidar", "--to", "{tmp}/w"), "--controls: transfer25-2b has edge, vis, depth, seg"),
        (("download", "--controls", "", "--to", "{tmp}/w"), "got none"),
        (("download", "--controls", "seg", "--distilled", "--to", "{tmp}/w"), "transfer25-2b-distilled has edge; got"),
        (("download", "--to", "{tmp}/seg.pt"), "seg.pt: cannot be written: "),
    ],
)
def test_bad_input_is_one_line(run: Run, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    for name in ("mine.pt", "seg.pt", "depth/seg.pt", "cut.pt"):
        file(tmp_path / name, tensors())
    os.truncate(tmp_path / "cut.pt", 5000)
    file(tmp_path / "evil.pt", {"net.x": Attack(tmp_path / "ran")})
    file(tmp_path / "wide.pt", {name: value.repeat_interleave(2, 0) for name, value in tensors().items()})
    file(tmp_path / "tokenizer.pth", {"net.x": torch.zeros(1)})
    code, _, error = run(*(word.format(tmp=tmp_path) for word in words))
    assert code == 2
    assert message in error
    assert not (tmp_path / "ran").exists()


class Attack:
    """Runs a command where it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.target}",)


def test_base_that_differs_is_refused_and_kept_where_asked(run: Run, files: list[Path], tmp_path: Path) -> None:
    other = file(tmp_path / "depth.pt", tensors(frozen=5))
    code, _, error = run("convert", files[0], other, "--to", tmp_path / "w")
    assert code == 2
    assert f"depth.pt: its base differs from {GENERAL}/base.safetensors (of {EDGE}) in " in error
    assert error.endswith("; --own-base keeps both")
    assert run("convert", other, "--to", tmp_path / "w", "--own-base")[0] == 0
    _, lines, _ = run("verify", tmp_path / "w")
    assert "outside the image path" in lines[-3]
    assert lines[-2:] == ["hashes not compared (--full for that)", "intact"]


def test_verify_prints_every_problem_and_ends_in_one_line(run: Run, files: list[Path], tmp_path: Path) -> None:
    run("convert", *files, "--to", tmp_path / "w")
    (tmp_path / "w" / GENERAL / "vis.safetensors").unlink()
    os.truncate(tmp_path / "w" / GENERAL / "base.safetensors", 10)
    code, lines, error = run("verify", tmp_path / "w")
    assert code == 2
    assert error == f"{tmp_path / 'w'}: 2 of 4 parts damaged: {GENERAL}/base, {GENERAL}/vis"
    cut, gone = [line for line in lines if line.startswith("  ")]
    assert cut.startswith(f"  {tmp_path}/w/{GENERAL}/base.safetensors: 10 bytes instead of ")
    assert gone == f"  {tmp_path}/w/{GENERAL}/vis.safetensors: missing"


def test_weights_of_another_size_are_named(
    run: Run, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("convert", files[0], "--to", tmp_path / "w")
    monkeypatch.setitem(SIZES, "2b", TransferConfig(**{**vars(CONFIG), "width": 64}))
    code, lines, _ = run("verify", tmp_path / "w")
    assert code == 2
    problems = [line for line in lines if line.startswith("  ")]
    assert len(problems) == 2
    assert all(line.endswith("for a network of another size: width 32 instead of 64") for line in problems)


def test_original_vae_of_the_right_keys_is_converted(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        "cosmos_engine.transfer.published.convert.convert_vae", lambda file, *rest, **options: asked.append(file)
    )
    source = file(tmp_path / "tokenizer.pth", {})
    assert run("convert", source, "--to", tmp_path / "w")[0] == 0
    assert asked == [source]
    assert len(vae_shapes()) == 194


def test_download_without_access_is_one_line_and_resumes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import errors

    def gated(*_: object) -> Path:
        raise errors.GatedRepoError("403", response=SimpleNamespace(status_code=403, headers={}, request=None))

    monkeypatch.setattr(HuggingFaceHub, "file", gated)
    code, lines, error = run("download", "--controls", "edge, seg", "--to", tmp_path / "w")
    assert code == 2
    assert lines[0].startswith("wan2.1-vae: fetching nvidia/Cosmos-Predict2.5-2B tokenizer.pth (")
    assert "accept the NVIDIA Open Model License at https://huggingface.co/nvidia/Cosmos-Predict2.5-2B" in error


def test_download_without_huggingface_hub_says_what_to_install(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    code, _, error = run("download", "--to", tmp_path / "w")
    assert (code, error) == (
        2,
        "weights download needs the huggingface_hub package: pip install 'cosmos-engine[2b]'",
    )


def test_folder_comes_from_the_environment(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSMOS_ENGINE_WEIGHTS", str(tmp_path / "mine"))
    asked = []
    monkeypatch.setattr(weights_download, "download", lambda weights, items, hub, **_: asked.append((weights, items)))
    code, lines, _ = run("download", "--distilled")
    assert (code, lines) == (0, [f"weights: {tmp_path / 'mine'}"])
    assert [item.part for item in asked[0][1]] == ["wan2.1-vae", f"{DISTILLED}/edge", "reason1"]
    assert run("verify")[2].startswith(f"{tmp_path / 'mine'}: no folder of weights")
