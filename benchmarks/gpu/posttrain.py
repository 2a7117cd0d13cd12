"""Train a tiny checkpoint by the full recipe on one GPU in a given time; the same command goes on where it was stopped.

    python benchmarks/gpu/posttrain.py --out DIR [--minutes 25] [--render-minutes 5] [--packed FILE] [--init FILE]
                                       [--stop-after SECONDS] [--split-mib 15] [--small]

Clips are rendered on all cores for `--render-minutes` if MuJoCo and a GL context are at hand (MUJOCO_GL=egl), else
unpacked from `--packed` (made by posttrain_clips.py where rendering works). Then some updates of every stage are timed,
and the time that is left is divided among the stages by `SHARES`, once: `plan.json` keeps it. The recipe is
posttrain.yaml beside this file. With --init every part begins from that checkpoint and the text encoder stays, whose
stage is the other one that needs MuJoCo.

A machine that limits a command's time gets `--stop-after`: the script stops in time with exit code 3, losing at most
the updates since the last save, and the same command goes on. DIR/result holds the checkpoint (in parts, where one that
limits a file's size wants --split-mib; `cat` joins them), its SHA-256, the plan, the log and the last sheets. --small
tries the script on a CPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any

# Sheets are PNG, but the report package imports PyAV, which is large to carry and writes videos only.
try:
    import av  # noqa: F401
except ModuleNotFoundError:
    sys.modules["av"] = types.ModuleType("av")

import torch
from posttrain_clips import unpack

from cosmos_engine.config import load_config
from cosmos_engine.processes import Processes
from cosmos_engine.transfer.training.clips import MANIFEST, ClipPool, ClipPoolConfig, render_clips
from cosmos_engine.transfer.training.config import PosttrainConfig
from cosmos_engine.transfer.training.posttrain import ClipSource, begun_model, posttrain, train_stages

RECIPE = Path(__file__).with_suffix(".yaml")
SHARES = {"codec": 0.2, "text": 0.05, "network": 0.25, "decoder": 0.5}  # of the training time
TIMED_UPDATES = 60  # of a stage; the first quarter, with what is drawn ahead and tuned once, is not counted
RESERVE = 0.93  # of the time, leaving some for sheets, checkpoints and the machine's moods
STOPPED = 3
SMALL = ["codec.batch=2", "text.batch=8", "network.batch=2", "decoder.batch=2", "threads=1"]


def main() -> int:
    """Render or unpack, plan, train, gather the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=25.0, help="in all, over every call")
    parser.add_argument("--render-minutes", type=float, default=5.0)
    parser.add_argument("--packed", type=Path)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--stop-after", type=int, default=0, metavar="SECONDS", help="of this call; 0: never")
    parser.add_argument("--split-mib", type=int, default=0)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    begun = time.time()
    args.out.mkdir(parents=True, exist_ok=True)
    spent = read(args.out / "clock.json", {"seconds": 0.0})["seconds"]
    if args.stop_after:
        signal.signal(signal.SIGALRM, interrupt)
        signal.alarm(args.stop_after)
    try:
        pool = clips(args)
        config = planned(args, pool, spent + time.time() - begun)
        source = ClipSource(pool.folder, render=False)
        file = posttrain(args.out, config, source, init=args.init, device="cpu" if args.small else "cuda")
        signal.alarm(0)
        gather(args, file)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here")
        return STOPPED
    finally:
        spent += time.time() - begun
        (args.out / "clock.json").write_text(json.dumps({"seconds": spent}))
    print(f"{file}: {len(pool)} clips, {spent / 60:.1f} minutes in all")
    return 0


def clips(args: argparse.Namespace) -> ClipPool:
    """Return the clips: there already, rendered, or unpacked."""
    folder = args.out / "clips"
    if (folder / MANIFEST).is_file():
        return ClipPool(folder)
    if args.render_minutes > 0 and renders():
        return rendered(folder, args.render_minutes * 60, args.small)
    if args.packed is None:
        sys.exit("no GL context to render with: expected --packed FILE")
    return unpack(args.packed, folder)


def renders() -> bool:
    """Say whether the simulator can render here; tried in a process of its own, since GL may crash it."""
    code = (
        "from cosmos_engine.sim.tabletop import TabletopEnvironment as E\n"
        "e = E('lift', image_size=64); assert e.observe()['agentview_image'].std() > 1"
    )
    tried = subprocess.run([sys.executable, "-c", code], capture_output=True, env={"MUJOCO_GL": "egl", **os.environ})
    if tried.returncode:
        print(f"cannot render here: {tried.stderr.decode().strip().splitlines()[-1:]}")
    return tried.returncode == 0


def rendered(folder: Path, seconds: float, small: bool) -> ClipPool:
    """Render in rounds on all cores until the time is over."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    workers = os.cpu_count() or 1
    round_clips = 16 * workers if not small else 8
    config = ClipPoolConfig(clips=round_clips, workers=workers, seed=0, **({"image_size": 32} if small else {}))
    end = time.time() + seconds
    while True:
        started = time.time()
        pool = render_clips(folder / "rounds", config)
        took = time.time() - started
        if time.time() + took > end:
            break
        config = dataclasses.replace(config, clips=config.clips + round_clips)
    (folder / "rounds").rename(folder.with_name("done"))  # a pool that was being made is never taken for a whole one
    shutil.rmtree(folder)
    folder.with_name("done").rename(folder)
    print(f"rendered {len(pool)} clips")
    return ClipPool(folder)


def planned(args: argparse.Namespace, pool: ClipPool, spent_s: float) -> PosttrainConfig:
    """Return the recipe with as many updates as the time that is left allows."""
    config = load_config(PosttrainConfig, RECIPE, SMALL if args.small else ())
    if args.init is not None:
        config = with_updates(config, {"text": 0})
    file = args.out / "plan.json"
    if not file.is_file():
        seconds = {name: timed(name, config, pool, args) for name, _ in config.stages()}
        left_s = RESERVE * (args.minutes * 60 - spent_s)
        shares = sum(SHARES[name] for name in seconds)
        updates = {name: max(int(left_s * SHARES[name] / shares / s), 1) for name, s in seconds.items()}
        file.write_text(json.dumps({"seconds_an_update": seconds, "updates": updates, "clips": len(pool)}, indent=2))
    plan = json.loads(file.read_text())
    print(json.dumps(plan))
    return with_updates(config, plan["updates"])


def timed(name: str, config: PosttrainConfig, pool: ClipPool, args: argparse.Namespace) -> float:
    """Return the mean seconds of an update of one stage."""
    processes = Processes(torch.device("cpu" if args.small else "cuda"))
    others = {stage: 0 for stage, _ in config.stages()}
    count = 4 if args.small else TIMED_UPDATES
    alone = with_updates(config, {**others, name: count})
    with tempfile.TemporaryDirectory() as folder:
        model = begun_model(args.init, None, 0).to(processes.device)
        train_stages(model, pool, alone, Path(folder), processes)
        rows = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]
    return statistics.mean(row["s"] for row in rows[count // 4 :])


def with_updates(config: PosttrainConfig, updates: dict[str, int]) -> PosttrainConfig:
    """Return the config with other numbers of updates."""
    return dataclasses.replace(
        config, **{name: dataclasses.replace(getattr(config, name), updates=count) for name, count in updates.items()}
    )


def gather(args: argparse.Namespace, file: Path) -> None:
    """Put together what is worth taking home."""
    result = args.out / "result"
    shutil.rmtree(result, ignore_errors=True)
    result.mkdir()
    content = file.read_bytes()
    size = args.split_mib * 2**20 or len(content)
    for part, start in enumerate(range(0, len(content), size)):
        suffix = f".part{part}" if args.split_mib else ""
        (result / f"{file.name}{suffix}").write_bytes(content[start : start + size])
    (result / f"{file.name}.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  {file.name}\n")
    shutil.copy(args.out / "plan.json", result)
    shutil.copy(args.out / "log.jsonl", result)
    for stage in ("codec", "network", "decoder"):
        sheets = sorted(args.out.glob(f"{stage}_*.png"))
        if sheets:
            shutil.copy(sheets[-1], result)


def read(file: Path, otherwise: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON file's content, or something else where there is none."""
    return dict(json.loads(file.read_text())) if file.is_file() else otherwise


def interrupt(*_: object) -> None:
    """Stop as Ctrl-C does: every stage has its last save."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
