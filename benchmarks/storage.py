"""Measure what recordings and datasets cost: time a control step, throughput, bytes a frame, and how they scale.

    python benchmarks/storage.py [RECORDING] [--episodes 20] [--many 2000]

Without a recording it makes one of moving discs before a textured ground; a recording of the simulator is closer to
what a user sees. Prints a line a figure and a table of ways to compress the images; docs/performance.md states them.
JPEG-XL is in the table where `imagecodecs` is installed.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numcodecs
import numpy as np

from cosmos_engine.data import (
    CameraPasses,
    Dataset,
    DatasetWriter,
    Episode,
    InstanceLabel,
    Recording,
    RecordingWriter,
    build_certificate,
    verify_dataset,
)

ENV_ARGS = {"env_name": "benchmark", "type": 2, "env_kwargs": {}}
STEPS = 80
CAMERAS = ("agentview", "robot0_eye_in_hand")


def main() -> None:
    """Run all measurements and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("recording", nargs="?", type=Path, help="take the episode from this recording")
    parser.add_argument("--episodes", type=int, default=20, help="episodes to write (default 20)")
    parser.add_argument("--many", type=int, default=2000, help="tiny episodes, to see how it scales (default 2000)")
    parser.add_argument("--task", help="also record two demos of it, and print what share of the time writing takes")
    parser.add_argument("--repeats", type=int, default=5, help="of each way to compress; medians are printed")
    arguments = parser.parse_args()
    episode = Recording(arguments.recording).episode(0) if arguments.recording else made_episode(STEPS, 128)
    with tempfile.TemporaryDirectory() as folder:
        measure_recording(Path(folder), episode, arguments.episodes)
        for levels in (0, 1):
            measure_dataset(Path(folder), episode, arguments.episodes, levels)
        measure_many(Path(folder), arguments.many)
        if arguments.task:
            measure_overhead(Path(folder), arguments.task)
    for name, passes in episode.cameras.items():
        measure_codecs(name, passes.rgb, arguments.repeats)


def measure_recording(folder: Path, episode: Episode, count: int) -> None:
    """Print what appending and reading back one episode costs."""
    steps = count * episode.length
    raw = sum(a.nbytes for p in episode.cameras.values() for a in (p.rgb, p.depth_m, p.instance))
    start = time.perf_counter()
    with RecordingWriter(folder / "demos", ENV_ARGS) as writer:
        for _ in range(count):
            writer.append(episode)
    seconds = time.perf_counter() - start
    written = sum(file.stat().st_size for file in (folder / "demos" / "episodes").iterdir()) / count
    report("recording: append", seconds / steps * 1e3, "ms a control step, all cameras")
    report("recording: append", raw * count / seconds / 1e6, "MB/s of passes")
    report("recording: size", written / episode.length / len(episode.cameras), "bytes a frame (rgb, depth, instance)")
    report("recording: compression", raw / written, "times")
    recording = Recording(folder / "demos")
    start = time.perf_counter()
    for index in range(count):
        recording.episode(index)
    report("recording: read", raw * count / (time.perf_counter() - start) / 1e6, "MB/s of passes")


def measure_dataset(folder: Path, episode: Episode, count: int, levels: int) -> None:
    """Print what appending, reading back and verifying cost; variants differ by noise of so many grey levels."""
    rng = np.random.default_rng(0)
    recording = Recording(folder / "demos")
    variants = []
    for _ in range(4):
        arrays = {"action": episode.actions, "state": episode.states, "timestamp": episode.timestamps_s}
        arrays.update(episode.observations)
        for name, passes in episode.cameras.items():
            noise = rng.integers(0, levels + 1, passes.rgb.shape, dtype=np.uint8)
            arrays[f"{name}_image"] = cv2.add(passes.rgb, noise)
        variants.append(arrays)
    images = {key: array for key, array in variants[0].items() if key.endswith("_image")}
    pixels = sum(array.nbytes for array in images.values())
    path = folder / f"noise{levels}.zarr"
    with DatasetWriter(path, attrs={}) as writer:
        start = time.perf_counter()
        for index in range(count):
            writer.append(variants[index % 4], source_demo=index, variant=1, accepted=True, info={"prompt": "noise"})
        seconds = time.perf_counter() - start
        writer.finish(build_certificate(recording, writer, config={}, weights_sha256={}))
    written = sum(file.stat().st_size for file in (path / "data").glob("*_image/*"))
    what = f"dataset, noise {levels}"
    report(f"{what}: append", pixels * count / seconds / 1e6, "MB/s of raw pixels")
    report(f"{what}: its codec alone, a thread a camera", codec_megabytes_per_second(images), "MB/s of raw pixels")
    report(f"{what}: append", seconds / count * 1e3, "ms an episode")
    report(f"{what}: compression", pixels * count / written, "times")
    dataset = Dataset(path)
    start = time.perf_counter()
    for index in range(count):
        dataset.episode(index)
    report(f"{what}: read", pixels * count / (time.perf_counter() - start) / 1e6, "MB/s of raw pixels")
    start = time.perf_counter()
    assert verify_dataset(path, folder / "demos").intact
    report(f"{what}: verify against recording", (time.perf_counter() - start) / count * 1e3, "ms an episode")


def codec_megabytes_per_second(images: Mapping[str, np.ndarray]) -> float:
    """Return how fast the dataset's codec compresses an episode's images in memory, a thread for each camera."""
    codec = numcodecs.Zstd(level=1, checksum=True)

    def compress(frames: np.ndarray) -> None:
        step = 2_000_000 // frames[0].nbytes
        for first in range(0, len(frames), step):
            codec.encode(np.ascontiguousarray(frames[first : first + step]))

    seconds = []
    with ThreadPoolExecutor() as pool:
        for _ in range(5):
            start = time.perf_counter()
            list(pool.map(compress, images.values()))
            seconds.append(time.perf_counter() - start)
    return sum(frames.nbytes for frames in images.values()) / statistics.median(seconds) / 1e6


def measure_many(folder: Path, count: int) -> None:
    """Print how appending and opening scale with the number of episodes."""
    tiny = made_episode(4, 16)
    arrays = {"action": tiny.actions, "state": tiny.states, "timestamp": tiny.timestamps_s}
    half = count // 2
    with (
        RecordingWriter(folder / "many", ENV_ARGS) as recording,
        DatasetWriter(folder / "many.zarr", attrs={}) as dataset,
    ):
        seconds = {"recording": [0.0, 0.0], "dataset": [0.0, 0.0]}
        for index in range(count):
            start = time.perf_counter()
            recording.append(tiny)
            between = time.perf_counter()
            dataset.append(arrays, source_demo=index, variant=0, accepted=True, info={"prompt": "a tiny prompt"})
            seconds["recording"][index // half % 2] += between - start
            seconds["dataset"][index // half % 2] += time.perf_counter() - between
        dataset.finish({})
    for name, (first, second) in seconds.items():
        report(f"{name} of {count}: append, first half", first / half * 1e3, "ms an episode")
        report(f"{name} of {count}: append, second half", second / half * 1e3, "ms an episode")
    start = time.perf_counter()
    opened = Recording(folder / "many")
    report(f"recording of {count}: open", (time.perf_counter() - start) * 1e3, "ms")
    start = time.perf_counter()
    opened.seeds()
    report(f"recording of {count}: all headers", (time.perf_counter() - start) * 1e3, "ms")
    start = time.perf_counter()
    assert len(Dataset(folder / "many.zarr").info) == count
    report(f"dataset of {count}: open", (time.perf_counter() - start) * 1e3, "ms")


def measure_overhead(folder: Path, task: str) -> None:
    """Print what share of simulating and rendering the writing of demos is; budget 15 %."""
    from cosmos_engine.sim.recorder import RecordConfig, record_demos

    append, seconds = RecordingWriter.append, []

    def timed(writer: RecordingWriter, episode: Episode) -> Any:
        start = time.perf_counter()
        result = append(writer, episode)
        seconds.append(time.perf_counter() - start)
        return result

    RecordingWriter.append = timed  # type: ignore[method-assign]
    try:
        start = time.perf_counter()
        record_demos(RecordConfig(task=task, episodes=2), folder / "overhead")
        passed = time.perf_counter() - start
    finally:
        RecordingWriter.append = append  # type: ignore[method-assign]
    report(f"record {task}: writing beside all else", 100 * sum(seconds) / (passed - sum(seconds)), "%")


@dataclasses.dataclass(frozen=True)
class ImageCodec:
    """A way to store some frames; `frames` of them share a storage chunk, which is what one random frame costs."""

    name: str
    frames: int
    encode: Callable[[np.ndarray], Any]
    decode: Callable[[Any, tuple[int, ...]], np.ndarray]


def image_codecs(chunk_frames: int) -> list[ImageCodec]:
    """Return the ways to compare: what this project writes, what its peers write, and others."""

    def buffered(name: str, frames: int, codec: Any) -> ImageCodec:
        def decode(content: Any, shape: tuple[int, ...]) -> np.ndarray:
            return np.frombuffer(codec.decode(content), np.uint8).reshape(shape)

        return ImageCodec(name, frames, lambda images: codec.encode(np.ascontiguousarray(images)), decode)

    def pictures(name: str, suffix: str, flags: Sequence[int] = ()) -> ImageCodec:
        def encode(images: np.ndarray) -> bytes:
            return cv2.imencode(suffix, cv2.cvtColor(images[0], cv2.COLOR_RGB2BGR), flags)[1].tobytes()

        def decode(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
            return cv2.cvtColor(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)[
                None
            ]

        return ImageCodec(name, 1, encode, decode)

    blosc = numcodecs.Blosc
    codecs = [
        buffered("zstd 1 (dataset)", chunk_frames, numcodecs.Zstd(1, checksum=True)),
        buffered("zstd 9", chunk_frames, numcodecs.Zstd(9, checksum=True)),
        buffered("zstd 1, a frame a chunk", 1, numcodecs.Zstd(1, checksum=True)),
        buffered("Blosc zstd 5 bitshuffle (ReplayBuffer, disk)", chunk_frames, blosc("zstd", 5, blosc.BITSHUFFLE)),
        buffered("Blosc lz4 5 (ReplayBuffer, default)", chunk_frames, blosc("lz4", 5, blosc.NOSHUFFLE)),
        buffered("gzip 4, a frame a chunk", 1, numcodecs.GZip(4)),
        pictures("PNG", ".png"),
        pictures("JPEG q95", ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95]),
    ]
    try:
        import imagecodecs
    except ImportError:
        return codecs
    for name, options in {
        "JPEG-XL lossless": {"lossless": True, "effort": 3},
        "JPEG-XL distance 1": {"distance": 1.0, "effort": 3},
    }.items():
        codecs.append(
            ImageCodec(
                name,
                1,
                lambda images, options=options: imagecodecs.jpegxl_encode(images[0], **options),  # type: ignore[misc]
                lambda content, shape: imagecodecs.jpegxl_decode(content)[None],
            )
        )
    return codecs


def measure_codecs(camera: str, images: np.ndarray, repeats: int) -> None:
    """Print size, speed and loss of ways to store a camera's frames, on one thread."""
    chunk_frames = max(1, 2_000_000 // images[0].nbytes)
    print(f"{f'{camera} {images.shape[1]}x{images.shape[2]}, {len(images)} frames':<46}", end="")
    print(f"{'bytes a frame':>14}{'write MB/s':>12}{'read MB/s':>11}{'ms a frame':>12}{'PSNR dB':>9}{'worst':>7}")
    for codec in image_codecs(chunk_frames):
        parts = [images[first : first + codec.frames] for first in range(0, len(images), codec.frames)]
        times: dict[str, list[float]] = {"write": [], "read": [], "one": []}
        for _ in range(repeats):
            start = time.perf_counter()
            written = [codec.encode(part) for part in parts]
            times["write"].append(time.perf_counter() - start)
            start = time.perf_counter()
            read = [codec.decode(content, part.shape) for content, part in zip(written, parts, strict=True)]
            times["read"].append(time.perf_counter() - start)
            start = time.perf_counter()
            codec.decode(written[0], parts[0].shape)
            times["one"].append(time.perf_counter() - start)
        difference = np.concatenate(read).astype(int) - images
        mean_square = float((difference**2).mean())
        psnr = f"{10 * np.log10(255**2 / mean_square):.1f}" if mean_square else "lossless"
        rates = [images.nbytes / 1e6 / statistics.median(times[name]) for name in ("write", "read")]
        size = sum(len(content) for content in written) / len(images)
        print(
            f"{codec.name:<46}{size:>14,.0f}{rates[0]:>12,.0f}{rates[1]:>11,.0f}"
            f"{1e3 * statistics.median(times['one']):>12.2f}{psnr:>9}{np.abs(difference).max():>7}"
        )


def made_episode(steps: int, size: int, seed: int = 0) -> Episode:
    """Return an episode of a disc that crosses a textured ground."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(rng.integers(60, 200, (size // 4, size // 4, 3), dtype=np.uint8), (size, size))
    rows, columns = np.mgrid[:size, :size]
    disc = np.stack(
        [(rows - size / 2) ** 2 + (columns - size * t / steps) ** 2 < (size / 8) ** 2 for t in range(steps)]
    )
    passes = CameraPasses(
        rgb=np.where(disc[..., None], np.array([200, 40, 40], dtype=np.uint8), ground),
        depth_m=np.where(disc, 0.7, 1 / (0.5 + rows * 0.004)).astype(np.float32),
        instance=np.where(disc, 2, 1).astype(np.uint16),
        intrinsics_px=np.eye(3),
        world_from_camera=np.tile(np.eye(4), (steps, 1, 1)),
    )
    return Episode(
        actions=rng.uniform(-1, 1, (steps, 7)).astype(np.float32),
        states=rng.normal(size=(steps, 60)),
        rewards=np.zeros(steps, dtype=np.float32),
        dones=np.zeros(steps, dtype=bool),
        observations={"robot0_eef_pos": np.zeros((steps, 3), dtype=np.float32)},
        cameras={name: dataclasses.replace(passes) for name in CAMERAS},
        labels={1: InstanceLabel("ground", "ground", "scene"), 2: InstanceLabel("disc", "disc", "manipulated")},
        success=True,
        seed=seed,
        step_hz=20.0,
        episode_id=str(uuid.UUID(int=seed)),
        source="benchmark",
        task="benchmark",
        instruction="move the disc",
    )


def report(name: str, value: float, unit: str) -> None:
    """Print one figure."""
    print(f"{name:<48} {value:>12.3f} {unit}")


if __name__ == "__main__":
    main()
