"""The baselines on the command line: they run without weights or recipe, and refuse what they have no use for."""

from __future__ import annotations

import argparse

import pytest

from cosmos_engine.cli import main
from cosmos_engine.commands.generator import (
    BASELINES,
    DEFAULT_RECIPES,
    GENERATORS,
    PHOTOMETRIC,
    TEXTURE,
    add_generator_arguments,
    open_generator,
    open_transfer25,
    sampling_config,
)
from cosmos_engine.data import Dataset, verify_dataset
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.generator import Generator


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "demos"
    assert main(["record", "--task", "lift", "--episodes", "1", "--out", str(folder), "image_size=32"]) == 0
    return folder


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_generator_arguments(parser, default=PHOTOMETRIC)
    return parser.parse_args(words)


def test_every_generator_has_a_recipe():
    assert set(DEFAULT_RECIPES) == set(GENERATORS)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_opens_under_its_own_name(name):
    generator = open_generator(parsed("--generator", name), ["edge"])
    assert isinstance(generator, Generator)
    assert generator.name == name


@pytest.mark.parametrize("name", BASELINES)
def test_augment_with_a_baseline_ends_in_an_intact_dataset(name, demos, tmp_path):
    out = tmp_path / "x.zarr"
    assert (
        main(["augment", str(demos), "--generator", name, "--variants", "2", "--gate", "off", "--out", str(out)]) == 0
    )
    assert verify_dataset(out, demos).intact
    dataset = Dataset(out)
    assert dataset.episode_count == 3
    assert dataset.attrs["job"]["generator"]["name"] == name
    source, first, second = (dataset.episode(index)["agentview_image"] for index in range(3))
    assert (first != source).any()
    assert (first != second).any()


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--recipe", "strict"], "--recipe"),
        (["--weights", "x"], "--weights"),
        (["--checkpoint", "x"], "--checkpoint"),
        (["--device", "cpu"], "--device"),
        (["--resolution", "256"], "--resolution"),
        (["--fit", "crop"], "--fit"),
        (["--max-memory", "24GiB"], "--max-memory"),
        (["--compile"], "--compile"),
        (["recipe.edge=0.5"], "recipe.edge=0.5"),
        (["palette=3"], "palette=3"),
        (["sampling.steps=4"], "sampling.steps=4"),
    ],
)
def test_what_a_baseline_has_no_use_for_is_one_line(name, words, named, demos, tmp_path, capsys):
    assert main(["augment", str(demos), "--generator", name, "--out", str(tmp_path / "x.zarr"), *words]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("cosmos-engine"))
    assert named in line
    assert name in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["--weights", "x"], ["--resolution", "480"], ["--fit", "crop"], ["--compile"]])
def test_what_tiny_has_no_use_for_is_one_line(words, demos, tmp_path, capsys):
    assert main(["augment", str(demos), "--out", str(tmp_path / "x.zarr"), *words]) == 2
    assert f"{words[0]}: only for transfer25-2b" in capsys.readouterr().err


def test_prompts_are_for_texture_and_not_for_photometric(demos, tmp_path, capsys):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a plain blue table\n")
    words = ["augment", str(demos), "--variants", "1", "--prompts", str(prompts), "--out", str(tmp_path / "x.zarr")]
    assert main([*words, "--generator", PHOTOMETRIC]) == 2
    assert "--prompts: photometric reads no prompt" in capsys.readouterr().err
    assert main([*words, "--gate", "off", "--generator", TEXTURE]) == 0
    assert Dataset(tmp_path / "x.zarr").info[1]["prompt"] == "a plain blue table"


def test_a_prompt_with_a_texture_of_the_benchmark_is_one_line(demos, tmp_path, capsys):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red checks table\n")
    words = ["augment", str(demos), "--prompts", str(prompts), "--out", str(tmp_path / "x.zarr")]
    assert main([*words, "--generator", TEXTURE]) == 2
    assert "kept for the benchmark" in capsys.readouterr().err
    assert not (tmp_path / "x.zarr").exists()


def test_a_baseline_is_no_transfer25():
    with pytest.raises(InputError, match="--generator texture: expected one of transfer25-tiny"):
        open_transfer25(parsed("--generator", TEXTURE), ["edge"])


def test_an_unknown_generator_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'photometric'"):
        sampling_config("photmetric", ())
