"""A sample's files, checked against each other and brought to the model's size as a control clip.

NVIDIA stretches the video, every control and every mask to the model's size. Here the video is letterboxed, so nothing
changes its shape, and the others go with it. Files that accompany the video must therefore lie on its pixels: they have
its size, or exactly the model's size, which is what NVIDIA's tools write; the latter show the whole picture stretched,
as there. Any other size is an error.

Shapes: t frames, h rows, w columns.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from cosmos_engine.controls import ControlClip, Modality, edge_control, vis_control
from cosmos_engine.controls.clip import ClipWeight
from cosmos_engine.controls.framing import Framing, Interpolation, frame_for
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.spec.sample import Sample
from cosmos_engine.transfer.spec.video_file import VideoInfo, probe_video, read_frames, read_video

# How NVIDIA's pipeline resizes a given control; where a picture shrinks, ours averages areas in place of its linear.
INTERPOLATION: dict[Modality, Interpolation] = {"edge": "linear", "vis": "cubic", "depth": "linear", "seg": "nearest"}
WHITE = 127  # above it a mask counts, as NVIDIA's > 127.5
MASK_KEY = "guided_generation_mask"


@dataclass(frozen=True)
class SampleSize:
    """What a sample's files hold, once they are known to belong together.

    Attributes:
        frames: of the clip.
        fps: of the video.
        framing: from the video's size to the model's.
    """

    frames: int
    fps: Fraction
    framing: Framing


@dataclass(frozen=True)
class SampleClip:
    """A sample at the model's size.

    Attributes:
        clip: what the generator takes; controls of weight 0 are not in it.
        shown: every control of the sample, black where its mask is.
        masks: the masks by the name of their output, 0 or 255.
    """

    clip: ControlClip
    shown: Mapping[Modality, UInt8[np.ndarray, "t h w 3"]]
    masks: Mapping[str, UInt8[np.ndarray, "t h w"]]


def check_files(sample: Sample) -> SampleSize:
    """Decode every file of a sample and check that they belong together; holds one frame at a time.

    Raises:
        InputError: a file is damaged, has another frame count or size, or a mask is black; names the sample and key.
    """
    with _named(sample):
        with _key("video_path"):
            video = probe_video(sample.video_path)
            frames = sample.max_frames or video.frames
            if frames > video.frames:
                raise InputError(f"{sample.video_path}: max_frames is {frames}, but the video has {video.frames}")
        framing = frame_for(video.height, video.width, sample.resolution, "letterbox")
        for modality, control in sample.controls.items():
            if control.control_path is not None:
                with _key(f"{modality}.control_path"):
                    _check_fits(control.control_path, probe_video(control.control_path), video, frames, framing)
            if control.mask_path is not None:
                with _key(f"{modality}.mask_path"):
                    _check_mask(control.mask_path, video, frames, framing)
        if sample.guided_generation_mask is not None:
            with _key(MASK_KEY):
                if sample.guided_generation_mask.suffix == ".npz":
                    labels = _read_labels(sample.guided_generation_mask)
                    count, height, width = labels.shape
                    found = VideoInfo(count, height, width, video.fps)
                    _check_fits(sample.guided_generation_mask, found, video, frames, framing)
                    if not _foreground(labels[:frames], sample.guided_generation_foreground_labels).any():
                        raise InputError(f"{sample.guided_generation_mask}: none of its pixels is foreground")
                else:
                    _check_mask(sample.guided_generation_mask, video, frames, framing)
    return SampleSize(frames, video.fps, framing)


def load_clip(sample: Sample, size: SampleSize) -> SampleClip:
    """Read a sample's files into a control clip.

    Raises:
        InputError: as `check_files`, for files that have changed since then.
    """
    framing = size.framing
    with _named(sample):
        rgb = framing.fitted(_read(sample.video_path, size), "cubic")
        controls: dict[Modality, UInt8[np.ndarray, "t h w 3"]] = {}
        shown: dict[Modality, UInt8[np.ndarray, "t h w 3"]] = {}
        weights: dict[Modality, ClipWeight] = {}
        masks: dict[str, UInt8[np.ndarray, "t h w"]] = {}
        for modality, control in sample.controls.items():
            if control.control_path is not None:
                video = _fitted(_read(control.control_path, size), framing, INTERPOLATION[modality])
            elif modality == "edge":
                video = edge_control(rgb, control.preset)  # type: ignore[arg-type]  # checked by the spec
            else:
                video = vis_control(rgb, control.preset)  # type: ignore[arg-type]
            weight: ClipWeight = control.control_weight
            shown[modality] = video
            if control.mask_path is not None:
                counts = _fitted(_read_mask(control.mask_path, size), framing, "linear") > WHITE
                masks[modality] = counts.astype(np.uint8) * 255
                shown[modality] = video * counts[..., None]
                # A map of one number is that number: under the weight policy "raw" the two differ.
                weight = weight if counts.all() else counts.astype(np.float32) * np.float32(weight)
            if control.control_weight > 0:
                controls[modality], weights[modality] = video, weight
        keep, keep_steps = None, 0
        if sample.guided_generation_mask is not None:
            keep = _keep(sample, sample.guided_generation_mask, size)
            keep_steps = sample.guided_generation_step_threshold + 1  # NVIDIA's is the index of the last guided step
            masks["guided_generation"] = keep.astype(np.uint8) * 255
        return SampleClip(ControlClip(rgb, controls, weights, keep, keep_steps), shown, masks)


def _keep(sample: Sample, path: Path, size: SampleSize) -> Bool[np.ndarray, "t h w"]:
    if path.suffix == ".npz":
        foreground = _foreground(_read_labels(path)[: size.frames], sample.guided_generation_foreground_labels)
        grey = foreground.astype(np.uint8) * 255
        _check_unchanged(path, grey, size)
    else:
        grey = _read_mask(path, size)
    return _fitted(grey, size.framing, "linear") > WHITE


def _foreground(labels: Shaped[np.ndarray, "t h w"], wanted: tuple[int, ...] | None) -> Bool[np.ndarray, "t h w"]:
    return labels > 0 if wanted is None else np.isin(labels, wanted)


def _read(path: Path, size: SampleSize) -> UInt8[np.ndarray, "t h w 3"]:
    frames = read_video(path, size.frames)
    _check_unchanged(path, frames, size)
    return frames


def _read_mask(path: Path, size: SampleSize) -> UInt8[np.ndarray, "t h w"]:
    """Return the first channel of a mask video, as NVIDIA takes it."""
    frames = []
    for frame in read_frames(path):
        frames.append(frame[..., 0].copy())
        if len(frames) == size.frames:
            break
    mask = np.stack(frames)
    _check_unchanged(path, mask, size)
    return mask


def _read_labels(path: Path) -> Shaped[np.ndarray, "t h w"]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            labels = arrays["arr_0"]
    except KeyError as error:
        raise InputError(f"{path}: expected an array named 'arr_0'") from error
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path}: cannot be read as .npz: {' '.join(str(error).split())}") from error
    if labels.ndim != 3 or labels.dtype.kind not in "bui" or not labels.size:
        raise InputError(f"{path}: expected 'arr_0' of whole numbers (t, h, w), got {labels.dtype} {labels.shape}")
    return labels


def _fitted(frames: Shaped[np.ndarray, "t h w *c"], framing: Framing, how: Interpolation) -> np.ndarray:
    """Bring frames of the video's size or of the model's to the model's, where the letterboxed video has them."""
    size = frames.shape[1:3]
    if size == framing.source:
        return framing.fitted(frames, how)
    if framing.window == framing.source:
        return frames  # the letterbox has no bars, so stretched is the same as letterboxed
    height, width = framing.source
    method = cv2.INTER_NEAREST if how == "nearest" else cv2.INTER_AREA if framing.source < size else cv2.INTER_LINEAR
    return framing.fitted(np.stack([cv2.resize(frame, (width, height), interpolation=method) for frame in frames]), how)


def _check_fits(path: Path, found: VideoInfo, video: VideoInfo, frames: int, framing: Framing) -> None:
    if found.frames not in (video.frames, frames):
        used = f" (or the {frames} of max_frames)" if frames != video.frames else ""
        raise InputError(f"{path}: expected the {video.frames} frames of the video{used}, got {found.frames}")
    if (found.height, found.width) not in (framing.source, framing.size):
        raise InputError(
            f"{path}: expected the video's size {_pixels(framing.source)} or the model's {_pixels(framing.size)}, "
            f"got {_pixels((found.height, found.width))}"
        )


def _check_mask(path: Path, video: VideoInfo, frames: int, framing: Framing) -> None:
    """Check a mask video: it fits, and some pixel of the frames that are used is still white at the model's size."""
    white = False
    height = width = count = 0
    for count, frame in enumerate(read_frames(path), start=1):
        height, width, _ = frame.shape
        if not white and count <= frames and (height, width) in (framing.source, framing.size):
            white = bool((_fitted(frame[None, ..., 0], framing, "linear") > WHITE).any())
    _check_fits(path, VideoInfo(count, height, width, video.fps), video, frames, framing)
    if not white:
        raise InputError(f"{path}: the mask is black everywhere, so the control would do nothing")


def _check_unchanged(path: Path, frames: np.ndarray, size: SampleSize) -> None:
    if len(frames) != size.frames or frames.shape[1:3] not in (size.framing.source, size.framing.size):
        raise InputError(f"{path}: changed while the job ran: now {len(frames)} frames of {_pixels(frames.shape[1:3])}")


def _pixels(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"


@contextmanager
def _named(sample: Sample) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"sample {sample.name!r}: {error}") from error


@contextmanager
def _key(key: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"key {key!r}: {error}") from error
