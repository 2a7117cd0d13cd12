"""Signature: who vouches for a certificate. Ed25519 (RFC 8032) over the bytes of `certificate.json`.

`certificate.sig` is the plain signature, 64 bytes, and keys are PEM files, so that others check it without this engine:

    openssl pkeyutl -verify -pubin -inkey mine.pub -rawin -in certificate.json -sigfile certificate.sig
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cosmos_engine.data.atomic import storage_errors, write_file
from cosmos_engine.data.dataset import CERTIFICATE
from cosmos_engine.errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE = "certificate.sig"
PUBLIC_SUFFIX = ".pub"
SIGNATURE_BYTES = 64

SignatureState = Literal["none", "not checked", "valid", "invalid"]
"""Whether a certificate is signed; "not checked" where no public key was given."""


def make_key(private: Path) -> Path:
    """Make a key pair and return the file of the public key: the private key's name with `.pub` added.

    The private key is not encrypted: its file can be read by its owner only, and is best kept off shared storage.

    Raises:
        InputError: either file exists, or cannot be written; `cryptography` is not installed.
    """
    _require_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = private.with_name(private.name + PUBLIC_SUFFIX)
    for file in (private, public):
        if file.exists():
            raise InputError(f"{file}: exists; a key is never written over")
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    shared = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    # The public key first: a private key whose public one was lost by a kill could vouch for nothing.
    write_file(public, shared)
    try:
        _write_secret(private, secret)
    except BaseException:
        public.unlink(missing_ok=True)
        raise
    return public


def read_private_key(file: Path) -> Ed25519PrivateKey:
    """Read a private key; call it before long work that ends in `sign_certificate`.

    Raises:
        InputError: the file is missing, holds no Ed25519 private key or an encrypted one; `cryptography` is not
            installed.
    """
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _bytes_of(file)
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError as error:  # What cryptography raises where a password is needed.
        raise InputError(f"{file}: the private key is encrypted; expected one that is not") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{file}: expected an Ed25519 private key in PEM (`cosmos-engine keygen FILE`)") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{file}: expected an Ed25519 private key, got one of another kind")
    return key


def sign_certificate(dataset: Path, key_file: Path) -> Path:
    """Sign the certificate of a complete dataset, in place of an older signature, and return the signature's file.

    The same certificate and key give the same bytes.

    Raises:
        InputError: as `read_private_key`; the dataset has no certificate; the signature cannot be written.
    """
    key = read_private_key(key_file)
    file = dataset / CERTIFICATE
    if not file.is_file():
        raise InputError(f"{dataset}: no {CERTIFICATE} to sign: the dataset is missing or unfinished")
    write_file(dataset / SIGNATURE, key.sign(_bytes_of(file)))
    return dataset / SIGNATURE


def check_signature(dataset: Path, public_key: Path | None) -> SignatureState:
    """Return the state of a dataset's signature, checked where a public key is given.

    Raises:
        InputError: the public key is missing or is none; a file cannot be read; `cryptography` is not installed and a
            key was given.
    """
    key = None if public_key is None else _read_public_key(public_key)
    if not (dataset / SIGNATURE).is_file():
        return "none"
    if key is None:
        return "not checked"
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(_bytes_of(dataset / SIGNATURE), _bytes_of(dataset / CERTIFICATE))
    except InvalidSignature:
        return "invalid"
    return "valid"


def _read_public_key(file: Path) -> Ed25519PublicKey:
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _bytes_of(file)
    if b"PRIVATE KEY" in content:
        raise InputError(f"{file}: a private key; expected the public one ({file.name}{PUBLIC_SUFFIX})")
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{file}: expected an Ed25519 public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{file}: expected an Ed25519 public key, got one of another kind")
    return key


def _require_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise InputError("signing needs the cryptography package: pip install 'cosmos-engine[sign]'") from error


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from error


def _write_secret(file: Path, content: bytes) -> None:
    """Write a new file that only its owner may read, from its first byte on."""
    with storage_errors(file):
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        except BaseException:
            with suppress(OSError):
                file.unlink()
            raise
