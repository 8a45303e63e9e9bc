"""Train nothing: the pretrained model answers from a prompt with solved examples, which are training rows.

Which examples, how many and in which order is told in ``task.prompt.examples``; this method brings eight along, those
most like each text.

Source: Brown et al., Language Models are Few-Shot Learners, 2020, arXiv:2005.14165, section 2; Liu et al., What Makes
Good In-Context Examples for GPT-3?, 2021, arXiv:2101.06804.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from weitiao.methods.base import Method
from weitiao.models import parts

if TYPE_CHECKING:
    from torch import nn

__all__ = ["InContext"]


class InContext(Method):
    """The pretrained model, shown solved rows before each text."""

    trains: ClassVar[Literal["gradient", "convex", "pairs", "nothing"]] = "nothing"
    task_defaults: ClassVar[Mapping[str, Any]] = {"prompt": {"examples": {"count": 8}}}

    def suits(self, model: nn.Module) -> str | None:
        """Refuse a model that is shown no examples."""
        words: Any = getattr(parts.unwrap(model), "words", None)
        if getattr(words, "soft", False):
            return "task.prompt.soft_verbalizer gives each label a vector to learn, and nothing would train it"
        if not getattr(words, "examples", 0):
            return "the task shows the model no examples; it takes a task with prompts, and task.prompt.examples there"
        return None

    def apply(self, model: nn.Module, *, seed: int) -> nn.Module:
        """Freeze everything."""
        return model.requires_grad_(False)
