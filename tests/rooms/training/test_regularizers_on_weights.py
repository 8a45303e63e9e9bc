"""Regularizers that act on weights do what their formulas say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from trial import Trial, make, train, trial, without_dropout
from weitiao.models import parts
from weitiao.plugins import find
from weitiao.training.hook import Hook
from weitiao.training.loop import Loop, Outside
from weitiao.training.settings import TrainingSettings

SIX_STEPS: dict[str, Any] = {"batch_size": 4, "epochs": 2}  # of nine rows
SGD: dict[str, Any] = {"optimizer": {"name": "sgd", "momentum": 0.0}, "learning_rate": 1e-2}


class Watch(Hook):
    """Notes the weights that train after every step, gradients before it, and what else is asked for."""

    def __init__(self, look: Callable[[Loop], Any] = lambda loop: None) -> None:
        super().__init__()
        self.look, self.path, self.gradients, self.seen = look, [], [], []

    def before_step(self, loop: Loop) -> None:
        self.gradients.append(
            {n: None if p.grad is None else p.grad.clone() for n, p in loop.plain_model.named_parameters()}
        )
        self.seen.append(self.look(loop))

    def after_step(self, loop: Loop) -> None:
        self.path.append(named(loop.plain_model))


def named(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.fixture(scope="module")
def at(tiny_bert: Path) -> Trial:
    return trial("classification", tiny_bert)


def still(at: Trial) -> Any:
    """Return the tiny model without dropout, so that two runs differ in the hook alone."""
    return without_dropout(at.build()).requires_grad_(True)


# --- averages ---


@pytest.mark.parametrize("settings", [{}, {"decay": 0.3}, {"decay": 0.9, "warmup": False}])
def test_ema_is_the_closed_formula(at: Trial, settings: dict[str, Any]) -> None:
    model, watch = still(at), Watch()
    expected = {name: value.double() for name, value in named(model).items()}
    train(model, at, hooks=[make("regularizers", "ema", settings), watch], **SIX_STEPS)
    assert len(watch.path) == 6
    for taken, now in enumerate(watch.path, start=1):
        decay = settings.get("decay", 0.999)
        if settings.get("warmup", True):
            decay = min(decay, (1 + taken) / (10 + taken))
        expected = {name: decay * value + (1 - decay) * now[name].double() for name, value in expected.items()}
    for name, value in named(model).items():
        torch.testing.assert_close(value.double(), expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [({}, [4, 5, 6]), ({"start_share": 0.0}, range(1, 7)), ({"start_share": 0.34, "every": 2}, [2, 4, 6])],
)
def test_swa_is_the_mean_of_its_snapshots(at: Trial, settings: dict[str, Any], steps: Any) -> None:
    model, watch = still(at), Watch()
    train(model, at, hooks=[make("regularizers", "swa", settings), watch], **SIX_STEPS)
    for name, value in named(model).items():
        mean = torch.stack([watch.path[step - 1][name].double() for step in steps]).mean(0)
        torch.testing.assert_close(value.double(), mean, rtol=0, atol=1e-6)


def test_swa_measures_the_weights_that_train_until_it_starts(at: Trial) -> None:
    watch, seen = Watch(), []

    def measure(model: nn.Module) -> dict[str, float]:
        seen.append(named(model))
        return {"score": float(len(seen))}

    hooks = [make("regularizers", "swa"), watch]
    train(still(at), at, hooks=hooks, outside=Outside(measure=measure), evaluate_steps=1, **SIX_STEPS)
    same = [all(torch.equal(saw[name], own[name]) for name in own) for saw, own in zip(seen, watch.path, strict=True)]
    assert same == [True, True, True, True, False, False]  # after step 4 it is the mean of one snapshot


def test_swa_that_patience_stopped_before_its_start_leaves_the_best_weights(at: Trial) -> None:
    model, watch = still(at), Watch()
    hook = make("regularizers", "swa", {"start_share": 0.9})
    outside = Outside(measure=lambda model: {"score": 0.5})
    loop = train(model, at, hooks=[hook, watch], outside=outside, evaluate_steps=1, patience=1, **SIX_STEPS)
    assert loop.position.step == 2
    assert not hook.state_dict()
    torch.testing.assert_close(named(model), watch.path[0], rtol=0, atol=0)


def test_averages_of_half_precision_are_kept_in_float32(at: Trial) -> None:
    model = still(at).to(torch.bfloat16)
    hook = make("regularizers", "ema", {"decay": 0.99, "warmup": False})
    train(model, at, hooks=[hook], **SIX_STEPS)
    assert {value.dtype for value in hook.state_dict().values()} == {torch.float32}
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


# --- towards the start ---


def test_l2_sp_adds_strength_times_the_distance(at: Trial) -> None:
    """The term is strength / 2 * ||w - w0||^2, so its gradient is strength * (w - w0); new weights go to zero."""
    model = still(at)
    start, fresh = named(model), parts.new_parameters(model)
    assert fresh
    hook = make("regularizers", "l2_sp", {"strength": 0.5, "head_strength": 0.25})
    before, after = Watch(named_weights), Watch()
    train(model, at, hooks=[before, hook, after], **SIX_STEPS)
    for now, plain, whole in zip(before.seen, before.gradients, after.gradients, strict=True):
        for name, weight in now.items():
            term = 0.25 * weight if name in fresh else 0.5 * (weight - start[name])
            torch.testing.assert_close(whole[name], plain[name] + term, rtol=0, atol=1e-7)


def named_weights(loop: Loop) -> dict[str, torch.Tensor]:
    return named(loop.plain_model)


def test_l2_sp_that_is_strong_keeps_the_pretrained_weights(at: Trial) -> None:
    away = {}
    for hooks in ([], [make("regularizers", "l2_sp", {"strength": 50.0})]):
        model = still(at)
        start, fresh = named(model), parts.new_parameters(model)
        train(model, at, hooks=hooks, **SGD, epochs=20)
        away[len(hooks)] = max(
            (now - start[key]).norm().item() for key, now in named(model).items() if key not in fresh
        )
    assert away[1] < 0.2 * away[0]


def test_mixout_with_a_probability_near_1_keeps_the_pretrained_matrices(at: Trial) -> None:
    model = still(at)
    start = named(model)
    train(model, at, hooks=[make("regularizers", "mixout", {"probability": 0.9999})], **SGD)
    for name, now in named(model).items():
        if "dense.weight" in name or ("self" in name and "weight" in name):
            assert (now != start[name]).float().mean() < 0.005
    assert not torch.equal(model.classifier.weight, start["classifier.weight"])


def test_mixout_is_its_formula_forwards_and_backwards(at: Trial) -> None:
    model, chance = still(at), 0.7
    mixed, whole = Watch(named_weights), Watch(named_weights)  # before_step runs in this order: mixout between them
    start, fresh = named(model), parts.new_parameters(model)
    train(model, at, hooks=[mixed, make("regularizers", "mixout", {"probability": chance}), whole], **SGD, epochs=3)
    matrices = {n for n, p in start.items() if p.dim() > 1 and "embedding" not in n and n not in fresh}
    assert len(matrices) == 13  # six of each layer, and the pooler's
    own = start
    for step in range(3):
        used, now = mixed.seen[step], whole.path[step]
        for name, weight in own.items():
            before, after = mixed.gradients[step][name], whole.gradients[step][name]
            assert torch.equal(whole.seen[step][name], weight), "the weights themselves are not back"
            torch.testing.assert_close(now[name], weight - 1e-2 * after, rtol=0, atol=1e-7)
            if name not in matrices:
                assert torch.equal(used[name], weight), f"{name} was mixed"
                assert torch.equal(before, after)
                continue
            put_back = (after == 0) & (before != 0)
            assert abs(put_back.sum() / (before != 0).sum() - chance) < 0.08
            kept = after != 0
            torch.testing.assert_close(after[kept], before[kept] / (1 - chance))
            assert torch.equal(used[name][put_back], start[name][put_back])
            rest = (weight - chance * start[name]) / (1 - chance)
            torch.testing.assert_close(used[name][kept], rest[kept], rtol=0, atol=1e-6)
        own = now


def test_mixout_draws_another_mask_in_every_step_and_for_every_seed(at: Trial) -> None:
    def kept(seed: int) -> list[torch.Tensor]:
        watch = Watch(named_weights)
        model = still(at)
        start = named(model)["bert.encoder.layer.0.output.dense.weight"]
        hook = make("regularizers", "mixout")
        loop = Loop(model, at.task, at.features, TrainingSettings(epochs=5, learning_rate=1e-2), seed, [watch, hook])
        loop.run()
        return [saw["bert.encoder.layer.0.output.dense.weight"] == start for saw in watch.seen[2:]]

    one, other = kept(0), kept(1)
    assert not torch.equal(one[0], one[1])
    assert not torch.equal(one[0], other[0])


@pytest.mark.parametrize("name", ["l2_sp", "mixout"])
def test_without_pretrained_weights_that_train_there_is_no_start_to_hold_to(at: Trial, name: str) -> None:
    hook, model = make("regularizers", name), at.build().requires_grad_(True)
    assert hook.suits(model, at.task) is None
    for key, parameter in model.named_parameters():
        parameter.requires_grad = key in parts.new_parameters(model)
    assert "no pretrained weight" in (hook.suits(model, at.task) or "")
    adapted = find("methods", "lora")().apply(at.build(), seed=0)
    assert "no pretrained weight" in (hook.suits(adapted, at.task) or "")


# --- turns ---


def test_layers_stay_at_their_start_until_their_turn(at: Trial) -> None:
    model, watch = still(at), Watch()
    start = named(model)
    hook = make("regularizers", "gradual_unfreezing", {"every": 2 / 9})  # two of nine steps
    train(model, at, hooks=[hook, watch], **{**SIX_STEPS, "epochs": 3})
    turns = {"classifier": 0, "pooler": 0, "layer.1.": 2, "layer.0.": 4, "embeddings": 6}
    assert len(watch.path) == 9
    for key, first in turns.items():
        names = [name for name in start if key in name]
        assert names
        for step, now in enumerate(watch.path):
            moved = [name for name in names if not torch.equal(now[name], start[name])]
            assert bool(moved) is (step >= first), f"{key} after step {step + 1}"


def test_turns_left_out_are_over_at_half_of_the_steps(at: Trial) -> None:
    watch = Watch()
    train(still(at), at, hooks=[make("regularizers", "gradual_unfreezing"), watch], **SIX_STEPS)
    waiting = [sum(gradient is None for gradient in gradients.values()) for gradients in watch.gradients]
    assert waiting[0] > waiting[1] > waiting[2] > 0
    assert waiting[3:] == [0, 0, 0]


@pytest.mark.parametrize("family", ["distilbert", "deberta-v2", "modernbert", "albert", "llama", "gpt2"])
def test_every_family_has_turns(tiny_model: Callable[[str], Path], family: str) -> None:
    at = trial("classification", tiny_model(family))
    model, watch = still(at), Watch()
    hook = make("regularizers", "gradual_unfreezing", {"every": 0.25})
    assert hook.suits(model, at.task) is None
    train(model, at, hooks=[hook, watch], epochs=4)
    trains = [{name for name, gradient in step.items() if gradient is not None} for step in watch.gradients]
    assert trains[0] < trains[1] < trains[2]
    last = {id(p) for p in parts.layers(model)[-1].parameters()}
    assert {id(p) for n, p in model.named_parameters() if n in trains[1] - trains[0]} <= last
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    assert not embeddings & {id(p) for n, p in model.named_parameters() if n in trains[1]} - last


def test_turns_need_two_parts_that_train(at: Trial) -> None:
    hook, model = make("regularizers", "gradual_unfreezing"), at.build()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "classifier" in name
    assert hook.suits(model, at.task) == "only one part of the model trains, so nothing would wait"
    assert "no stack of equal layers" in (hook.suits(nn.Sequential(nn.Linear(2, 2)), at.task) or "")


def test_turns_go_through_adapters_too(at: Trial) -> None:
    model = find("methods", "lora")().apply(at.build(), seed=0)
    watch, hook = Watch(), make("regularizers", "gradual_unfreezing", {"every": 1 / 3})
    assert hook.suits(model, at.task) is None
    train(model, at, hooks=[hook, watch], epochs=3)
    trains = [{name for name, gradient in step.items() if gradient is not None} for step in watch.gradients]
    assert not any("lora_" in name for name in trains[0])
    assert {".layer.1." in name for name in trains[1] - trains[0]} == {True}
    assert {".layer.0." in name for name in trains[2] - trains[1]} == {True}


# --- dropout ---


def rates(model: Any) -> dict[str, float]:
    """Return all rates there are in a model, by path and attribute."""
    found = {}
    for path, module in model.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, float) and (key == "p" or "drop" in key):
                found[f"{path}.{key}"] = value
    return found


def test_rates_are_set_in_training_and_given_back(at: Trial) -> None:
    model, watch = at.build().requires_grad_(True), Watch(lambda loop: rates(loop.plain_model))
    own, config = rates(model), model.config.to_dict()
    train(
        model, at, hooks=[make("regularizers", "dropout_rates", {"hidden": 0.3, "attention": 0.2, "head": 0.0}), watch]
    )
    layer = "bert.encoder.layer.1."
    expected = {"attention.self.dropout.p": 0.2, "attention.output.dropout.p": 0.3, "output.dropout.p": 0.3}
    for seen in watch.seen:
        assert {key: seen[layer + key] for key in expected} == expected
        assert (seen["bert.embeddings.dropout.p"], seen["dropout.p"]) == (0.3, 0.0)
    assert rates(model) == own
    assert model.config.to_dict() == config


def test_measuring_drops_nothing(at: Trial) -> None:
    def measure(model: nn.Module) -> dict[str, float]:
        assert torch.equal(torch.from_numpy(at.logits(model)), torch.from_numpy(at.logits(model)))
        return {"score": 0.0}

    hook = make("regularizers", "dropout_rates", {"hidden": 0.9, "attention": 0.9, "head": 0.9})
    train(at.build().requires_grad_(True), at, hooks=[hook], outside=Outside(measure=measure))


# what kind of dropout each family has, and where some of it is; None: it has none of that kind
PLACES = {
    "bert": ("bert.embeddings.dropout.p", "bert.encoder.layer.0.attention.self.dropout.p", "dropout.p"),
    "distilbert": (
        "distilbert.transformer.layer.0.ffn.dropout.p",
        "distilbert.transformer.layer.0.attention.dropout.p",
        "dropout.p",
    ),
    "roberta": (
        "roberta.encoder.layer.0.attention.output.dropout.p",
        "roberta.encoder.layer.0.attention.self.dropout.p",
        "classifier.dropout.p",
    ),
    "deberta-v2": (
        "deberta.encoder.layer.0.output.dropout.p",
        "deberta.encoder.layer.0.attention.self.dropout.p",
        "pooler.dropout.p",
    ),
    "modernbert": (
        "model.embeddings.drop.p",
        "model.layers.0.attn.attention_dropout",
        "drop.p",
    ),
    "albert": (
        "albert.embeddings.dropout.p",
        "albert.encoder.albert_layer_groups.0.albert_layers.0.attention.attention_dropout.p",
        "dropout.p",
    ),
    "llama": (None, "model.layers.0.self_attn.attention_dropout", None),
    "gpt2": ("transformer.h.0.mlp.dropout.p", "transformer.h.0.attn.attn_dropout.p", None),
}


@pytest.mark.parametrize("family", PLACES)
def test_every_family_has_its_places_or_says_that_it_has_none(tiny_model: Callable[[str], Path], family: str) -> None:
    at = trial("classification", tiny_model(family))
    model = at.build().requires_grad_(True)
    for kind, place, rate in zip(("hidden", "attention", "head"), PLACES[family], (0.25, 0.5, 0.75), strict=True):
        hook, watch = make("regularizers", "dropout_rates", {kind: rate}), Watch(lambda loop: rates(loop.plain_model))
        if place is None:
            assert f"has no place for {kind} dropout" in (hook.suits(model, at.task) or "")
            continue
        assert hook.suits(model, at.task) is None
        own = rates(model)
        train(model, at, hooks=[hook, watch], epochs=1)
        assert watch.seen[0][place] == rate
        changed = {key for key in own if watch.seen[0][key] != own[key]}
        others = {other for other in PLACES[family] if other not in (None, place)}
        assert not changed & others
        assert rates(model) == own


def test_an_encoder_with_a_decoder_has_places_too() -> None:
    size = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": 20}
    model = transformers.BartForSequenceClassification(transformers.BartConfig(**size, **heads))
    hook = make("regularizers", "dropout_rates", {"hidden": 0.3, "attention": 0.2})
    assert hook.suits(model, None) is None
    hook.begin(type("Fake", (), {"plain_model": model})())
    now = rates(model)
    assert now["model.encoder.layers.0.dropout"] == now["model.encoder.layers.0.activation_dropout"] == 0.3
    assert now["model.decoder.layers.0.encoder_attn.dropout"] == 0.2
    assert now["model.encoder.layerdrop"] == 0.0


def test_rates_that_change_nothing_are_refused(at: Trial) -> None:
    model = at.build()
    hook = find("regularizers", "dropout_rates")
    assert hook().suits(model, at.task) == "no rate is given; set hidden, attention or head"
    same = make("regularizers", "dropout_rates", {"hidden": 0.1, "attention": 0.1})
    assert same.suits(model, at.task) == "the model has these rates already"
    with pytest.raises(ValueError, match="all of hidden, attention and head are null"):
        hook.Settings(head=None)


@pytest.mark.parametrize(
    ("rates", "drops"), [({"hidden": 0.5}, True), ({"hidden": 0.0}, False), ({"head": 0.5}, False)]
)
def test_layers_below_all_that_trains_drop_if_asked_to(at: Trial, rates: dict[str, float], drops: bool) -> None:
    model = at.build()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "layer.1." in name or "bert." not in name
    said: list[torch.Tensor] = []
    model.bert.encoder.layer[0].register_forward_hook(
        lambda module, args, output: said.append(output if isinstance(output, torch.Tensor) else output[0])
    )
    hook = make("regularizers", "dropout_rates", rates)
    assert hook.suits(model, at.task) is None
    assert hook.changes_frozen is drops
    loop = train(model, at, hooks=[hook], epochs=2)
    assert loop.position.step == 2
    one, other = (states.sum((1, 2)).sort().values for states in said[-2:])  # rows come in another order
    assert torch.allclose(one, other) is not drops


def test_finding_places_draws_nothing_from_the_random_state(at: Trial) -> None:
    model, before = at.build(), torch.get_rng_state()
    make("regularizers", "dropout_rates", {"hidden": 0.3}).suits(model, at.task)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["l2_sp", "mixout"])
def test_what_a_method_put_in_was_never_pretrained(at: Trial, name: str) -> None:
    pfeiffer, houlsby = (make("methods", method).apply(at.build(), seed=0) for method in ("pfeiffer", "houlsby"))
    hook, watch = make("regularizers", name), Watch()
    assert hook.suits(pfeiffer, at.task)
    if name == "l2_sp":  # houlsby also trains norms, which came with the checkpoint
        train(houlsby, at, hooks=[hook, watch], **SIX_STEPS)
        assert hook.state_dict()
        assert not any("bottleneck" in key for key in hook.state_dict())
