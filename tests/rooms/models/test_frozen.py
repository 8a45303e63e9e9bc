"""Frozen layers are found, read and skipped in every family, without a line for any of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import nn

from weitiao.models import STATES, parts
from weitiao.models.frozen import FrozenLayers, call

_SIZE = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
_DECODER = {**_SIZE, "num_key_value_heads": 2, "pad_token_id": 0}
_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", _SIZE),
    "distilbert": ("DistilBertConfig", {"vocab_size": 100, "dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 64}),
    "roberta": ("RobertaConfig", {**_SIZE, "max_position_embeddings": 66}),
    "electra": ("ElectraConfig", {**_SIZE, "embedding_size": 16}),
    "mpnet": ("MPNetConfig", {**_SIZE, "max_position_embeddings": 66}),
    "deberta-v2": (
        "DebertaV2Config",
        {**_SIZE, "relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]},
    ),
    "modernbert": ("ModernBertConfig", {**_SIZE, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3}),
    "llama": ("LlamaConfig", _DECODER),
    "gemma3": ("Gemma3TextConfig", {**_DECODER, "head_dim": 8}),
    "qwen3": ("Qwen3Config", {**_DECODER, "head_dim": 8}),
    "gpt2": ("GPT2Config", {"vocab_size": 100, "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 64}),
    "t5": (
        "T5Config",
        {"vocab_size": 100, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 4, "num_heads": 4},
    ),
    "bart": (
        "BartConfig",
        {
            "vocab_size": 100, "d_model": 32, "encoder_layers": 4, "decoder_layers": 2, "encoder_ffn_dim": 64,
            "encoder_attention_heads": 4, "decoder_attention_heads": 4, "decoder_ffn_dim": 64, "pad_token_id": 0,
            "max_position_embeddings": 64,
        },
    ),
}  # fmt: skip
_PLAIN_IDS = {"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": 2}
every_family = pytest.mark.parametrize("family", list(_CONFIGS))


def make(family: str) -> nn.Module:
    name, settings = _CONFIGS[family]
    ids = _PLAIN_IDS if family in ("bart", "t5") else {k: _PLAIN_IDS[k] for k in ("bos_token_id", "eos_token_id")}
    config = getattr(transformers, name)(**{**ids, **settings})
    torch.manual_seed(0)
    kind = transformers.T5EncoderModel if family == "t5" else transformers.AutoModel.from_config
    model = kind(config)
    model.requires_grad_(False)
    parts.input_layers(model)[-2:].requires_grad_(True)
    return model.eval()


def inputs() -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 100, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    for row, length in ((0, 6), (1, 4)):
        ids[row, length:] = mask[row, length:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@every_family
def test_found_and_skipped_the_model_says_the_same(family: str) -> None:
    model, given = make(family), inputs()
    frozen = FrozenLayers.of(model, given)
    assert frozen.depth == 2
    assert frozen.why_not(given) is None
    with torch.no_grad():
        usual = model(**given)[0]
        with frozen.reading() as taken:
            model(**given)
        states = taken()[0] * given["attention_mask"][..., None]
        calls: list[int] = []
        watch = parts.layers(model)[1].register_forward_hook(lambda *_: calls.append(1))
        work = [m for m in parts.layers(model)[1].modules() if isinstance(m, nn.Linear)]
        inside: list[int] = []
        for layer in work:
            layer.register_forward_hook(lambda *_: inside.append(1))
        with frozen.skipped():
            skipped = model(**given, **{STATES: states})[0]
            assert not inside, "the second frozen layer still computed"
            assert torch.equal(model(**given)[0], usual), "without states it is as ever"
        watch.remove()
        assert torch.equal(model(**given)[0], usual), "and so it is afterwards"
    mask = given["attention_mask"][..., None] if usual.shape[:2] == given["input_ids"].shape else torch.ones(())
    far = ((usual - skipped) * mask).abs().max().item()
    print(f"{family}: largest difference with and without its frozen layers {far:.1e}")
    assert far <= 1e-5


@every_family
def test_reading_stops_the_model_there(family: str) -> None:
    model, given = make(family), inputs()
    frozen = FrozenLayers.of(model, given)
    above: list[int] = []
    parts.layers(model)[2].register_forward_pre_hook(lambda *_: above.append(1))
    with torch.no_grad(), frozen.reading(stop=True) as taken:
        assert call(model, given) is None
        assert len(taken()) == 1
        assert taken() == [], "taken once"
    assert not above


def test_what_is_below_the_trained_layers_goes_quiet_and_nothing_else() -> None:
    model, given = make("bert"), inputs()
    quiet = FrozenLayers.of(model, given).quieten(given)
    names = {name for name, module in model.named_modules() if any(module is q for q in quiet)}
    assert "embeddings.dropout" in names
    assert "encoder.layer.1.attention.self.dropout" in names or "encoder.layer.1.attention.self" in names
    assert not any(name.startswith(("encoder.layer.2", "encoder.layer.3", "pooler")) for name in names)
    assert not {"", "encoder"} & names


def test_a_trained_embedding_leaves_nothing_frozen() -> None:
    model, given = make("bert"), inputs()
    model.get_input_embeddings().requires_grad_(True)  # type: ignore[operator]
    frozen = FrozenLayers.of(model, given)
    assert frozen.depth == 0
    assert "the first layer of BertModel, or what is below it, trains" in str(frozen.why_not(given))
    assert frozen.quieten(given) == []


def test_shared_layers_that_train_are_not_skipped() -> None:
    config = transformers.AlbertConfig(**_SIZE, embedding_size=16)
    model = transformers.AutoModel.from_config(config).requires_grad_(False)
    parts.layers(model).requires_grad_(True)
    assert FrozenLayers.of(model, inputs()).depth == 0


def test_a_model_that_uses_its_layers_twice_is_refused_with_the_reason() -> None:
    """Something between the layers that a stand-in would leave out shows in the output."""
    model, given = make("bert"), inputs()
    second = parts.layers(model)[2]
    plain = second.forward
    model.get_input_embeddings().register_forward_hook(lambda m, a, out: setattr(model, "seen", out))
    noticed: list[torch.Tensor] = []
    parts.layers(model)[0].attention.register_forward_hook(lambda m, a, out: noticed.append(out[0]))

    def forward(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        extra = noticed.pop() if noticed else torch.zeros(())
        return plain(hidden_states + extra, *args, **kwargs)

    second.forward = forward  # type: ignore[method-assign]
    reason = FrozenLayers.of(model, given).why_not(given)
    assert "says something else without its first layers" in str(reason)
