"""Teach the tiny text encoder what a prompt says, before any picture: look -> prompt -> the look's numbers.

Learning colours through rendered clips is slow, because every clip shows one look; prompts cost nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from cosmos_engine.processes import Processes
from cosmos_engine.sim.appearance import Appearance, Material, sample_appearance
from cosmos_engine.sim.textures import TRAINING_FAMILIES
from cosmos_engine.transfer.prompt import scene_prompt
from cosmos_engine.transfer.text import HashedTextEncoder
from cosmos_engine.transfer.training.clips import scene_words
from cosmos_engine.transfer.training.stage import Stage, StageConfig

FAMILIES = tuple(sorted(TRAINING_FAMILIES))
LIGHT_WORDS = ("warm", "cool", "hard", "soft", "above", "left", "right", "front", "behind", "dim", "bright")
MAX_OBJECTS = 2
PART_NUMBERS = 3 + 3 + len(FAMILIES) + 2
PARTS = ("table", "wall", "floor", "robot", "object 0", "object 1")


def train_text(text: HashedTextEncoder, config: StageConfig, out: Path, processes: Processes | None = None) -> None:
    """Train the encoder so that the numbers of part i are linear in its token i; `config.batch` counts prompts."""
    processes = processes or Processes()
    text.requires_grad_(True)
    # Begins alike in all processes, since they seed PyTorch's own generator alike.
    readout = nn.ModuleList([*[nn.Linear(text.queries.shape[1], PART_NUMBERS) for _ in PARTS]])
    readout.append(nn.Linear(text.queries.shape[1], len(LIGHT_WORDS)))
    readout.to(processes.device)
    trained = nn.ModuleDict({"text": text, "readout": readout})
    stage = Stage("text", trained, config, out, processes)

    def loss(update: int) -> Tensor:
        rng = np.random.default_rng((config.seed, 0, update))
        prompts, parts, lights = draw_prompts(config.batch, rng)
        own = slice(processes.rank, None, processes.count)
        parts, lights = (whole[own].to(processes.device) for whole in (parts, lights))
        tokens_BLD = text.encode(prompts[own])
        error = torch.zeros((), device=processes.device)
        for place, target in enumerate([*parts.unbind(1), lights]):
            error = error + (readout[place](tokens_BLD[:, place]) - target).square().mean()
        return error / (len(PARTS) + 1)

    stage.run(loss)


def draw_prompts(count: int, rng: np.random.Generator) -> tuple[list[str], Tensor, Tensor]:
    """Draw looks of random tasks: their prompts, part numbers (count, parts, n) and light words (count, n)."""
    from cosmos_engine.sim.tasks import TASKS  # needs MuJoCo, which the other stages do without

    prompts, parts, lights = [], [], []
    for _ in range(count):
        task = TASKS[list(TASKS)[rng.integers(len(TASKS))]]
        look = sample_appearance(rng, {o.name: o.color for o in task.objects}, recolor_objects=bool(rng.random() < 0.5))
        words = scene_words(look, {item.name: item.shape for item in task.objects})
        prompts.append(scene_prompt(words, rng))
        parts.append(part_numbers(look))
        lights.append([float(word in words.light.split()) for word in LIGHT_WORDS])
    return prompts, torch.from_numpy(np.stack(parts)), torch.tensor(lights)


def part_numbers(look: Appearance) -> Float32[np.ndarray, "parts n"]:
    """Return main and second colour in [-1, 1], family and pattern scale of every part; zeros for absent objects."""
    materials = [look.table, look.wall, look.floor, look.robot, *[look.objects[name] for name in sorted(look.objects)]]
    numbers = np.zeros((len(PARTS), PART_NUMBERS), np.float32)
    for row, material in enumerate(materials[: len(PARTS)]):
        numbers[row] = _material_numbers(material)
    return numbers


def _material_numbers(material: Material) -> list[float]:
    colors = [2.0 * channel - 1.0 for rgb in material.colors() for channel in rgb]
    family = [float(material.family == name) for name in FAMILIES]
    words = material.words().split()
    return [*colors, *family, float("coarse" in words), float("fine" in words)]
