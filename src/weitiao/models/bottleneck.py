"""A bottleneck after a sublayer, and where the sublayers of a model end.

A sublayer is what a layer adds to its input: attention, attention to the other half of an encoder-decoder,
feed-forward. It ends in a dense layer, the last that runs in it. So the ends are found by watching the model run, and
no architecture needs a line here; only that attention is called so is taken from names.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from weitiao.models import parts
from weitiao.models.selected import two_tokens

__all__ = ["ACTIVATIONS", "Activation", "Bottleneck", "End", "insert", "sublayer_ends"]

Activation = Literal["relu", "gelu", "silu", "tanh"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class Bottleneck(parts.Inserted):
    """What is added to a sublayer's output x: ``up(activation(down(x)))``, zero until `up` is trained.

    Parameters
    ----------
    width
        Of the model.
    size
        Of the bottleneck.
    activation
        A key of `ACTIVATIONS`.
    dropout
        Share of the bottleneck set to zero in training, 0 to 1.
    """

    def __init__(self, width: int, size: int, *, activation: Activation, dropout: float) -> None:
        super().__init__()
        self.down = nn.Linear(width, size)
        self.activation = ACTIVATIONS[activation]()
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(size, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Return what is added to `states`, ``(..., width)``."""
        return self.up(self.dropout(self.activation(self.down(states))))


@dataclass(frozen=True)
class End:
    """The dense layer that a sublayer ends in."""

    kind: Literal["attention", "feed_forward"]
    path: str  # inside its layer of the model
    dense: Any

    @property
    def width(self) -> int:
        """Numbers a token that it gives."""
        return self.dense.nf if isinstance(self.dense, Conv1D) else self.dense.out_features


def sublayer_ends(model: nn.Module) -> list[list[End]]:
    """Return where the sublayers of each layer end, in the order in which they run.

    Raises
    ------
    weitiao.errors.ModelError
        The model has no stack of equal layers.
    """
    stack = parts.layers(model)
    events = parts.module_events(parts.backbone(model), two_tokens(model))
    ran = list(dict.fromkeys(m for what, m in events if what == "start" and isinstance(m, nn.Linear | Conv1D)))
    ends = []
    for block in stack:
        paths = {module: path for path, module in block.named_modules()}
        dense = {paths[module]: module for module in ran if module in paths}
        last = [(inside, list(group)[-1]) for inside, group in groupby(dense, _attention)]
        ends.append([End("attention" if inside else "feed_forward", path, dense[path]) for inside, path in last])
    return ends


def insert(dense: nn.Module, bottleneck: Bottleneck) -> None:
    """Let `dense` give its output with what `bottleneck` adds to it.

    The bottleneck becomes a part of the dense layer, which stays what it is for code that looks at its weight, and
    keeps the names of its parameters.
    """
    dense.add_module("bottleneck", bottleneck)
    dense.register_forward_hook(_add)


def _add(dense: Any, _: Any, output: Tensor) -> Tensor:  # no closure, so that a copied model calls its own bottleneck
    return output + dense.bottleneck(output).to(output.dtype)


def _attention(path: str) -> str:
    """Return the path, inside a layer, of the attention that a dense layer is part of; empty: of none."""
    steps = path.split(".")
    return next((".".join(steps[: i + 1]) for i, step in enumerate(steps) if "att" in step.lower()), "")
