"""Train nothing: give each text to the label whose name lies nearest to it.

The logit of a class is `scale` times the cosine of the text's vector with the vector of the label's name, both from the
model as it was pretrained: a linear head on vectors of length 1, whose rows are the names' vectors. No labeled row is
looked at but to learn the temperature of the confidences.

Source: Yin, Hay and Roth, Benchmarking Zero-shot Text Classification, 2019, arXiv:1909.00161, section 5 (labels are
read as texts).
Differs: cosines of sentence vectors in place of entailment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from weitiao.errors import TrainingError
from weitiao.methods._classes import why_not_one_class
from weitiao.methods.base import Known, Method
from weitiao.models import parts
from weitiao.plugins import Options

if TYPE_CHECKING:
    from torch import nn

__all__ = ["LabelNames"]


class LabelNames(Method):
    """Zero-shot classification by the names of the labels."""

    class Settings(Options):
        """How sharply names are told apart."""

        scale: float = Field(20.0, gt=0, description="cosines are multiplied by it before the softmax")

    trains: ClassVar[Literal["gradient", "convex", "pairs", "nothing"]] = "nothing"
    settings: Settings

    def suits(self, model: nn.Module) -> str | None:
        """Refuse a model without one linear head on pooled vectors, and outputs that are no classes."""
        from weitiao.models.pooled import SentenceClassifier

        if reason := why_not_one_class(model):
            return reason
        if not isinstance(model, SentenceClassifier):
            return (
                f"{type(model).__name__} has a head of its own between the vector of a text and the labels; set "
                "model.pooling to another way, such as mean, for one linear layer"
            )
        return parts.why_not_solvable(model)

    def apply(self, model: nn.Module, *, seed: int) -> nn.Module:
        """Freeze everything."""
        return model.requires_grad_(False)

    def fill(self, model: Any, known: Known) -> None:
        """Put the names' vectors into the head."""
        import torch

        from weitiao.models.neighbors import unit

        if known.labels is None:
            raise TrainingError(
                "the names of the labels say nothing: they are numbers, or rows are pairs.",
                fix="Name the labels in words, or choose a method that learns from rows.",
            )
        model.normalize = True
        with torch.no_grad():
            model.classifier.weight.copy_(self.settings.scale * unit(known.labels))
            model.classifier.bias.zero_()

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, and names that are told apart less sharply."""
        return {"settings": {}, "variants": [{"scale": 5.0}]}
