"""Cosmos-Reason1-7B as the 2B model's text encoder, through transformers: prompt -> (512, 100352).

Shape legend: B prompt, L token (512), D width of the encoder (3584), E embedding (layers x D = 28 x 3584 = 100352).

What is embedded is a chat: a fixed system message and the prompt, in the encoder's own chat template, padded on the
right to 512 tokens that all take part (no attention mask). The states after every layer, the last one after the final
norm, are normalised over D and concatenated. That is NVIDIA's and diffusers' text path, with two differences on
purpose: they cut what is longer than 512 tokens in silence, and diffusers embeds an empty prompt like any other.

Only the language model is loaded: neither the vision tower nor the head has a part in this (16.6 GB -> 14.1 GB).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_engine.errors import InputError
from cosmos_engine.transfer.published.pretrained import fill_from_folder, read_config, read_json

SYSTEM_PROMPT = "You are a helpful assistant who will provide prompts to an image generator."
PROMPT_TOKENS = 512  # NVIDIA's NUM_EMBEDDING_PADDING_TOKENS
WEIGHTS_STEM = "model"  # transformers' file name


class ReasonEncoder:
    """Embed prompts one at a time; what `TransferNetwork.project_text` takes.

    An embedding of the 7B model is 206 MB in float32 and 103 MB in bfloat16, so project it before the next is made.

    Args:
        model: transformers' `Qwen2_5_VLTextModel`.
        tokenizer: its tokenizer, with a chat template and a padding token.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer

    @property
    def width(self) -> int:
        """Return E: hidden states of all layers side by side."""
        return int(self.model.config.num_hidden_layers * self.model.config.hidden_size)

    def check(self, prompts: Sequence[str]) -> None:
        """Tokenise prompts, without the model.

        Raises:
            InputError: a prompt that is too long.
        """
        for prompt in prompts:
            self.tokens(prompt)

    def tokens(self, prompt: str) -> list[int]:
        """Return the prompt's L token ids, padded on the right whichever side the tokenizer prefers, as NVIDIA does.

        Raises:
            InputError: if it takes more than L tokens with its template.
        """
        chat = [
            {"role": role, "content": [{"type": "text", "text": text}]}
            for role, text in (("system", SYSTEM_PROMPT), ("user", prompt))
        ]
        tokens = self.tokenizer.apply_chat_template(
            chat, tokenize=True, add_generation_prompt=False, add_vision_id=False, return_dict=False
        )
        if len(tokens) > PROMPT_TOKENS:
            raise InputError(
                f"prompt {prompt[:40]!r}...: expected at most {PROMPT_TOKENS} tokens with the chat template, "
                f"got {len(tokens)}"
            )
        return list(tokens) + [self.tokenizer.pad_token_id] * (PROMPT_TOKENS - len(tokens))

    @torch.no_grad()
    def embeddings(self, prompt: str) -> Float[Tensor, "l e"]:
        """Return the embedding of a prompt in the model's dtype, on its device.

        The empty prompt is the unconditional one and gives zeros: in training NVIDIA replaced a dropped prompt by zeros
        (conditioner `use_empty_string=False`), never by the embedding of an empty string.

        Raises:
            InputError: a prompt that is too long.
        """
        if not prompt:
            return torch.zeros(PROMPT_TOKENS, self.width, dtype=self.model.dtype, device=self.model.device)
        tokens_BL = torch.tensor([self.tokens(prompt)], device=self.model.device)
        output = self.model(input_ids=tokens_BL, use_cache=False, output_hidden_states=True)
        return torch.cat([normalised(states_BLD[0]) for states_BLD in output.hidden_states[1:]], dim=-1)

    def encode(self, prompts: Sequence[str]) -> Float[Tensor, "b l e"]:
        """Return the embeddings of prompts, not yet projected.

        Raises:
            InputError: a prompt that is too long.
        """
        self.check(prompts)
        return torch.stack([self.embeddings(prompt) for prompt in prompts])


def normalised(states_LD: Float[Tensor, "l d"]) -> Float[Tensor, "l d"]:
    """Normalise the states of each token to mean 0 and (unbiased) deviation 1, in their own dtype as NVIDIA does."""
    centred_LD = states_LD - states_LD.mean(dim=-1, keepdim=True)
    return centred_LD / (states_LD.std(dim=-1, keepdim=True) + 1e-8)


def load_reason(folder: Path, device: torch.device | str, dtype: torch.dtype) -> ReasonEncoder:
    """Load the encoder from a snapshot folder of Cosmos-Reason1-7B; nothing is downloaded.

    Raises:
        InputError: transformers is not installed; the folder or a file is missing, truncated or another model's.
    """
    config = read_config(folder, "model_type", "qwen2_5_vl")
    try:
        from transformers import Qwen2_5_VLConfig, Qwen2_5_VLTextModel
    except ImportError as error:
        raise InputError("needs the transformers package: pip install 'cosmos-engine[2b]'") from error
    tokenizer = _load_tokenizer(folder)  # before the weights: it takes a second, they take a minute
    text_config: Any = Qwen2_5_VLConfig.from_dict(config).text_config
    with torch.device("meta"):
        model = Qwen2_5_VLTextModel(text_config)
    # Its frequencies are no part of the files. They stay in float32, so `model.to(dtype)` would be wrong as well.
    model.rotary_emb = type(model.rotary_emb)(text_config).to(device)
    fill_from_folder(model, folder, WEIGHTS_STEM, device, dtype, language_name)
    return ReasonEncoder(model.eval().requires_grad_(False), tokenizer)


def language_name(name: str) -> str | None:
    """Return the language model's name of a checkpoint's tensor; None for the vision tower's and the head's.

    Files written before transformers 4.52 say `model.layers...` and `visual...`, later ones
    `model.language_model.layers...` and `model.visual...`.
    """
    if name.startswith(("visual.", "model.visual.", "lm_head.")):
        return None
    return name.removeprefix("model.").removeprefix("language_model.")


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    # Read for their errors: of a truncated file transformers says little, and without a vocabulary it makes one up.
    read_json(folder / "tokenizer_config.json")
    vocabularies = [path for path in (folder / "tokenizer.json", folder / "vocab.json") if path.is_file()]
    if not vocabularies:
        raise InputError(f"{folder}: expected tokenizer.json or vocab.json, found neither")
    for path in vocabularies:
        read_json(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"{folder}: no tokenizer can be made of its files: {reason}") from error
    if (folder / "chat_template.json").is_file():  # what NVIDIA's code reads; transformers' tokenizers skip it
        tokenizer.chat_template = read_json(folder / "chat_template.json").get("chat_template")
    if not tokenizer.chat_template:
        raise InputError(f"{folder}: its tokenizer has no chat template")
    if tokenizer.pad_token_id is None:
        raise InputError(f"{folder}: its tokenizer has no padding token")
    return tokenizer
