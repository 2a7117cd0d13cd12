"""Draw every shift of the embedded table-top on one sheet: a row for each, the trials of a few seeds, both cameras.

    MUJOCO_GL=egl python benchmarks/shift_pictures.py --out docs/images/shifts.png

Columns are pairs, external and hand camera, one pair a seed; all rows of a column start from the same state. Look at
it: each shift must be seen, and every object must still be recognised. It also prints, for each shift, the mean change
of a pixel's channels against vanilla, in levels of 255.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from cosmos_engine.config import load_config
from cosmos_engine.report.sheet import contact_sheet
from cosmos_engine.sim.shifts import SHIFTS, shifted
from cosmos_engine.sim.strengths import ShiftStrengths
from cosmos_engine.sim.tabletop import TabletopEnvironment

BITS = 5
"""Of each channel in the sheet: half the bytes of eight. A palette would be smaller and swallow `object_color`."""


def shift_rows(task: str, seeds: list[int], size_px: int, strengths: ShiftStrengths) -> dict[str, np.ndarray]:
    """Return for each shift the first images of its trials, uint8 (seed x camera, h, w, 3)."""
    environment = TabletopEnvironment(task, image_size=size_px)
    vanilla = environment.look
    rows = {}
    for name in SHIFTS:
        images = []
        for seed in seeds:
            environment.look = shifted(name, vanilla, strengths, seed=seed)
            start = environment.reset(seed)
            images += [start[f"{camera}_image"] for camera in environment.camera_names]
        rows[name] = np.stack(images)
    environment.close()
    return rows


def main() -> None:
    """Write the sheet and print how far each shift is from vanilla."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="stack")
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--size", type=int, default=88, help="height and width of each image in pixels")
    parser.add_argument("--strengths", default="shifts/default", help="a shipped config or a YAML file")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    rows = shift_rows(args.task, args.seeds, args.size, load_config(ShiftStrengths, args.strengths))
    for name, images in rows.items():
        print(f"{name:16} {np.abs(images.astype(int) - rows['vanilla']).mean():6.1f}")
    sheet = Image.open(io.BytesIO(contact_sheet(rows, 2 * len(args.seeds))))
    ImageOps.posterize(sheet, BITS).save(args.out, optimize=True)
    print(f"{args.out}: {args.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
