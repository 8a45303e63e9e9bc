"""Optimizers against other people's implementations, and the rates of groups of parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from trial import make, trial
from weitiao.errors import RecipeError
from weitiao.plugins import find
from weitiao.training.groups import inner_matrices
from weitiao.training.optimizer import build_optimizer, measured_weights, set_rate
from weitiao.training.settings import TrainingSettings

SHAPES = ((6, 4), (4, 6), (5,))
RATES = (0.0, 1e-2, 2e-2, 5e-3, 1e-3, 1e-3)
DECAY = 0.1

Weights = list[torch.Tensor]


def start() -> Weights:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


def gradient(step: int, weights: Weights) -> Weights:
    """A gradient that depends on where the weights are, so that errors do not cancel."""
    return [w * (1 + step) + torch.sin(3 * w + step) for w in weights]


def ours(name: str, settings: dict[str, Any]) -> Weights:
    weights = [nn.Parameter(value) for value in start()]
    groups = [{"params": [w], "lr": 1.0, "weight_decay": DECAY, "rate": 1.0, "inner": w.dim() > 1} for w in weights]
    optimizer = make("optimizers", name, settings).build(groups, 1.0)
    for step, rate in enumerate(RATES):
        set_rate(optimizer, rate)
        for w, g in zip(weights, gradient(step, weights), strict=True):
            w.grad = g.detach()
        optimizer.step()
    with measured_weights(optimizer):
        return [w.detach().clone() for w in weights]


def stepped(build: Callable[[Weights], Any]) -> Weights:
    weights = [nn.Parameter(value) for value in start()]
    optimizer = build(weights)
    for step, rate in enumerate(RATES):
        for w, g in zip(weights, gradient(step, weights), strict=True):
            w.grad = g.detach()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return [w.detach() for w in weights]


def adamw(beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> Weights:
    return stepped(lambda w: torch.optim.AdamW(w, betas=(beta1, beta2), eps=epsilon, weight_decay=DECAY, foreach=False))


def sgd(momentum: float = 0.9, nesterov: bool = False) -> Weights:
    return stepped(
        lambda w: torch.optim.SGD(w, 1.0, momentum=momentum, nesterov=nesterov, weight_decay=DECAY, foreach=False)
    )


def adafactor(
    decay_rate: float = -0.8, clip_threshold: float = 1.0, beta1: float | None = None, scale_by_weights: bool = False
) -> Weights:
    from transformers.optimization import Adafactor

    return stepped(
        lambda w: Adafactor(
            w,
            lr=1.0,
            decay_rate=decay_rate,
            clip_threshold=clip_threshold,
            beta1=beta1,
            weight_decay=DECAY,
            scale_parameter=scale_by_weights,
            relative_step=False,
        )
    )


def lion(beta1: float = 0.9, beta2: float = 0.99) -> Weights:
    """Program 1 of the paper."""
    weights, means = start(), [torch.zeros(shape, dtype=torch.float64) for shape in SHAPES]
    for step, rate in enumerate(RATES):
        for i, g in enumerate(gradient(step, weights)):
            update = (beta1 * means[i] + (1 - beta1) * g).sign()
            weights[i] = weights[i] - rate * (update + DECAY * weights[i])
            means[i] = beta2 * means[i] + (1 - beta2) * g
    return weights


def schedule_free_adamw(beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> Weights:
    """The three sequences of the paper, each kept as it is."""
    x, z, v = start(), start(), [torch.zeros(shape, dtype=torch.float64) for shape in SHAPES]
    highest = total = 0.0
    for step, rate in enumerate(RATES):
        highest = max(highest, rate)
        total += highest**2
        c = highest**2 / total if total else 0.0
        y = [(1 - beta1) * zi + beta1 * xi for xi, zi in zip(x, z, strict=True)]
        for i, g in enumerate(gradient(step, y)):
            v[i] = beta2 * v[i] + (1 - beta2) * g**2
            z[i] = z[i] - rate * (g / ((v[i] / (1 - beta2 ** (step + 1))).sqrt() + epsilon) + DECAY * y[i])
            x[i] = (1 - c) * x[i] + c * z[i]
    return x


def muon(
    momentum: float = 0.95,
    nesterov: bool = True,
    iterations: int = 5,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> Weights:
    """Jordan's iteration, polynomial of singular values and all, in the place of products of matrices."""
    weights, mean = start(), [torch.zeros(shape, dtype=torch.float64) for shape in SHAPES]
    for step, rate in enumerate(RATES):
        for i, g in enumerate(gradient(step, weights)):
            if g.dim() < 2:
                continue
            mean[i] = momentum * mean[i] + (1 - momentum) * g
            u, s, v = torch.linalg.svd((1 - momentum) * g + momentum * mean[i] if nesterov else mean[i])
            s = s / s.norm()
            for _ in range(iterations):
                s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
            orthogonal = u[:, : len(s)] @ s.diag() @ v[: len(s)]
            weights[i] = weights[i] * (1 - rate * DECAY) - rate * 0.2 * math.sqrt(max(g.shape)) * orthogonal
    return [*weights[:2], adamw(beta1, beta2, epsilon)[2]]


REFERENCES = [adamw, sgd, adafactor, lion, muon, schedule_free_adamw]
CASES = [
    pytest.param(reference, settings, id=f"{reference.__name__}-{settings}")
    for reference in REFERENCES
    for settings in ({}, *find("optimizers", reference.__name__).tiny()["variants"])
]


@pytest.mark.parametrize(("reference", "settings"), CASES)
def test_equal_to_a_reference(reference: Callable[..., Weights], settings: dict[str, Any]) -> None:
    torch.testing.assert_close(ours(reference.__name__, settings), reference(**settings), rtol=0, atol=1e-6)


def test_muon_is_that_of_torch_but_for_its_bfloat16() -> None:
    matrices = slice(0, 2)
    theirs = stepped(lambda w: torch.optim.Muon(w[matrices], weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"))
    torch.testing.assert_close(ours("muon", {})[matrices], theirs[matrices], rtol=0, atol=1e-3)


# --- what it cannot move ---


def test_muon_refuses_a_model_of_which_only_the_head_trains(tiny_bert: Path) -> None:
    model = trial("classification", tiny_bert).build().requires_grad_(False)
    model.classifier.requires_grad_(True)
    with pytest.raises(RecipeError, match="the optimizer muon cannot be used: no matrix inside the model's layers"):
        build_optimizer(model, TrainingSettings(optimizer="muon"), 1e-3)


def test_muon_takes_dense_layers_and_leaves_embeddings_and_head_to_adamw(tiny_bert: Path) -> None:
    model = trial("classification", tiny_bert).build().requires_grad_(True)
    inside = inner_matrices(model)
    assert len(inside) == 2 * 6  # query, key, value, and three more a layer
    assert all((".layer." in name and name.endswith("dense.weight")) or "self." in name for name in inside)
    optimizer = build_optimizer(model, TrainingSettings(optimizer="muon"), 1e-3)
    assert sum(len(group["params"]) for group in optimizer.param_groups if group["inner"]) == len(inside)


def test_eight_bits_need_a_device_that_has_them(tiny_bert: Path) -> None:
    model = trial("classification", tiny_bert).build()
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(RecipeError, match="adamw_8bit cannot be used: it needs a CUDA device, and the model is on cpu"):
        build_optimizer(model, TrainingSettings(optimizer="adamw_8bit"), 1e-3)


def test_eight_bits_need_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    member = find("optimizers", "adamw_8bit")
    monkeypatch.setattr("weitiao.training.optimizers.adamw_8bit.find_spec", lambda name: None)
    model: Any = SimpleNamespace(parameters=lambda: iter([SimpleNamespace(device=torch.device("cuda"))]))
    assert "pip install bitsandbytes" in member().suits(model)


# --- rates ---


def rates(model: nn.Module, **settings: Any) -> dict[str, float]:
    optimizer = build_optimizer(model, TrainingSettings(**settings), 1e-3)
    set_rate(optimizer, 0.5e-3)  # half way up
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group["lr"] / 0.5e-3 for group in optimizer.param_groups for p in group["params"]}


def test_every_parameter_has_one_rate_by_default(tiny_bert: Path) -> None:
    model = trial("classification", tiny_bert).build().requires_grad_(True)
    found = rates(model)
    assert set(found) == {name for name, _ in model.named_parameters()}
    assert set(found.values()) == {1.0}


@pytest.mark.parametrize("family", ["bert", "gpt2", "deberta-v2"])
def test_layers_and_head_have_their_own(family: str, tiny_model: Callable[[str], Path]) -> None:
    model = trial("classification", tiny_model(family)).build().requires_grad_(True)
    found = rates(model, layer_decay=0.5, head_learning_rate=0.01)
    for name, rate in found.items():
        if name.startswith(("classifier", "score", "pooler")):  # what the checkpoint does not have
            expected = 10.0
        elif ".1." in name or "ln_f" in name or "pooler" in name:
            expected = 1.0
        else:
            expected = 0.5 if ".0." in name else 0.25
        assert rate == pytest.approx(expected), name


def test_rates_see_through_an_adapter(tiny_bert: Path) -> None:
    model = make("methods", "lora").apply(trial("classification", tiny_bert).build(), seed=0)
    found = rates(model, layer_decay=0.5, head_learning_rate=0.01)
    assert {round(rate, 3) for name, rate in found.items() if ".layer.0." in name} == {0.5}
    assert {round(rate, 3) for name, rate in found.items() if ".layer.1." in name} == {1.0}
    assert {round(rate, 3) for name, rate in found.items() if "classifier" in name} == {10.0}


def test_decay_goes_to_matrices_alone(tiny_bert: Path) -> None:
    model = trial("classification", tiny_bert).build().requires_grad_(True)
    optimizer = build_optimizer(model, TrainingSettings(weight_decay=0.1), 1e-3)
    for group in optimizer.param_groups:
        assert {p.dim() > 1 for p in group["params"]} == {group["weight_decay"] == 0.1}


def test_rates_without_effect_are_refused(tiny_bert: Path) -> None:
    model = trial("classification", tiny_bert).build().requires_grad_(False)
    model.classifier.requires_grad_(True)
    with pytest.raises(RecipeError, match="layer_decay has no effect: nothing below the top layer trains"):
        build_optimizer(model, TrainingSettings(layer_decay=0.5), 1e-3)
    model.requires_grad_(True).classifier.requires_grad_(False)
    model.bert.pooler.requires_grad_(False)
    with pytest.raises(RecipeError, match="head_learning_rate has no effect: no parameter of the head trains"):
        build_optimizer(model, TrainingSettings(head_learning_rate=0.5), 1e-3)
