"""A stock token classifier with a linear-chain conditional random field on its logits.

The score of a sequence of tags is the sum of its logits and of one learnt weight a step from tag to tag,

    s(y) = sum_i z_i[y_i] + sum_i T[y_{i-1}, y_i],     p(y) = exp s(y) / sum over allowed y' of exp s(y')

with the steps into the first tag and out of the last one among T. The weights lie in the stock model itself, as
``transitions.weight``: a saved folder opens in plain transformers, which leaves them out and says so.

Source: Lafferty, McCallum and Pereira, Conditional Random Fields, 2001; Lample et al., Neural Architectures for Named
Entity Recognition, 2016, arXiv:1603.01360, section 2.2.
Differs: sequences that no entities can have are left out of the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from weitiao.errors import ModelError
from weitiao.models.find import Pretrained
from weitiao.models.heads import load_with_head, open_with_head

__all__ = ["CrfOutput", "Segments", "Transitions", "load_with_crf", "negative_log_likelihood", "open_with_crf"]

_NAME = "transitions"
_NEVER = -1e4  # finite, so that no gradient is nan; far below any sum of logits that training meets


class Transitions(nn.Module):
    """One weight a step: row 0 is before the first token, column 0 behind the last, then the tags."""

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(tags + 1, tags + 1))

    def forward(self, logits: Tensor) -> Tensor:
        """Return the weights, ``(1 + tags, 1 + tags)``, whatever the logits."""
        return self.weight


@dataclass
class CrfOutput(ModelOutput):
    """What the model says: logits ``(rows, length, tags)`` and the weights of the steps."""

    logits: Tensor | None = None
    transitions: Tensor | None = None


@dataclass(frozen=True)
class Segments:
    """Runs of tokens, padded on the right: where they begin and end, and what is true of them.

    Parameters
    ----------
    scores
        ``(runs, tokens, tags)``.
    targets, real, glued
        ``(runs, tokens)``: tags, whether there is a token, and whether it shares a character with the one before.
    begins, ends
        ``(runs,)``: whether a run begins, and ends, the text it is of.
    """

    scores: Tensor
    targets: Tensor
    real: Tensor
    glued: Tensor
    begins: Tensor
    ends: Tensor


def load_with_crf(pretrained: Pretrained, *, labels: Sequence[str], seed: int) -> nn.Module:
    """Return the stock model that labels tokens, with weights of steps that begin at 0.

    Raises
    ------
    ModelError
        transformers has no such class for this architecture.
    """
    return _with_steps(load_with_head(pretrained, "tokens", labels=labels, seed=seed), len(labels))


def open_with_crf(folder: Path) -> nn.Module:
    """Open a model that `load_with_crf` made and somebody saved.

    Raises
    ------
    ModelError
        It cannot be opened, or weights are missing.
    """
    from safetensors import safe_open

    model: Any = open_with_head(folder, "tokens")
    model = _with_steps(model, model.config.num_labels)
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            if f"{_NAME}.weight" in set(file.keys()):
                model.transitions.weight.data.copy_(file.get_tensor(f"{_NAME}.weight"))
                return model.eval()
    raise ModelError("the saved model lacks the weights of its steps.", where=folder, fix="It was not saved whole.")


def negative_log_likelihood(segments: Segments, weight: Tensor, allowed: Tensor) -> Tensor:
    """Return the sum over segments of ``-log p(targets)``.

    Parameters
    ----------
    weight
        ``(1 + tags, 1 + tags)``.
    allowed
        Bool ``(2, 1 + tags, 1 + tags)``: at tokens that are not glued, and at those that are.
    """
    scores, targets, real = segments.scores, segments.targets, segments.real
    steps = weight.to(scores.dtype).masked_fill(~allowed, _NEVER)  # (2, 1 + tags, 1 + tags)
    free = scores.new_zeros(())  # in the middle of a text any tag may come first or last
    start = torch.where(segments.begins[:, None], steps[0, 0, 1:], free)  # (runs, tags)
    end = torch.where(segments.ends[:, None], steps[0, 1:, 0], free)
    total = start + scores[:, 0]
    reached = total.gather(1, targets[:, :1])[:, 0]
    for i in range(1, scores.shape[1]):
        step = steps[segments.glued[:, i].long(), 1:, 1:]  # (runs, before, tag)
        ahead = torch.logsumexp(total[:, :, None] + step, 1) + scores[:, i]
        total = torch.where(real[:, i, None], ahead, total)
        rows = torch.arange(len(scores), device=scores.device)
        own = step[rows, targets[:, i - 1], targets[:, i]] + scores[rows, i, targets[:, i]]
        reached = reached + torch.where(real[:, i], own, free)
    last = targets.gather(1, real.sum(1, keepdim=True) - 1)
    reached = reached + end.gather(1, last)[:, 0]
    return (torch.logsumexp(total + end, 1) - reached).sum()


def _with_steps(model: Any, tags: int) -> nn.Module:
    model.transitions = Transitions(tags)
    model.__class__ = _class(type(model))
    model.new_parameters = frozenset({*getattr(model, "new_parameters", ()), f"{_NAME}.weight"})
    return model


@cache
def _class(stock: Any) -> Any:
    """Return the class whose objects say their steps too; it keeps the name, which goes into the config."""

    def forward(self: Any, *args: Any, **kwargs: Any) -> CrfOutput:
        logits = stock.forward(self, *args, **kwargs).logits
        return CrfOutput(logits, self.transitions(logits))

    return type(
        stock.__name__, (stock,), {"forward": forward, "__module__": stock.__module__, "__doc__": stock.__doc__}
    )
