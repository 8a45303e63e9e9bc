"""The terms equal their formulas."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div

from trial import make, trial, without_dropout


def draw(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(40, 5, generator=generator), torch.randint(5, (40,), generator=generator)


class FirstLogits:
    """Stands for a loop whose task reads logits off the outputs, and whose next forward pass gives `second`."""

    def __init__(self, second: torch.Tensor | None = None) -> None:
        self.task = SimpleNamespace(logits=lambda outputs, batch: outputs, targets=lambda batch: batch["labels"])
        self.forward = lambda batch: second


@pytest.mark.parametrize("strength", [0.01, 0.1, 0.5, 0.99])
def test_label_smoothing_is_torchs(strength):
    logits, targets = draw()
    extra = make("regularizers", "label_smoothing", {"strength": strength}).loss(
        FirstLogits(), {"labels": targets}, logits
    )
    smoothed = cross_entropy(logits, targets, label_smoothing=strength)
    torch.testing.assert_close(cross_entropy(logits, targets) + extra, smoothed, rtol=0, atol=1e-6)


def test_r_drop_is_half_the_sum_of_both_divergences():
    (one, targets), (two, _) = draw(0), draw(1)
    extra = make("regularizers", "r_drop", {"strength": 3.0}).loss(FirstLogits(two), {"labels": targets}, one)
    p, q = one.log_softmax(-1), two.log_softmax(-1)
    both = kl_div(q, p, reduction="batchmean", log_target=True) + kl_div(p, q, reduction="batchmean", log_target=True)
    torch.testing.assert_close(extra, 3.0 / 2 * both)


def test_r_drop_refuses_a_model_without_dropout(tiny_bert):
    at = trial("classification", tiny_bert)
    hook = make("regularizers", "r_drop")
    assert hook.suits(at.build(), at.task) is None
    reason = hook.suits(without_dropout(at.build()), at.task)
    assert reason == "the model has no dropout, so both passes would be equal; set model.dropout above 0"
    assert hook.suits(nn.Sequential(nn.Dropout(0.1)), at.task) is None
