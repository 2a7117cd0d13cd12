"""Post-train a tiny Transfer2.5 on pairs of controls and looks: stage by stage, or one branch alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from cosmos_engine.controls import MODALITIES, Modality
from cosmos_engine.data import write_file
from cosmos_engine.data.digest import file_sha256
from cosmos_engine.data.lock import take_folder
from cosmos_engine.device import has_bfloat16
from cosmos_engine.errors import InputError
from cosmos_engine.processes import Processes, open_processes
from cosmos_engine.transfer.codec import CELL_CHANNELS
from cosmos_engine.transfer.config import TransferConfig
from cosmos_engine.transfer.tiny import TinyModel, save_tiny
from cosmos_engine.transfer.training.clips import MANIFEST, ClipPool, render_clips
from cosmos_engine.transfer.training.codec_stage import train_codec
from cosmos_engine.transfer.training.config import PosttrainConfig
from cosmos_engine.transfer.training.decoder_stage import train_decoder
from cosmos_engine.transfer.training.network_stage import train_network
from cosmos_engine.transfer.training.recorded import record_clips
from cosmos_engine.transfer.training.stream import BatchSource
from cosmos_engine.transfer.training.text_stage import train_text
from cosmos_engine.transfer.weights import load_weights, read_header

CHECKPOINT = "transfer25-tiny.safetensors"


@dataclass(frozen=True)
class ClipSource:
    """Where training clips come from.

    Attributes:
        folder: of the clip pool; None means `clips` in the run's folder. A complete pool is used as it is unless
            `render` or `recordings` ask for certain clips.
        recordings: folders of recordings to cut into clips; none means that clips are rendered.
        prompts: for the recordings, see `recorded.record_clips`.
        render: render what the config asks for even where the folder holds a complete pool.
    """

    folder: Path | None = None
    recordings: Sequence[Path] = ()
    prompts: Sequence[str] = ()
    render: bool = True


def posttrain(
    out: Path,
    config: PosttrainConfig,
    clips: ClipSource | None = None,
    *,
    init: Path | None = None,
    branch: Modality | None = None,
    device: str = "cpu",
) -> Path:
    """Make clips, train the stages, and write the checkpoint; resumes what was stopped.

    Under torchrun every process calls this; they share each batch.

    Args:
        out: the run's folder: `clips/` (unless given), a checkpoint a stage, `log.jsonl`, sample sheets, the result.
        config: sizes and rates.
        clips: what to train on; by default clips of the embedded simulator.
        init: a checkpoint to begin from; None begins from scratch.
        branch: train this branch alone; base, codec, text encoder and the other branches stay as in `init`, bit by bit.
        device: "cpu", "cuda" or "cuda:N".

    Returns:
        The checkpoint file.

    Raises:
        InputError: before any work: a checkpoint, recording, pool or config that does not fit, a run that was begun
            with others; during work: a loss that is not finite, which leaves the last good state in place.
    """
    check_stages(config, init, branch)
    with ExitStack() as stack:
        processes = stack.enter_context(open_processes(device))
        model = begun_model(init, branch, config.network.seed)
        clips = clips or ClipSource()
        folder = clips.folder or out / "clips"
        lock = processes.first(lambda: take_folder(out))
        if lock is not None:
            stack.callback(lock.release)
        processes.first(lambda: check_run(out, init, branch))
        processes.first(lambda: make_pool(folder, config, clips))
        pool = ClipPool(folder)
        config.check(pool, processes.count)
        check_prompts(model, pool)
        train_stages(model.to(processes.device), pool, config, out, processes, branch)
        if model.network.palette is not None and config.palette_guidance:
            with torch.no_grad():
                model.network.palette.fold_guidance(config.palette_guidance, model.text.encode([""]))
        file = out / CHECKPOINT
        notes = {"posttrain": json.dumps(dataclasses.asdict(config)), "init": init_sha256(init), "branch": branch or ""}
        processes.first(lambda: save_tiny(file, model.cpu(), notes))
    return file


def train_stages(
    model: TinyModel,
    pool: ClipPool,
    config: PosttrainConfig,
    out: Path,
    processes: Processes,
    branch: Modality | None = None,
) -> None:
    """Train the stages of the config that are not left out, in order."""
    if processes.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True  # every batch of a stage has the same sizes
    bfloat16 = has_bfloat16(processes.device) if config.bfloat16 is None else config.bfloat16
    absent = dict.fromkeys(set(MODALITIES) - set(model.network.branches), 0.0)
    source = BatchSource(pool, dataclasses.replace(config.draw, **absent), processes, branch, config.threads, bfloat16)
    for name, _ in config.stages():
        if name == "codec":
            train_codec(model.codec, source, config.codec, out)
        elif name == "text":
            train_text(model.text, config.text, out, processes)
        elif name == "network":
            train_network(model, source, config.network, out, branch)
        else:
            train_decoder(model, source, config.decoder, out)


def make_pool(folder: Path, config: PosttrainConfig, clips: ClipSource) -> None:
    """Have the clips in `folder`: cut from recordings, rendered, or there already."""
    if clips.recordings:
        record_clips(folder, clips.recordings, config.recorded, clips.prompts)
    elif clips.render or not (folder / MANIFEST).is_file():
        render_clips(folder, config.clips)


def begun_model(init: Path | None, branch: Modality | None, seed: int) -> TinyModel:
    """Return the model that training begins with; a branch that `init` lacks is added and says nothing yet.

    Raises:
        InputError: a checkpoint that is missing, damaged, or of no tiny model.
    """
    torch.manual_seed(seed)
    if init is None:
        return TinyModel()
    config = read_header(init).config
    check_tiny(init, config)
    model = TinyModel(config)
    load_weights(init, dict(model.named_children()), config)
    model.codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stubs
    if branch is None or branch in config.modalities:
        return model
    known = tuple(m for m in MODALITIES if m in (*config.modalities, branch))
    extended = TinyModel(dataclasses.replace(config, modalities=known))
    extended.codec, extended.text = model.codec, model.text
    extended.network.base, extended.network.palette = model.network.base, model.network.palette
    for modality in config.modalities:
        extended.network.branches[modality] = model.network.branch(modality)
    return extended


def check_tiny(file: Path, config: TransferConfig) -> None:
    """Raise InputError unless a checkpoint's network goes with the tiny codec and text encoder."""
    expected = {"prediction": "x0", "control_channels": CELL_CHANNELS, "text_width_in": None, "image_width": None}
    for name, value in expected.items():
        if getattr(config, name) != value:
            raise InputError(
                f"{file}: expected a checkpoint of transfer25-tiny, whose {name} is {value}, "
                f"got {getattr(config, name)}"
            )


def check_stages(config: PosttrainConfig, init: Path | None, branch: Modality | None) -> None:
    """Raise InputError if nothing is trained, or more than the branch that shall be trained alone."""
    names = [name for name, _ in config.stages()]
    if not names:
        raise InputError("every stage has updates=0: nothing to train")
    if branch is None:
        return
    if init is None:
        raise InputError(f"--branch {branch}: expected --init FILE, the checkpoint whose base stays as it is")
    if config.palette_guidance:
        raise InputError(f"palette_guidance: expected 0 with --branch {branch}, which trains that branch alone")
    for name in names:
        if name != "network":
            raise InputError(
                f"{name}.updates: expected 0 with --branch {branch}, which trains that branch alone, "
                f"got {getattr(config, name).updates}"
            )


def check_run(out: Path, init: Path | None, branch: Modality | None) -> None:
    """Raise InputError if the run in `out` was begun from another checkpoint or for another branch."""
    begun = {"init": init_sha256(init), "branch": branch or ""}
    file = out / "run.json"
    if file.is_file():
        kept = dict(json.loads(file.read_text()))
        for name, value in begun.items():
            if kept.get(name) != value:
                raise InputError(
                    f"{out}: begun with --{name} {kept.get(name) or 'left out'}, now {value or 'left out'}; "
                    "expected the same, or a folder of its own"
                )
    write_file(file, json.dumps(begun).encode())


def init_sha256(init: Path | None) -> str:
    """Return the digest of the checkpoint that training begins from; empty for none."""
    return file_sha256(init) if init else ""


def check_prompts(model: TinyModel, pool: ClipPool) -> None:
    """Raise InputError for a prompt of the pool that the text encoder does not take."""
    said = {
        prompt for index in range(len(pool)) for prompt in cast(list[str], pool.described(index).get("prompts", ()))
    }
    with torch.no_grad():
        for prompt in sorted(said):
            model.text.encode([prompt])
