"""The commands `cosmos-engine keygen` and `sign`: vouch for a dataset's certificate with a key of one's own."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_sign_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `keygen` and `sign` to a command line."""
    keygen = subparsers.add_parser("keygen", help="make a key pair to sign certificates with")
    keygen.add_argument("file", type=Path, metavar="FILE", help="the private key; the public one is FILE.pub")
    keygen.set_defaults(run=_keygen)

    sign = subparsers.add_parser("sign", help="sign the certificate of a dataset")
    sign.add_argument("dataset", type=Path, metavar="DATASET")
    sign.add_argument("--key", type=Path, required=True, metavar="FILE", help="the private key of `keygen`")
    sign.set_defaults(run=_sign)


def _keygen(args: argparse.Namespace) -> int:
    from cosmos_engine.data.signature import make_key

    public = make_key(args.file)
    print(f"private key: {args.file} (not encrypted; whoever has it signs in your name)")
    print(f"public key: {public} (give it to whoever verifies)")
    return 0


def _sign(args: argparse.Namespace) -> int:
    from cosmos_engine.data import verify_dataset
    from cosmos_engine.data.signature import read_private_key, sign_certificate
    from cosmos_engine.errors import InputError

    read_private_key(args.key)
    verdict = verify_dataset(args.dataset)
    if verdict.first_difference is not None:
        raise InputError(f"{args.dataset}: not signed, since it differs: {verdict.first_difference}")
    print(f"signed: {sign_certificate(args.dataset, args.key)}")
    return 0
