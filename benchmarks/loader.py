"""Measure how fast two-frame windows of images are gathered for training, beside other projects, on the same data.

    git clone https://github.com/real-stanford/diffusion_policy
    python -m venv peer && peer/bin/pip install torch "zarr<3" "numcodecs<0.16" numba tqdm
    python -m venv lerobot && lerobot/bin/pip install lerobot==0.4.4
    python benchmarks/loader.py --diffusion-policy diffusion_policy --peer-python peer/bin/python \
        --lerobot-python lerobot/bin/python

Every loader runs in processes of its own, once after the other in each repeat, so that all see the same load of the
machine; medians are printed. A window is two frames of every camera, the robot's state and 16 actions (robomimic: one),
a batch of 64 is stacked into tensors; robomimic's and diffusion_policy's conversions to float are left out. LeRobot
reads what `export lerobot` wrote of the same frames: H.264, decoded by PyAV for each window anew, into floats. "Copies
alone" brings the images of a batch to a place that is reused, in one call, and does nothing else: what memory gives.

first epoch    windows/s from opening, nothing decoded and no file in the page cache, until each window was seen once
warm           windows/s from then on; several workers: the sum of that many processes at the same time
a CPU second   warm windows per second of CPU time of a worker: says more on a machine that is busy
memory         MiB of all workers (proportional set size: what they share counts once)
bytes a frame  of one camera, on the disk
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from policies.windows import Frames

BATCH, OBSERVATION_FRAMES, HORIZON = 64, 2, 16
LOW_DIM = ("robot0_eef_pos",)
OURS = ("ours: RAM", "ours: map made", "ours: map found")
DIFFUSION_POLICY = ("diffusion_policy: numpy in RAM", "diffusion_policy: zarr in RAM", "diffusion_policy: zarr on disk")
COPIES = ("copies alone",)
ROBOMIMIC = ("robomimic: cached", "robomimic: HDF5")
LEROBOT = ("lerobot: video",)

Gather = Callable[[np.ndarray], object]
"""Return the windows of these numbers, in tensors."""


def main() -> None:
    """Measure all loaders that are there, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("recording", nargs="?", type=Path, help="take the demos from this recording (default: made)")
    parser.add_argument("--demos", type=int, default=40)
    parser.add_argument("--pixels", type=int, default=96, help="of made demos (default 96)")
    parser.add_argument("--cameras", type=int, default=1, help="so many of each demo's (default 1)")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each warm measurement (default 3)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--diffusion-policy", type=Path, metavar="FOLDER", help="its repository; without: left out")
    parser.add_argument("--peer-python", default=sys.executable, help="a Python with zarr 2 and numba for it")
    parser.add_argument("--lerobot-python", metavar="PYTHON", help="a Python with lerobot 0.4; without: left out")
    parser.add_argument("--worker", nargs=2, metavar=("LOADER", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker[0], Path(args.worker[1]), args.diffusion_policy, args.seconds)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames = write_data(folder, args.recording, args.demos, args.pixels, args.cameras)
        loaders = [*OURS, *COPIES, *(DIFFUSION_POLICY if args.diffusion_policy else ()), *robomimic_loaders()]
        if args.lerobot_python:
            from cosmos_engine.interop.lerobot import LeRobotOptions, export_lerobot

            export_lerobot(folder / "d.zarr", folder / "lerobot", None, LeRobotOptions())
            loaders += LEROBOT
        counts = [int(count) for count in args.workers.split(",")]
        results: dict[tuple[str, int], list[dict[str, float]]] = {}
        for repeat in range(args.repeats):
            for count in counts:
                for loader in loaders:
                    print(f"repeat {repeat + 1}: {loader}, {count} workers", file=sys.stderr)
                    results.setdefault((loader, count), []).append(measured(loader, count, folder, args))
        report(results, folder, frames)


def write_data(folder: Path, source: Path | None, demos: int, pixels: int, cameras: int) -> int:
    """Write a recording and a dataset of the same frames, and return how many there are."""
    sys.path.insert(0, str(Path(__file__).parent))
    from storage import ENV_ARGS, made_episode

    from cosmos_engine.augment.job import rows
    from cosmos_engine.data import DatasetWriter, Recording, RecordingWriter, build_certificate

    given = None if source is None else Recording(source)
    count = demos if given is None else min(demos, len(given))
    with RecordingWriter(folder / "demos", ENV_ARGS) as writer:
        for demo in range(count):
            episode = made_episode(50, pixels, seed=demo) if given is None else given.episode(demo)
            taken = dict(list(episode.cameras.items())[:cameras])
            writer.append(dataclasses.replace(episode, cameras=taken))
    recording = Recording(folder / "demos")
    with DatasetWriter(folder / "d.zarr", attrs={}) as dataset:
        for demo in range(count):
            episode = recording.episode(demo)
            images = {name: passes.rgb for name, passes in episode.cameras.items()}
            dataset.append(rows(episode, images), source_demo=demo, variant=0, accepted=True, info={})
        dataset.finish(build_certificate(recording, dataset, config={}, weights_sha256={}))
    return sum(recording.header(demo).length for demo in range(count))


def robomimic_loaders() -> tuple[str, ...]:
    """Return robomimic's loaders if it is installed."""
    try:
        importlib.metadata.version("robomimic")
    except importlib.metadata.PackageNotFoundError:
        return ()
    return ROBOMIMIC


def measured(loader: str, count: int, folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """Run a loader in `count` processes at once and return what they measured together."""
    forget_pages(folder / "demos", folder / "d.zarr", folder / "lerobot")
    if loader == "ours: map made":
        for file in folder.glob("d.zarr.frames/*/*"):
            file.unlink()
    forget_pages(folder / "d.zarr.frames")
    pythons = dict.fromkeys(DIFFUSION_POLICY, args.peer_python) | dict.fromkeys(LEROBOT, args.lerobot_python)
    python = pythons.get(loader, sys.executable)
    command = [python, __file__, "--worker", loader, str(folder), "--seconds", str(args.seconds)]
    if args.diffusion_policy:
        command += ["--diffusion-policy", str(args.diffusion_policy)]
    environment = {**os.environ, "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(count)
    ]
    for word in ("cold", "warm"):  # all at once: nobody measures while another still imports or opens
        for worker in workers:
            answer(worker)
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write(f"{word}\n")
            worker.stdin.flush()
    answers = [answer(worker) for worker in workers]
    for worker in workers:
        worker.communicate()
    return {
        "cold": min(one["cold"] for one in answers),
        "warm": sum(one["warm"] for one in answers),
        "cpu": statistics.mean(one["cpu"] for one in answers),
        "memory": sum(one["memory"] for one in answers),
    }


def answer(worker: subprocess.Popen[str]) -> dict[str, float]:
    """Return the next line that a worker prints as JSON; others print lines of their own in between."""
    assert worker.stdout is not None
    while line := worker.stdout.readline():
        if line.startswith("{"):
            return dict(json.loads(line))
    raise SystemExit(f"a worker ended with exit code {worker.wait()}")


def work(loader: str, folder: Path, diffusion_policy: Path | None, seconds: float) -> None:
    """Measure one loader in this process: the first epoch, then warm; started by words on stdin."""
    if loader in OURS:
        opening = opening_ours(loader, folder)
    elif loader in COPIES:
        opening = opening_copies(folder)
    elif loader in DIFFUSION_POLICY:
        assert diffusion_policy is not None
        opening = opening_diffusion_policy(loader, folder, diffusion_policy)
    elif loader in LEROBOT:
        opening = opening_lerobot(folder)
    else:
        opening = opening_robomimic(loader, folder)
    rng = np.random.default_rng(os.getpid())
    print("{}", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    gather, count = opening()
    order = rng.permutation(count)
    for first in range(0, count, BATCH):
        gather(order[first : first + BATCH])
    cold = count / (time.perf_counter() - start)
    print("{}", flush=True)
    sys.stdin.readline()
    start, start_cpu, windows = time.perf_counter(), time.process_time(), 0
    while (passed := time.perf_counter() - start) < seconds:
        gather(rng.integers(0, count, BATCH))
        windows += BATCH
    used = time.process_time() - start_cpu
    rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
    memory = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:")) / 1024
    print(json.dumps({"cold": cold, "warm": windows / passed, "cpu": windows / used, "memory": memory}), flush=True)


def opening_ours(loader: str, folder: Path) -> Callable[[], tuple[Gather, int]]:
    """Return what opens this project's loader."""
    from cosmos_engine.data import frame_cache

    if loader != "ours: RAM":
        frame_cache.RAM_BYTES = 0

    def opened() -> tuple[Gather, int]:
        frames = our_frames(folder)
        return lambda present: frames.gather(present, OBSERVATION_FRAMES, HORIZON), len(frames)

    return opened


def opening_copies(folder: Path) -> Callable[[], tuple[Gather, int]]:
    """Return what opens our frames and only copies their images."""

    def opened() -> tuple[Gather, int]:
        frames = our_frames(folder)
        pairs = [
            (array, np.empty((BATCH, OBSERVATION_FRAMES, *array.shape[1:]), array.dtype))
            for array in frames.images.values()
        ]

        def gather(present: np.ndarray) -> None:
            seen = present[:, None] + np.arange(1 - OBSERVATION_FRAMES, 1)
            for array, batch in pairs:
                np.take(array, seen, axis=0, mode="clip", out=batch[: len(present)])

        return gather, len(frames)

    return opened


def our_frames(folder: Path) -> Frames:
    """Return the dataset's frames at their own size."""
    from cosmos_engine.data import Dataset
    from policies.windows import choose_observations, load_frames

    dataset = Dataset(folder / "d.zarr")
    size = dataset.array(f"{dataset.cameras[0]}_image").shape[1]
    return load_frames(dataset, choose_observations(dataset, None, LOW_DIM), size)


def opening_diffusion_policy(loader: str, folder: Path, repository: Path) -> Callable[[], tuple[Gather, int]]:
    """Return what opens diffusion_policy's ReplayBuffer and SequenceSampler, unmodified, on the same zarr."""
    sys.path.insert(0, str(repository))
    import zarr
    from diffusion_policy.common.replay_buffer import ReplayBuffer
    from diffusion_policy.common.sampler import SequenceSampler
    from torch.utils.data import default_collate

    def opened() -> tuple[Gather, int]:
        path = str(folder / "d.zarr")
        images = [name.name for name in (folder / "d.zarr" / "data").iterdir() if name.name.endswith("_image")]
        keys = [*images, *LOW_DIM, "action"]
        if loader.endswith("on disk"):
            buffer = ReplayBuffer.create_from_path(path)
        else:
            store = zarr.MemoryStore() if loader.endswith("zarr in RAM") else None
            buffer = ReplayBuffer.copy_from_path(path, store=store, keys=keys)
        sampler = SequenceSampler(
            buffer,
            sequence_length=HORIZON,
            pad_before=OBSERVATION_FRAMES - 1,
            pad_after=HORIZON - OBSERVATION_FRAMES,
            keys=keys,
            key_first_k=dict.fromkeys([*images, *LOW_DIM], OBSERVATION_FRAMES),
        )

        def window(index: int) -> dict[str, np.ndarray]:
            taken = sampler.sample_sequence(index)
            return {key: rows if key == "action" else rows[:OBSERVATION_FRAMES] for key, rows in taken.items()}

        return lambda indices: default_collate([window(int(index)) for index in indices]), len(sampler)

    return opened


def opening_robomimic(loader: str, folder: Path) -> Callable[[], tuple[Gather, int]]:
    """Return what opens robomimic's SequenceDataset on the recording that the zarr was made from."""
    import h5py
    from robomimic.utils import obs_utils
    from robomimic.utils.dataset import SequenceDataset
    from torch.utils.data import default_collate

    path = folder / "demos" / "demos.hdf5"
    with h5py.File(path) as file:
        images = [key for key in file["data/demo_0/obs"] if key.endswith("_image")]
    obs_utils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": list(LOW_DIM), "rgb": images}})

    def opened() -> tuple[Gather, int]:
        windows = SequenceDataset(
            hdf5_path=str(path),
            obs_keys=[*images, *LOW_DIM],
            dataset_keys=("actions",),
            frame_stack=OBSERVATION_FRAMES,
            seq_length=1,
            pad_frame_stack=True,
            pad_seq_length=True,
            hdf5_cache_mode="all" if loader.endswith("cached") else None,
            load_next_obs=False,
        )
        return lambda indices: default_collate([windows[int(index)] for index in indices]), len(windows)

    return opened


def opening_lerobot(folder: Path) -> Callable[[], tuple[Gather, int]]:
    """Return what opens the unmodified LeRobotDataset on what `export lerobot` made of the same zarr."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "interop"))
    from read_lerobot import LeRobotDataset
    from torch.utils.data import default_collate

    def opened() -> tuple[Gather, int]:
        root = folder / "lerobot"
        info = json.loads((root / "meta" / "info.json").read_text())
        observed = [name for name in info["features"] if name.startswith("observation.")]
        times = {name: [step / info["fps"] for step in range(1 - OBSERVATION_FRAMES, 1)] for name in observed}
        times["action"] = [
            step / info["fps"] for step in range(1 - OBSERVATION_FRAMES, HORIZON + 1 - OBSERVATION_FRAMES)
        ]
        windows = LeRobotDataset("local/benchmark", root=root, video_backend="pyav", delta_timestamps=times)
        return lambda indices: default_collate([windows[int(index)] for index in indices]), len(windows)

    return opened


def forget_pages(*folders: Path) -> None:
    """Have the system drop the pages of all files under some folders from its cache."""
    for folder in folders:
        for file in filter(Path.is_file, folder.rglob("*")):
            handle = os.open(file, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def report(results: dict[tuple[str, int], list[dict[str, float]]], folder: Path, frames: int) -> None:
    """Print the table of medians."""
    from cosmos_engine.data import Dataset, Recording

    dataset = Dataset(folder / "d.zarr")
    cameras = len(dataset.cameras)
    shape = dataset.array(f"{dataset.cameras[0]}_image").shape
    zarr_bytes = sum(file.stat().st_size for file in (folder / "d.zarr" / "data").glob("*_image/*")) / frames / cameras
    map_bytes = sum(file.stat().st_size for file in folder.glob("d.zarr.frames/*/*")) / frames / cameras
    hdf5_bytes = hdf5_image_bytes(Recording(folder / "demos")) / frames / cameras
    mp4_bytes = sum(file.stat().st_size for file in (folder / "lerobot").rglob("*.mp4")) / frames / cameras
    size = f"{shape[0]} frames of {shape[1]}x{shape[2]}, {cameras} cameras"
    print(f"{size}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(
        f"{'windows/s':<34}{'workers':>8}{'first epoch':>13}{'warm':>10}{'a CPU second':>14}{'memory':>9}"
        f"{'bytes a frame':>15}"
    )
    for (loader, count), runs in results.items():
        median = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        size = map_bytes if "map" in loader else hdf5_bytes if loader in ROBOMIMIC else zarr_bytes
        size = mp4_bytes if loader in LEROBOT else size
        print(
            f"{loader:<34}{count:>8}{median['cold']:>13,.0f}{median['warm']:>10,.0f}{median['cpu']:>14,.0f}"
            f"{median['memory']:>9,.0f}{size:>15,.0f}"
        )


def hdf5_image_bytes(recording: Any) -> int:
    """Return how many bytes a recording's images take on the disk, depth and ids left out."""
    import h5py

    total = 0
    for demo in range(len(recording)):
        with h5py.File(recording.path(demo)) as file:
            for key, array in file["data/demo_0/obs"].items():
                total += array.id.get_storage_size() if key.endswith("_image") else 0
    return total


if __name__ == "__main__":
    main()
