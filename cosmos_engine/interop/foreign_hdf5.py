"""HDF5 files that others wrote: read without trust in what they name or claim.

A file may hold links to other files, datasets whose rows lie in other files, groups that contain themselves, and shapes
that nothing stands behind. None of it leads out of the file's folder, round in circles, or to memory that is not there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cosmos_engine.data.episode_file import reading
from cosmos_engine.errors import InputError

# deflate, the strongest filter in use, shortens at most 1032 times.
_MOST_COMPRESSION = 1100
_SMALL_BYTES = 1 << 20
_MOST_DEPTH = 16
_DEMO = re.compile(r"demo_(\d+)")


class ForeignFile:
    """A file of robomimic's layout: read one demo at a time, since there may be ten thousand."""

    def __init__(self, file: h5py.File, folder: Path) -> None:
        data = _follow(file, "data", folder)
        if not isinstance(data, h5py.Group):
            raise InputError("no group 'data'; expected robomimic's layout: data/demo_0, data/demo_1, ...")
        self._file, self._data, self._folder = file, data, folder
        self._numbers = sorted(int(match[1]) for name in data if (match := _DEMO.fullmatch(name)))
        if not self._numbers:
            raise InputError("no demo in 'data'; expected data/demo_0, data/demo_1, ...")

    def __len__(self) -> int:
        """Return the number of demos."""
        return len(self._numbers)

    def demo(self, index: int) -> ForeignDemo:
        """Return a demo, in the order of their numbers.

        Raises:
            InputError: it links to a file that is not there or lies outside the folder.
        """
        number = self._numbers[index]
        group = _follow(self._data, f"demo_{number}", self._folder)
        if not isinstance(group, h5py.Group):
            raise InputError(f"data/demo_{number}: missing: the file that it links to is not there")
        return ForeignDemo(group, self._folder)

    def env_args(self) -> dict[str, Any]:
        """Return the `env_args` of `data`, empty where there are none.

        Raises:
            InputError: they are no JSON object.
        """
        text = self._data.attrs.get("env_args", "{}")
        try:
            value = json.loads(text)
        except (TypeError, ValueError) as error:
            raise InputError(f"attribute 'env_args' of data: no JSON ({error})") from error
        if not isinstance(value, dict):
            raise InputError(f"attribute 'env_args' of data: expected a JSON object, got {type(value).__name__}")
        return value

    def masks(self) -> dict[str, list[int]]:
        """Return the demos of every mask, by index.

        Raises:
            InputError: a mask leads out of the folder, or its shape cannot be true.
        """
        masks = _follow(self._file, "mask", self._folder)
        found: dict[str, list[int]] = {}
        for name in masks if isinstance(masks, h5py.Group) else ():
            names = _follow(masks, name, self._folder)
            if isinstance(names, h5py.Dataset) and names.ndim == 1 and names.dtype.kind in "SO":
                _check_dataset(names, f"mask/{name}")
                listed = {
                    text.decode(errors="replace") if isinstance(text, bytes) else str(text) for text in names[...]
                }
                found[name] = [index for index, number in enumerate(self._numbers) if f"demo_{number}" in listed]
        return found


class ForeignDemo:
    """Read one demo group by paths such as "obs/table_cam"."""

    def __init__(self, group: h5py.Group, folder: Path) -> None:
        self._group = group
        self._folder = folder
        self.name = str(group.name).rpartition("/")[2]

    def attribute(self, name: str) -> Any:
        """Return an attribute: a Python value, or an array of numbers; None where there is none."""
        if name not in self._group.attrs:
            return None
        value = self._group.attrs[name]
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, np.ndarray):
            return value if value.dtype.kind in "biuf" else None
        return value if isinstance(value, str | bool | int | float) else None

    def attributes(self) -> tuple[str, ...]:
        """Return the names of the attributes."""
        return tuple(sorted(self._group.attrs))

    def dataset(self, path: str) -> h5py.Dataset | None:
        """Return the dataset at `path`, unread; None where there is none, or no numbers.

        Raises:
            InputError: if it, or a link on the way, leads out of the folder, or its shape cannot be true.
        """
        node = _follow(self._group, path, self._folder)
        if not isinstance(node, h5py.Dataset) or node.dtype.kind not in "biuf":
            return None
        _check_dataset(node, f"{self.name}/{path}")
        return node

    def array(self, path: str) -> NDArray[Any] | None:
        """Return the numbers at `path`; None where there are none.

        Raises:
            InputError: as `dataset`.
        """
        dataset = self.dataset(path)
        return None if dataset is None else dataset[...]

    def paths(self) -> Iterator[str]:
        """Yield the path of every dataset of numbers, sorted; a group that contains itself is entered once.

        Raises:
            InputError: as `dataset`.
        """
        yield from _paths(self._group, "", self._folder, set())


@contextmanager
def foreign_file(path: Path) -> Iterator[ForeignFile]:
    """Open a file of robomimic's layout.

    Raises:
        InputError: if the file is missing, truncated or damaged, has no demos, or leads out of its folder; also in
            place of what h5py raises on damage while the demos are read.
    """
    with reading(path) as file:
        yield ForeignFile(file, path.resolve().parent)


def _follow(group: h5py.Group, path: str, folder: Path) -> h5py.Group | h5py.Dataset | None:
    """Return what lies at `path`, whose every external link stays in `folder`; None where nothing does."""
    node: Any = group
    for name in path.split("/"):
        if not isinstance(node, h5py.Group) or name in {"", ".", ".."}:
            return None
        link = node.get(name, getlink=True)  # first: to look at a link is not to follow it
        if isinstance(link, h5py.SoftLink):
            raise InputError(f"{node.name}/{name}: a soft link; they are not followed")
        leaves = isinstance(link, h5py.ExternalLink)
        if leaves:
            _check_link(node, name, link, folder)
        node = node.get(name)
        # HDF5 also looks for a linked file where the process runs.
        if leaves and node is not None and not Path(node.file.filename).resolve().is_relative_to(folder):
            raise InputError(f"{node.name}: lies outside the folder {folder}")
    return node


def _check_link(group: h5py.Group, name: str, link: h5py.ExternalLink, folder: Path) -> None:
    target = Path(group.file.filename).resolve().parent / link.filename
    if not target.resolve().is_relative_to(folder):
        raise InputError(f"{group.name}/{name}: links to {link.filename!r}, outside the file's folder")


def _check_dataset(dataset: h5py.Dataset, place: str) -> None:
    if dataset.external or dataset.is_virtual:
        raise InputError(f"{place}: its rows lie in other files; copy it to a plain dataset")
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > _SMALL_BYTES + _MOST_COMPRESSION * stored:
        raise InputError(f"{place}: claims {dataset.nbytes} bytes of which the file holds {stored}")


def _paths(group: h5py.Group, prefix: str, folder: Path, seen: set[tuple[int, int]]) -> Iterator[str]:
    info = h5py.h5o.get_info(group.id)
    if (info.fileno, info.addr) in seen or prefix.count("/") > _MOST_DEPTH:
        return
    seen.add((info.fileno, info.addr))
    for name in sorted(group):
        if isinstance(group.get(name, getlink=True), h5py.SoftLink):
            continue
        node = _follow(group, name, folder)
        if isinstance(node, h5py.Group):
            yield from _paths(node, f"{prefix}{name}/", folder, seen)
        elif isinstance(node, h5py.Dataset) and node.dtype.kind in "biuf":
            _check_dataset(node, f"{prefix}{name}")
            yield f"{prefix}{name}"
