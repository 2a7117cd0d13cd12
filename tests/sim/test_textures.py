"""Textures: deterministic, seamless, in the colours asked for."""

import numpy as np
import pytest

from cosmos_engine.errors import InputError
from cosmos_engine.sim.textures import FAMILIES, HELD_OUT_FAMILIES, TRAINING_FAMILIES, cube_texture, flat_texture

RED, WHITE = (0.8, 0.1, 0.1), (0.9, 0.9, 0.9)
RANDOM_FAMILIES = sorted(TRAINING_FAMILIES - {"plain"})


def _flat(family, seed=0, scale=1.0, size=128):
    return flat_texture(family, RED, WHITE, scale=scale, seed=seed, size=size)


def _column_steps(texture):
    """Mean change from each column to the next; the last entry is the way round from the last to the first."""
    return np.abs(texture.astype(int) - np.roll(texture, -1, axis=1).astype(int)).mean(axis=(0, 2))


def test_families_are_either_for_training_or_held_out():
    assert TRAINING_FAMILIES.isdisjoint(HELD_OUT_FAMILIES)
    assert set(FAMILIES) == TRAINING_FAMILIES | HELD_OUT_FAMILIES


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_same_arguments_give_the_same_texels(family):
    first = _flat(family, seed=3).copy()
    flat_texture.cache_clear()
    np.testing.assert_array_equal(first, _flat(family, seed=3))


@pytest.mark.parametrize("family", RANDOM_FAMILIES)
def test_seed_changes_the_pattern(family):
    assert (_flat(family, seed=0) != _flat(family, seed=1)).mean() > 0.1


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_opposite_borders_of_a_flat_texture_meet(family, scale):
    for seed in range(4):
        for texture in (_flat(family, seed, scale), _flat(family, seed, scale).swapaxes(0, 1)):
            *inside, round_the_border = _column_steps(texture)
            assert round_the_border <= 1.2 * max(inside) + 1


@pytest.mark.parametrize("family", ["noise", "marble"])
def test_noise_runs_on_across_the_edges_of_a_cube(family):
    texture = cube_texture(family, RED, WHITE, scale=1.0, seed=2, size=64)
    right, left, up, down, front, back = np.split(texture.astype(int), 6)
    step_inside = max(_column_steps(face)[:-1].max() for face in (right, left, up, down, front, back))
    # Neighbours on OpenGL's cube map: each edge seen from both of its faces.
    edges = [
        (front[:, -1], right[:, 0]),
        (right[:, -1], back[:, 0]),
        (back[:, -1], left[:, 0]),
        (left[:, -1], front[:, 0]),
        (up[-1], front[0]),
        (front[-1], down[0]),
        (up[:, -1], right[0, ::-1]),
    ]
    for one_side, other_side in edges:
        assert np.abs(one_side - other_side).mean() <= 2 * step_inside


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_texels_are_blends_of_the_two_colors_up_to_brightness(family):
    red, green, blue = np.moveaxis(cube_texture(family, RED, RED, scale=1.0, seed=0, size=32).astype(float), -1, 0)
    np.testing.assert_allclose(green, blue, atol=0.5)
    np.testing.assert_allclose(green / red, RED[1] / RED[0], atol=0.03)


def test_plain_is_the_color_itself():
    np.testing.assert_array_equal(_flat("plain"), np.broadcast_to(np.rint(np.array(RED) * 255), (128, 128, 3)))


def test_scale_two_is_twice_as_fine():
    def crossings(scale):
        bright = _flat("checker", scale=scale)[3, :, 1] > 128
        return np.count_nonzero(bright != np.roll(bright, 1))

    assert crossings(2.0) == 2 * crossings(1.0) == 4 * crossings(0.5)


def test_texture_is_read_only_since_it_is_shared():
    with pytest.raises(ValueError, match="read-only"):
        _flat("plain")[0, 0, 0] = 1


@pytest.mark.parametrize("paint", [flat_texture, cube_texture])
def test_unknown_family_is_answered_with_the_nearest(paint):
    with pytest.raises(InputError, match=r"'marbel'.*did you mean 'marble'"):
        paint("marbel", RED, WHITE, scale=1.0, seed=0, size=8)
