"""The frames of a recording, as those of a dataset: for training without a dataset in between."""

from __future__ import annotations

import hashlib

import numpy as np
from tqdm import tqdm

from cosmos_engine.config import nearest
from cosmos_engine.data.dataset import IMAGE_SUFFIX
from cosmos_engine.data.proprioception import proprioception
from cosmos_engine.data.recording import Recording
from cosmos_engine.errors import InputError
from policies.images import resize_by_area
from policies.windows import Frames


def load_recorded_frames(
    recording: Recording, cameras: tuple[str, ...] | None, low_dim: tuple[str, ...] | None, image_size: int
) -> Frames:
    """Read the successful episodes of a recording into memory, images at `image_size`.

    Args:
        recording: demos.
        cameras: camera names; None for all cameras of the first episode.
        low_dim: names of low-dimensional observations; None for the proprioception of each robot.
        image_size: pixels.

    Raises:
        InputError: if there is no successful episode, one lacks a camera or observation (names the nearest), or a file
            is damaged.
    """
    headers = [recording.header(index) for index in range(len(recording))]
    episodes = [index for index, header in enumerate(headers) if header.success]
    if not episodes:
        raise InputError(f"{recording.folder}: holds no successful episode")
    images: dict[str, list[np.ndarray]] = {}
    vectors: dict[str, list[np.ndarray]] = {}
    actions: list[np.ndarray] = []
    for index in tqdm(episodes, desc="read", unit="episode", leave=False):
        episode = recording.episode(index, cameras)
        for camera in episode.cameras if cameras is None else cameras:
            rgb = episode.cameras[camera].rgb
            images.setdefault(f"{camera}{IMAGE_SUFFIX}", []).append(resize_by_area(rgb, image_size))
        if low_dim is None:
            low_dim = proprioception(episode.observations, str(recording.folder))
        for name in low_dim:
            if name not in episode.observations:
                known = nearest(name, episode.observations)
                raise InputError(f"{recording.folder}: episode {index}: no observation {name!r}{known}")
            vectors.setdefault(name, []).append(episode.observations[name])
        actions.append(episode.actions)
    for name, parts in images.items():
        if len(parts) != len(episodes):
            raise InputError(f"{recording.folder}: {name!r} is in {len(parts)} of {len(episodes)} episodes")
    lengths = np.array([len(part) for part in actions])
    last = np.cumsum(lengths) - 1
    return Frames(
        images={name: np.concatenate(parts) for name, parts in images.items()},
        low_dim={name: np.concatenate(parts) for name, parts in vectors.items()},
        actions=np.concatenate(actions),
        first=np.repeat(last - lengths + 1, lengths),
        last=np.repeat(last, lengths),
        source_demo=np.repeat(np.array(episodes), lengths),
        is_variant=np.zeros(int(lengths.sum()), bool),
    )


def recording_fingerprint(recording: Recording) -> str:
    """Return a SHA-256 that names a recording's demos: their ids in order."""
    ids = [recording.header(index).episode_id for index in range(len(recording))]
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()
