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
        return parts.why_not_solvable(model)

    def apply(self, model: nn.Module, *, seed: int) -> nn.Module:
        """Freeze all but the head."""
        own = parts.solvable_parameters(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in own)
        return model

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, and a strong L2 term."""
        return {"settings": {}, "variants": [{"C": [0.01]}]}
