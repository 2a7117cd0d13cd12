import multiprocessing
import weakref
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cosmos_engine.data.atomic import write_file
from cosmos_engine.errors import InputError
from cosmos_engine.transfer.text import TextEncoder
from cosmos_engine.transfer.text_cache import CachedText, default_text_folder

TOKENS, WIDTH = 4, 3


class LengthEncoder:
    """Embeds a prompt by its letters; refuses those of more than 20."""

    def check(self, prompts) -> None:
        for prompt in prompts:
            if len(prompt) > 20:
                raise InputError(f"prompt {prompt!r}: too long")

    def embeddings(self, prompt: str) -> Tensor:
        values = [ord(letter) / 7 for letter in prompt.ljust(TOKENS)[:TOKENS]]
        return torch.tensor(values)[:, None].repeat(1, 5)


def project(embeddings: Tensor) -> Tensor:
    return embeddings[:, :WIDTH] * torch.tensor([1.0, 2.0, 3.0])


class Loads:
    """Counts loads, and whether what was loaded is still alive."""

    def __init__(self) -> None:
        self.count = 0
        self.alive = lambda: None

    def __call__(self) -> LengthEncoder:
        self.count += 1
        encoder = LengthEncoder()
        self.alive = weakref.ref(encoder)
        return encoder


def cached(folder: Path, loads, encoder: str = "e", projection: str = "p", **changed) -> CachedText:
    return CachedText(loads, project, encoder_sha256=encoder, projection_sha256=projection, folder=folder, **changed)


def expected(*prompts: str) -> Tensor:
    return torch.stack([project(LengthEncoder().embeddings(prompt)) for prompt in prompts])


def test_it_is_a_text_encoder_whose_tokens_are_projected(tmp_path):
    text = cached(tmp_path / "new" / "cache", Loads())
    assert isinstance(text, TextEncoder)
    torch.testing.assert_close(text.encode(["red", "", "red"]), expected("red", "", "red"), atol=0, rtol=0)


def test_new_prompts_take_one_load_and_the_encoder_is_dropped(tmp_path):
    loads = Loads()
    text = cached(tmp_path, loads)
    text.prepare(["red", "blue", "red"])
    assert loads.count == 1
    assert loads.alive() is None
    assert len(list(tmp_path.iterdir())) == 2


def test_known_prompts_take_no_load_in_another_process_either(tmp_path):
    cached(tmp_path, Loads()).prepare(["red", "blue"])
    loads = Loads()
    text = cached(tmp_path, loads)
    text.prepare(["blue"])
    torch.testing.assert_close(text.encode(["blue", "red"]), expected("blue", "red"), atol=0, rtol=0)
    assert loads.count == 0


@pytest.mark.parametrize("changed", [{"encoder": "E"}, {"projection": "P"}, {"dtype": torch.bfloat16}])
def test_another_encoder_projection_or_dtype_is_a_miss(tmp_path, changed):
    cached(tmp_path, Loads()).prepare(["red"])
    loads = Loads()
    cached(tmp_path, loads, **changed).prepare(["red"])
    assert loads.count == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_tokens_have_the_dtype_asked_for(tmp_path):
    text = cached(tmp_path, Loads(), dtype=torch.bfloat16)
    torch.testing.assert_close(text.encode(["red"]), expected("red").bfloat16(), atol=0, rtol=0)


def damaged(content: bytes) -> dict[str, bytes]:
    flipped = bytearray(content)
    flipped[-3] ^= 1
    return {"empty": b"", "truncated": content[:-1], "foreign": b"not a tensor file", "flipped": bytes(flipped)}


@pytest.mark.parametrize("how", ["empty", "truncated", "foreign", "flipped"])
def test_a_damaged_file_is_made_again(tmp_path, how):
    text = cached(tmp_path, Loads())
    text.prepare(["red"])
    path = text.path("red")
    whole = path.read_bytes()
    path.write_bytes(damaged(whole)[how])
    loads = Loads()
    again = cached(tmp_path, loads)
    torch.testing.assert_close(again.encode(["red"]), expected("red"), atol=0, rtol=0)
    assert loads.count == 1
    assert path.read_bytes() == whole


def test_the_file_of_another_prompt_is_not_trusted(tmp_path):
    text = cached(tmp_path, Loads())
    text.prepare(["red", "blue"])
    text.path("red").write_bytes(text.path("blue").read_bytes())
    torch.testing.assert_close(text.encode(["red"]), expected("red"), atol=0, rtol=0)


def test_a_prompt_that_is_too_long_is_found_before_anything_is_encoded(tmp_path):
    loads = Loads()
    text = cached(tmp_path, loads)
    with pytest.raises(InputError, match="too long"):
        text.prepare(["red", "a" * 21])
    assert not list(tmp_path.iterdir())


def test_tokens_that_are_not_finite_are_never_stored(tmp_path):
    text = CachedText(Loads(), lambda tokens: tokens / 0, encoder_sha256="e", projection_sha256="p", folder=tmp_path)
    with pytest.raises(ValueError, match="not finite"):
        text.prepare(["red"])
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named_before_the_encoder_is_loaded(tmp_path):
    (tmp_path / "file").write_text("")
    loads = Loads()
    with pytest.raises(InputError, match=r"file/cache: cannot be written"):
        cached(tmp_path / "file" / "cache", loads).prepare(["red"])
    assert loads.count == 0


def test_a_bar_is_shown_only_where_there_is_something_to_do(tmp_path, capsys):
    text = cached(tmp_path, Loads())
    text.prepare(["red", "blue"])
    assert "encode prompts: 100%" in capsys.readouterr().err
    text.prepare(["red", "blue"])
    assert capsys.readouterr().err == ""


def test_a_module_projects_without_gradients(tmp_path):
    layer = nn.Linear(5, WIDTH)
    text = CachedText(Loads(), layer, encoder_sha256="e", projection_sha256="p", folder=tmp_path)
    assert not text.encode(["red"]).requires_grad


def _encode_all(folder: Path, start, prompts: list[str]) -> None:
    start.wait()
    for _ in range(3):
        for prompt in prompts:
            assert torch.equal(cached(folder, Loads()).encode([prompt]), expected(prompt))
            write_file(cached(folder, Loads()).path(prompt), b"damaged")


def test_processes_that_share_a_folder_agree(tmp_path):
    prompts = [f"prompt {index}" for index in range(4)]
    context = multiprocessing.get_context("fork")
    start = context.Barrier(2)
    processes = [context.Process(target=_encode_all, args=(tmp_path, start, prompts)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("COSMOS_ENGINE_CACHE", str(tmp_path))
    assert default_text_folder() == tmp_path / "text"
    monkeypatch.delenv("COSMOS_ENGINE_CACHE")
    assert default_text_folder() == Path.home() / ".cache" / "cosmos-engine" / "text"
