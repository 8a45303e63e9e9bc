"""What methods that put bottlenecks after sublayers have in common.

Members share this; it is none itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from weitiao.methods._difference import Difference
from weitiao.models import parts
from weitiao.models.bottleneck import Activation, Bottleneck, End, insert, sublayer_ends
from weitiao.plugins import Options
from weitiao.randomness import torch_seed

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Bottlenecks"]

_REDUCTION = 16.0


class Bottlenecks(Difference):
    """Base of methods that insert bottlenecks.

    Attributes
    ----------
    after
        The kinds of sublayers that get one.
    """

    class Settings(Options):
        """Size and place of the bottlenecks."""

        reduction_factor: float | None = Field(
            None,
            ge=1,
            description="how many times narrower than the model a bottleneck is; null: 16, or what size says",
        )
        size: int | None = Field(None, ge=1, description="width of a bottleneck, in place of reduction_factor")
        activation: Activation = Field("gelu", description="what stands between down and up")
        dropout: float = Field(0.0, ge=0, lt=1, description="dropout inside the bottleneck")
        last_layers: int | None = Field(
            None, ge=1, description="in so many of the last layers; null: in all. Those below run once a row"
        )

        @model_validator(mode="after")
        def _one_width(self) -> Bottlenecks.Settings:
            if self.size is not None and self.reduction_factor is not None:
                raise ValueError("size and reduction_factor both say how wide a bottleneck is; leave one out")
            return self

    merges: ClassVar[bool] = False
    after: ClassVar[tuple[Literal["attention", "feed_forward"], ...]]
    learning_rate: ClassVar[float] = 1e-3
    head_learning_rate: ClassVar[float | None] = 1e-2
    settings: Settings

    def suits(self, model: nn.Module) -> str | None:
        """Refuse layers without the sublayers looked for, and more layers than there are."""
        name, count = type(parts.backbone(model)).__name__, len(parts.layers(model))
        if self.settings.last_layers is not None and self.settings.last_layers >= count:
            return f"last_layers is {self.settings.last_layers}, and the model has {count} layers; leave it out for all"
        ends = sublayer_ends(model)
        for kind in self.after:
            if any(kind not in {end.kind for end in block} for block in ends):
                words = kind.replace("_", "-")
                return f"{name} has layers without {words} that ends in a dense layer, which the bottleneck follows"
        places = [end for block in ends for end in block]
        if any("expert" in end.path for end in places) or len({end.width for end in places}) > 1:
            return f"{name} has sublayers that do not end in one dense layer, which the bottleneck follows"
        return None

    def prepare(self, model: nn.Module, *, seed: int) -> nn.Module:
        """Put a bottleneck after each sublayer of the kinds that get one."""
        ends = [end for block in sublayer_ends(model)[self._from(model) :] for end in block if end.kind in self.after]
        with torch_seed(seed, "bottleneck"):
            for end in ends:
                insert(end.dense, self._make(end).to(end.dense.weight.device))
        return model

    def tuned(self, model: nn.Module) -> set[str]:
        """Return the bottlenecks' weights, and all that is new."""
        own = {id(p) for m in model.modules() if isinstance(m, Bottleneck) for p in m.parameters()}
        return {name for name, p in model.named_parameters() if id(p) in own} | parts.head_parameters(model)

    def blocks(self, model: nn.Module) -> list[nn.Module]:
        """Return the layers that have bottlenecks."""
        return list(parts.layers(model))[self._from(model) :]

    def _make(self, end: End) -> Bottleneck:
        chosen = self.settings
        size = chosen.size or max(1, round(end.width / (chosen.reduction_factor or _REDUCTION)))
        return Bottleneck(end.width, size, activation=chosen.activation, dropout=chosen.dropout)

    def _from(self, model: nn.Module) -> int:
        last = self.settings.last_layers
        return 0 if last is None else len(parts.layers(model)) - last

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, and one variant a setting."""
        variants = [{"reduction_factor": 4.0}, {"size": 5}, {"activation": "tanh"}, {"dropout": 0.5}]
        return {"settings": {}, "variants": [*variants, {"last_layers": 1}]}
