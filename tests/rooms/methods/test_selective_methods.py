"""Biases, norms and bottlenecks: where they are found, and that a saved difference fits only its base."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from pydantic import ValidationError
from torch import nn

from trial import adapt, make, trial
from weitiao.errors import ModelError
from weitiao.models import parts, selected
from weitiao.models.bottleneck import Bottleneck, sublayer_ends
from weitiao.models.find import find
from weitiao.models.frozen import FrozenLayers
from weitiao.models.heads import load_with_head, load_writer
from weitiao.models.load import load_encoder
from weitiao.training.prefix import probe

Make = Callable[..., Path]
TASK = "classification"
METHODS = ("bitfit", "layer_norm", "houlsby", "pfeiffer")
# where the sublayers of a layer end: of the last layer, which in an encoder-decoder is one that writes
ENDS = {
    "bert": "attention.output.dense | output.dense",
    "distilbert": "attention.out_lin | ffn.lin2",
    "deberta-v2": "attention.output.dense | output.dense",
    "modernbert": "attn.Wo | mlp.Wo",
    "albert": "albert_layers.0.attention.dense | albert_layers.0.ffn_output",
    "llama": "self_attn.o_proj | mlp.down_proj",
    "gemma3_text": "self_attn.o_proj | mlp.down_proj",
    "gpt2": "attn.c_proj | mlp.c_proj",
    "t5": "layer.0.SelfAttention.o | layer.1.EncDecAttention.o | layer.2.DenseReluDense.wo",
    "bart": "self_attn.out_proj | encoder_attn.out_proj | fc2",
    "bert2bert": "attention.output.dense | crossattention.output.dense | output.dense",
}
WRITERS = ("llama", "gemma3_text", "gpt2", "t5", "bart", "bert2bert")


def load(family: str, tiny_model: Make) -> nn.Module:
    """Return a writer where the family writes, else an encoder."""
    pretrained = find(str(tiny_model(family, writer=family in WRITERS)))
    return load_writer(pretrained, seed=0) if family in WRITERS else load_encoder(pretrained)


def outputs(model: nn.Module) -> torch.Tensor:
    inputs = selected.two_tokens(model)
    with parts.in_eval(model):
        return model(**{name: ids + 3 if "ids" in name else ids for name, ids in inputs.items()})[0]


def trained(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("family", ENDS)
def test_bottlenecks_follow_the_last_dense_layer_of_each_sublayer(family: str, tiny_model: Make) -> None:
    model = load(family, tiny_model)
    ends = sublayer_ends(model)
    assert [end.path for end in ends[-1]] == ENDS[family].split(" | ")
    assert [end.kind for end in ends[-1]] == ["attention"] * (len(ends[-1]) - 1) + ["feed_forward"]
    assert all(len(block) == 2 for block in ends[: len(parts.input_layers(model))])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("family", ENDS)
def test_gradients_reach_exactly_what_trains(family: str, name: str, tiny_model: Make) -> None:
    """Also where a layer is used again and again (ALBERT), and where an encoder's pooler is read by nobody."""
    model, method = load(family, tiny_model), make("methods", name)
    if reason := method.suits(model):
        assert (name, family) in {("bitfit", f) for f in ("modernbert", "llama", "gemma3_text", "t5")}
        assert "has no biases to train" in reason
        return
    before = outputs(model).detach()
    model = method.apply(model, seed=0)
    torch.testing.assert_close(outputs(model).detach(), before, atol=2e-6, rtol=0)
    with torch.no_grad():  # a bottleneck's first half hears nothing while its second is zero
        for module in model.modules():
            if isinstance(module, Bottleneck):
                module.up.weight.normal_()
    said = model(**selected.two_tokens(model)).values()
    torch.stack([each.square().sum() for each in said if isinstance(each, torch.Tensor)]).sum().backward()
    assert trained(model)
    assert {key for key, p in model.named_parameters() if p.grad is not None} == trained(model)


def test_what_each_trains(tiny_bert: Path) -> None:
    model = trial(TASK, tiny_bert, pooling="mean").build()
    base, head = {name for name, _ in model.named_parameters()}, {"classifier.weight", "classifier.bias"}
    wanted = {
        "bitfit": head | {name for name in base if name.endswith("bias")},
        "layer_norm": head | {name for name in base if "LayerNorm" in name},
        "houlsby": head | {name for name in base if "layer" in name and "LayerNorm" in name},
        "pfeiffer": head,
    }
    for name, names in wanted.items():
        model = make("methods", name).apply(trial(TASK, tiny_bert, pooling="mean").build(), seed=0)
        inserted = {key for key in trained(model) if ".bottleneck." in key}
        assert trained(model) - inserted == names
        assert len(inserted) == {"houlsby": 2 * 2 * 4, "pfeiffer": 2 * 4}.get(name, 0)
        assert {key for key, _ in model.named_parameters()} - inserted == base  # names stay as they were


@pytest.mark.parametrize("name", METHODS)
def test_weights_no_checkpoint_gave_train_and_are_saved(name: str, tiny_bert: Path, tmp_path: Path) -> None:
    """A pooler that the checkpoint lacks comes out otherwise with another seed."""
    at, method = trial(TASK, tiny_bert, pooling="cls"), make("methods", name)
    model = at.build()
    model.new_parameters |= {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}  # type: ignore[operator]
    model = method.apply(model, seed=0)
    assert "bert.pooler.dense.weight" in trained(model)
    adapt(method, model, at)
    method.save(model, tmp_path, base="a-base")
    other = at.build(seed=1)
    other.new_parameters = model.new_parameters
    nn.init.normal_(other.bert.pooler.dense.weight)  # type: ignore[union-attr, arg-type]
    np.testing.assert_allclose(at.logits(method.open(other, tmp_path)), at.logits(model), atol=1e-6)
    assert json.loads((tmp_path / "difference.json").read_text())["base"] == "a-base"
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_a_difference_fits_only_its_base(tiny_bert: Path, tmp_path: Path) -> None:
    at, method = trial(TASK, tiny_bert, pooling="mean"), make("methods", "pfeiffer", {"size": 4})
    method.save(method.apply(at.build(), seed=0), tmp_path)
    with pytest.raises(ModelError, match=r"down\.bias is 4 in it and 5 in the model; tensors that differ: 6"):
        make("methods", "pfeiffer", {"size": 5}).open(at.build(), tmp_path)
    with pytest.raises(ModelError, match="is missing in it and 32 in the model"):
        make("methods", "bitfit").open(at.build(), tmp_path)
    facts = tmp_path / "difference.json"
    facts.write_text(facts.read_text().replace("classifier.bias", "classifier.other"))
    with pytest.raises(ModelError, match="holds other tensors than"):
        method.open(at.build(), tmp_path)
    facts.write_text("{}")
    with pytest.raises(ModelError, match="cannot be opened"):
        method.open(at.build(), tmp_path)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_a_bottleneck_writes_the_same_with_and_without_a_cache(family: str, tiny_model: Make) -> None:
    """Padding on the left, and keys kept from step to step, change nothing of what is written."""
    model = make("methods", "houlsby").apply(load(family, tiny_model), seed=0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Bottleneck):
                module.up.weight.normal_()
    ids, mask = torch.tensor([[1, 1, 5, 9], [7, 8, 9, 10]]), torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    how = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "pad_token_id": 1}
    said = [model.generate(input_ids=ids, attention_mask=mask, use_cache=c, **how) for c in (True, False)]  # type: ignore
    alone = model.generate(input_ids=ids[:1, 2:], attention_mask=mask[:1, 2:], **how)  # type: ignore[operator]
    assert torch.equal(said[0], said[1])
    assert torch.equal(said[0][0, -5:], alone[0, -5:])
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(twin.generate(input_ids=ids, attention_mask=mask, **how), said[0])  # type: ignore[operator]


@pytest.mark.parametrize("name", ["houlsby", "pfeiffer"])
def test_layers_below_the_bottlenecks_run_once_a_row(name: str, tiny_bert: Path) -> None:
    at, method = trial(TASK, tiny_bert, pooling="mean"), make("methods", name, {"last_layers": 1})
    model = method.apply(at.build(), seed=0)
    frozen = FrozenLayers.of(model, probe(at.task, at.features))
    assert frozen.depth == 1
    assert frozen.why_not(probe(at.task, at.features)) is None
    assert not any(".layer.0." in key for key in trained(model))
    assert "2 layers; leave it out" in str(make("methods", name, {"last_layers": 2}).suits(at.build()))


def test_heads_for_tokens_and_spans_train_too(tiny_bert: Path) -> None:
    for head in ("tokens", "spans"):
        model = load_with_head(find(str(tiny_bert)), head, labels=["O", "B"] if head == "tokens" else (), seed=0)
        for name in METHODS:
            assert make("methods", name).apply(copy.deepcopy(model), seed=0) is not None
            assert parts.head_parameters(model) <= trained(make("methods", name).apply(copy.deepcopy(model), seed=0))


def test_one_width_is_said_once() -> None:
    with pytest.raises(ValidationError, match="leave one out"):
        make("methods", "pfeiffer", {"size": 8, "reduction_factor": 16})


def test_layers_without_attention_that_ends_in_a_dense_layer_are_refused(tiny_bert: Path) -> None:
    model = trial(TASK, tiny_bert, pooling="mean").build()
    for layer in parts.layers(model):
        layer.attention.output.dense = nn.Identity()  # type: ignore[union-attr]
        for key in ("query", "key", "value"):
            setattr(layer.attention.self, key, nn.Identity())  # type: ignore[union-attr]
    assert make("methods", "pfeiffer").suits(model) is None
    assert "layers without attention" in str(make("methods", "houlsby").suits(model))


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [("Qwen2Moe", "do not end in one dense layer"), ("Mixtral", "layers without feed-forward that ends in a dense")],
)
def test_mixtures_of_experts_are_refused(architecture: str, reason: str) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = getattr(transformers, f"{architecture}Config")(vocab_size=9, intermediate_size=8, **sizes)
    model = getattr(transformers, f"{architecture}Model")(config)
    assert reason in str(make("methods", "pfeiffer").suits(model))
    assert make("methods", "layer_norm").suits(model) is None
