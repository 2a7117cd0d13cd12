import json
import socket
import sys
from types import SimpleNamespace

import pytest
import torch
from diffusers import Cosmos2_5_TransferPipeline
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from cosmos_engine.errors import InputError
from cosmos_engine.transfer.reason import SYSTEM_PROMPT, ReasonEncoder, language_name, load_reason

TEMPLATE = (  # of Qwen2.5-VL, for text alone
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}<|im_end|>\n{% endfor %}"
)
PROMPTS = ["A robot arm pushes a red cube.", "a wall"]
LAYERS, WIDTH = 3, 16


def byte_tokenizer() -> Qwen2Tokenizer:
    vocabulary = {letter: index for index, letter in enumerate(sorted(ByteLevel.alphabet()))}
    marks = ["<|im_start|>", "<|im_end|>"]
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[], extra_special_tokens=marks, unk_token=None)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def tiny_model() -> Qwen2_5_VLForConditionalGeneration:
    torch.manual_seed(0)
    text = {
        "vocab_size": 300,
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
    }
    vision = {"depth": 1, "hidden_size": 8, "intermediate_size": 8, "num_heads": 1, "out_hidden_size": WIDTH}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    return Qwen2_5_VLForConditionalGeneration(config).eval()


@pytest.fixture(scope="module")
def model() -> Qwen2_5_VLForConditionalGeneration:
    return tiny_model()


@pytest.fixture(scope="module")
def encoder(model) -> ReasonEncoder:
    return ReasonEncoder(model.model.language_model, byte_tokenizer())


@pytest.fixture
def folder(tmp_path, model):
    path = tmp_path / "reason1"
    model.save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    return path


def one_line(function, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_embeddings_are_those_of_diffusers_own_pipeline(model, encoder):
    pipeline = SimpleNamespace(text_encoder=model, tokenizer=encoder.tokenizer, _execution_device="cpu")
    with torch.no_grad():
        expected = Cosmos2_5_TransferPipeline._get_prompt_embeds(pipeline, PROMPTS)
    assert encoder.width == LAYERS * WIDTH
    embeddings = encoder.encode(PROMPTS)
    assert embeddings.shape == (2, 512, LAYERS * WIDTH)
    torch.testing.assert_close(embeddings, expected, atol=1e-6, rtol=1e-6)


def test_every_layer_is_normalised_and_the_last_one_comes_after_the_final_norm(model, encoder):
    language = model.model.language_model
    seen = []
    hooks = [layer.register_forward_hook(lambda _, __, output: seen.append(output)) for layer in language.layers]
    with torch.no_grad():
        embeddings = encoder.embeddings(PROMPTS[0])
    for hook in hooks:
        hook.remove()
    states = [*seen[:-1], language.norm(seen[-1])]
    for got, state in zip(embeddings.split(WIDTH, dim=-1), states, strict=True):
        # Analytic: mean 0, unbiased deviation 1.
        torch.testing.assert_close(got.mean(-1), torch.zeros(512), atol=1e-5, rtol=0)
        torch.testing.assert_close(got.std(-1), torch.ones(512), atol=1e-5, rtol=0)
        expected = (state[0] - state[0].mean(-1, keepdim=True)) / state[0].std(-1, keepdim=True)
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_a_chat_is_padded_on_the_right_whatever_the_tokenizer_prefers(encoder):
    tokenizer = byte_tokenizer()
    tokenizer.padding_side = "left"
    tokens = ReasonEncoder(encoder.model, tokenizer).tokens("red")
    assert tokens == encoder.tokens("red")
    text = f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n<|im_start|>user\nred<|im_end|>\n"
    pad = tokenizer.pad_token_id
    assert tokenizer.decode(tokens[: tokens.index(pad)]) == text
    assert set(tokens[tokens.index(pad) :]) == {pad}
    assert len(tokens) == 512


def test_the_longest_prompt_fits_and_one_token_more_is_refused(encoder):
    spare = encoder.tokens("").count(encoder.tokenizer.pad_token_id)
    assert encoder.tokenizer.pad_token_id not in encoder.tokens("a" * spare)
    line = one_line(encoder.check, ["red", "a" * (spare + 1)])
    assert line == f"prompt {'a' * 40!r}...: expected at most 512 tokens with the chat template, got 513"
    assert one_line(encoder.encode, ["a" * (spare + 1)]) == line


def test_the_empty_prompt_is_nvidias_dropped_prompt(encoder):
    assert not encoder.encode(["", "red"])[0].any()


def test_a_loaded_encoder_is_the_saved_one_and_asks_no_hub(folder, encoder, monkeypatch):
    def refused(*_arguments):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refused)
    loaded = load_reason(folder, "cpu", torch.float32)
    torch.testing.assert_close(loaded.encode(PROMPTS), encoder.encode(PROMPTS), atol=1e-6, rtol=1e-6)
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_a_sharded_snapshot_and_a_legacy_config_load_alike(tmp_path, model, encoder):
    folder = tmp_path / "sharded"
    model.save_pretrained(folder, max_shard_size="20KB")
    byte_tokenizer().save_pretrained(folder)
    parts = sorted(folder.glob("model-*.safetensors"))
    assert len(parts) > 1
    # Before transformers 4.52 the text config lay flat in config.json, as in the published snapshot.
    config = json.loads((folder / "config.json").read_text())
    text = config.pop("text_config")
    (folder / "config.json").write_text(json.dumps(text | config))
    loaded = load_reason(folder, "cpu", torch.float32)
    torch.testing.assert_close(loaded.embeddings("red"), encoder.embeddings("red"), atol=1e-6, rtol=1e-6)
    parts[-1].unlink()
    assert one_line(load_reason, folder, "cpu", torch.float32) == f"{parts[-1]}: no such weights file"


def test_both_layouts_of_tensor_names_are_known():
    assert language_name("model.layers.0.mlp.up_proj.weight") == "layers.0.mlp.up_proj.weight"
    assert language_name("model.language_model.norm.weight") == "norm.weight"
    assert [language_name(name) for name in ("visual.x", "model.visual.x", "lm_head.weight")] == [None] * 3


def test_bfloat16_leaves_the_rotary_frequencies_in_float32(folder):
    loaded = load_reason(folder, torch.device("cpu"), torch.bfloat16)
    assert loaded.model.rotary_emb.inv_freq.dtype == torch.float32
    assert loaded.embeddings("red").dtype == loaded.embeddings("").dtype == torch.bfloat16


def test_the_chat_template_that_nvidia_reads_comes_first(folder):
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "{{ messages[1]['content'][0]['text'] }}"}))
    loaded = load_reason(folder, "cpu", torch.float32)
    assert loaded.tokenizer.decode(loaded.tokens("red")[:3]) == "red"


def test_what_is_missing_truncated_or_foreign_is_named_in_one_line(folder, tmp_path):
    arguments = ("cpu", torch.float32)
    assert one_line(load_reason, tmp_path / "no", *arguments) == f"{tmp_path / 'no'}: no such folder"

    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    for cut in (0, 100, len(content) - 1):
        weights.write_bytes(content[:cut])
        assert one_line(load_reason, folder, *arguments).startswith(f"{weights}: not a whole safetensors file")
    weights.unlink()
    assert one_line(load_reason, folder, *arguments) == f"{weights}: no such weights file"

    (folder / "tokenizer_config.json").write_text(
        (folder / "tokenizer_config.json").read_text().replace("<|endoftext|>", "<|im_end|>")
    )
    (folder / "chat_template.jinja").unlink()
    assert one_line(load_reason, folder, *arguments) == f"{folder}: its tokenizer has no chat template"
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text()[:500])
    assert one_line(load_reason, folder, *arguments).startswith(f"{tokenizer}: not a whole JSON file")
    tokenizer.write_text("{}")
    assert one_line(load_reason, folder, *arguments).startswith(f"{folder}: no tokenizer can be made of its files")
    tokenizer.unlink()
    assert (
        one_line(load_reason, folder, *arguments) == f"{folder}: expected tokenizer.json or vocab.json, found neither"
    )

    config = folder / "config.json"
    config.write_text(json.dumps({"model_type": "llama"}))
    assert one_line(load_reason, folder, *arguments) == f"{config}: expected model_type 'qwen2_5_vl', got 'llama'"


def test_without_transformers_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    expected = "needs the transformers package: pip install 'cosmos-engine[2b]'"
    assert one_line(load_reason, folder, "cpu", torch.float32) == expected
