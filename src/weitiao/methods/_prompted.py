"""What the methods with vectors at the input share: how they are put in, and how they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from weitiao.errors import ModelError
from weitiao.methods import _continuous as adapter
from weitiao.methods.base import OWN_ADAPTER, Method

if TYPE_CHECKING:
    from torch import nn

    from weitiao.models.reading import Form

__all__ = ["Prompted"]

_VECTORS = "vectors"


class Prompted(Method):
    """A frozen model that reads trained vectors among its tokens; the head trains whole."""

    how_to_open: ClassVar[str | None] = OWN_ADAPTER
    starts_as_it_was: ClassVar[bool] = False
    merges: ClassVar[bool] = False

    @property
    def part(self) -> Literal["model", "adapter"]:
        """An adapter: no plain model has such vectors."""
        return "adapter"

    def suits(self, model: nn.Module) -> str | None:
        """Refuse a model that cannot be given vectors in the place of tokens."""
        from weitiao.models.reading import examine

        found = examine(model)
        return found if isinstance(found, str) else None

    def make(self, model: nn.Module, form: Form, seed: int) -> nn.Module:
        """Return what gives the vectors, ``(settings.tokens, form.width)``."""
        raise NotImplementedError

    def apply(self, model: nn.Module, *, seed: int) -> nn.Module:
        """Freeze all but the head, and put the vectors in."""
        from weitiao.models.soft_prompt import put

        form = _form(model)
        adapter.freeze_but_head(model)
        put(model, self.make(model, form, seed), self.settings.tokens, form)
        return model

    def save(self, model: nn.Module, folder: Path, *, base: str = "") -> None:
        """Write the vectors, whatever made them, and the head."""
        import torch

        from weitiao.models.soft_prompt import soft_prompt

        with torch.no_grad():
            own = {_VECTORS: soft_prompt(model)()}
        adapter.write(model, folder, own, {"method": self.name, "base": base, **self.settings.model_dump(mode="json")})

    def open(self, base: nn.Module, folder: Path) -> nn.Module:
        """Put saved vectors into `base`, and the head over its own."""
        from weitiao.models.soft_prompt import Vectors, put

        form = _form(base)
        vectors = adapter.read(base, folder, self.name, {_VECTORS: (0, form.width)})[_VECTORS]
        put(base, Vectors(vectors), len(vectors), form)
        return base


def _form(model: nn.Module) -> Form:
    from weitiao.models.reading import examine

    found = examine(model)
    if isinstance(found, str):
        raise ModelError(f"{found}.")
    return found
