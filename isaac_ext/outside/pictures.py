"""A few pictures of a finished dataset for the window: a frame of a demo as recorded, and as each variant shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cosmos_engine.data import Dataset, make_folder
from cosmos_engine.data.atomic import atomic_file
from cosmos_engine.errors import InputError


@dataclass(frozen=True)
class WrittenPicture:
    """Name a written picture: its camera, and which variant it shows (0: as recorded)."""

    path: Path
    camera: str
    variant: int


def write_pictures(dataset: Dataset, folder: Path, demo: int, most_variants: int) -> Iterator[WrittenPicture]:
    """Write the middle frame of a demo, of each camera and variant, as PNG files.

    Args:
        dataset: a finished dataset.
        folder: where they go; files of the same names are replaced.
        demo: number of the demo.
        most_variants: variants shown beside the recorded one.

    Raises:
        InputError: no such demo, or the folder cannot be written.
    """
    episodes = [index for index, source in enumerate(dataset.source_demo.tolist()) if source == demo]
    if not episodes:
        raise InputError(f"{dataset.path}: no demo {demo}")
    make_folder(folder)
    shown = sorted(episodes, key=lambda index: int(dataset.variant[index]))[: most_variants + 1]
    for camera in dataset.cameras:
        for index in shown:
            rows = dataset.rows(index)
            middle = (rows.start + rows.stop) // 2
            variant = int(dataset.variant[index])
            path = folder / f"{demo:06d}_{camera}_{variant:03d}.png"
            with atomic_file(path) as temporary:
                Image.fromarray(dataset.array(f"{camera}_image")[middle : middle + 1][0]).save(temporary, "PNG")
            yield WrittenPicture(path, camera, variant)
