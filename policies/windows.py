"""Training windows: a dataset decoded once, split by source demo, gathered many at a time."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8

from cosmos_engine.config import nearest
from cosmos_engine.data.dataset import IMAGE_SUFFIX, Dataset
from cosmos_engine.data.episode import RESERVED_NAMES
from cosmos_engine.data.frame_cache import FrameForm, decoded_images
from cosmos_engine.data.proprioception import proprioception
from cosmos_engine.errors import InputError
from policies.diffusion import WindowBatch
from policies.images import resize_by_area


@dataclass(frozen=True)
class Frames:
    """Hold the frames of all accepted episodes, concatenated; every frame is the present of one window.

    `first` and `last` are the first and last frame of the episode that a frame belongs to.
    """

    images: Mapping[str, UInt8[np.ndarray, "n y x 3"]]
    low_dim: Mapping[str, Float32[np.ndarray, "n _"]]
    actions: Float32[np.ndarray, "n a"]
    first: Int64[np.ndarray, " n"]
    last: Int64[np.ndarray, " n"]
    source_demo: Int64[np.ndarray, " n"]
    is_variant: Bool[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.actions)

    def gather(self, present: Int64[np.ndarray, " b"], observation_frames: int, horizon: int) -> WindowBatch:
        """Return the windows whose present frames these are.

        The observations end at the present frame and the actions start `observation_frames` - 1 before it; beyond an
        episode's ends the edge is repeated, and `inside` is False for those actions.
        """
        first, last = self.first[present][:, None], self.last[present][:, None]
        positions = present[:, None] + np.arange(1 - observation_frames, horizon + 1 - observation_frames)
        clamped = np.clip(positions, first, last)
        seen = clamped[:, :observation_frames]
        return WindowBatch(
            images={name: torch.from_numpy(_taken(array, seen)) for name, array in self.images.items()},
            low_dim={name: torch.from_numpy(_taken(array, seen)) for name, array in self.low_dim.items()},
            actions=torch.from_numpy(_taken(self.actions, clamped)),
            inside=torch.from_numpy(clamped == positions),
        )


def _taken(array: np.ndarray, indices: Int64[np.ndarray, "b t"]) -> np.ndarray:
    # The indices are in range by construction, and np.take only skips its slow buffered path if it may clip.
    return np.take(array, indices, axis=0, mode="clip")


def choose_observations(
    dataset: Dataset, cameras: tuple[str, ...] | None, low_dim: tuple[str, ...] | None
) -> list[str]:
    """Return the names of the observations to train on: cameras first, then low-dimensional ones.

    Args:
        dataset: what to choose from.
        cameras: camera names without the "_image" of their arrays; None for all cameras.
        low_dim: names of low-dimensional arrays; None for the proprioception of each robot.

    Raises:
        InputError: names a camera or array that the dataset lacks; if nothing at all is chosen, or None finds nothing.
    """
    chosen = [f"{camera}{IMAGE_SUFFIX}" for camera in (dataset.cameras if cameras is None else cameras)]
    if low_dim is None:
        vectors = {name for name in dataset.keys if not name.endswith(IMAGE_SUFFIX)}.difference(RESERVED_NAMES)
        low_dim = proprioception(vectors, str(dataset.path))
    for name in [*chosen, *low_dim]:
        if name not in dataset.keys:
            raise InputError(f"{dataset.path}: no observation {name!r}{nearest(name, dataset.keys)}")
    if not chosen and not low_dim:
        raise InputError("cameras, low_dim: expected at least one observation")
    return [*chosen, *low_dim]


def load_frames(
    dataset: Dataset, observations: list[str], image_size: int, variants_per_demo: int | None = None
) -> Frames:
    """Decode the accepted episodes into memory, images at `image_size`; many of them into `data.frame_cache`'s map.

    Args:
        dataset: what to decode.
        observations: names of arrays; those that end in "_image" are images.
        image_size: height and width of the decoded images.
        variants_per_demo: at most so many accepted variants of each demo, the lowest numbers first; None for all.

    Raises:
        InputError: if no episode was accepted, or `variants_per_demo` is negative.
    """
    if variants_per_demo is not None and variants_per_demo < 0:
        raise InputError(f"variants_per_demo: expected 0 or more, got {variants_per_demo}")
    episodes = np.flatnonzero(dataset.accepted & _among_first(dataset, variants_per_demo))
    if len(episodes) == 0:
        raise InputError(f"{dataset.path}: no accepted episode among {dataset.episode_count}")
    lengths = np.diff(dataset.episode_ends, prepend=0)[episodes]
    cameras = [name for name in observations if name.endswith(IMAGE_SUFFIX)]
    form = FrameForm(f"area {image_size}, opencv {cv2.__version__}", functools.partial(resize_by_area, size=image_size))
    images = decoded_images(dataset, cameras, episodes, form)
    columns: dict[str, list[np.ndarray]] = {name: [] for name in [*observations, "action"] if name not in images}
    for episode in episodes:
        for name, parts in columns.items():
            parts.append(dataset.array(name)[dataset.rows(int(episode))])
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    last = np.cumsum(lengths) - 1
    return Frames(
        images=images,
        low_dim={name: joined[name].astype(np.float32) for name in observations if not name.endswith(IMAGE_SUFFIX)},
        actions=joined["action"].astype(np.float32),
        first=np.repeat(last - lengths + 1, lengths),
        last=np.repeat(last, lengths),
        source_demo=np.repeat(dataset.source_demo[episodes], lengths),
        is_variant=np.repeat(dataset.variant[episodes] > 0, lengths),
    )


def _among_first(dataset: Dataset, variants_per_demo: int | None) -> Bool[np.ndarray, " episodes"]:
    """Tell which episodes are originals or among the first accepted variants of their demo."""
    chosen = np.ones(dataset.episode_count, bool)
    if variants_per_demo is not None:
        for demo in np.unique(dataset.source_demo):
            variants = np.flatnonzero((dataset.source_demo == demo) & (dataset.variant > 0) & dataset.accepted)
            by_number = variants[np.argsort(dataset.variant[variants], kind="stable")]
            chosen[by_number[variants_per_demo:]] = False
    return chosen


def split_by_source(
    source_demo: Int64[np.ndarray, " n"], validation_fraction: float, rng: np.random.Generator, where: str
) -> tuple[Int64[np.ndarray, " n_train"], Int64[np.ndarray, " n_validation"]]:
    """Return the frames of the training and of the validation split.

    Whole source demos are drawn for validation, so that variants of one demo never lie on both sides. `where` names the
    dataset in errors.

    Raises:
        InputError: if there are fewer than two source demos, or the fraction leaves one side empty.
    """
    sources = np.unique(source_demo)
    if len(sources) < 2:
        raise InputError(
            f"{where}: expected at least 2 source demos, to train and to validate on, got {len(sources)}; record more"
        )
    held_out = max(1, round(validation_fraction * len(sources)))
    if not 0.0 < validation_fraction < 1.0 or held_out == len(sources):
        raise InputError(
            f"validation_fraction: expected a value in (0, 1) that leaves demos to train on, got {validation_fraction}"
        )
    validation = np.isin(source_demo, rng.permutation(sources)[:held_out])
    return np.flatnonzero(~validation), np.flatnonzero(validation)


def draw_windows(
    is_variant: Bool[np.ndarray, " n"],
    candidates: Int64[np.ndarray, " m"],
    count: int,
    variant_share: float | None,
    rng: np.random.Generator,
) -> Int64[np.ndarray, " {count}"]:
    """Return the present frames of `count` windows, drawn with replacement.

    Args:
        is_variant: for every frame.
        candidates: the frames to draw from.
        count: windows.
        variant_share: expected share of windows from variants; None draws all frames alike.
        rng: randomness.

    Raises:
        InputError: if a share is asked for and the split lacks originals or variants.
    """
    if variant_share is None:
        return rng.choice(candidates, count)
    originals, variants = candidates[~is_variant[candidates]], candidates[is_variant[candidates]]
    if not 0.0 <= variant_share <= 1.0:
        raise InputError(f"variant_share: expected 0 to 1, got {variant_share}")
    if (variant_share > 0 and len(variants) == 0) or (variant_share < 1 and len(originals) == 0):
        raise InputError(
            f"variant_share {variant_share}: the training split holds {len(originals)} original and "
            f"{len(variants)} variant frames"
        )
    from_variants = rng.random(count) < variant_share
    drawn = np.empty(count, np.int64)
    for mask, frames in ((from_variants, variants), (~from_variants, originals)):
        if mask.any():
            drawn[mask] = rng.choice(frames, int(mask.sum()))
    return drawn
