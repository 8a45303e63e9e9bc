"""Train the whole encoder on pairs of rows, of one class or of two; then solve for the head.

For few labeled rows: n rows make about n^2 pairs, so that eight rows of a class teach an encoder more than eight rows
could. The pairs and the losses stand in `weitiao.training.contrastive`; the head is the optimum of a convex problem on
the tuned encoder's vectors, brought to length 1 where the model pools them itself: pairs teach their directions.

Source: Tunstall et al., Efficient Few-Shot Learning Without Prompts, 2022, arXiv:2209.11055; Khosla et al., Supervised
Contrastive Learning, 2020, arXiv:2004.11362 (loss: supervised).
Differs: pairs are drawn as they are needed and a text that several pairs of a step have in common is read once; classes
take turns whatever their sizes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from weitiao.methods._classes import why_not_one_class
from weitiao.methods.base import Method
from weitiao.models import parts
from weitiao.plugins import Options

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Contrastive"]

_TEMPERATURE = 0.1


class Contrastive(Method):
    """Contrastive tuning for a handful of labeled rows of each class."""

    class Settings(Options):
        """Which pairs, how they are compared, and the strength of the head's L2 term."""

        iterations: int = Field(
            7, ge=1, description="pairs of an epoch: twice as many a row, half of one class and half of two"
        )
        loss: Literal["cosine_similarity", "supervised"] = Field(
            "cosine_similarity",
            description="cosine_similarity: squared error of a pair, 1 for one class and 0 for two; supervised: "
            "each text of a step is told from all others that are not of its class",
        )
        temperature: float = Field(
            _TEMPERATURE, gt=0, description="of the supervised loss; smaller: the nearest of other classes count more"
        )
        label_names: bool = Field(False, description="the names of the labels are further rows of their classes")
        C: tuple[Annotated[float, Field(gt=0)], ...] = Field(
            (1.0,),
            min_length=1,
            description="inverse strengths of the head's L2 term to try, as scikit-learn counts them on vectors of "
            "length 1; of several, the one with the smallest loss on dev is kept",
        )

        @model_validator(mode="after")
        def _no_idle_setting(self) -> Contrastive.Settings:
            if self.loss != "supervised" and self.temperature != _TEMPERATURE:
                raise ValueError("temperature has no effect unless loss is supervised")
            return self

    trains: ClassVar[Literal["gradient", "convex", "pairs", "nothing"]] = "pairs"
    learning_rate: ClassVar[float] = 5e-5
    settings: Settings

    def suits(self, model: nn.Module) -> str | None:
        """Refuse outputs that are no classes, a backbone with random weights, and a head that is not linear."""
        return why_not_one_class(model) or parts.why_not_solvable(model)

    def apply(self, model: nn.Module, *, seed: int) -> nn.Module:
        """Mark backbone and head as training."""
        own = parts.solvable_parameters(model)
        inside = {id(p) for p in parts.backbone(model).parameters()}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in own or id(parameter) in inside)
        return model

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return few pairs, and one variant a setting."""
        variants = [{"iterations": 2}, {"loss": "supervised"}, {"loss": "supervised", "temperature": 0.02}]
        return {"settings": {"iterations": 1}, "variants": [*variants, {"label_names": True}, {"C": [10.0]}]}
