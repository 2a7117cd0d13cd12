"""The transfer job: every sample of a spec through a generator, to files named as NVIDIA's; resumable at any moment.

A sample named NAME is written as NAME.mp4 (NAME.jpg for a single frame), NAME_control_KEY for each control,
NAME_mask_KEY for each mask, NAME.txt with the prompt, NAME_provenance.json, and last NAME.json with its arguments, so
that a NAME.json says that the sample is whole. Videos have the input's size and rate, or with `keep_input_resolution`
false the model's size, letterboxed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from cosmos_engine import __version__
from cosmos_engine.controls import MODALITIES, Modality
from cosmos_engine.data.atomic import make_folder, storage_errors, temporaries, write_file
from cosmos_engine.data.digest import file_sha256
from cosmos_engine.data.lock import WriterLock
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.generator import Generator
from cosmos_engine.transfer.sampling import SamplingConfig
from cosmos_engine.transfer.spec.clip import SampleClip, SampleSize, check_files, load_clip
from cosmos_engine.transfer.spec.sample import Sample
from cosmos_engine.transfer.spec.video_file import write_image, write_video


class ResamplingGenerator(Generator, Protocol):
    """A generator that can sample otherwise without loading its model again."""

    def with_sampling(self, sampling: SamplingConfig) -> ResamplingGenerator:
        """Return a generator that shares this one's model."""
        ...


@dataclass(frozen=True)
class JobSummary:
    """What a job did: samples made now, and samples that were whole before."""

    made: int
    skipped: int


def run_samples(
    samples: Sequence[Sample],
    out: Path,
    sampling: SamplingConfig,
    open_generator: Callable[[Sequence[Modality], SamplingConfig], ResamplingGenerator],
    made_with: Mapping[str, Any],
    inputs: Sequence[Path] = (),
) -> JobSummary:
    """Make every sample that is not whole in `out` yet. All of them are checked before the generator is opened.

    A sample is whole if all its files are there and the recorded arguments, inputs (by digest) and `made_with` are the
    same; otherwise it is made again, over what is there.

    Args:
        samples: of one spec.
        out: folder of the outputs.
        sampling: the generator's defaults, for keys that a sample does not give.
        open_generator: called at most once, with the controls of all samples and the sampling of one. The controls also
            of samples that are whole: which base the 2B takes depends on them, and resuming must not change pixels.
        made_with: what else decides the pixels and is known before the generator is opened, such as its name.
        inputs: files that no output may overwrite, such as the spec; those that the samples name are known.

    Raises:
        InputError: an output would overwrite an input, a sample's files do not belong together, the generator cannot
            take a sample, or `out` cannot be written; names the sample.
    """
    plans = [_plan(sample, out, sampling, made_with) for sample in samples]
    _check_overwrites(plans, inputs)
    pending = [plan for plan in plans if not plan.is_whole()]
    if not pending:
        return JobSummary(made=0, skipped=len(plans))
    with tqdm(pending, desc="check", unit="sample", leave=False) as bar:
        works = [_work(plan, check_files(plan.sample)) for plan in bar]
    used = {key for plan in plans for key, control in plan.sample.controls.items() if control.control_weight > 0}
    modalities = [modality for modality in MODALITIES if modality in used]
    make_folder(out)
    lock = WriterLock(out)
    try:
        if sampling.solver == "distilled":
            _say_what_is_unused(samples)
        names = {f".{file.name}" for plan in pending for file in plan.files}
        for leftover in temporaries(out):  # `out` may hold other people's files: only those of our names
            if leftover.parent == out and leftover.name.partition(".tmp-")[0] in names:
                leftover.unlink(missing_ok=True)
        with _opened(open_generator(modalities, works[0].sampling)) as generator:
            _make(works, generator, modalities)
    finally:
        lock.release()
    return JobSummary(made=len(pending), skipped=len(plans) - len(pending))


def with_defaults(sample: Sample, sampling: SamplingConfig) -> Sample:
    """Return a sample with the generator's sampling in place of keys that are not given.

    The distilled checkpoint has guidance and negative prompt built in and makes one segment. NVIDIA's own example of it
    gives a guidance, which its code does not use; here what such a sample says is replaced by what holds.
    """
    given = replace(
        sample,
        num_steps=_given(sample.num_steps, sampling.steps),
        guidance=_given(sample.guidance, round(sampling.guidance)),
        num_video_frames_per_chunk=_given(sample.num_video_frames_per_chunk, sampling.segment_frames),
        num_conditional_frames=_given(sample.num_conditional_frames, sampling.conditional_frames),
        negative_prompt=_given(sample.negative_prompt, sampling.negative_prompt),
    )
    if sampling.solver != "distilled":
        return given
    return replace(given, guidance=0, num_conditional_frames=0, negative_prompt=sampling.negative_prompt)


def sampling_of(sample: Sample, sampling: SamplingConfig, frames: int) -> SamplingConfig:
    """Return how a sample of `frames` frames is sampled, from its keys and the generator's defaults.

    Raises:
        InputError: a number that the sampler cannot take, or frames that these segments cannot make; names the sample.
    """
    full = with_defaults(sample, sampling)
    segment: int = _given(full.num_video_frames_per_chunk, sampling.segment_frames)
    conditional: int = _given(full.num_conditional_frames, sampling.conditional_frames)
    try:
        if sampling.solver == "distilled" and segment != sampling.segment_frames:
            raise InputError(
                f"num_video_frames_per_chunk: expected the {sampling.segment_frames} that the distilled checkpoint "
                f"was made for, got {segment}"
            )
        if frames > segment and (sampling.solver == "distilled" or conditional >= segment):
            raise InputError(
                f"max_frames: segments of {segment} frames with {conditional} given by the one before cannot make a "
                f"clip of {frames}; expected at most {segment}"
            )
        return replace(
            sampling,
            steps=_given(full.num_steps, sampling.steps),
            guidance=float(_given(full.guidance, sampling.guidance)),
            segment_frames=segment,
            # A clip of one segment has nothing to be conditioned on.
            conditional_frames=conditional if frames > segment else min(conditional, segment - 1),
            negative_prompt=_given(full.negative_prompt, sampling.negative_prompt),
        )
    except InputError as error:
        raise InputError(f"sample {sample.name!r}: {error}") from error


@dataclass(frozen=True)
class _Plan:
    """A sample with nothing left to be decided, and what its files must say to be whole."""

    sample: Sample
    out: Path
    sampling: SamplingConfig
    record: Mapping[str, Any]

    @property
    def arguments_file(self) -> Path:
        return self.out / f"{self.sample.name}.json"

    @property
    def provenance_file(self) -> Path:
        return self.out / f"{self.sample.name}_provenance.json"

    @property
    def prompt_file(self) -> Path:
        return self.out / f"{self.sample.name}.txt"

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that this sample may be written to."""
        pictures = (file for stem in self._picture_stems for file in self.picture(stem))
        return (*pictures, self.prompt_file, self.provenance_file, self.arguments_file)

    def is_whole(self) -> bool:
        provenance = _read_json(self.provenance_file)
        return (
            _read_json(self.arguments_file) == self.sample.arguments()
            and isinstance(provenance, dict)
            and provenance.get("record") == self.record
            and self.prompt_file.is_file()
            and all(any(file.is_file() for file in self.picture(stem)) for stem in self._picture_stems)
        )

    def picture(self, stem: str) -> tuple[Path, Path]:
        """Return the file of a picture as a video, and as an image if it has one frame."""
        return self.out / f"{stem}.mp4", self.out / f"{stem}.jpg"

    @property
    def _picture_stems(self) -> tuple[str, ...]:
        return self.sample.output_stems[:-1]  # the last is provenance


@dataclass(frozen=True)
class _Work:
    """A plan whose files were checked."""

    plan: _Plan
    size: SampleSize
    sampling: SamplingConfig


def _plan(sample: Sample, out: Path, sampling: SamplingConfig, made_with: Mapping[str, Any]) -> _Plan:
    full = with_defaults(sample, sampling)
    inputs = {key: file_sha256(path) for key, path in _input_files(full).items()}
    return _Plan(full, out, sampling, {"made_with": dict(made_with), "inputs_sha256": inputs})


def _check_overwrites(plans: Sequence[_Plan], inputs: Sequence[Path]) -> None:
    """Refuse an output folder and names that would write over what the job reads."""
    read = {path.resolve() for path in inputs}
    read |= {path.resolve() for plan in plans for path in _input_files(plan.sample).values()}
    for plan in plans:
        for file in plan.files:
            if file.resolve() in read:
                raise InputError(f"sample {plan.sample.name!r}: would overwrite the input {file}; choose another --out")


def _say_what_is_unused(samples: Sequence[Sample]) -> None:
    for sample in samples:
        for key in ("guidance", "negative_prompt"):
            if getattr(sample, key) is not None:
                print(f"sample {sample.name!r}: {key} is not used: it is distilled into the weights", file=sys.stderr)


def _work(plan: _Plan, size: SampleSize) -> _Work:
    return _Work(plan, size, sampling_of(plan.sample, plan.sampling, size.frames))


def _make(works: Sequence[_Work], generator: ResamplingGenerator, modalities: Sequence[Modality]) -> None:
    """Make the samples, once the generator has agreed to all of them."""
    generator.prepare(list(dict.fromkeys(text for work in works for text in _texts(work))))
    sizes = list(dict.fromkeys(work.size.framing.size for work in works))
    resampled = {work.sampling: generator.with_sampling(work.sampling) for work in works}
    planned = generator
    for planned in resampled.values():
        if line := planned.plan(sizes, modalities, 1):
            print(line, file=sys.stderr)
    with tqdm(works, desc="transfer", unit="sample") as bar:
        for work in bar:
            current = resampled[work.sampling]
            if current is not planned:  # samplings share the model's place in memory
                current.plan(sizes, modalities, 1)
                planned = current
            sample = work.plan.sample
            bar.set_postfix_str(sample.name)
            inputs = load_clip(sample, work.size)
            video = current.generate([inputs.clip], [sample.prompt], [sample.seed])[0][0]
            _write(work, inputs, video, current)


def _write(work: _Work, inputs: SampleClip, video: UInt8[np.ndarray, "t h w 3"], generator: Generator) -> None:
    plan, framing = work.plan, work.size.framing
    sample = plan.sample

    def at_output_size(frames: np.ndarray) -> UInt8[np.ndarray, "t h w 3"]:
        return framing.restored(frames) if sample.keep_input_resolution else frames

    shown = {f"control_{modality}": at_output_size(frames) for modality, frames in inputs.shown.items()}
    masks = {f"mask_{key}": at_output_size(_as_rgb(grey)) for key, grey in inputs.masks.items()}
    beside = [*shown.values()] if sample.show_control_condition else []
    if sample.show_input:
        beside.append(at_output_size(inputs.clip.rgb))
    main = np.concatenate((*beside, at_output_size(video)), axis=2)  # NVIDIA's order: controls, input, output
    with storage_errors(plan.arguments_file):
        plan.arguments_file.unlink(missing_ok=True)  # from here on the sample is not whole
    pictures = {sample.name: main} | {f"{sample.name}_{key}": frames for key, frames in (shown | masks).items()}
    for stem, frames in pictures.items():
        as_video, as_image = plan.picture(stem)
        if len(frames) == 1:
            write_image(as_image, frames[0])
        else:
            write_video(as_video, frames, work.size.fps)
    write_file(plan.prompt_file, sample.prompt.encode())
    provenance = {
        "engine": __version__,
        "generator": {"name": generator.name, **generator.provenance},
        "record": plan.record,
    }
    write_file(plan.provenance_file, _json_bytes(provenance))
    write_file(plan.arguments_file, _json_bytes(sample.arguments()))


def _as_rgb(grey: UInt8[np.ndarray, "t h w"]) -> UInt8[np.ndarray, "t h w 3"]:
    return np.repeat(grey[..., None], 3, axis=-1)


def _texts(work: _Work) -> tuple[str, str]:
    return work.plan.sample.prompt, work.sampling.negative_prompt


def _input_files(sample: Sample) -> dict[str, Path]:
    files = {"video_path": sample.video_path}
    for modality, control in sample.controls.items():
        named = {"control_path": control.control_path, "mask_path": control.mask_path}
        files |= {f"{modality}.{key}": path for key, path in named.items() if path is not None}
    if sample.guided_generation_mask is not None:
        files["guided_generation_mask"] = sample.guided_generation_mask
    return files


def _read_json(path: Path) -> Any:
    """Return a JSON file's value; None if there is none that can be read, which means a sample that is not whole."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _json_bytes(value: object) -> bytes:
    return f"{json.dumps(value, indent=2, ensure_ascii=False)}\n".encode()


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


@contextmanager
def _opened(generator: ResamplingGenerator) -> Iterator[ResamplingGenerator]:
    try:
        yield generator
    finally:
        generator.close()
