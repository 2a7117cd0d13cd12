"""The folder of the 2B model's weights, and the manifest that says what is wholly there.

    manifest.json                                              written last: what it does not name is not there
    transfer25-2b/{base,edge,vis,depth,seg}.safetensors        one base, one branch a modality
    transfer25-2b/<modality>-base.safetensors                  the tensors of the base that this modality has for itself
    transfer25-2b-distilled/{base,edge}.safetensors            the 4-step checkpoint has a base of its own
    wan2.1-vae/{config.json,diffusion_pytorch_model.safetensors}    layout of diffusers
    reason1/                                                   layout of the Hugging Face hub
    originals/                                                 what is being fetched or converted

A part is what one source became: `transfer25-2b/edge`, `wan2.1-vae`, `reason1`; it has one file or more.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmos_engine.controls import MODALITIES
from cosmos_engine.data.atomic import make_folder, remove_temporaries, write_file
from cosmos_engine.data.digest import file_sha256, json_sha256
from cosmos_engine.data.lock import WriterLock
from cosmos_engine.errors import InputError

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
ENVIRONMENT = "COSMOS_ENGINE_WEIGHTS"

GENERAL = "transfer25-2b"
DISTILLED = "transfer25-2b-distilled"
VAE = "wan2.1-vae"
REASON1 = "reason1"
ORIGINALS = "originals"


def default_weights_folder() -> Path:
    """Return $COSMOS_ENGINE_WEIGHTS, or ~/.cache/cosmos-engine/weights if it is not set."""
    given = os.environ.get(ENVIRONMENT)
    return Path(given).expanduser() if given else Path.home() / ".cache" / "cosmos-engine" / "weights"


@dataclass(frozen=True)
class Source:
    """Where a part came from.

    Attributes:
        file: path in the repository, or the name of a local file; empty for a whole repository.
        repo: repository on the Hugging Face hub; None for a local file.
        revision: commit of the repository.
        sha256: of the file; None for a whole repository.
        licence: under which its publisher gives it; None if not known.
    """

    file: str
    repo: str | None = None
    revision: str | None = None
    sha256: str | None = None
    licence: str | None = None

    def __str__(self) -> str:
        return " ".join(word for word in (self.repo, self.file) if word)


@dataclass(frozen=True)
class StoredFile:
    """A file of a part, as it was written."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Part:
    """What one source became.

    Attributes:
        source: where it came from.
        files: by path below the folder of weights.
        base_sha256: for a base or a branch, the content digest of the base in its source file.
    """

    source: Source
    files: Mapping[str, StoredFile]
    base_sha256: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


class WeightsFolder:
    """Find the parts of the 2B model by name, and record new ones."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def parts(self) -> dict[str, Part]:
        """Return the parts that the manifest names; none if there is no manifest.

        Raises:
            InputError: a damaged manifest, or one of another format version.
        """
        manifest = self.path / MANIFEST
        try:
            described: Any = json.loads(manifest.read_bytes())
            version = described["version"]
            if version != MANIFEST_VERSION:
                raise InputError(f"{manifest}: expected format version {MANIFEST_VERSION}, got {version!r}")
            return {name: _part(values) for name, values in described["parts"].items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise InputError(f"{manifest}: cannot be read: {error.strerror}") from error
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{manifest}: damaged: {type(error).__name__}: {error}") from error

    def file(self, name: str) -> Path:
        """Return the path of a file such as `transfer25-2b/edge.safetensors`, which the manifest must name.

        Raises:
            InputError: it is missing or has another size; names the command that fetches it.
        """
        for part in self.parts().values():
            if name in part.files:
                problem = self._problem(name, part.files[name])
                if problem:
                    raise InputError(f"{problem}; {self._remedy(name)}")
                return self.path / name
        raise InputError(f"{self.path / name}: not among these weights; {self._remedy(name)}")

    def folder(self, name: str) -> Path:
        """Return the path of a part that is a folder, such as `wan2.1-vae`.

        Raises:
            InputError: it or one of its files is missing or has another size; names the command that fetches it.
        """
        part = self.parts().get(name)
        if part is None:
            raise InputError(f"{self.path / name}: not among these weights; {self._remedy(name)}")
        for file in part.files:
            self.file(file)
        return self.path / name

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of a file, or of a part's list of files, as the manifest states it.

        Raises:
            InputError: the manifest does not name it.
        """
        parts = self.parts()
        for part in parts.values():
            if name in part.files:
                return part.files[name].sha256
        if name in parts:
            return json_sha256({file: stored.sha256 for file, stored in parts[name].files.items()})
        raise InputError(f"{self.path / name}: not among these weights; {self._remedy(name)}")

    def own_base(self, model: str, modality: str) -> Path | None:
        """Return the file of those tensors of the base that a modality has for itself; None if it has none.

        Args:
            model: `GENERAL` or `DISTILLED`.
            modality: the control.

        Raises:
            InputError: the manifest names the file, but it is missing or has another size.
        """
        name = own_base_name(model, modality)
        return self.file(name) if any(name in part.files for part in self.parts().values()) else None

    def has(self, name: str, source_sha256: str | None = None) -> bool:
        """Say whether a part and the base that it belongs to are there, all files of their size.

        Args:
            name: of the part.
            source_sha256: also ask that it came from the file of this digest.
        """
        parts = self.parts()
        base = parts.get(f"{name.rpartition('/')[0]}/base")
        if name not in parts or self.problems(parts[name]) or (base and self.problems(base)):
            return False
        return source_sha256 in (None, parts[name].source.sha256)

    def has_file(self, name: str, file: StoredFile) -> bool:
        """Say whether a file is there and of its size."""
        return not self._problem(name, file)

    def problems(self, part: Part) -> list[str]:
        """Return one line for each file of a part that is missing or has another size."""
        return [problem for name, file in part.files.items() if (problem := self._problem(name, file))]

    def record(self, name: str, source: Source, files: Iterable[str], base_sha256: str | None = None) -> Part:
        """Name a part in the manifest, whose files are wholly written; call it while holding `writing`.

        Raises:
            InputError: a file cannot be read, or the manifest cannot be written.
        """
        stored = {
            file: StoredFile((self.path / file).stat().st_size, file_sha256(self.path / file)) for file in sorted(files)
        }
        parts = self.parts() | {name: Part(source, stored, base_sha256)}
        described = {
            "version": MANIFEST_VERSION,
            "parts": {key: dataclasses.asdict(part) for key, part in sorted(parts.items())},
        }
        write_file(self.path / MANIFEST, json.dumps(described, indent=1).encode() + b"\n")
        return parts[name]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Make the folder, hold its writer lock and clear what killed writers left.

        Raises:
            InputError: another process is writing here, or the file system refuses.
        """
        make_folder(self.path)
        lock = WriterLock(self.path)
        try:
            remove_temporaries(self.path)
            yield
        finally:
            lock.release()

    def _problem(self, name: str, file: StoredFile) -> str:
        try:
            size = (self.path / name).stat().st_size
        except OSError:
            return f"{self.path / name}: missing"
        return "" if size == file.size else f"{self.path / name}: {size} bytes instead of {file.size}"

    def _remedy(self, name: str) -> str:
        model, _, file = name.partition("/")
        modality = file.split(".")[0].removesuffix("-base")
        options = " --distilled" if model == DISTILLED else ""
        options += f" --controls {modality}" if model == GENERAL and modality in MODALITIES else ""
        return f"`cosmos-engine weights download{options} --to {self.path}` fetches it"


def weights_name(model: str, module: str) -> str:
    """Return the name of the file of a base or branch: `transfer25-2b/edge.safetensors`."""
    return f"{model}/{module}.safetensors"


def own_base_name(model: str, modality: str) -> str:
    """Return the name of the file of a modality's own tensors of the base."""
    return f"{model}/{modality}-base.safetensors"


def _part(values: Mapping[str, Any]) -> Part:
    files = {name: StoredFile(**file) for name, file in values["files"].items()}
    return Part(Source(**values["source"]), files, values["base_sha256"])
