"""The tiny checkpoint that ships is worth using: a floor under its quality on one fixed episode."""

import numpy as np
import pytest

from cosmos_engine.config import load_config
from cosmos_engine.controls import Recipe, control_clip
from cosmos_engine.data import Episode
from cosmos_engine.quality import GeometryReader, Measures, diversity, measure
from cosmos_engine.sim.demo import record_demo
from cosmos_engine.sim.tabletop import TabletopEnvironment
from cosmos_engine.transfer.prompt import SceneWords, scene_prompt
from cosmos_engine.transfer.transfer25 import Transfer25

RECIPE = load_config(Recipe, "recipe/tiny")
FRAMES = slice(30, 47)  # the gripper goes down and grasps
LOOKS = (
    SceneWords(
        "dark blue wood", "plain yellow", "grey tiles", "plain orange", "soft light from above", {"cube": "red cube"}
    ),
    SceneWords(
        "white marble",
        "purple cloth",
        "brown wood",
        "brushed green metal",
        "hard light from the left",
        {"cube": "red cube"},
    ),
)


@pytest.fixture(scope="module")
def episode() -> Episode:
    environment = TabletopEnvironment("lift", render=False)
    try:
        recorded = record_demo(environment, 7_000_000, 0.02, {"env_name": "lift"})
    finally:
        environment.close()
    assert recorded is not None
    return recorded


@pytest.fixture(scope="module")
def variants(episode) -> dict[str, np.ndarray]:
    """Two variants of every camera."""
    rng = np.random.default_rng(0)
    clips = [control_clip(cut(passes), episode.labels, RECIPE, 0) for passes in episode.cameras.values()]
    made = Transfer25.tiny().generate(clips, [scene_prompt(words, rng) for words in LOOKS], [1, 2])
    return dict(zip(episode.cameras, made, strict=True))


def cut(passes):
    return type(passes)(
        passes.rgb[FRAMES],
        passes.depth_m[FRAMES],
        passes.instance[FRAMES],
        passes.intrinsics_px,
        passes.world_from_camera[FRAMES],
    )


@pytest.fixture(scope="module")
def measures(episode, variants) -> list[Measures]:
    reader = GeometryReader.shipped()
    measured = []
    for camera, videos in variants.items():
        for video, words in zip(videos, LOOKS, strict=True):
            said = {"table": words.table, "wall": words.wall, "robot": words.robot, **words.objects}
            phrases = {i: said[label.name] for i, label in episode.labels.items() if label.name in said}
            passes = cut(episode.cameras[camera])
            measured.append(measure(video, passes, episode.labels, reader, phrases=phrases, light=words.light))
    return measured


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("iou_robot", 0.85, 1.0),
        ("iou_manipulated", 0.70, 1.0),
        ("contour_adherence", 0.85, 1.0),
        ("si_rmse", 0.0, 0.25),
        ("color_adherence", 0.70, 1.0),
        ("flicker_scene", 0.0, 2.5),
    ],
)
def test_variants_show_the_recorded_geometry_in_the_asked_look(measures, name, least, most):
    mean = float(np.mean([getattr(one, name) for one in measures]))
    assert least <= mean <= most


def test_variants_differ(episode, variants):
    for camera, videos in variants.items():
        spread = diversity(list(videos), episode.cameras[camera].instance[FRAMES])
        assert spread is not None
        assert spread > 15
