"""A bottleneck after attention and one after feed-forward in every layer; they, the norms and the head train.

The output x of a sublayer becomes x + up(activation(down(x))) before it is added to what went in. The up-projection
starts at zero, so that the model starts where it was. In a half that writes, attention to the other half gets one too.

Source: Houlsby et al., Parameter-Efficient Transfer Learning for NLP, 2019, arXiv:1902.00751.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from weitiao.methods._bottleneck import Bottlenecks
from weitiao.models import selected

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Houlsby"]


class Houlsby(Bottlenecks):
    """Bottlenecks after every sublayer, with the norms of these layers, and the head."""

    class Settings(Bottlenecks.Settings):
        """Size and place of the bottlenecks, and whether norms train with them."""

        norms: bool = Field(True, description="train the norms of the layers that have bottlenecks, as the paper does")

    after: ClassVar[tuple[Literal["attention", "feed_forward"], ...]] = ("attention", "feed_forward")
    settings: Settings

    def tuned(self, model: nn.Module) -> set[str]:
        """Return the bottlenecks' weights, the norms', and all that is new."""
        more = selected.norms(model, self.blocks(model)) if self.settings.norms else set()
        return super().tuned(model) | more

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, and one variant a setting."""
        tiny = super().tiny()
        return {**tiny, "variants": [*tiny["variants"], {"norms": False}]}
