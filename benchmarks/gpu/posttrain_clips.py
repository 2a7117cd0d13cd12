"""Pack a pool of rendered training clips into one small file that travels with the code, and unpack it.

    python benchmarks/gpu/posttrain_clips.py pack CLIPS FILE [--clips 400] [--crf 12]
    python benchmarks/gpu/posttrain_clips.py unpack FILE CLIPS

For a GPU machine that cannot render. A clip of 17 frames of 128x128 takes 1.7 MB in a pool and about 50 kB packed:
instance ids without loss; depth as 8-bit disparity over the clip's range, which is what the depth control shows; rgb as
H.264 4:4:4, some 42 dB at crf 12. Packing needs PyAV, unpacking OpenCV alone.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from cosmos_engine.data import CameraPasses, make_folder, write_file
from cosmos_engine.transfer.training.clips import (
    CLIPS_PER_GROUP,
    MANIFEST,
    ClipPool,
    ClipPoolConfig,
    TrainingClip,
    group_file,
    write_group,
)

NO_HIT = 0  # of the packed disparity; the far end of a clip's range is 1


def main() -> None:
    """Pack or unpack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    packing = actions.add_parser("pack")
    packing.add_argument("clips", type=Path)
    packing.add_argument("file", type=Path)
    packing.add_argument("--clips", type=int, dest="count", help="the first ones only")
    packing.add_argument("--crf", type=int, default=12, help="of the rgb: less is better and larger")
    unpacking = actions.add_parser("unpack")
    unpacking.add_argument("file", type=Path)
    unpacking.add_argument("clips", type=Path)
    args = parser.parse_args()
    if args.action == "unpack":
        pool = unpack(args.file, args.clips)
        print(f"{args.clips}: {len(pool)} clips")
        return
    pool = ClipPool(args.clips)
    count = min(args.count or len(pool), len(pool)) // CLIPS_PER_GROUP * CLIPS_PER_GROUP
    pack(pool, args.file, count, args.crf)
    size = args.file.stat().st_size
    print(f"{args.file}: {count} clips, {size / 2**20:.1f} MiB, {size / count / 1000:.1f} kB a clip")


def pack(pool: ClipPool, file: Path, count: int, crf: int) -> None:
    """Write the first `count` clips of a rendered pool."""
    rendered = {name: getattr(pool.config, name) for name in ("frames", "image_size", "seed")}
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr(MANIFEST, json.dumps({**rendered, "clips": count}))
        for index in tqdm(range(count), desc="pack", unit="clip"):
            clip = pool.clip(index)
            disparity, scale = packed_depth(clip)
            camera = {
                "intrinsics_px": clip.passes.intrinsics_px.tolist(),
                "world_from_camera": clip.passes.world_from_camera.tolist(),
            }
            packed.writestr(f"{index}.json", json.dumps({**pool.described(index), "scale": scale, "camera": camera}))
            packed.writestr(f"{index}.mp4", encoded(clip.rgb, crf))
            packed.writestr(f"{index}.xz", squeezed(np.stack([disparity, clip.instance.astype(np.uint8)])))


def unpack(file: Path, folder: Path) -> ClipPool:
    """Write a pool of what `pack` packed."""
    make_folder(folder / "groups")
    with zipfile.ZipFile(file) as packed:
        manifest = json.loads(packed.read(MANIFEST))
        config = ClipPoolConfig(**manifest)
        shape = (2, config.frames, config.image_size, config.image_size)
        for group in tqdm(range(config.clips // CLIPS_PER_GROUP), desc="unpack", unit="group"):
            clips, described = [], []
            for index in range(group * CLIPS_PER_GROUP, (group + 1) * CLIPS_PER_GROUP):
                told = json.loads(packed.read(f"{index}.json"))
                disparity, instance = unsqueezed(packed.read(f"{index}.xz"), shape)
                depth_m = unpacked_depth(disparity, told.pop("scale"))
                rgb = decoded(packed.read(f"{index}.mp4"))
                camera = {name: np.array(numbers) for name, numbers in told.pop("camera").items()}
                clips.append(CameraPasses(rgb, depth_m.astype(np.float32), instance.astype(np.uint16), **camera))
                described.append(told)
            write_group(group_file(folder, group), clips, described)
    write_file(folder / MANIFEST, json.dumps(manifest).encode())
    return ClipPool(folder)


def packed_depth(clip: TrainingClip) -> tuple[np.ndarray, tuple[float, float]]:
    """Return disparity in 1 to 255, 0 for no hit, and its values at 1 and 255 in 1 / metres."""
    hit = np.isfinite(clip.depth_m) & (clip.depth_m > 0)
    disparity = np.divide(1.0, clip.depth_m, out=np.zeros_like(clip.depth_m), where=hit)
    far, near = (float(disparity[hit].min()), float(disparity[hit].max())) if hit.any() else (0.0, 1.0)
    levels = 1 + np.rint(254 * (disparity - far) / max(near - far, 1e-9))
    return np.where(hit, levels, NO_HIT).astype(np.uint8), (far, near)


def unpacked_depth(levels: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """Return depth in metres, inf for no hit."""
    far, near = scale
    disparity = far + (levels.astype(np.float32) - 1) / 254 * (near - far)
    return np.where(levels == NO_HIT, np.inf, 1 / np.maximum(disparity, 1e-6)).astype(np.float32)


def squeezed(videos_ITHW: np.ndarray) -> bytes:
    """Compress uint8 videos without loss: what changes from frame to frame is little."""
    changes = videos_ITHW.copy()
    changes[:, 1:] -= videos_ITHW[:, :-1]
    return lzma.compress(changes.tobytes(), preset=6)


def unsqueezed(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Undo `squeezed`."""
    changes = np.frombuffer(lzma.decompress(content), np.uint8).reshape(shape)
    return np.cumsum(changes, axis=1, dtype=np.uint8)


def encoded(rgb: np.ndarray, crf: int) -> bytes:
    """Return frames as H.264 4:4:4."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=20, options={"crf": str(crf), "preset": "veryslow"})
        stream.height, stream.width, stream.pix_fmt = rgb.shape[1], rgb.shape[2], "yuv444p"
        for frame in rgb:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def decoded(content: bytes) -> np.ndarray:
    """Return the frames of `encoded`."""
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:  # OpenCV reads files only
        file.write(content)
        file.flush()
        video = cv2.VideoCapture(file.name)
        frames = []
        while (read := video.read())[0]:
            frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
        video.release()
    return np.stack(frames)


if __name__ == "__main__":
    main()
