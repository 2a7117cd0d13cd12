"""What to fetch from the Hugging Face hub, and what its refusals mean.

Each file is fetched, converted and recorded before the next one, so that the same command goes on after an
interruption: huggingface_hub continues a half-fetched file, and what the manifest has is skipped.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from cosmos_engine.controls import MODALITIES, Modality
from cosmos_engine.data.atomic import make_folder
from cosmos_engine.data.digest import file_sha256
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.config import SIZES, TransferConfig
from cosmos_engine.transfer.published.convert import BASE, Say, convert_transfer, convert_vae
from cosmos_engine.transfer.published.folder import DISTILLED, GENERAL, ORIGINALS, REASON1, VAE, Source, WeightsFolder
from cosmos_engine.transfer.published.reason1_snapshot import REASON1_FILES, convert_snapshot

LICENCE = "NVIDIA Open Model License"
GIGABYTE = 1e9
# Two bytes a parameter: 2.414 B in the base, of which 0.355 B in the image path, and 0.349 B in a branch.
BASE_BYTES = int(4.83 * GIGABYTE)
BRANCH_BYTES = int((0.70 + 0.71) * GIGABYTE)  # with an image path of its own beside
TRANSFER_BYTES = int(5.53 * GIGABYTE)


@dataclass(frozen=True)
class Published:
    """One thing on the hub and the part that it becomes.

    Attributes:
        part: name of the part.
        repo: repository.
        file: path in it; empty for the whole repository.
        revision: commit, as NVIDIA's own code pins it (cosmos_oss/checkpoints*.py).
        original_bytes: about how large it is on the hub.
        part_bytes: about how large the part is, without the base.
    """

    part: str
    repo: str
    file: str
    revision: str
    original_bytes: int
    part_bytes: int

    @property
    def page(self) -> str:
        """Where access is asked for and the licence accepted."""
        return f"https://huggingface.co/{self.repo}"

    @property
    def model(self) -> str:
        """The model that the part belongs to; empty if it is none of Cosmos-Transfer2.5."""
        return self.part.rpartition("/")[0]

    def __str__(self) -> str:
        return f"{self.repo} {self.file}".strip()


def _transfer(part: str, file: str, revision: str) -> Published:
    return Published(part, "nvidia/Cosmos-Transfer2.5-2B", file, revision, TRANSFER_BYTES, BRANCH_BYTES)


PUBLISHED: dict[str, Published] = {
    item.part: item
    for item in (
        _transfer(
            f"{GENERAL}/edge",
            "general/edge/61f5694b-0ad5-4ecd-8ad7-c8545627d125_ema_bf16.pt",
            "b67b64abda3801a9aceddbff2bdb86126c06db74",
        ),
        _transfer(
            f"{GENERAL}/vis",
            "general/blur/ba2f44f2-c726-4fe7-949f-597069d9b91c_ema_bf16.pt",
            "eb5325b77d358944da58a690157dd2b8071bbf85",
        ),
        _transfer(
            f"{GENERAL}/depth",
            "general/depth/626e6618-bfcd-4d9a-a077-1409e2ce353f_ema_bf16.pt",
            "dea7737ca29dd8d9086413c6dc5724b8250a0bb4",
        ),
        _transfer(
            f"{GENERAL}/seg",
            "general/seg/5136ef49-6d8d-42e8-8abf-7dac722a304a_ema_bf16.pt",
            "23057a4167b89de89a4a397fdbf3887994d115eb",
        ),
        _transfer(
            f"{DISTILLED}/edge",
            "distilled/general/edge/41f07f13-f2e4-4e34-ba4c-86f595acbc20_ema_bf16.pt",
            "bbaeedb2b57cc8b14a44653099e2551adb69dcc7",
        ),
        Published(
            VAE,
            "nvidia/Cosmos-Predict2.5-2B",
            "tokenizer.pth",
            "f176dc95b4a70f53ce01c4b302851595e7322b00",
            int(0.51 * GIGABYTE),
            int(0.51 * GIGABYTE),
        ),
        Published(
            REASON1,
            "nvidia/Cosmos-Reason1-7B",
            "",
            "3210bec0495fdc7a8d3dbb8d58da5711eab4b423",
            0,  # fetched into its place
            int(16.6 * GIGABYTE),
        ),
    )
}


@runtime_checkable
class Hub(Protocol):
    """What is needed of the hub; both go on with what lies half-fetched in `folder`."""

    def file(self, repo: str, file: str, revision: str, folder: Path) -> Path:
        """Fetch a file into `folder` and return its path there."""

    def snapshot(self, repo: str, revision: str, patterns: Sequence[str], folder: Path) -> None:
        """Fetch the files of a repository that match one of `patterns` into `folder`."""


class HuggingFaceHub:
    """The hub through huggingface_hub, with the token of HF_TOKEN or of its login."""

    def file(self, repo: str, file: str, revision: str, folder: Path) -> Path:
        """See `Hub`."""
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(repo, file, revision=revision, local_dir=folder))

    def snapshot(self, repo: str, revision: str, patterns: Sequence[str], folder: Path) -> None:
        """See `Hub`."""
        from huggingface_hub import snapshot_download

        snapshot_download(repo, revision=revision, allow_patterns=list(patterns), local_dir=folder)


def choose(controls: Sequence[str] | None, distilled: bool) -> list[Published]:
    """Return what a generator needs, in the order in which it is fetched: small things first.

    Args:
        controls: modalities; None stands for all that the model has.
        distilled: the 4-step model, of which NVIDIA publishes edge alone, in place of the general one.

    Raises:
        InputError: no control, an unknown one, or one that the model has not.
    """
    model = DISTILLED if distilled else GENERAL
    known = [modality for modality in MODALITIES if f"{model}/{modality}" in PUBLISHED]
    wanted = known if controls is None else list(dict.fromkeys(controls))
    unknown = [control for control in wanted if control not in known]
    if unknown or not wanted:
        what = repr(unknown[0]) if unknown else "none"
        raise InputError(f"--controls: {model} has {', '.join(known)}; got {what}")
    return [PUBLISHED[name] for name in (VAE, *(f"{model}/{control}" for control in wanted), REASON1)]


def download(
    weights: WeightsFolder,
    items: Sequence[Published],
    hub: Hub,
    *,
    keep_originals: bool = False,
    own_base: bool = False,
    config: TransferConfig | None = None,
    vae_config: Mapping[str, Any] | None = None,
    say: Say = print,
) -> None:
    """Fetch and convert what the folder does not have yet.

    Args:
        weights: the folder.
        items: of `choose`.
        hub: where to fetch from.
        keep_originals: keep the fetched .pt files after their conversion.
        own_base: see `convert_transfer`.
        config: of the network that the files must fill; None for the published one.
        vae_config: see `convert_wan_vae`.
        say: told in one line what is done.

    Raises:
        InputError: too little space, no access, no connection, or a file that does not fit.
    """
    _require_huggingface_hub()
    with weights.writing():
        missing = _missing(weights, items)
        for item in items:
            if item not in missing:
                say(f"{item.part}: already here")
        if missing:
            _check_space(weights.path, missing, keep_originals)
        for item in missing:
            say(f"{item.part}: fetching {item} ({LICENCE}, {item.page})")
            if item.part == REASON1:
                with _hub_errors(item, weights.path / REASON1):
                    hub.snapshot(item.repo, item.revision, REASON1_FILES, weights.path / REASON1)
                convert_snapshot(weights, Source("", item.repo, item.revision, None, LICENCE), say=say)
                continue
            folder = weights.path / ORIGINALS / item.repo.replace("/", "--")
            make_folder(folder)
            with _hub_errors(item, folder):
                file = hub.file(item.repo, item.file, item.revision, folder)
            source = Source(item.file, item.repo, item.revision, file_sha256(file), LICENCE)
            if item.part == VAE:
                convert_vae(file, weights, source, vae_config, say=say)
            else:
                modality: Modality = next(m for m in MODALITIES if item.part == f"{item.model}/{m}")
                convert_transfer(
                    file,
                    weights,
                    item.model,
                    modality,
                    source,
                    config or SIZES["2b"],
                    own_base=own_base,
                    say=say,
                )
            if not keep_originals:
                _forget(file, folder)


def _missing(weights: WeightsFolder, items: Sequence[Published]) -> list[Published]:
    """Return what is to be fetched. A damaged base is first: it comes again from the file that it came from."""
    parts = weights.parts()
    missing = [item for item in items if item.part not in parts or weights.problems(parts[item.part])]
    for model in dict.fromkeys(item.model for item in items if item.model):
        base = parts.get(f"{model}/{BASE}")
        if base and weights.problems(base):
            origin = [item for item in PUBLISHED.values() if item.file == base.source.file]
            if not origin:
                raise InputError(f"{weights.problems(base)[0]}; it came from {base.source}: convert that again")
            missing = origin + [item for item in missing if item not in origin]
    return missing


def _check_space(folder: Path, missing: Sequence[Published], keep_originals: bool) -> None:
    originals = [item.original_bytes for item in missing]
    needed = sum(originals) if keep_originals else max(originals)
    needed += sum(item.part_bytes for item in missing)
    models = {item.model for item in missing if item.model}
    needed += BASE_BYTES * sum(not (folder / model / f"{BASE}.safetensors").is_file() for model in models)
    fetched = [folder / ORIGINALS, *([folder / REASON1] if any(item.part == REASON1 for item in missing) else [])]
    here = sum(file.stat().st_size for place in fetched for file in place.rglob("*") if file.is_file())
    free = shutil.disk_usage(folder).free
    if free + here < needed:
        raise InputError(
            f"{folder}: about {(needed - here) / GIGABYTE:.1f} GB needed, {free / GIGABYTE:.1f} GB free; "
            "give another folder with --to"
        )


def _forget(file: Path, folder: Path) -> None:
    """Remove a converted original, and huggingface_hub's bookkeeping with the last one."""
    file.unlink(missing_ok=True)
    bookkeeping = folder / ".cache"
    if not any(path.is_file() and bookkeeping not in path.parents for path in folder.rglob("*")):
        shutil.rmtree(folder, ignore_errors=True)


def _require_huggingface_hub() -> None:
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise InputError(
            "weights download needs the huggingface_hub package: pip install 'cosmos-engine[2b]'"
        ) from error


@contextmanager
def _hub_errors(item: Published, folder: Path) -> Iterator[None]:
    """Turn what the hub, the network or the disk refuses into one line; the body does nothing but fetch.

    Raises:
        InputError: in place of those errors.
    """
    from huggingface_hub import errors

    # httpx's errors are no OSErrors, and the transfer library hf_xet raises RuntimeErrors or, of late, its own.
    names = ("HTTPError", "EntryNotFoundError", "XetDownloadError")
    refusals = tuple(getattr(errors, name) for name in names if hasattr(errors, name))
    try:
        yield
    except (OSError, RuntimeError, *refusals) as error:
        raise InputError(_explained(error, item, folder)) from error


def _explained(error: BaseException, item: Published, folder: Path) -> str:
    from huggingface_hub import errors

    accept = f"accept the {LICENCE} at {item.page}"
    log_in = "log in with `hf auth login` (before version 1 `huggingface-cli login`) or set HF_TOKEN"
    again = "the same command goes on from here"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(folder if folder.exists() else folder.parent).free
        return f"{folder}: the disk is full ({free / GIGABYTE:.1f} GB free); {again}"
    if isinstance(error, errors.GatedRepoError):
        return f"{item}: access is gated: {accept}, then {log_in}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{item}: the hub shows you no such repository: see that {item.page} opens, then {log_in}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{item}: {item.page} has no revision {item.revision} any more"
    if isinstance(error, errors.LocalEntryNotFoundError):
        if isinstance(error.__cause__, errors.HfHubHTTPError):  # huggingface_hub hides the hub's answer in this one
            return _explained(error.__cause__, item, folder)
        return f"{item}: not fetched yet, and huggingface.co cannot be reached (offline, or HF_HUB_OFFLINE); {again}"
    if isinstance(error, errors.EntryNotFoundError):
        return f"{item}: {item.page} has no such file at revision {item.revision}"
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        if status not in (401, 403):
            return f"{item}: the hub answered HTTP {status}; {again}"
        return f"{item}: HTTP {status}: {accept}, then {log_in}; a fine-grained token must allow gated repositories"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: cannot be written: {error.strerror}"
    return f"{item}: the connection failed ({_first_line(error)}); {again}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
