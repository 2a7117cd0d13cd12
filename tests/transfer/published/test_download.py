from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from diffusers import AutoencoderKLWan
from huggingface_hub import errors
from safetensors.torch import save_file

from cosmos_engine.errors import InputError
from cosmos_engine.transfer.config import TransferConfig
from cosmos_engine.transfer.published import download as weights_download
from cosmos_engine.transfer.published.download import PUBLISHED, HuggingFaceHub, choose, download
from cosmos_engine.transfer.published.folder import DISTILLED, GENERAL, ORIGINALS, REASON1, VAE, WeightsFolder
from cosmos_engine.transfer.published.nvidia_checkpoint import image_path_keys, network_shapes, vae_shapes
from cosmos_engine.transfer.published.verify import base_verdict, verify_weights

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
SMALL_VAE: dict[str, Any] = {"base_dim": 8}
TRANSFER = "nvidia/Cosmos-Transfer2.5-2B"
EDGE_REVISION = "b67b64abda3801a9aceddbff2bdb86126c06db74"


class FakeHub:
    """Serve small random files in place of NVIDIA's; `refusals` are raised at a part's turn, once each."""

    def __init__(self, **refusals: BaseException) -> None:
        self.refusals = refusals
        self.fetched: list[str] = []

    def file(self, repo: str, file: str, revision: str, folder: Path) -> Path:
        (item,) = [
            item for item in PUBLISHED.values() if (item.repo, item.file, item.revision) == (repo, file, revision)
        ]
        self._count(item.part)
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        (folder / ".cache").mkdir(exist_ok=True)
        (folder / ".cache" / "note").write_text("huggingface_hub's own")
        if not path.is_file():
            torch.save(vae_tensors() if item.part == VAE else transfer_tensors(item.part), path)
        return path

    def snapshot(self, repo: str, revision: str, patterns: Sequence[str], folder: Path) -> None:
        assert (repo, revision) == (PUBLISHED[REASON1].repo, PUBLISHED[REASON1].revision)
        assert "*.safetensors" in patterns
        assert not any(pattern in patterns for pattern in ("*", "*.py", "*.bin", "*.pt"))
        self._count(REASON1)
        (folder / ".cache").mkdir(parents=True, exist_ok=True)
        (folder / ".cache" / "note").write_text("huggingface_hub's own")
        (folder / "config.json").write_text("{}")
        (folder / "tokenizer.json").write_text("{}")
        shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
        for name, shard in shards.items():
            save_file({name: torch.zeros(1)}, folder / shard)

    def _count(self, part: str) -> None:
        refusal = self.refusals.pop(part.rpartition("/")[2].replace(".", "_").replace("-", "_"), None)
        if refusal is not None:
            raise refusal
        self.fetched.append(part)


def transfer_tensors(part: str) -> dict[str, torch.Tensor]:
    """Files share the frozen base; each has an image path and a branch of its own, as NVIDIA trains them."""
    base, branch = network_shapes(CONFIG)
    own = torch.Generator().manual_seed(sorted(PUBLISHED).index(part))
    shared = torch.Generator().manual_seed(0)
    frozen = {key: shape for key, shape in base.items() if key not in image_path_keys(CONFIG)}
    tensors = {key: torch.randn(shape, generator=shared) for key, shape in frozen.items()}
    if part.startswith(GENERAL + "/"):
        tensors |= {key: torch.randn(shape, generator=own) for key, shape in base.items() if key not in frozen}
    else:
        branch = {key: shape for key, shape in branch.items() if "_img" not in key}
    tensors |= {key: torch.randn(shape, generator=own) for key, shape in branch.items()}
    return {f"net.{key}": value.bfloat16() for key, value in tensors.items()}


def vae_tensors() -> dict[str, torch.Tensor]:
    # diffusers' names pass its conversion unchanged; test_nvidia_checkpoint.py has Wan's.
    return {name: torch.zeros(shape) for name, shape in vae_shapes(SMALL_VAE).items()}


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsFolder:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**12))
    return WeightsFolder(tmp_path / "weights")


def fetch(
    weights: WeightsFolder, hub: FakeHub, controls: Sequence[str] | None = None, distilled: bool = False, **options: Any
) -> list[str]:
    said: list[str] = []
    items = choose(controls, distilled)
    download(weights, items, hub, config=CONFIG, vae_config=SMALL_VAE, say=said.append, **options)
    return said


def response(status: int) -> Any:
    return SimpleNamespace(status_code=status, headers={}, request=None)


def test_everything_is_fetched_converted_and_verified(weights: WeightsFolder) -> None:
    hub = FakeHub()
    said = fetch(weights, hub)
    assert hub.fetched == [VAE, *(f"{GENERAL}/{name}" for name in ("edge", "vis", "depth", "seg")), REASON1]
    assert sorted(weights.parts()) == sorted([*hub.fetched, f"{GENERAL}/base"])
    assert all(not report.problems for report in verify_weights(weights, full=True, config=CONFIG))
    assert base_verdict(weights, GENERAL, CONFIG).startswith("base of transfer25-2b: equal in the files of edge; depth")
    assert sorted(path.name for path in weights.path.iterdir() if path.name != ORIGINALS) == [
        "manifest.json",
        "reason1",
        "transfer25-2b",
        "wan2.1-vae",
    ]
    assert list((weights.path / ORIGINALS).iterdir()) == []
    assert not (weights.path / REASON1 / ".cache").exists()
    assert all("\n" not in line for line in said)
    assert f"fetching {TRANSFER} general/edge/" in said[2]
    assert "NVIDIA Open Model License, https://huggingface.co/nvidia/Cosmos-Transfer2.5-2B" in said[2]
    edge = weights.parts()[f"{GENERAL}/edge"].source
    assert (edge.repo, edge.revision, edge.licence) == (TRANSFER, EDGE_REVISION, "NVIDIA Open Model License")


def test_converted_vae_is_loaded_by_diffusers(weights: WeightsFolder) -> None:
    fetch(weights, FakeHub(), ["edge"])
    vae = AutoencoderKLWan.from_pretrained(weights.folder(VAE))
    assert vae.config.base_dim == 8
    assert vae.config.latents_mean == AutoencoderKLWan(**SMALL_VAE).config.latents_mean
    assert float(vae.state_dict()["quant_conv.weight"].abs().sum()) == 0


def test_second_run_fetches_nothing(weights: WeightsFolder) -> None:
    fetch(weights, FakeHub(), ["edge"])
    again = FakeHub()
    assert fetch(weights, again, ["edge"]) == [
        f"{VAE}: already here",
        f"{GENERAL}/edge: already here",
        "reason1: already here",
    ]
    assert again.fetched == []
    fetch(weights, again, ["edge", "depth"])
    assert again.fetched == [f"{GENERAL}/depth"]


def test_distilled_model_comes_beside_the_general_one(weights: WeightsFolder) -> None:
    hub = FakeHub()
    fetch(weights, hub, ["edge"])
    fetch(weights, hub, None, distilled=True)
    assert hub.fetched == [VAE, f"{GENERAL}/edge", REASON1, f"{DISTILLED}/edge"]
    assert weights.file(f"{DISTILLED}/base.safetensors").is_file()
    assert all(not report.problems for report in verify_weights(weights, full=True, config=CONFIG))


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_interrupted_download_goes_on(weights: WeightsFolder, interruption: BaseException) -> None:
    hub = FakeHub(vis=interruption)
    with pytest.raises((KeyboardInterrupt, InputError)):
        fetch(weights, hub)
    assert hub.fetched == [VAE, f"{GENERAL}/edge"]
    again = FakeHub()
    fetch(weights, again)
    assert again.fetched == [f"{GENERAL}/vis", f"{GENERAL}/depth", f"{GENERAL}/seg", REASON1]


def test_killed_between_fetch_and_conversion_the_original_is_used(
    weights: WeightsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(weights_download, "convert_transfer", killed)
    with pytest.raises(KeyboardInterrupt):
        fetch(weights, FakeHub(), ["edge"])
    monkeypatch.setattr(weights_download, "convert_transfer", weights_convert_transfer)
    (original,) = (weights.path / ORIGINALS).rglob("*.pt")
    written = original.stat().st_mtime_ns
    said = fetch(weights, FakeHub(), ["edge"], keep_originals=True)
    assert original.stat().st_mtime_ns == written
    assert said[0] == f"{VAE}: already here"


weights_convert_transfer = weights_download.convert_transfer


def test_truncated_or_removed_part_is_fetched_again(weights: WeightsFolder) -> None:
    fetch(weights, FakeHub())
    digest = weights.sha256(f"{GENERAL}/seg.safetensors")
    os.truncate(weights.path / GENERAL / "seg.safetensors", 100)
    (weights.path / VAE / "config.json").unlink()
    hub = FakeHub()
    fetch(weights, hub)
    assert hub.fetched == [VAE, f"{GENERAL}/seg"]
    assert weights.sha256(f"{GENERAL}/seg.safetensors") == digest


def test_lost_base_is_fetched_from_the_file_that_it_came_from(weights: WeightsFolder) -> None:
    fetch(weights, FakeHub())
    digest = weights.sha256(f"{GENERAL}/base.safetensors")
    (weights.path / GENERAL / "base.safetensors").unlink()
    hub = FakeHub()
    fetch(weights, hub, ["vis"])
    assert hub.fetched == [f"{GENERAL}/edge"]
    assert weights.sha256(f"{GENERAL}/base.safetensors") == digest
    assert all(not report.problems for report in verify_weights(weights, full=True, config=CONFIG))


def test_originals_are_kept_where_asked_and_others_are_not(weights: WeightsFolder) -> None:
    fetch(weights, FakeHub(), ["edge"], keep_originals=True)
    fetch(weights, FakeHub(), ["vis"])
    kept = sorted(path.name for path in (weights.path / ORIGINALS).rglob("*") if path.suffix in {".pt", ".pth"})
    assert kept == [Path(PUBLISHED[f"{GENERAL}/edge"].file).name, "tokenizer.pth"]


def test_too_little_space_is_said_before_anything_is_fetched(
    weights: WeightsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=int(12.3e9)))
    hub = FakeHub()
    with pytest.raises(InputError, match=r"weights: about 33\.1 GB needed, 12\.3 GB free; give another folder"):
        fetch(weights, hub)
    with pytest.raises(InputError, match=r"about 50\.2 GB needed"):
        fetch(weights, hub, keep_originals=True)
    assert hub.fetched == []


PAGE = "https://huggingface.co/nvidia/Cosmos-Transfer2.5-2B"
LOG_IN = "log in with `hf auth login` (before version 1 `huggingface-cli login`) or set HF_TOKEN"


def hidden(cause: Exception) -> Exception:
    error = errors.LocalEntryNotFoundError("An error happened while trying to locate the file")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (
            lambda: errors.GatedRepoError("403\nCannot access", response=response(403)),
            f"access is gated: accept the NVIDIA Open Model License at {PAGE}, then {LOG_IN}",
        ),
        (
            lambda: errors.RepositoryNotFoundError("401\nInvalid username", response=response(401)),
            f"the hub shows you no such repository: see that {PAGE} opens, then {LOG_IN}",
        ),
        (
            lambda: errors.RevisionNotFoundError("404", response=response(404)),
            f"{PAGE} has no revision {EDGE_REVISION} any more",
        ),
        (
            lambda: errors.RemoteEntryNotFoundError("404", response=response(404)),
            f"{PAGE} has no such file at revision {EDGE_REVISION}",
        ),
        (
            lambda: errors.EntryNotFoundError("404"),
            f"{PAGE} has no such file at revision {EDGE_REVISION}",
        ),
        (
            lambda: errors.HfHubHTTPError("401 Client Error\nmore", response=response(401)),
            f"HTTP 401: accept the NVIDIA Open Model License at {PAGE}, then {LOG_IN}",
        ),
        (lambda: hidden(errors.HfHubHTTPError("403", response=response(403))), "HTTP 403: accept the NVIDIA Open"),
        (lambda: errors.HfHubHTTPError("503", response=response(503)), "the hub answered HTTP 503; the same command"),
        (lambda: hidden(errors.HfHubHTTPError("429", response=response(429))), "the hub answered HTTP 429"),
        (
            lambda: errors.LocalEntryNotFoundError("Cannot find\nan appropriate cached snapshot"),
            "not fetched yet, and huggingface.co cannot be reached (offline, or HF_HUB_OFFLINE); the same command",
        ),
        (lambda: errors.OfflineModeIsEnabled("HF_HUB_OFFLINE\nis set"), "the connection failed (HF_HUB_OFFLINE)"),
        (lambda: errors.HTTPError("timed out"), "the connection failed (timed out); the same command goes on"),
        (
            lambda: RuntimeError("Data processing error: CAS\nmore"),
            "the connection failed (Data processing error: CAS)",
        ),
        (lambda: TimeoutError(), "the connection failed (TimeoutError)"),
    ],
)
def test_refusal_of_the_hub_is_one_line(
    weights: WeightsFolder, refusal: Callable[[], BaseException], message: str
) -> None:
    with pytest.raises(InputError) as raised:
        fetch(weights, FakeHub(edge=refusal()), ["edge"])
    text = str(raised.value)
    assert "\n" not in text
    assert text.startswith(f"{TRANSFER} {PUBLISHED[f'{GENERAL}/edge'].file}: ")
    assert message in text


def test_full_disk_and_a_forbidden_folder_are_one_line(weights: WeightsFolder) -> None:
    with pytest.raises(InputError, match=r"originals/nvidia--Cosmos-Transfer2\.5-2B: the disk is full \(1000\.0 GB"):
        fetch(weights, FakeHub(edge=OSError(errno.ENOSPC, "No space left on device")), ["edge"])
    with pytest.raises(InputError, match=r"^/forbidden: cannot be written: Permission denied$"):
        fetch(weights, FakeHub(edge=PermissionError(errno.EACCES, "Permission denied", "/forbidden")), ["edge"])


def test_refusal_of_the_text_encoder_names_its_page(weights: WeightsFolder) -> None:
    refusal = errors.GatedRepoError("403", response=response(403))
    with pytest.raises(InputError, match=r"^nvidia/Cosmos-Reason1-7B: access is gated: .*/nvidia/Cosmos-Reason1-7B,"):
        fetch(weights, FakeHub(reason1=refusal), ["edge"])


def test_half_a_snapshot_is_not_recorded(weights: WeightsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    class Half(FakeHub):
        def snapshot(self, repo: str, revision: str, patterns: Sequence[str], folder: Path) -> None:
            super().snapshot(repo, revision, patterns, folder)
            os.truncate(folder / "model-00002-of-00002.safetensors", 3)

    with pytest.raises(InputError, match=r"model-00002-of-00002\.safetensors: not a whole safetensors file"):
        fetch(weights, Half(), ["edge"])
    assert REASON1 not in weights.parts()
    fetch(weights, FakeHub(), ["edge"])
    (weights.path / REASON1 / "model-00001-of-00002.safetensors").unlink()
    (report,) = [report for report in verify_weights(weights, config=CONFIG) if report.name == REASON1]
    assert [problem.split("/")[-1] for problem in report.problems] == ["model-00001-of-00002.safetensors: missing"]
    save_file({"c": torch.zeros(1)}, weights.path / REASON1 / "model-00001-of-00002.safetensors")
    (report,) = [report for report in verify_weights(weights, config=CONFIG) if report.name == REASON1]
    assert [problem.split(": ")[1] for problem in report.problems] == ["missing tensor a", "extra tensor c"]


def test_two_downloads_into_one_folder_do_not_meet(weights: WeightsFolder) -> None:
    with weights.writing(), pytest.raises(InputError, match="only one writer at a time"):
        fetch(weights, FakeHub(), ["edge"])


@pytest.mark.parametrize(
    ("controls", "distilled", "message"),
    [
        (["edge", "lidar"], False, "--controls: transfer25-2b has edge, vis, depth, seg; got 'lidar'"),
        (["blur"], False, "got 'blur'"),
        ([], False, "got none"),
        (["depth"], True, "--controls: transfer25-2b-distilled has edge; got 'depth'"),
    ],
)
def test_unknown_control_is_one_line(controls: list[str], distilled: bool, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose(controls, distilled)


def test_real_hub_is_asked_for_the_pinned_file_in_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *names, **rest: asked.append((names, rest)) or "x")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *names, **rest: asked.append((names, rest)))
    assert HuggingFaceHub().file("a/b", "c.pt", "123", tmp_path) == Path("x")
    HuggingFaceHub().snapshot("a/b", "123", ("*.json",), tmp_path)
    assert asked == [
        (("a/b", "c.pt"), {"revision": "123", "local_dir": tmp_path}),
        (("a/b",), {"revision": "123", "local_dir": tmp_path, "allow_patterns": ["*.json"]}),
    ]
