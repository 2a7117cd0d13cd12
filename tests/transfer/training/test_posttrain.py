import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cosmos_engine.cli import main
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.network import TransferNetwork
from cosmos_engine.transfer.training import posttrain as posttraining
from cosmos_engine.transfer.training.config import DecoderStageConfig, defaults
from cosmos_engine.transfer.training.stage import Stage
from cosmos_engine.transfer.transfer25 import Transfer25
from cosmos_engine.transfer.weights import WeightsHeader, read_header, save_weights
from tests.transfer.test_transfer25 import clip
from tests.transfer.training.conftest import write_pool
from tests.transfer.training.small_run import EVERYTHING, NETWORK, OFF, SIZE, run
from tests.transfer.training.test_recorded import write_recording


def changed(before: Path, after: Path) -> set[str]:
    """Return the names of tensors that are not the same bit by bit; both files have the same names."""
    ours, theirs = load_file(before), load_file(after)
    assert set(ours) <= set(theirs)
    return {name for name, value in theirs.items() if name not in ours or not torch.equal(ours[name], value)}


def test_posttraining_ends_in_a_checkpoint_that_generates_and_is_done_once(tmp_path, pool, begun):
    file = run(tmp_path, pool.folder, init=begun)
    assert Transfer25.tiny(file).generate([clip()], ["brown wood table"], [0])[0].shape == (1, 5, 32, 32, 3)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["stage"] for line in lines] == ["codec"] * 2 + ["network"] * 2 + ["decoder"] * 2
    assert {"colors", "pattern", "parts", "latent"} <= json.loads(lines[-1]).keys()
    sheets = {sheet.name for sheet in tmp_path.glob("*.png")}
    assert sheets == {f"{stage}_{updates:06d}.png" for stage in ("codec", "network", "decoder") for updates in (1, 2)}
    run(tmp_path, pool.folder, init=begun)
    assert (tmp_path / "log.jsonl").read_text().splitlines() == lines


def test_a_stopped_run_goes_on_and_ends_in_the_same_bytes(tmp_path, pool, begun, monkeypatch):
    whole = run(tmp_path / "whole", pool.folder, dataclasses.replace(EVERYTHING, codec=OFF), init=begun)
    update = Stage._update

    def stopped(stage: Stage, number: int, loss) -> float:
        if (stage.name, number) == ("decoder", 1):
            raise KeyboardInterrupt
        return update(stage, number, loss)

    ahead = dataclasses.replace(EVERYTHING, codec=OFF, threads=1)
    monkeypatch.setattr(Stage, "_update", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", pool.folder, ahead, init=begun)
    monkeypatch.undo()
    resumed = run(tmp_path / "stopped", pool.folder, ahead, init=begun)
    assert not changed(whole, resumed)


def test_a_branch_is_trained_alone_and_everything_else_stays_bit_by_bit(tmp_path, pool, begun):
    after = run(tmp_path, pool.folder, NETWORK, init=begun, branch="edge")
    names = changed(begun, after)
    assert names
    assert all(name.startswith("network.branches.edge.") for name in names)
    assert read_header(after).notes["branch"] == "edge"


def test_a_branch_that_the_checkpoint_lacks_is_added_and_says_nothing_yet(tmp_path, pool, begun):
    model = posttraining.begun_model(begun, "vis", 0)
    assert model.network.config.modalities == ("edge", "vis", "depth", "seg")
    for block in model.network.branch("vis").control_blocks:
        assert not block.after_proj.weight.any()
    one_update = dataclasses.replace(NETWORK, network=dataclasses.replace(NETWORK.network, updates=1))
    names = changed(begun, run(tmp_path, pool.folder, one_update, init=begun, branch="vis"))
    assert all(name.startswith("network.branches.vis.") for name in names)


def test_going_on_from_a_checkpoint_keeps_codec_and_text(tmp_path, pool, begun):
    config = dataclasses.replace(defaults(is_begun=True, branch=None), network=NETWORK.network, decoder=OFF_DECODER)
    assert [name for name, _ in config.stages()] == ["network"]
    names = changed(begun, run(tmp_path, pool.folder, config, init=begun))
    assert any(name.startswith("network.base.") for name in names)
    assert not any(name.startswith(("codec.", "text.")) for name in names)


OFF_DECODER = DecoderStageConfig(updates=0)


def test_recordings_are_trained_on_from_the_command_line(tmp_path, begun, capsys):
    demos = write_recording(tmp_path / "demos")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red cube on an oak table\n")
    small = ["network.updates=1", "network.batch=2", "network.frames=5", "decoder.updates=0", "recorded.frames=5"]
    command = ["posttrain", "--out", str(tmp_path / "run"), "--init", str(begun), "--prompts", str(prompts)]
    assert main([*command, "--recordings", str(demos), *small]) == 0
    assert "transfer25-tiny.safetensors" in capsys.readouterr().out
    notes = json.loads(str(read_header(tmp_path / "run" / "transfer25-tiny.safetensors").notes["posttrain"]))
    assert notes["network"]["updates"] == 1


FIVE_FRAMES = ["codec.frames=5", "network.frames=5", "decoder.frames=5"]


def refused(words: list[str], capsys) -> str:
    """Return the one line that `posttrain` was refused with."""
    assert main(["posttrain", *words]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cosmos-engine")]
    return line


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--init", "{tmp}/none.safetensors"], ["none.safetensors", "no such weights file"]),
        (["--init", "{tmp}/cut.safetensors"], ["cut.safetensors"]),
        (["--init", "{tmp}/foreign.safetensors"], ["foreign.safetensors", "not a checkpoint of this engine"]),
        (["--init", "{tmp}/wide.safetensors"], ["wide.safetensors", "control_channels is 48", "64"]),
        (["--init", "{tmp}/part.safetensors"], ["part.safetensors", "missing tensors: codec."]),
        (["--branch", "edge"], ["--branch edge", "--init"]),
        (["--branch", "egde", "--init", "{init}"], ["egde", "did you mean 'edge'"]),
        (["--branch", "edge", "--init", "{init}", "decoder.updates=5"], ["decoder.updates", "expected 0", "5"]),
        (["--recordings", "{tmp}/none"], ["none", "no recording here"]),
        (["--recordings", "{demos}", "recorded.frames=25"], ["at least 25 frames"]),
        (
            ["--recordings", "{demos}", "--prompts", "{tmp}/long.txt", "recorded.frames=5", *FIVE_FRAMES],
            ["at most 64 words"],
        ),
        (["--prompts", "{tmp}/long.txt"], ["--prompts", "--recordings"]),
        (["--clips", "{pool}", "codec.frames=5", "network.frames=9"], ["network.frames", "at most the 5", "9"]),
        (["--clips", "{pool}", "clips.image_size=64", "clips.frames=5", "clips.clips=4"], ["image_size", "64"]),
        (["--clips", "{cut}"], ["000001.safetensors"]),
        (["--device", "cuda:9"], ["device", "cuda:9", "0 CUDA devices"]),
        (["network.update=5"], ["network.update", "did you mean"]),
        (["network.energy=2"], ["network.energy", "2"]),
        (["codec.updates=0", "text.updates=0", "network.updates=0", "decoder.updates=0"], ["nothing to train"]),
    ],
)
def test_bad_input_is_one_line_before_any_work(words, named, tmp_path, begun, bad, capsys):
    places = {"tmp": bad, "init": begun, "demos": bad / "demos", "pool": bad / "pool", "cut": bad / "cut"}
    out = tmp_path / "run"
    line = refused(["--out", str(out), *[word.format(**places) for word in words]], capsys)
    assert all(name in line for name in named), line
    assert not list(out.glob("*.safetensors"))
    assert not (out / "log.jsonl").exists()


@pytest.fixture(scope="module")
def bad(tmp_path_factory, begun) -> Path:
    """A folder of files that something is wrong with."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "cut.safetensors").write_bytes(begun.read_bytes()[:5000])
    save_file({"a": torch.zeros(1)}, folder / "foreign.safetensors")
    wide = dataclasses.replace(SIZE, control_channels=64)
    save_weights(folder / "wide.safetensors", {}, WeightsHeader(wide))
    save_weights(folder / "part.safetensors", {"network": TransferNetwork(SIZE)}, WeightsHeader(SIZE), "float16")
    (folder / "long.txt").write_text("word " * 70 + "\n")
    write_recording(folder / "demos")
    write_pool(folder / "pool")
    write_pool(folder / "cut")
    cut = folder / "cut" / "groups" / "000001.safetensors"
    cut.write_bytes(cut.read_bytes()[:200])
    return folder


def test_a_run_goes_on_only_from_what_it_was_begun_with(tmp_path, pool, begun):
    one = dataclasses.replace(NETWORK, network=dataclasses.replace(NETWORK.network, updates=1))
    run(tmp_path, pool.folder, one, init=begun, branch="edge")
    with pytest.raises(InputError, match="begun with --branch edge, now seg"):
        run(tmp_path, pool.folder, one, init=begun, branch="seg")
    with pytest.raises(InputError, match="begun with --init"):
        run(tmp_path, pool.folder, one)


def test_a_loss_that_is_not_finite_leaves_no_checkpoint_of_it(tmp_path, pool, begun):
    config = dataclasses.replace(NETWORK, network=dataclasses.replace(NETWORK.network, rate=1e30, warmup=1))
    with pytest.raises(InputError, match=r"network: (loss|the gradient) is .* at update \d; "):
        run(tmp_path, pool.folder, config, init=begun)
    assert not (tmp_path / "transfer25-tiny.safetensors").exists()
