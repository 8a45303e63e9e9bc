"""Tiny random encoder-decoders, in the place of translation models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tiny


def make_translator(family: str, folder: Path, *, seed: int = 0) -> Path:
    """Write a one-layer random encoder-decoder, ``t5`` or ``marian``, with a tokenizer, and return its folder."""
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer: Any = tiny._word_pieces()
    size = len(tokenizer)
    if family == "t5":
        config: Any = transformers.T5Config(
            vocab_size=size, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=0, eos_token_id=3,
            decoder_start_token_id=0,
        )  # fmt: skip
        kind: Any = transformers.T5ForConditionalGeneration
    else:
        config = transformers.MarianConfig(
            vocab_size=size, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=64,
            pad_token_id=0, eos_token_id=3, decoder_start_token_id=0, forced_eos_token_id=3,
        )  # fmt: skip
        kind = transformers.MarianMTModel
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
        for weights in model.parameters():  # wider than new weights are, so that the input decides what is written
            torch.nn.init.normal_(weights, std=0.5)
    tiny._save_quietly(model, folder)
    tokenizer.save_pretrained(folder)
    return folder
