"""Run by LeRobot's own Python: read and show a dataset with unmodified LeRobot and tell what it gave, as npz.

    python read_lerobot.py DATASET OUT.npz

torchvision's compiled operators need the torch that it was built for; the dataset reader uses none of them, so they are
declared without a body where that torch is not there.
"""

import contextlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

library = torch.library.Library("torchvision", "DEF")
for schema in (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float s, int h, int w, int sr, bool a) -> Tensor",
):
    with contextlib.suppress(RuntimeError):
        library.define(schema)

import rerun  # noqa: E402
from lerobot.datasets.lerobot_dataset import LeRobotDataset  # noqa: E402
from lerobot.scripts.lerobot_dataset_viz import visualize_dataset  # noqa: E402


def main(root: str, out: str) -> None:
    dataset = LeRobotDataset("local/test", root=root, video_backend="pyav", delta_timestamps=None)
    items = [dataset[index] for index in range(len(dataset))]
    arrays = {
        key: np.stack([np.asarray(item[key]) for item in items]) for key in items[0] if torch.is_tensor(items[0][key])
    }
    fps = dataset.meta.fps
    window = LeRobotDataset(
        "local/test",
        root=root,
        video_backend="pyav",
        episodes=[1],
        delta_timestamps={"action": [0, 1 / fps, 2 / fps], "observation.state": [-1 / fps, 0]},
    )
    told = {
        "episodes": dataset.num_episodes,
        "frames": dataset.num_frames,
        "fps": fps,
        "cameras": list(dataset.meta.camera_keys),
        "tasks": [item["task"] for item in items],
        "splits": dataset.meta.info["splits"],
        "episode_columns": list(dataset.meta.episodes.features),
        "prompts": list(dataset.meta.episodes["engine/prompt"]),
        "stats": {key: {name: np.asarray(value).tolist() for name, value in one.items()}
                  for key, one in dataset.meta.stats.items()},
        "window_frames": len(window),
        "window_actions": np.asarray(window[0]["action"]).tolist(),
    }  # fmt: skip
    batch = next(iter(torch.utils.data.DataLoader(dataset, batch_size=4, shuffle=True)))
    told["batch"] = {key: list(value.shape) for key, value in batch.items() if torch.is_tensor(value)}
    plain = LeRobotDataset("local/test", root=root, video_backend="pyav", episodes=[1])
    shown = visualize_dataset(plain, episode_index=1, save=True, output_dir=Path(out).parent / "shown")
    columns = rerun.dataframe.load_recording(shown).schema().component_columns()
    told["shown"] = sorted({column.entity_path for column in columns if not column.is_static})
    np.savez(out, told=np.frombuffer(json.dumps(told).encode(), np.uint8), **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
