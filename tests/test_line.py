"""The whole line on a tiny case, through the command line: recorder to report."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cosmos_engine.cli import main
from cosmos_engine.data import Dataset, Recording


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Record three demos and augment them once."""
    folder = tmp_path_factory.mktemp("line")
    assert main(["record", "--task", "lift", "--episodes", "3", "--out", f"{folder}/demos", "image_size=64"]) == 0
    augment = ["augment", f"{folder}/demos", "--variants", "1", "--gate", "off", "--out", f"{folder}/lift.zarr"]
    assert main(augment) == 0
    return folder


def test_a_variant_is_new_pixels_on_the_recorded_actions(folder):
    recording, dataset = Recording(folder / "demos"), Dataset(folder / "lift.zarr")
    assert dataset.variant.tolist() == [0, 1] * 3
    for index in (1, 3, 5):
        source, variant = recording.episode(int(dataset.source_demo[index])), dataset.episode(index)
        assert variant["action"].tobytes() == source.actions.tobytes()
        for camera, passes in source.cameras.items():
            change = np.abs(variant[f"{camera}_image"].astype(int) - passes.rgb)
            assert variant[f"{camera}_image"].shape == passes.rgb.shape
            assert change.mean() > 5


def test_the_dataset_verifies_against_its_recording_and_not_against_another(folder, tmp_path, capsys):
    assert main(["verify", f"{folder}/lift.zarr", "--against", f"{folder}/demos"]) == 0
    assert "intact" in capsys.readouterr().out
    assert (
        main(["record", "--task", "lift", "--episodes", "3", "--out", f"{tmp_path}/other", "seed=9", "image_size=32"])
        == 0
    )
    assert main(["verify", f"{folder}/lift.zarr", "--against", f"{tmp_path}/other"]) == 2
    assert "differs" in capsys.readouterr().err


def test_a_policy_is_trained_measured_and_shown(folder, capsys):
    assert (
        main(
            [
                "train",
                f"{folder}/lift.zarr",
                "--out",
                f"{folder}/bc",
                "updates=2",
                "batch_size=4",
                "save_every=2",
                "log_every=1",
            ]
        )
        == 0
    )
    bench = ["benchmark", f"{folder}/bc", "--task", "lift", "--shifts", "vanilla,table_texture", "--trials", "1"]
    assert main([*bench, "--out", f"{folder}/bench", "videos=1"]) == 0
    result = json.loads((folder / "bench" / "result.json").read_text())
    assert [(cell["shift"], cell["trials"], cell["crashes"]) for cell in result["cells"]] == [
        ("vanilla", 1, 0),
        ("table_texture", 1, 0),
    ]
    report = folder / "report.html"
    view = ["view", f"{folder}/lift.zarr", "--recording", f"{folder}/demos", "--out", str(report)]
    assert main([*view, "--benchmark", f"{folder}/bench/result.json"]) == 0
    page = report.read_text()
    info = Dataset(folder / "lift.zarr").info
    for shown in ("vanilla", "table_texture", "red cube", info[1]["prompt"].split(".")[0]):
        assert shown in page
    assert page.count("data:video/mp4") >= 4


def test_inspect_tells_a_recording_from_a_dataset(folder, capsys):
    assert main(["inspect", f"{folder}/demos"]) == 0
    assert "3 episodes" in capsys.readouterr().out
    assert main(["inspect", f"{folder}/lift.zarr"]) == 0
    assert "6 episodes (3 originals, 3 variants, 6 accepted)" in capsys.readouterr().out
