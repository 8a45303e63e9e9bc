"""What a method is: *which* numbers of the model move, and nothing about what it learns or how it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from weitiao.plugins import Named, Options

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["OWN_ADAPTER", "Known", "Method", "parameter_counts"]

OWN_ADAPTER = """`adapter/` holds what was trained and nothing else, for the base model named above:

```python
import weitiao

model = weitiao.Bundle(".").model  # the base model with what was trained in its place
```"""


@dataclass(frozen=True)
class Known:
    """What a method that trains nothing may look at: pooled vectors of the untuned backbone.

    Parameters
    ----------
    train
        Of the training rows, ``(rows, hidden)``.
    targets
        Their classes, ``(rows,)``.
    labels
        Of the labels' names, ``(classes, hidden)``; ``None`` where names say nothing.
    """

    train: torch.Tensor
    targets: torch.Tensor
    labels: torch.Tensor | None


class Method(Named):
    """How pretrained weights are adapted. One file in this folder is the whole of one method.

    Attributes
    ----------
    trains
        ``"gradient"``: by the training loop. ``"convex"``: the backbone is frozen whole and what is left is a
        convex problem, solved to its optimum without the loop. ``"pairs"``: by the loop on pairs of rows of one class
        or of two, then the head as in ``"convex"``. ``"nothing"``: the model answers as it is, or as `fill` sets it.
        The settings of the loop are refused where it has no part.
    starts_as_it_was
        Whether the model, once the method is applied, answers as before until it is trained.
    merges
        Whether `whole` can put what was learnt into a plain model.
    task_defaults
        Settings of a task without which the method has no sense there (a prompt), taken where the recipe has none of
        its own and the task knows them.
    how_to_open
        What the card says of opening an adapter; ``None``: as the model itself says.
    needs_device
        A kind of device (``"cuda"``) without which it suits no model; ``None``: it works on all.
    learning_rate, head_learning_rate
        What the loop uses when the recipe names none; ``None``: the head, which learns from nothing, has no rate of
        its own.
    """

    class Settings(Options):
        """Settings of the method in the recipe."""

    trains: ClassVar[Literal["gradient", "convex", "pairs", "nothing"]] = "gradient"
    how_to_open: ClassVar[str | None] = None
    needs_device: ClassVar[str | None] = None
    learning_rate: ClassVar[float] = 5e-5
    head_learning_rate: ClassVar[float | None] = None
    starts_as_it_was: ClassVar[bool] = True
    merges: ClassVar[bool] = True
    task_defaults: ClassVar[Mapping[str, Any]] = {}
    settings: Any

    def __init__(self, settings: Options | None = None) -> None:
        self.settings = settings or self.Settings()

    @property
    def part(self) -> Literal["model", "adapter"]:
        """What a bundle holds: the whole model, or an adapter that needs its base to be opened."""
        return "model"

    def suits(self, model: nn.Module) -> str | None:
        """Return ``None`` if the method can be applied to `model`, or a sentence that says why not."""
        return None

    def apply(self, model: nn.Module, *, seed: int) -> nn.Module:
        """Insert or mark what trains (``requires_grad``), freeze all else; `seed` decides inserted weights."""
        raise NotImplementedError

    # --- seams, for a method that does more than mark parameters; see `weitiao.training.method_hook` ---

    def fill(self, model: nn.Module, known: Known) -> None:
        """Set the head from what is known; only called where `trains` is ``"nothing"`` and rows are pooled."""

    def penalty(self, model: nn.Module) -> torch.Tensor:
        """Return a term that is added to each step's mean loss."""
        raise NotImplementedError

    def before_step(self, model: nn.Module, step: int, steps: int) -> None:
        """Run when the gradient of the step number `step`, from 0, of `steps` is there, before it is clipped."""

    def after_step(self, model: nn.Module, step: int, steps: int) -> None:
        """Run after the optimizer's step; `step` counts those done."""

    def state_dict(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """Return what a resumed run needs beside the weights, tensors by name."""
        return {}

    def load_state_dict(self, model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
        """Take back what `state_dict` gave."""

    def outcome(self, model: nn.Module) -> dict[str, Any]:
        """Return what there is to say about the trained model (ranks that were kept, ...), JSON values."""
        return {}

    # --- bundles ---

    def whole(self, model: nn.Module) -> nn.Module:
        """Return the plain model with what was learnt inside; `model` is left as it is."""
        return model

    def save(self, model: nn.Module, folder: Path, *, base: str = "") -> None:
        """Write the adapter; only called where `part` is ``"adapter"``. `base` names the model it belongs to."""
        raise NotImplementedError

    def open(self, base: nn.Module, folder: Path) -> nn.Module:
        """Put a saved adapter on `base`, a model freshly built; only called where `part` is ``"adapter"``."""
        raise NotImplementedError

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the smallest working case, ``{"settings": {...}, "variants": [...]}``.

        Variants are other settings, each a whole one, under which another model comes out; together they name
        every setting. The contract tests put the method on two-layer models of several architectures.
        """
        return {"settings": {}, "variants": []}


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """Return how many numbers of `model` train, and how many it has."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trains in sizes if trains), sum(n for n, _ in sizes)
