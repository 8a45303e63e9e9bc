"""What an optimizer is: how a gradient becomes a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from weitiao.errors import RecipeError
from weitiao.plugins import Named, Options
from weitiao.training.groups import Groups, parameter_groups

if TYPE_CHECKING:
    import torch
    from torch import nn

    from weitiao.training.settings import TrainingSettings

__all__ = ["Groups", "Optimizer", "build_optimizer", "measured_weights", "set_rate"]


class Optimizer(Named):
    """How a gradient becomes a step. One file in ``training/optimizers`` is one optimizer.

    A member either builds a torch optimizer that exists (`build`), or says how one parameter moves (`update`).
    Either way all that is remembered lies in the state of a parameter, as tensors: checkpoints keep nothing else.

    Attributes
    ----------
    averages
        It averages its weights instead of letting the rate fall; a schedule that falls is refused beside it.
    whole_weights
        It reads more of a matrix than the number it moves; refused where each process holds a part of the weights.
    """

    class Settings(Options):
        """Settings of the optimizer in the recipe. Rate, weight decay and clipping are settings of training."""

    averages: ClassVar[bool] = False
    whole_weights: ClassVar[bool] = False
    settings: Any

    def __init__(self, settings: Options | None = None) -> None:
        self.settings = settings or self.Settings()

    def suits(self, model: nn.Module) -> str | None:
        """Return ``None`` if it can move what trains in `model`, where that lies, or a sentence that says why not."""
        return None

    def build(self, groups: Groups, learning_rate: float) -> torch.optim.Optimizer:
        """Return the torch optimizer over groups of parameters.

        Parameters
        ----------
        groups
            As `parameter_groups` makes them.
        learning_rate
            The highest rate.
        """
        from weitiao.training.stepped import Stepped

        return Stepped(groups, self)

    @property
    def remembers(self) -> float:
        """How many numbers are kept for each that trains."""
        return 1.0

    def update(self, parameter: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Move one parameter by its gradient; called without gradients being recorded.

        Parameters
        ----------
        state
            Empty at first. A checkpoint brings tensors back in the type of the parameter; what must keep a type of
            its own is called ``"step"``.
        group
            That of the parameter, with its ``lr`` and ``weight_decay``.
        """
        raise NotImplementedError

    def measured(self, parameter: torch.Tensor, state: dict[str, Any]) -> torch.Tensor | None:
        """Return the value of a parameter to be measured and kept, if it is another than the one that trains."""
        return None

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return ``{"settings": {...}, "variants": [...], "learning_rate": ...}``.

        Variants are other settings, each a whole one, that train to other weights and together name every setting;
        at this rate a few steps on a tiny model lower the loss.
        """
        return {"settings": {}, "variants": [], "learning_rate": 1e-2}


def build_optimizer(
    model: nn.Module, settings: TrainingSettings, learning_rate: float, shard: Callable[[Groups], Groups] | None = None
) -> torch.optim.Optimizer:
    """Return the optimizer over the parameters that train.

    Parameters
    ----------
    shard
        Puts parts in the place of the parameters, where each process holds a part of them.

    Raises
    ------
    RecipeError
        The optimizer cannot move what trains here, or a setting of rates has no effect on it.
    """
    member = settings.optimizer.make("optimizers")
    if reason := member.suits(model):
        raise RecipeError(f"the optimizer {settings.optimizer.name} cannot be used: {reason}.")
    groups = parameter_groups(model, settings, learning_rate)
    return member.build(groups if shard is None else shard(groups), learning_rate)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate; each group has its share of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate"]


@contextmanager
def measured_weights(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Let the parameters hold the weights to be measured and kept, inside the block; those that train come back."""
    inner: Any = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
    if not hasattr(inner, "measured_weights"):
        yield
        return
    with inner.measured_weights():
        yield
