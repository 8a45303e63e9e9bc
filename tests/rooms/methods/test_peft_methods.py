"""What is special to one method of PEFT's, and what they share; what holds for all methods is in the contracts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from safetensors.torch import load_file

from trial import Trial, adapt, make, train, trial
from weitiao.methods._unlearnt import modules_that_hold, modules_to_keep, unlearnt_parameters
from weitiao.models import parts
from weitiao.models.bert2bert import make_bert2bert
from weitiao.models.frozen import FrozenLayers
from weitiao.training.checkpoint import Checkpoints
from weitiao.training.groups import parameter_groups
from weitiao.training.hook import Hook
from weitiao.training.loop import Outside
from weitiao.training.method_hook import method_hooks
from weitiao.training.prefix import probe
from weitiao.training.settings import TrainingSettings

Make = Callable[..., Path]
METHODS = ("lora", "rslora", "dora", "adalora", "vera", "ia3", "oft")
TASK = "classification"
every = pytest.mark.parametrize("name", METHODS)


@pytest.fixture
def at(tiny_bert) -> Trial:
    return trial(TASK, tiny_bert, pooling="mean")


def trained(model) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def linear(model, path: str):
    return dict(model.named_modules())[path]


# --- what they share ---


@every
def test_layers_count_as_frozen_only_below_the_first_update(name, at):
    inputs = probe(at.task, at.features)
    whole = make("methods", name).apply(at.build(), seed=0)
    settings = make("methods", name).tiny()["settings"]
    last = make("methods", name, settings | {"last_layers": 1}).apply(at.build(), seed=0)
    assert [FrozenLayers.of(model, inputs).depth for model in (whole, last)] == [0, 1]


@every
def test_asks_for_no_more_layers_than_there_are(name, at):
    method = make("methods", name, make("methods", name).tiny()["settings"] | {"last_layers": 2})
    assert method.suits(at.build()) == "last_layers is 2, and the model has 2 layers; leave it out for all"


@pytest.mark.parametrize("name", [name for name in METHODS if name != "ia3"])
def test_names_that_match_nothing_are_refused_before_anything_is_built(name, at):
    reason = make("methods", name, {"target_modules": ["q_lin"]}).suits(at.build())
    assert reason.startswith("target_modules has names of no dense layer: q_lin; there are query, key, value, ")


@every
@pytest.mark.parametrize("family", ["t5", "llama"])
def test_writers_learn_and_write_alike_when_opened_again(name, family, tiny_model: Make, tmp_path):
    at, method = trial("translation", tiny_model(family, writer=True)), make("methods", name)
    assert method.suits(at.build()) is None
    model = method.apply(at.build(), seed=0)
    adapt(method, model, at, steps=2)
    method.save(model, tmp_path)
    opened = method.open(at.build(seed=1), tmp_path)
    np.testing.assert_array_equal(at.logits(opened), at.logits(model))
    np.testing.assert_allclose(at.logits(method.whole(model)), at.logits(model), atol=1e-4)


@pytest.fixture(scope="module")
def between(tiny_bert, tmp_path_factory) -> Path:
    """Two tiny BERTs made to write: what lies between them is new."""
    return make_bert2bert(str(tiny_bert), tmp_path_factory.mktemp("between") / "model")


@every
def test_what_lies_between_two_encoders_trains_and_is_saved(name, between, tmp_path):
    at, method = trial("translation", between), make("methods", name)
    base = at.build()
    new = {n for n, _ in base.named_parameters() if "crossattention" in n}
    assert new <= unlearnt_parameters(base)
    assert method.suits(base) is None
    model = method.apply(base, seed=0)
    kept = {n.replace("base_model.model.", "").replace("modules_to_save.default.", "") for n in trained(model)}
    assert new <= kept
    assert trained(model) & parts.head_parameters(model) >= {n for n in trained(model) if "crossattention" in n}
    assert not any("crossattention" in n and ("lora_" in n or "ia3_" in n) for n in trained(model))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    adapt(method, model, at)
    assert not any(torch.equal(before[n], p) for n, p in model.named_parameters() if "default.self" in n)
    method.save(model, tmp_path)
    other = at.build()
    with torch.no_grad():
        for n, p in other.named_parameters():
            if n in new:
                p.add_(1.0)  # as another machine would draw it
    np.testing.assert_allclose(at.logits(method.open(other, tmp_path)), at.logits(model), atol=1e-6)
    np.testing.assert_allclose(at.logits(method.whole(model)), at.logits(model), atol=1e-5)


def test_a_pair_that_was_trained_has_nothing_new(between):
    at = trial("translation", between)
    model = make("methods", "full").apply(at.build(), seed=0)
    train(model, at)
    assert not unlearnt_parameters(model)


def test_new_parameters_are_held_by_the_largest_module_that_is_all_new(tiny_bert):
    model: Any = trial(TASK, tiny_bert, pooling="cls").build()
    layer = "bert.encoder.layer.1"
    query = {f"{layer}.attention.self.query.weight"}
    output = {n for n, _ in model.named_parameters() if n.startswith(f"{layer}.output.")}
    assert modules_that_hold(model, query) == [f"{layer}.attention.self.query"]
    assert modules_that_hold(model, query | output) == [f"{layer}.attention.self.query", f"{layer}.output"]
    everything = {n for n, _ in model.named_parameters() if n.startswith("bert.encoder.")}
    assert modules_that_hold(model, everything) == ["bert.encoder"]
    model.new_parameters = frozenset({*model.new_parameters, *output})
    assert modules_to_keep(model) == ["classifier", f"{layer}.output"]


# --- rslora, dora ---


def test_rslora_counts_by_the_root_of_its_rank(at):
    model = make("methods", "rslora", {"rank": 16, "alpha": 6.0}).apply(at.build(), seed=0)
    layer = linear(model, "base_model.model.encoder.encoder.layer.1.attention.self.query")
    assert layer.scaling["default"] == pytest.approx(6.0 / 4)


def test_dora_keeps_lengths_apart(at):
    method = make("methods", "dora", {"rank": 4})
    model = method.apply(at.build(), seed=0)
    train(model, at)
    path = "encoder.encoder.layer.1.attention.self.query"
    layer, whole = linear(model, f"base_model.model.{path}"), linear(method.whole(model), path).weight
    lengths = layer.lora_magnitude_vector["default"].weight
    torch.testing.assert_close(whole.norm(dim=1), lengths, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(lengths, layer.base_layer.weight.norm(dim=1), atol=1e-4)


def test_dora_refuses_a_weight_vector_without_direction(at):
    model = at.build()
    path = "encoder.encoder.layer.1.attention.self.value"
    with torch.no_grad():
        linear(model, path).weight[3] = 0
    assert make("methods", "dora").suits(model) == (
        f"{path} has a weight vector of zeros, which has no direction; use lora"
    )


# --- adalora ---

_SCHEDULE = {"rank": 6, "target_rank": 2, "warmup_share": 0.25, "final_share": 0.25}


class _Watch(Hook):
    """Notes how many triplets are left after each step, and stops where it is told."""

    name = "watch"

    def __init__(self, method, model, stop: int | None = None) -> None:
        super().__init__()
        self.method, self.model, self.stop, self.kept = method, model, stop, []

    def after_epoch(self, loop) -> None:
        self.kept.append(self.method.outcome(self.model)["kept"])
        if loop.position.step == self.stop:
            loop.save()
            raise KeyboardInterrupt


def test_adalora_falls_to_its_budget(at):
    method = make("methods", "adalora", _SCHEDULE)
    model = method.apply(at.build(), seed=0)
    watch = _Watch(method, model)
    train(model, at, hooks=[watch, *method_hooks(method)], epochs=8)
    assert watch.kept == [24, 24, 14, 10, 8, 8, 8, 8]  # 8 + 16 (1 - (step - 2) / 4) ** 3, rounded down
    outcome = method.outcome(model)
    assert outcome["budget"] == outcome["kept"] == sum(outcome["ranks"].values()) == 8
    assert set(outcome["ranks"]) == {
        f"encoder.encoder.layer.{i}.attention.self.{what}" for i in range(2) for what in ("query", "value")
    }
    config = model.peft_config["default"]
    assert (config.total_step, config.tinit, config.tfinal) == (8, 2, 2)


def test_adalora_takes_the_worth_of_a_number_as_peft_does(at):
    from peft.tuners.adalora.layer import RankAllocator

    method = make("methods", "adalora", _SCHEDULE)
    model = method.apply(at.build(), seed=0)
    theirs = RankAllocator(model, model.peft_config["default"], "default")
    for step in range(3):
        for p in model.parameters():
            p.grad = torch.randn_like(p) if p.requires_grad else None
        method.before_step(model, step, 8)
        theirs.update_ipt(model)
    state = method.state_dict(model)
    worth = {k.removeprefix("base_model.model."): v for k, v in theirs.exp_avg_ipt.items()}
    wavers = {k.removeprefix("base_model.model."): v for k, v in theirs.exp_avg_unc.items()}
    for name in worth:
        torch.testing.assert_close(state[f"worth:{name.removesuffix('.default')}"], worth[name])
        torch.testing.assert_close(state[f"wavers:{name.removesuffix('.default')}"], wavers[name])
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_E" in name:
                p.fill_(1.0)
    pattern = theirs.mask_to_budget(model, 10)
    kept = [sum(mask) for mask in pattern.values()]
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_E" in name:
                p.fill_(1.0)
    method._budget = lambda *_: 10
    method.after_step(model, 5, 8)
    assert list(method.outcome(model)["ranks"].values()) == kept


@pytest.mark.parametrize("stop", [3, 7])  # while ranks fall, and when they stay
def test_adalora_resumed_ends_with_the_same_bits(stop, at, tmp_path):
    def run(folder: Path, stop: int | None = None):
        method = make("methods", "adalora", _SCHEDULE | {"dropout": 0.1})
        model = method.apply(at.build(), seed=0)
        hooks = [*method_hooks(method), _Watch(method, model, stop)]
        train(model, at, hooks=hooks, epochs=8, outside=Outside(checkpoints=Checkpoints(folder)))
        return model, method

    whole, _ = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", stop)
    resumed, method = run(tmp_path / "killed")
    ours, theirs = dict(resumed.named_parameters()), dict(whole.named_parameters())
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert method.outcome(resumed)["kept"] == 8


def test_adalora_is_opened_by_plain_peft(at, tmp_path):
    method = make("methods", "adalora", _SCHEDULE)
    model = method.apply(at.build(), seed=0)
    train(model, at, hooks=method_hooks(method), epochs=8)
    method.save(model, tmp_path)
    plain = PeftModel.from_pretrained(at.build(seed=1), tmp_path)
    np.testing.assert_array_equal(at.logits(plain), at.logits(model))
    assert method.outcome(plain) == method.outcome(model)


@pytest.mark.parametrize(
    "settings", [{"rank": 4, "target_rank": 4}, {"warmup_share": 0.5, "final_share": 0.5}, {"orthogonality": -1}]
)
def test_adalora_refuses_a_schedule_without_effect(settings):
    with pytest.raises(ValidationError):
        make("methods", "adalora", settings)


# --- vera, ia3, oft, qlora ---


def test_vera_saves_the_projections_that_it_shares(at, tmp_path):
    method = make("methods", "vera", {"rank": 16})
    model = method.apply(at.build(), seed=0)
    adapt(method, model, at)
    method.save(model, tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert {k: tuple(v.shape) for k, v in saved.items() if ".vera_A" in k or ".vera_B" in k} == {
        "base_model.vera_A": (16, 32),
        "base_model.vera_B": (32, 16),
    }
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"projection_prng_key": 1}))  # drawn otherwise
    np.testing.assert_array_equal(at.logits(method.open(at.build(seed=1), tmp_path)), at.logits(model))


KEYS_VALUES_ENDS = {
    "bert": ("attention.self.key", "attention.self.value", "output.dense"),
    "distilbert": ("attention.k_lin", "attention.v_lin", "ffn.lin2"),
    "deberta-v2": ("attention.self.key_proj", "attention.self.value_proj", "output.dense"),
    "modernbert": ("attn.Wqkv", "mlp.Wo"),
    "albert": ("attention.key", "attention.value", "ffn_output"),
    "llama": ("self_attn.k_proj", "self_attn.v_proj", "mlp.down_proj"),
    "gpt2": ("attn.c_attn", "mlp.c_proj"),
}


@pytest.mark.parametrize("family", KEYS_VALUES_ENDS)
def test_ia3_scales_keys_values_and_the_end_of_the_feed_forward_part(family, tiny_model: Make):
    at = trial(TASK, tiny_model(family), pooling="mean")
    model = make("methods", "ia3").apply(at.build(), seed=0)
    names = {name.removesuffix(".ia3_l.default") for name in trained(model) if "ia3_l" in name}
    blocks = 1 if family == "albert" else 2
    assert len(names) == blocks * len(KEYS_VALUES_ENDS[family])
    assert all(any(name.endswith(f".{end}") for end in KEYS_VALUES_ENDS[family]) for name in names)
    assert not any("attention.output" in name or "attn.c_proj" in name or "attn.Wo" in name for name in names)
    for name in names:
        layer = linear(model, name)
        assert layer.is_feedforward == name.endswith(KEYS_VALUES_ENDS[family][-1])


def test_ia3_refuses_a_model_whose_keys_it_does_not_know(at, monkeypatch):
    monkeypatch.setattr("weitiao.methods.ia3._KEY_VALUE", ())
    assert make("methods", "ia3").suits(at.build()) == (
        "it is not known which layers of BertModel make keys and values"
    )


def test_oft_changes_no_length_and_no_angle(at):
    method = make("methods", "oft", {"block_size": 8})
    before = linear(at.build(), "encoder.encoder.layer.1.attention.self.query").weight
    model = method.apply(at.build(), seed=0)
    train(model, at, learning_rate=0.1)
    after = linear(method.whole(model), "encoder.encoder.layer.1.attention.self.query").weight
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(after @ after.T, before @ before.T, rtol=1e-4, atol=1e-6)


def test_oft_refuses_what_it_cannot_turn(at, tiny_model: Make):
    path = "encoder.encoder.layer.0.attention.self.query"
    reason = make("methods", "oft", {"block_size": 24}).suits(at.build())
    assert reason == f"{path} reads 32 coordinates, which blocks of 24 do not divide"
    assert "Conv1D" in make("methods", "oft").suits(trial(TASK, tiny_model("gpt2")).build())


def test_qlora_needs_a_device(at, tmp_path):
    method = make("methods", "qlora")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert method.suits(at.build()) == "four-bit weights need a CUDA device, and there is none here; use lora"
    with pytest.raises(ValueError, match="cannot be opened here: four-bit weights need a CUDA device"):
        method.open(at.build(), tmp_path)


def test_weight_decay_leaves_the_factors_of_ia3_alone(at):
    model = make("methods", "ia3").apply(at.build(), seed=0)
    settings = TrainingSettings(weight_decay=0.1)
    kept = {id(p) for g in parameter_groups(model, settings, 1e-3) if not g["weight_decay"] for p in g["params"]}
    own = {name for name, p in model.named_parameters() if p.requires_grad and id(p) in kept}
    assert {name for name in trained(model) if ".ia3_l" in name} <= own
    assert trained(model) - own, "nothing decays"
