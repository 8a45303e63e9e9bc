"""Train nothing: the pretrained model answers as it is, from a prompt.

A task that gives labels is put to a language model as a gap to fill (``task.prompt``, which this method brings along);
a task that writes is asked for its text. No training row is learnt from; dev rows find the temperature of the
confidences alone.

Source: Radford et al., Language Models are Unsupervised Multitask Learners, 2019; Brown et al., Language Models are
Few-Shot Learners, 2020, arXiv:2005.14165, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from weitiao.methods.base import Method
from weitiao.models import parts

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ZeroShot"]


class ZeroShot(Method):
    """The pretrained model, asked in its own words."""

    trains: ClassVar[Literal["gradient", "convex", "pairs", "nothing"]] = "nothing"
    task_defaults: ClassVar[Mapping[str, Any]] = {"prompt": {}}

    def suits(self, model: nn.Module) -> str | None:
        """Refuse a model with weights that no training has touched."""
        words: Any = getattr(parts.unwrap(model), "words", None)
        if getattr(words, "soft", False):
            return "task.prompt.soft_verbalizer gives each label a vector to learn, and nothing would train it"
        if getattr(words, "examples", 0):
            return "task.prompt.examples shows the model solved rows, which is what in_context is for; leave it out"
        if fresh := sorted(parts.new_parameters(model)):
            return (
                f"nothing would train {', '.join(fresh[:3])}, which the checkpoint does not have, so that every answer "
                "would be a guess; it takes a task that is answered with a pretrained head"
            )
        return None

    def apply(self, model: nn.Module, *, seed: int) -> nn.Module:
        """Freeze everything."""
        return model.requires_grad_(False)
