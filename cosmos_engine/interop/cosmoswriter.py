"""CosmosWriter's folders (Isaac Sim's Replicator): clips of images become a spec that `cosmos-engine transfer` runs.

    SOURCE/clip_0000/rgb/rgb_0000.png, depth/, segmentation/, edges/, shaded_seg/; each also as an mp4

There are no states, actions, poses or labels in them, so they cannot become a recording. They become what Transfer2.5
takes: per clip the rgb video and control videos, without loss, and a line of `spec.jsonl`, which is written last.

Depth there is 8 bits of the logarithm of the distance to the camera; Transfer2.5's depth branch was trained on
disparity, so it is decoded and made anew, as from a recording. Edges are left to the command, which makes them from rgb
as the branch expects, unless `edges` says "writer". Shaded segmentation has no branch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cosmos_engine.controls.depth import depth_control
from cosmos_engine.data.atomic import atomic_file, make_folder, write_file
from cosmos_engine.data.digest import json_sha256
from cosmos_engine.errors import InputError
from cosmos_engine.interop.workspace import RESULT, workspace

SPEC = "spec.jsonl"
_CLIP = re.compile(r"clip_\d+")
_NUMBER = re.compile(r"(\d+)\.png")
# instance_segmentation was the name before omni.replicator.core 1.12.12.
_FOLDERS = {"depth": ("depth",), "seg": ("segmentation", "instance_segmentation"), "edge": ("edges", "edge")}
EDGES = ("computed", "writer")

Frame = NDArray[np.uint8]
"""(H, W, 3) rgb."""


@dataclass(frozen=True)
class CosmosWriterConfig:
    """What the spec says that the clips do not.

    Attributes:
        prompt: of every clip that has none of its own.
        prompts: by clip, as {clip_0001: "..."}.
        seed: of the first clip; the others count on from it.
        fps: of the clips, which are numbered images.
        weights: of the controls edge, depth, seg and vis; 0 leaves one out.
        edges: "computed" from rgb by the command, or those of the "writer".
        near_m, far_m: distances of the brightest and the darkest depth; what is at `far_m` or beyond is no hit.
        near_is_bright: whether depth is brighter where it is nearer.
    """

    prompt: str = ""
    prompts: dict[str, str] = field(default_factory=dict)
    seed: int = 2025
    fps: int = 30
    weights: dict[str, float] = field(default_factory=lambda: {"edge": 1.0, "depth": 1.0, "seg": 1.0, "vis": 0.0})
    edges: str = "computed"
    near_m: float = 0.1
    far_m: float = 100.0
    near_is_bright: bool = True

    def __post_init__(self) -> None:
        """Raise InputError, naming the key, for a value out of range."""
        if self.edges not in EDGES:
            raise InputError(f"edges: expected one of {', '.join(EDGES)}, got {self.edges!r}")
        if not 0 < self.near_m < self.far_m:
            raise InputError(f"near_m, far_m: expected 0 < near_m < far_m, got {self.near_m} and {self.far_m}")
        if self.fps < 1:
            raise InputError(f"fps: expected 1 or more, got {self.fps}")
        for name, weight in self.weights.items():
            if name not in ("edge", "depth", "seg", "vis") or not 0 <= weight <= 1:
                raise InputError(f"weights.{name}: expected 0 to 1 for edge, depth, seg or vis, got {weight}")


def import_cosmoswriter(source: Path, out: Path, config: CosmosWriterConfig) -> int:
    """Write control videos and `spec.jsonl` of all clips of a folder; return the clips. A killed import goes on.

    Raises:
        InputError: `source` has no clips; a clip has no rgb, no control, no prompt, images that cannot be read, that
            lie outside it, or that differ in number or size; `out` exists, or the file system refuses.
    """
    clips = _clips(source)
    for name in config.prompts:
        if name not in {clip.name for clip in clips}:
            raise InputError(f"prompts: {source} has no clip {name!r}")
    lines = []
    found = [_found(clip, config) for clip in clips]
    made_of = json_sha256([[clip.name, *(video.identity for video in videos.values())] for clip, videos in found])
    order = {"format": "cosmoswriter", "source": made_of, "config": asdict(config)}
    with workspace(out, order, resumable=True) as folder:
        root = folder / RESULT
        for number, (clip, videos) in enumerate(tqdm(found, desc="import cosmoswriter", unit="clip", leave=False)):
            sample: dict[str, Any] = {"name": clip.name, "prompt": _prompt(clip, config), "seed": config.seed + number}
            sample["video_path"] = f"{clip.name}/rgb.mkv"
            for modality in ("edge", "depth", "seg", "vis"):
                weight = config.weights.get(modality, 0.0)
                if weight > 0 and (modality in videos or modality in ("edge", "vis")):
                    path = {"control_path": f"{clip.name}/{modality}.mkv"} if modality in videos else {}
                    sample[modality] = {"control_weight": weight, **path}
            if not any(modality in sample for modality in ("edge", "depth", "seg", "vis")):
                raise InputError(f"{clip}: no control is left: weights leave out all that it has")
            done = folder / f"{clip.name}.done"
            if not done.is_file():
                make_folder(root / clip.name)
                for name, video in videos.items():
                    convert = _disparity(video, config) if name == "depth" else None
                    _write_lossless(root / clip.name / f"{name}.mkv", video, config.fps, convert)
                write_file(done, b"")
            lines.append(json.dumps(sample))
        write_file(root / SPEC, "".join(f"{line}\n" for line in lines).encode())
    return len(clips)


@dataclass(frozen=True)
class _Video:
    """Images of one modality of one clip: numbered PNG files, or an mp4 where those were not kept."""

    files: tuple[Path, ...]
    frames: int
    size: tuple[int, int]

    @property
    def identity(self) -> list[list[Any]]:
        return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in self.files]

    def read(self) -> Iterator[Frame]:
        for file in self.files:
            if file.suffix == ".png":
                yield _png(file)
            else:
                yield from _decoded(file)


def _clips(source: Path) -> list[Path]:
    if not source.is_dir():
        raise InputError(f"{source}: no such folder")
    clips = sorted(entry for entry in source.iterdir() if entry.is_dir() and _CLIP.fullmatch(entry.name))
    if not clips:
        raise InputError(f"{source}: no clip_0000, clip_0001, ... here; give the output_dir of CosmosWriter")
    return clips


def _found(clip: Path, config: CosmosWriterConfig) -> tuple[Path, dict[str, _Video]]:
    """Return the videos of a clip by the names they get: rgb, then depth, seg and edge where wanted and there."""
    rgb = _video(clip, ("rgb",))
    if rgb is None:
        raise InputError(f"{clip}: no rgb/rgb_0000.png, ... and no rgb.mp4; let CosmosWriter write rgb")
    videos = {"rgb": rgb}
    for modality, folders in _FOLDERS.items():
        if config.weights.get(modality, 0.0) == 0 or (modality == "edge" and config.edges == "computed"):
            continue
        video = _video(clip, folders)
        if video is None:
            if modality == "edge":
                raise InputError(f"{clip}: no edges/edges_0000.png, ...; say edges=computed")
            continue
        if (video.frames, video.size) != (rgb.frames, rgb.size):
            raise InputError(
                f"{clip}: {folders[0]} has {video.frames} frames of {video.size[0]}x{video.size[1]}, rgb "
                f"{rgb.frames} of {rgb.size[0]}x{rgb.size[1]}; the clip was cut short: record it again or remove it"
            )
        videos[modality] = video
    _prompt(clip, config)
    return clip, videos


def _prompt(clip: Path, config: CosmosWriterConfig) -> str:
    prompt = config.prompts.get(clip.name) or config.prompt
    if not prompt.strip():
        raise InputError(f"{clip}: no prompt; say 'prompt=a kitchen at noon' or prompts.{clip.name}=...")
    return prompt


def _video(clip: Path, folders: tuple[str, ...]) -> _Video | None:
    for name in folders:
        folder = clip / name
        numbered = []
        for file in folder.iterdir() if folder.is_dir() else ():
            match = _NUMBER.search(file.name)
            if match:
                numbered.append((int(match[1]), file))
        files = tuple(file for _, file in sorted(numbered))
        if not files:
            files = tuple(file for file in (folder / f"{name}.mp4", clip / f"{name}.mp4") if file.is_file())[:1]
        if not files:
            continue
        for file in files:
            if not file.resolve().is_relative_to(clip.resolve()):
                raise InputError(f"{file}: leads outside the clip")
        first = _Video(files, 0, (0, 0)).read()
        shape = next(first).shape
        frames = len(files) if files[0].suffix == ".png" else 1 + sum(1 for _ in first)
        return _Video(files, frames, (shape[0], shape[1]))
    return None


def _png(file: Path) -> Frame:
    try:
        content = np.frombuffer(file.read_bytes(), np.uint8)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from error
    image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if image is None:
        raise InputError(f"{file}: truncated or damaged image")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _decoded(file: Path) -> Iterator[Frame]:
    try:
        with av.open(str(file)) as container:
            yield from (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
    except (av.FFmpegError, IndexError) as error:
        raise InputError(f"{file}: no video that can be read ({error})") from error


def _disparity(video: _Video, config: CosmosWriterConfig) -> Callable[[Frame], Frame]:
    """Return what turns 8-bit logarithms of distance into the depth control, scaled over the clip."""
    present = np.zeros(256, bool)
    for frame in video.read():
        present[np.unique(frame[..., 0])] = True
    codes = np.arange(256)
    nearness = codes / 255 if config.near_is_bright else 1 - codes / 255
    distance_m = config.far_m * (config.near_m / config.far_m) ** nearness
    distance_m[nearness == 0] = np.inf
    table = np.zeros((256, 3), np.uint8)
    table[present] = depth_control(distance_m[present].astype(np.float32)[np.newaxis, np.newaxis])[0, 0]
    return lambda frame: table[frame[..., 0]]


def _write_lossless(path: Path, video: _Video, fps: int, convert: Callable[[Frame], Frame] | None) -> None:
    try:
        with atomic_file(path) as temporary, av.open(str(temporary), "w", format="matroska") as container:
            stream = container.add_stream("ffv1", rate=Fraction(fps))
            stream.height, stream.width = video.size
            stream.pix_fmt = "bgr0"
            for number, frame in enumerate(video.read()):
                if frame.shape[:2] != video.size:
                    raise InputError(f"{video.files[number]}: {frame.shape[:2]} pixels, the first has {video.size}")
                image = np.ascontiguousarray(frame if convert is None else convert(frame))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
    except av.FFmpegError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
