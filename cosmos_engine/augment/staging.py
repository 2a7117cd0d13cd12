"""Staging: what a job has made and decided, kept until the dataset is complete.

    work/000003_001_00.safetensors    one call of the generator: demo 3, variants from 1 on, try 0; gone once committed
    work/outcomes.jsonl               one line a demo, in order: what was decided of it, once its episodes are committed

A try's file is written whole or not at all, by whichever process made it; a damaged one counts as not made. The line
of a demo is its commit: a torn last line is cut off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from cosmos_engine.data.atomic import make_folder, storage_errors, write_file
from cosmos_engine.data.rejected import RejectedVariant, Try
from cosmos_engine.errors import InputError

OUTCOMES = "outcomes.jsonl"
_METADATA_KEY = "cosmos-engine/try"


@dataclass(frozen=True)
class Unit:
    """Variants of one demo that are made together.

    Attributes:
        demo: index in the recording.
        first: number of the first variant that would share the call, had none been excluded; names the files.
        prompts: of each variant, by its number.
    """

    demo: int
    first: int
    prompts: Mapping[int, str]


@dataclass(frozen=True)
class TriedVariant:
    """What one try at a variant came to.

    Attributes:
        tried: seed, recipe, measures and failures; it was accepted if there is no failure.
        reason: which check failed; "" if none.
        images: by camera, if it was accepted.
        look: `curation.look` of the images, if it was accepted.
        strips: JPEG files by camera, if the variant was given up.
    """

    tried: Try
    reason: str = ""
    images: Mapping[str, UInt8[np.ndarray, "_ _ _ 3"]] = field(default_factory=dict)
    look: Float32[np.ndarray, "_ 3"] | None = None
    strips: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Whether nothing failed."""
        return not self.tried.failures


@dataclass(frozen=True)
class Outcome:
    """What was decided of one demo.

    Attributes:
        demo: index in the recording.
        accepted: variants in the dataset.
        tries: calls for a variant, accepted or not.
        failures: how many tries each check failed, by measure.
        rejected: what was left out.
    """

    demo: int
    accepted: int = 0
    tries: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    rejected: tuple[RejectedVariant, ...] = ()

    def to_line(self) -> bytes:
        """Return the outcome as a line of the journal."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False).encode() + b"\n"

    @staticmethod
    def from_line(line: bytes) -> Outcome:
        """Read a line of the journal; raise ValueError, KeyError or TypeError if it is none."""
        fields = json.loads(line)
        rejected = [_rejected(entry) for entry in fields.pop("rejected")]
        return Outcome(rejected=tuple(rejected), **fields)


def try_file(folder: Path, unit: Unit, rung: int) -> Path:
    """Return where a try of a unit is kept."""
    return folder / f"{unit.demo:06d}_{unit.first:03d}_{rung:02d}.safetensors"


def keep_try(file: Path, made: Mapping[int, TriedVariant]) -> None:
    """Write what one call of the generator came to, by variant.

    Raises:
        InputError: the file system refuses.
    """
    arrays: dict[str, NDArray[Any]] = {}
    described = {}
    for variant, outcome in made.items():
        cameras, strips = list(outcome.images), list(outcome.strips)
        described[str(variant)] = {
            "tried": asdict(outcome.tried),
            "reason": outcome.reason,
            "cameras": cameras,
            "strips": strips,
        }
        arrays |= {f"{variant}/image/{index}": outcome.images[name] for index, name in enumerate(cameras)}
        arrays |= {
            f"{variant}/strip/{index}": np.frombuffer(outcome.strips[name], np.uint8)
            for index, name in enumerate(strips)
        }
        if outcome.look is not None:
            arrays[f"{variant}/look"] = outcome.look
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {_METADATA_KEY: json.dumps(described, sort_keys=True, allow_nan=False)}
    make_folder(file.parent)
    write_file(file, safetensors.numpy.save(contiguous, metadata))


def read_try(file: Path) -> dict[int, TriedVariant] | None:
    """Return what `keep_try` wrote; None where there is no such file or a damaged one."""
    try:
        with safe_open(file, "numpy") as kept:
            described = json.loads((kept.metadata() or {})[_METADATA_KEY])
            return {
                int(variant): TriedVariant(
                    tried=_try(fields["tried"]),
                    reason=fields["reason"],
                    images={
                        name: kept.get_tensor(f"{variant}/image/{index}")
                        for index, name in enumerate(fields["cameras"])
                    },
                    look=kept.get_tensor(f"{variant}/look") if fields["cameras"] else None,
                    strips={
                        name: kept.get_tensor(f"{variant}/strip/{index}").tobytes()
                        for index, name in enumerate(fields["strips"])
                    },
                )
                for variant, fields in described.items()
            }
    except (OSError, SafetensorError, LookupError, TypeError, ValueError):
        return None


def forget_tries(folder: Path, demo: int) -> None:
    """Remove the tries of a demo whose outcome is committed.

    Raises:
        InputError: the file system refuses.
    """
    with storage_errors(folder):
        for file in folder.glob(f"{demo:06d}_*.safetensors"):
            file.unlink()


class OutcomeJournal:
    """The outcomes of the demos that are done, in order; what a resumed job goes on from."""

    def __init__(self, folder: Path) -> None:
        """Read the journal of a work folder, new or begun, and cut off what a killed writer left half.

        Raises:
            InputError: a whole line is damaged, or the file system refuses.
        """
        self._file = folder / OUTCOMES
        make_folder(folder)
        content = self._file.read_bytes() if self._file.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        try:
            self._outcomes = [Outcome.from_line(line) for line in whole.splitlines()]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self._file}: damaged ({error}); remove it to go on from the dataset alone") from error
        if len(whole) < len(content):
            with storage_errors(self._file):
                os.truncate(self._file, len(whole))

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What was decided, demo by demo."""
        return tuple(self._outcomes)

    def append(self, outcome: Outcome) -> None:
        """Add the outcome of the next demo. When this returns, it survives a kill and a power cut.

        Raises:
            InputError: the file system refuses.
        """
        with storage_errors(self._file), self._file.open("ab") as journal:
            journal.write(outcome.to_line())
            journal.flush()
            os.fsync(journal.fileno())
        self._outcomes.append(outcome)


def rejected_entries(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return the content of `rejected.json`: what was left out, by demo and variant."""
    entries = [entry for outcome in outcomes for entry in outcome.rejected]
    return [asdict(entry) for entry in sorted(entries, key=lambda entry: (entry.source_demo, entry.variant))]


def _rejected(fields: Mapping[str, Any]) -> RejectedVariant:
    return RejectedVariant(**{**fields, "tries": tuple(_try(one) for one in fields["tries"])})


def _try(fields: Mapping[str, Any]) -> Try:
    return Try(**{**fields, "failures": tuple(fields["failures"])})
