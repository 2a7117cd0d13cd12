"""The one way in which this package says that an array is not what it should be."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from cosmos_engine.errors import InputError

Shape = tuple[int | None, ...]
"""Sizes of the axes; None fits any."""


@runtime_checkable
class Arraylike(Protocol):
    """An array in memory or in a file."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The type of an element."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        ...


def check_array(name: str, array: Arraylike, dtype: str, shape: Shape) -> None:
    """Check type and shape of an array.

    Raises:
        InputError: if either differs; names the array, what was expected and what came.
    """
    fits = len(shape) == len(array.shape) and all(
        want in (None, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if array.dtype != np.dtype(dtype) or not fits:
        wanted, found = (_axes(axes) for axes in (shape, array.shape))
        raise InputError(f"{name}: expected {np.dtype(dtype)} {wanted}, got {array.dtype} {found}")


def _axes(shape: Shape) -> str:
    return f"({' x '.join('any' if size is None else str(size) for size in shape)})"
