"""What the methods with prefixes share: where prefixes go, and how they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from weitiao.methods import _continuous as adapter
from weitiao.methods.base import OWN_ADAPTER, Method
from weitiao.models import parts

if TYPE_CHECKING:
    from torch import nn

    from weitiao.models.prefixes import Place

__all__ = ["Prefixed"]


class Prefixed(Method):
    """A frozen model with trained keys and values in each attention; the head trains whole."""

    how_to_open: ClassVar[str | None] = OWN_ADAPTER
    starts_as_it_was: ClassVar[bool] = False
    merges: ClassVar[bool] = False

    @property
    def part(self) -> Literal["model", "adapter"]:
        """An adapter: no plain model has prefixes."""
        return "adapter"

    def suits(self, model: nn.Module) -> str | None:
        """Refuse a model that takes no other attention function than its own."""
        from weitiao.models.prefixes import why_not

        return why_not(model)

    def make(self, body: nn.Module, where: list[Place], seed: int) -> dict[str, nn.Module]:
        """Return the prefixes to train, one a place, by its name."""
        raise NotImplementedError

    def apply(self, model: nn.Module, *, seed: int) -> nn.Module:
        """Freeze all but the head, and put the prefixes in."""
        from weitiao.models.prefixes import places, put

        adapter.freeze_but_head(model)
        body = parts.backbone(model)
        like = next(body.parameters())
        made = self.make(body, places(model), seed)
        put(model, {name: prefix.to(like.device) for name, prefix in made.items()})
        return model

    def save(self, model: nn.Module, folder: Path, *, base: str = "") -> None:
        """Write the keys and values, whatever made them, and the head."""
        import torch

        from weitiao.models.prefixes import prefixes

        own: dict[str, Any] = {}
        with torch.no_grad():
            for name, prefix in prefixes(model).items():
                own[f"{name}.key"], own[f"{name}.value"] = prefix()
        adapter.write(model, folder, own, {"method": self.name, "base": base, **self.settings.model_dump(mode="json")})

    def open(self, base: nn.Module, folder: Path) -> nn.Module:
        """Put saved keys and values into `base`, and the head over its own."""
        from weitiao.models.prefixes import Prefix, places, put

        where = places(base)
        shapes = {f"{place.name}.key": (place.key[0], 0, place.key[1]) for place in where}
        shapes |= {f"{place.name}.value": (place.value[0], 0, place.value[1]) for place in where}
        own = adapter.read(base, folder, self.name, shapes)
        put(base, {place.name: Prefix(own[f"{place.name}.key"], own[f"{place.name}.value"]) for place in where})
        return base
