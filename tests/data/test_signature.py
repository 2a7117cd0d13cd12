"""A signature speaks for the bytes of the certificate and for one key, and is checked by others' tools too."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cosmos_engine.data import signature
from cosmos_engine.data.signature import check_signature, make_key, read_private_key, sign_certificate
from cosmos_engine.errors import InputError

serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "lift.zarr"
    folder.mkdir()
    (folder / "certificate.json").write_bytes(b'{"sha256": "ab"}\n')
    return folder


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key(tmp_path / "mine")
    return tmp_path / "mine"


def public(key: Path) -> Path:
    return key.with_name(f"{key.name}.pub")


def test_signature_is_valid_until_a_byte_of_the_certificate_changes(dataset: Path, key: Path) -> None:
    assert check_signature(dataset, public(key)) == "none"
    assert sign_certificate(dataset, key) == dataset / "certificate.sig"
    assert check_signature(dataset, public(key)) == "valid"
    assert check_signature(dataset, None) == "not checked"
    content = (dataset / "certificate.json").read_bytes()
    for index in range(len(content)):
        changed = bytearray(content)
        changed[index] ^= 1
        (dataset / "certificate.json").write_bytes(changed)
        assert check_signature(dataset, public(key)) == "invalid"


def test_signature_of_another_key_is_invalid(dataset: Path, key: Path, tmp_path: Path) -> None:
    sign_certificate(dataset, key)
    assert check_signature(dataset, make_key(tmp_path / "other")) == "invalid"


@pytest.mark.parametrize("length", [0, 63, 65])
def test_truncated_signature_is_invalid(dataset: Path, key: Path, length: int) -> None:
    file = sign_certificate(dataset, key)
    file.write_bytes((file.read_bytes() + b"x")[:length])
    assert check_signature(dataset, public(key)) == "invalid"


def test_the_same_key_and_certificate_give_the_same_bytes(dataset: Path, key: Path) -> None:
    first = sign_certificate(dataset, key).read_bytes()
    assert len(first) == signature.SIGNATURE_BYTES
    assert sign_certificate(dataset, key).read_bytes() == first


def test_openssl_takes_the_signature(dataset: Path, key: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    file = sign_certificate(dataset, key)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(public(key)), "-rawin"]
    command += ["-in", str(dataset / "certificate.json"), "-sigfile", str(file)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    file.write_bytes(bytes(64))
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_private_key_is_its_owners_only_and_never_written_over(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    content = key.read_bytes()
    for missing in (None, public(key)):
        if missing is not None:
            missing.unlink()
        with pytest.raises(InputError, match="exists; a key is never written over"):
            make_key(key)
    assert key.read_bytes() == content
    assert not public(key).exists()


def test_key_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        make_key(tmp_path / "absent" / "key")
    assert list(tmp_path.iterdir()) == []


def test_killed_at_any_moment_a_signature_is_old_new_or_absent(
    dataset: Path, key: Path, tmp_path: Path, kill_at_operation: Callable[[int, Path, Callable[[], object]], bool]
) -> None:
    other = tmp_path / "other"
    make_key(other)
    sign_certificate(dataset, key)
    operation = 1
    while kill_at_operation(operation, dataset, lambda: sign_certificate(dataset, other)):
        assert "valid" in {check_signature(dataset, public(key)), check_signature(dataset, public(other))}
        operation += 1
    assert operation > 2
    assert check_signature(dataset, public(other)) == "valid"


def _pem_of_another_kind() -> tuple[bytes, bytes]:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    key = X25519PrivateKey.generate()
    return (
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    )


def test_what_is_no_key_is_one_line(dataset: Path, key: Path, tmp_path: Path) -> None:
    sign_certificate(dataset, key)
    other_private, other_public = _pem_of_another_kind()
    encrypted = read_private_key(key).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    file = tmp_path / "file"
    for content, message in (
        (None, "cannot be read"),
        (b"", "expected an Ed25519 private key in PEM"),
        (key.read_bytes()[:60], "expected an Ed25519 private key in PEM"),
        (public(key).read_bytes(), "expected an Ed25519 private key in PEM"),
        (other_private, "got one of another kind"),
        (encrypted, "is encrypted"),
    ):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(InputError, match=message):
            sign_certificate(dataset, file)
    for content, message in (
        (key.read_bytes(), "a private key; expected the public one"),
        (b"", "expected an Ed25519 public key in PEM"),
        (public(key).read_bytes()[:60], "expected an Ed25519 public key in PEM"),
        (other_public, "got one of another kind"),
    ):
        file.write_bytes(content)
        with pytest.raises(InputError, match=message):
            check_signature(dataset, file)


def test_a_dataset_without_certificate_is_not_signed(tmp_path: Path, key: Path) -> None:
    (tmp_path / "x.zarr").mkdir()
    for folder in (tmp_path / "x.zarr", tmp_path / "absent"):
        with pytest.raises(InputError, match=r"no certificate\.json to sign"):
            sign_certificate(folder, key)


def test_without_cryptography_it_says_what_to_install(
    dataset: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for ask in (
        lambda: make_key(tmp_path / "other"),
        lambda: sign_certificate(dataset, key),
        lambda: check_signature(dataset, public(key)),
    ):
        with pytest.raises(InputError, match=r"pip install 'cosmos-engine\[sign\]'"):
            ask()
    assert check_signature(dataset, None) == "none"
