"""Prefixes and trained vectors at the input: nothing moves that a head or a cache counts on, in any family."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from trial import make, train, trial
from weitiao.errors import ModelError
from weitiao.models.find import find
from weitiao.models.frozen import FrozenLayers
from weitiao.models.heads import load_writer
from weitiao.models.load import load_encoder
from weitiao.models.prefixes import Prefix, places, prefixes, put
from weitiao.models.soft_prompt import soft_prompt
from weitiao.models.writing import TARGET_PLACES, as_writer, packed

Make = Callable[..., Path]
PREFIXED, PROMPTED = ("prefix_tuning", "p_tuning_v2"), ("prompt_tuning", "p_tuning")
ENCODERS = ("bert", "roberta", "distilbert", "modernbert", "albert", "deberta-v2", "llama", "gpt2", "gemma3_text")
WRITERS = ("llama", "gpt2", "qwen2", "gemma3_text", "t5", "bart", "marian", "bert2bert")
every_method = pytest.mark.parametrize("method", ["p_tuning_v2", "prompt_tuning"])


def reader(folder: Path, method: str) -> nn.Module | None:
    """A model without head that `method` was put into; ``None`` if it does not fit."""
    model, chosen = load_encoder(find(str(folder))), make("methods", method)
    if chosen.suits(model):
        return None
    return chosen.apply(model, seed=0).eval()


def writer(folder: Path, method: str) -> Any:
    model, chosen = load_writer(find(str(folder)), seed=0), make("methods", method)
    assert chosen.suits(model) is None
    return chosen.apply(model, seed=0).eval()


def read(model: Any, ids: list[list[int]], *, left: bool = False) -> list[Tensor]:
    """The states of each row's tokens, the rows padded to one length."""
    long = max(map(len, ids))
    pads = [[0] * (long - len(row)) for row in ids]
    filled = [pad + row if left else row + pad for row, pad in zip(ids, pads, strict=True)]
    masks = [
        [int(i >= len(p)) if left else int(i < len(r)) for i in range(long)] for r, p in zip(ids, pads, strict=True)
    ]
    mask = torch.tensor(masks)
    told = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)} if left else {}
    with torch.no_grad():
        states = model(input_ids=torch.tensor(filled), attention_mask=mask, **told).last_hidden_state
    assert states.shape[:2] == mask.shape
    return [one[own.bool()] for one, own in zip(states, mask, strict=True)]


# --- reading ---


@pytest.mark.parametrize("family", ENCODERS)
@every_method
def test_padding_changes_no_row_and_full_rows_fit(family: str, method: str, tiny_model: Make):
    model = reader(tiny_model(family), method)
    if model is None:
        assert (family, method) == ("deberta-v2", "p_tuning_v2")  # it computes attention by itself
        return
    rows = [[3, 20, 30, 40, 50, 60], [3, 21, 31], [3]]
    for left in (False, True) if family in ("llama", "gpt2") else (False,):
        for own, alone in zip(read(model, rows, left=left), (read(model, [row])[0] for row in rows), strict=True):
            torch.testing.assert_close(own, alone, atol=1e-5, rtol=1e-4)
    assert read(model, [[3, *range(10, 73)]])[0].shape[0] == 64  # as many as there are positions


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "gemma3_text"])
def test_a_prefix_of_the_models_own_keys_and_values_is_like_having_read_them(family: str, tiny_model: Make):
    model: Any = load_encoder(find(str(tiny_model(family))))
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    with torch.no_grad():
        whole, before = model(input_ids=ids), model(input_ids=ids[:, :2], use_cache=True).past_key_values
        own = [Prefix(layer.keys[0].clone(), layer.values[0].clone()) for layer in before.layers]
        put(model, {place.name: prefix for place, prefix in zip(places(model), own, strict=True)})
        for mask in (torch.ones(1, 4, dtype=torch.long), None):
            said = model(input_ids=ids[:, 2:], position_ids=torch.arange(2, 6)[None], attention_mask=mask)
            torch.testing.assert_close(said[0], whole[0][:, 2:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["bert", "llama", "modernbert", "gpt2"])
def test_plain_attention_does_the_same_with_a_prefix(family: str, tiny_model: Make):
    models = [load_encoder(find(str(tiny_model(family)))) for _ in range(2)]
    models[1].set_attn_implementation("eager")  # type: ignore[operator]
    rows = [[3, 20, 30, 40, 50, 60], [3, 21, 31]]
    said = [read(make("methods", "prefix_tuning").apply(model, seed=0).eval(), rows) for model in models]
    for one, other in zip(*said, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["bert", "roberta", "llama", "gemma3_text", "gpt2"])
def test_vectors_of_a_text_are_like_reading_it(family: str, tiny_model: Make):
    pretrained = find(str(tiny_model(family)))
    model, plain = load_encoder(pretrained), load_encoder(pretrained)
    make("methods", "prompt_tuning", {"tokens": 3, "init": "text", "init_text": "good"}).apply(model, seed=0).eval()
    from weitiao.models.load import load_tokenizer

    text = load_tokenizer(pretrained)("good", add_special_tokens=False)["input_ids"]
    text, ids = (text * 3)[:3], [3, 20, 30, 40]
    front = family in ("llama", "gemma3_text", "gpt2")
    longer = [*text, *ids] if front else [ids[0], *text, *ids[1:]]
    table = {"bert": [0, 1, 1, 1, 1, 2, 3], "roberta": [2, 3, 3, 3, 3, 4, 5], "gpt2": [0, 0, 0, 0, 1, 2, 3]}
    with torch.no_grad():
        whole = plain(
            input_ids=torch.tensor([longer]), position_ids=torch.tensor([table.get(family, list(range(7)))])
        ).last_hidden_state[0]
    kept = whole[3:] if front else torch.cat([whole[:1], whole[4:]])
    torch.testing.assert_close(read(model, [ids])[0], kept, atol=1e-5, rtol=1e-4)


# --- writing ---


@pytest.mark.parametrize("family", WRITERS)
@every_method
def test_writes_the_same_with_a_cache_in_a_batch_and_alone(family: str, method: str, tiny_model: Make):
    model = writer(tiny_model(family, writer=family in ("llama", "gpt2", "qwen2", "gemma3_text")), method)
    rows = [[5, 20, 30, 40, 50], [5, 21]]
    long = torch.tensor([rows[0], [0, 0, 0, *rows[1]]])
    mask = torch.tensor([[1] * 5, [0, 0, 0, 1, 1]])
    if model.config.is_encoder_decoder:
        long[1], mask[1] = torch.tensor([*rows[1], 0, 0, 0]), torch.tensor([1, 1, 0, 0, 0])
    how = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "num_beams": 1}
    how |= {"return_dict_in_generate": True, "output_logits": True, "pad_token_id": 0, "forced_eos_token_id": None}

    def write(ids: Tensor, own: Tensor, **more: Any) -> Tensor:
        said = model.generate(input_ids=ids, attention_mask=own, **how, **more)
        return torch.stack(said.logits, dim=1)  # (rows, steps, vocabulary)

    with torch.no_grad():
        cached, fresh = write(long, mask, use_cache=True), write(long, mask, use_cache=False)
        alone = [write(torch.tensor([row]), torch.ones(1, len(row), dtype=torch.long), use_cache=True) for row in rows]
    torch.testing.assert_close(cached, fresh, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(cached, torch.cat(alone), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@every_method
def test_rows_packed_into_one_are_read_as_apart(family: str, method: str, tiny_model: Make):
    model = as_writer(writer(tiny_model(family, writer=True), method), {})
    rows = [{"input_ids": row, "labels": [-100, *row[1:]]} for row in ([5, 6, 7, 8, 9], [10, 11], [12, 13, 14])]
    batch = packed(rows, 0, -100)
    labels = batch.pop("labels")
    with torch.no_grad():
        together = model(**batch, **{TARGET_PLACES: labels != -100}).logits
        apart = {i: model(input_ids=torch.tensor([row["input_ids"]])).logits[0, 1:] for i, row in enumerate(rows)}
    torch.testing.assert_close(together, torch.cat([apart[i] for i in (0, 2, 1)]), atol=1e-5, rtol=1e-4)


# --- training ---


@pytest.mark.parametrize("method", [*PREFIXED, *PROMPTED])
def test_nothing_is_frozen_below_and_a_copy_is_its_own(method: str, tiny_bert: Path):
    at = trial("classification", tiny_bert)
    model = make("methods", method).apply(at.build(), seed=0)
    assert FrozenLayers.of(model, at.task.model_inputs(at.batch())).depth == 0
    twin, before = copy.deepcopy(model), at.logits(model)
    train(twin, at, gradient_checkpointing=True)
    plain = copy.deepcopy(model)
    train(plain, at)
    assert (at.logits(model) == before).all()
    assert abs(at.logits(twin) - before).max() > 1e-3
    assert abs(at.logits(twin) - at.logits(plain)).max() < 1e-5


@pytest.mark.parametrize("method", [*PREFIXED, *PROMPTED])
def test_only_what_came_out_is_kept(method: str, tiny_bert: Path, tiny_model: Make, tmp_path: Path):
    at, chosen = trial("classification", tiny_bert, pooling="mean"), make("methods", method)
    model = chosen.apply(at.build(), seed=0)
    chosen.save(model, tmp_path)
    opened = chosen.open(at.build(seed=1), tmp_path)
    modules = list(prefixes(opened).values()) if method in PREFIXED else [soft_prompt(opened)]
    ends = {name.rpartition(".")[2] for module in modules for name, _ in module.named_parameters()}
    assert ends == ({"key", "value"} if method in PREFIXED else {"vectors"})
    other = trial("classification", tiny_model("distilbert"), pooling="mean").build()
    with pytest.raises(ModelError, match=r"another (model|shape)"):
        make("methods", method).open(other.__class__(other.encoder.__class__(_wider(other)), pooling="mean"), tmp_path)
    with pytest.raises(ModelError, match=f"is of the method {method}"):
        make("methods", next(m for m in (*PREFIXED, *PROMPTED) if m != method)).open(at.build(), tmp_path)


def _wider(model: Any) -> Any:
    config = copy.deepcopy(model.config)
    config.dim, config.hidden_dim = 40, 80
    return config


def test_layers_that_share_weights_share_a_prefix(tiny_model: Make):
    assert len(places(load_encoder(find(str(tiny_model("albert")))))) == 1


def test_all_attention_of_an_encoder_decoder_has_a_prefix(tiny_model: Make):
    names = [place.name for place in places(load_writer(find(str(tiny_model("bart"))), seed=0))]
    assert len(names) == 2 + 2 + 2
    assert sum("encoder_attn" in name for name in names) == 2


def test_settings_without_effect_are_refused(tiny_bert: Path):
    for settings in ({"init": "text"}, {"init_text": "good"}):
        with pytest.raises(ValidationError, match="init_text is needed"):
            make("methods", "prompt_tuning", settings)
    long = make("methods", "prompt_tuning", {"tokens": 1, "init": "text", "init_text": "good bad"})
    with pytest.raises(ModelError, match="2 tokens, and"):
        long.apply(trial("classification", tiny_bert).build(), seed=0)
