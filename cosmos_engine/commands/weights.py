"""The command `cosmos-engine weights`: download, convert and verify the weights of the 2B model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_engine.errors import InputError

if TYPE_CHECKING:
    from cosmos_engine.controls import Modality

_VAE_FILES = ("tokenizer.pth", "Wan2.1_VAE.pth")


def add_weights_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `weights` to a command line."""
    weights = subparsers.add_parser("weights", help="download, convert or verify the weights of the 2B model")
    actions = weights.add_subparsers(dest="action", required=True, metavar="ACTION")
    where = "folder of the weights (default: $COSMOS_ENGINE_WEIGHTS or ~/.cache/cosmos-engine/weights)"
    own_base = "keep the base of a file whose base differs from the one in the folder, beside it"

    download = actions.add_parser("download", help="fetch NVIDIA's files and convert them; the same command resumes")
    download.add_argument("--to", type=Path, metavar="DIR", help=where)
    download.add_argument("--controls", help="branches, separated by commas (default: edge,vis,depth,seg)")
    download.add_argument(
        "--distilled", action="store_true", help="the 4-step model, which has edge only, in place of the general one"
    )
    download.add_argument("--keep-originals", action="store_true", help="keep the fetched .pt files, 5.5 GB each")
    download.add_argument("--own-base", action="store_true", help=own_base)
    download.set_defaults(run=_download)

    convert = actions.add_parser("convert", help="convert files that you have: of Transfer2.5, or tokenizer.pth")
    convert.add_argument("files", type=Path, nargs="+", metavar="FILE.pt")
    convert.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder of the weights")
    convert.add_argument("--modality", help="edge, vis, depth or seg, for a file whose name does not tell")
    convert.add_argument("--distilled", action="store_true", help="the file is of the 4-step model")
    convert.add_argument("--own-base", action="store_true", help=own_base)
    convert.set_defaults(run=_convert)

    verify = actions.add_parser("verify", help="report every missing, extra or misshaped tensor")
    verify.add_argument("folder", type=Path, nargs="?", metavar="DIR", help=where)
    verify.add_argument("--full", action="store_true", help="hash every file again")
    verify.set_defaults(run=_verify)


def _download(args: argparse.Namespace) -> int:
    from cosmos_engine.transfer.published.download import HuggingFaceHub, choose, download
    from cosmos_engine.transfer.published.folder import WeightsFolder, default_weights_folder

    controls = None if args.controls is None else [name.strip() for name in args.controls.split(",") if name.strip()]
    items = choose(controls, args.distilled)
    weights = WeightsFolder(args.to or default_weights_folder())
    download(weights, items, HuggingFaceHub(), keep_originals=args.keep_originals, own_base=args.own_base)
    print(f"weights: {weights.path}")
    return 0


def _convert(args: argparse.Namespace) -> int:
    from cosmos_engine.data.digest import file_sha256
    from cosmos_engine.transfer.config import SIZES
    from cosmos_engine.transfer.published.convert import convert_transfer, convert_vae
    from cosmos_engine.transfer.published.folder import VAE, Source, WeightsFolder

    targets = [
        _target(file, args.modality, args.distilled) for file in args.files
    ]  # all, before the first is converted
    if args.modality is not None and len(args.files) > 1:
        raise InputError(f"--modality: says what one file holds, got {len(args.files)} files")
    weights = WeightsFolder(args.to)
    with weights.writing():
        for file, target in zip(args.files, targets, strict=True):
            source = Source(file.name, sha256=file_sha256(file))
            name = VAE if target is None else "/".join(target)
            if weights.has(name, source.sha256):
                print(f"{name}: already here")
            elif target is None:
                convert_vae(file, weights, source)
            else:
                convert_transfer(file, weights, *target, source, SIZES["2b"], own_base=args.own_base)
    print(f"weights: {weights.path}")
    return 0


def _target(file: Path, modality: str | None, distilled: bool) -> tuple[str, Modality] | None:
    """Return the model and the modality that a file holds, as its name or those of its folders tell; None: the VAE."""
    from cosmos_engine.config import nearest
    from cosmos_engine.controls import MODALITIES
    from cosmos_engine.transfer.published.download import PUBLISHED
    from cosmos_engine.transfer.published.folder import DISTILLED, GENERAL

    if not file.is_file():
        raise InputError(f"{file}: no such file")
    if file.name in _VAE_FILES and modality is None:
        return None
    published = [item.part for item in PUBLISHED.values() if item.model and Path(item.file).name == file.name]
    words = set(published[0].split("/")) if published else {*file.absolute().parts[-4:-1], file.stem}
    words |= {"vis"} if "blur" in words else set()  # the hub's word
    found = [known for known in MODALITIES if known in words] if modality is None else [modality]
    if len(found) != 1:
        raise InputError(f"{file}: its name does not tell the control; say --modality edge, vis, depth or seg")
    if found[0] not in MODALITIES:
        raise InputError(f"--modality {found[0]!r}: no such control{nearest(found[0], MODALITIES)}")
    return DISTILLED if distilled or {"distilled", DISTILLED} & words else GENERAL, found[0]


def _verify(args: argparse.Namespace) -> int:
    from cosmos_engine.transfer.published.folder import WeightsFolder, default_weights_folder
    from cosmos_engine.transfer.published.verify import MODELS, base_verdict, verify_weights

    weights = WeightsFolder(args.folder or default_weights_folder())
    reports = verify_weights(weights, full=args.full)
    for report in reports:
        print(report)
        for problem in report.problems:
            print(f"  {problem}")
    broken = [report.name for report in reports if report.problems]
    if broken:
        raise InputError(f"{weights.path}: {len(broken)} of {len(reports)} parts damaged: {', '.join(broken)}")
    for model in MODELS:
        verdict = base_verdict(weights, model)
        if verdict:
            print(verdict)
    if not args.full:
        print("hashes not compared (--full for that)")
    print("intact")
    return 0
