"""Where things are in a model, for every tiny family; pooling against its definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from weitiao.errors import ModelError
from weitiao.models import load, parts
from weitiao.models.find import find

QUERY_VALUE = {
    "bert": ["query", "value"],
    "distilbert": ["q_lin", "v_lin"],
    "roberta": ["query", "value"],
    "deberta-v2": ["query_proj", "value_proj"],
    "modernbert": ["Wqkv"],
    "albert": ["query", "value"],
    "llama": ["q_proj", "v_proj"],
    "gpt2": ["c_attn"],
}
AFTER = {  # under the family's own pooling
    "bert": {"bert.pooler.dense.weight", "bert.pooler.dense.bias"},
    "albert": {"albert.pooler.weight", "albert.pooler.bias"},
    "modernbert": {"model.final_norm.weight"},
    "llama": {"model.norm.weight"},
    "gpt2": {"transformer.ln_f.weight", "transformer.ln_f.bias"},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("tiny")
    found = {family: find(str(tiny.make(family, root / family))) for family in tiny.FAMILIES}
    return {
        family: load.load_sequence_classifier(p, labels=["a", "b"], pooling=p.pooling, seed=0)
        for family, p in found.items()
    }


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_backbone_layers_and_head(family: str, models: dict[str, Any]) -> None:
    model = models[family]
    assert len(parts.layers(model)) == (1 if family == "albert" else 2)  # ALBERT's layers share one set of weights
    inside = {id(p) for p in parts.backbone(model).parameters()}
    heads = parts.head_parameters(model)
    assert {name for name, p in model.named_parameters() if id(p) not in inside} == heads
    assert {name.split(".")[0] for name in heads} == set(parts.head_modules(model))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_what_acts_after_the_last_layer(family: str, models: dict[str, Any]) -> None:
    model = models[family]
    state = torch.get_rng_state()
    assert parts.after_layers(model) == AFTER.get(family, set())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in parts.backbone(model).modules())


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_default_targets_are_queries_and_values(family: str, models: dict[str, Any]) -> None:
    model = models[family]
    assert parts.linear_names(model) == QUERY_VALUE[family]
    assert parts.adapter_targets(model, None, method="LoRA") == QUERY_VALUE[family]
    everything = parts.linear_names(model, "all")
    assert set(QUERY_VALUE[family]) < set(everything)
    assert parts.adapter_targets(model, everything, method="LoRA") == everything


def test_targets_that_match_nothing_are_refused_with_those_that_would(models: dict[str, Any]) -> None:
    with pytest.raises(ModelError) as caught:
        parts.adapter_targets(models["bert"], ["q_proj"], method="LoRA")
    assert str(caught.value) == (
        "LoRA fits no layer of BertModel: target_modules=['q_proj'] matches nothing. Dense layers here: query, key, "
        "value, attention.output.dense, intermediate.dense, output.dense. Leave target_modules out to take query and "
        "value."
    )
    with pytest.raises(ModelError, match=r"has names that match nothing: v_proj\. Dense layers here: query"):
        parts.adapter_targets(models["bert"], ["query", "v_proj"], method="LoRA")


def test_unknown_architectures_are_seen_by_structure() -> None:
    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention_in, self.mix = torch.nn.Linear(4, 12), torch.nn.Linear(4, 4)
            self.experts = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(9))

    model = torch.nn.Module()
    model.blocks = torch.nn.ModuleList(Block() for _ in range(3))
    assert len(parts.layers(model)) == 3  # not the nine experts of a block
    assert parts.linear_names(model) == ["attention_in"]
    with pytest.raises(ModelError, match="Linear has no stack of equal layers"):
        parts.layers(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert", "gpt2"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_names_are_found_through_peft(family: str, pooling: str, models: dict[str, Any], tmp_path: Path) -> None:
    import warnings

    from peft import LoraConfig, PeftModel, get_peft_model

    pretrained = find(str(tiny.make(family, tmp_path / family)))

    def build() -> Any:
        return load.load_sequence_classifier(pretrained, labels=["a", "b"], pooling=pooling, seed=0)

    plain = build()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GPT-2's transposed layers: peft says that it adapts itself
        wrapped = get_peft_model(
            build(), LoraConfig(target_modules=parts.linear_names(plain), modules_to_save=parts.head_modules(plain))
        )
    assert type(parts.backbone(wrapped)) is type(parts.backbone(plain))
    assert len(parts.layers(wrapped)) == 2
    assert parts.head_modules(wrapped) == parts.head_modules(plain)
    assert parts.linear_names(wrapped, "all") == parts.linear_names(plain, "all")
    heads = parts.head_parameters(wrapped)
    trained = {name for name, p in wrapped.named_parameters() if p.requires_grad and "lora_" not in name}
    assert heads == trained
    tokenizer = load.load_tokenizer(pretrained)
    inputs = tokenizer(["房间很干净", "good"], padding=True, return_tensors="pt")
    with torch.no_grad():
        for name, p in wrapped.named_parameters():
            if "lora_B" in name:
                p.normal_(generator=torch.Generator().manual_seed(0))
        expected = wrapped.eval()(**inputs).logits
        assert not torch.allclose(expected, plain(**inputs).logits)
        wrapped.save_pretrained(tmp_path / "adapter")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            again = PeftModel.from_pretrained(build(), tmp_path / "adapter").eval()
        assert torch.equal(again(**inputs).logits, expected)
        merged = wrapped.merge_and_unload()
        load.save(merged, tmp_path / "merged")
        assert torch.allclose(load.open_saved(tmp_path / "merged")(**inputs).logits, expected, atol=1e-5)


@given(data=st.data(), pooling=st.sampled_from(parts.POOLINGS), left=st.booleans())
def test_pooling_is_what_it_says_whatever_the_padding(data: st.DataObject, pooling: str, left: bool) -> None:
    lengths = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    width = max(lengths) + data.draw(st.integers(0, 2))
    hidden = torch.randn(len(lengths), width, 3, generator=torch.Generator().manual_seed(sum(lengths)))
    mask = torch.zeros(len(lengths), width, dtype=torch.long)
    expected = []
    for i, length in enumerate(lengths):
        inside = slice(width - length, width) if left else slice(0, length)
        mask[i, inside] = 1
        tokens = hidden[i, inside]
        expected.append({"cls": tokens[0], "last": tokens[-1], "mean": tokens.mean(0)}[pooling])
    hidden[mask == 0] = 1e6
    assert torch.allclose(parts.pool(hidden, mask, pooling), torch.stack(expected), atol=1e-5)


def test_unknown_pooling_is_refused() -> None:
    with pytest.raises(ModelError, match=r"pooling='max' is not known\. Take one of cls, mean, last\."):
        parts.pool(torch.zeros(1, 1, 1), torch.ones(1, 1), "max")
