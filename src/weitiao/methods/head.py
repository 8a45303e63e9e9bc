"""Freeze the backbone, solve for the head.

With the backbone frozen and a linear head, cross-entropy with an L2 term is convex: there is one optimum, and
it is found by L-BFGS on features computed once, not by a few epochs of noisy steps. The strength of the L2
term is chosen on dev.

Source: Alain and Bengio, Understanding Intermediate Layers Using Linear Classifier Probes, 2016, arXiv:1610.01644;
Liu and Nocedal, On the Limited Memory BFGS Method, 1989.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from weitiao.methods.base import Method
from weitiao.models import parts
from weitiao.plugins import Options

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Head"]


class Head(Method):
    """Train the head alone, on features of the frozen backbone that are computed once."""

    class Settings(Options):
        """Strength of the L2 term."""

        C: tuple[Annotated[float, Field(gt=0)], ...] = Field(
            (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
            min_length=1,
            description="inverse strengths of the L2 term to try, as scikit-learn counts them on standardized "
            "features; the one with the smallest loss on dev is kept",
        )

    trains: ClassVar[Literal["gradient", "convex"]] = "convex"

    def suits(self, model: nn.Module) -> str | None:
        """Refuse a backbone that itself holds weights no checkpoint gave, and a head that is not linear."""
        inside = {id(p) for p in parts.backbone(model).parameters()}
        fresh = parts.new_parameters(model)
        new = [name for name, p in model.named_parameters() if name in fresh and id(p) in inside]
        if new:
            return (
                f"the checkpoint has no weights for {', '.join(new)}, so the frozen backbone would give random "
                "features; set model.pooling to mean"
            )
        own = _own(model)
        dense = [name.rpartition(".")[0] for name, p in model.named_parameters() if name in own and p.dim() > 1]
        if len(dense) > 1:
            from weitiao.models.load import native_pooling

            other = next(way for way in ("mean", "last", "cls") if way not in native_pooling(model.config))
            return (
                f"the head of {type(model).__name__} has {len(dense)} new layers ({', '.join(dense)}), so the problem "
                f"is not convex; set model.pooling to {other}, which puts one linear layer on the backbone"
            )
        return None

    def apply(self, model: nn.Module, *, seed: int) -> nn.Module:
        """Freeze all but the head."""
        own = _own(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in own)
        return model

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, and a strong L2 term."""
        return {"settings": {}, "variants": [{"C": [0.01]}]}


def _own(model: nn.Module) -> set[str]:
    """Return the weights to solve for: the new ones outside the backbone, or all of these if none is new.

    What lies between backbone and classifier and came with the checkpoint (ModernBERT's dense layer) is a feature
    of the model like the backbone itself.
    """
    inside = {id(p) for p in parts.backbone(model).parameters()}
    outside = {name for name, p in model.named_parameters() if id(p) not in inside}
    return outside & parts.new_parameters(model) or outside
