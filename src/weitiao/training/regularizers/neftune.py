"""Add uniform noise to the token vectors in training, so that no row is met twice alike.

With v the token vectors of a row, L its number of tokens and d the size of a vector, every pass that trains sees

    v + alpha / sqrt(L d) * u,    u uniform in [-1, 1]^(L d)

which is a move of length about 0.58 alpha, whatever the length of the row. Costs the drawing alone.

Source: Jain et al., NEFTune: Noisy Embeddings Improve Instruction Finetuning, 2023, arXiv:2310.05914, algorithm 1.
Differs: L is the row's own number of tokens, without padding, and padding is not moved: what a row sees does not
depend on the rows beside it. All passes over a row in one step see the same noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from weitiao.plugins import Options
from weitiao.training.hook import Hook
from weitiao.training.regularizers._token_vectors import TokenVectors, draw, lengths, why_no_token_vectors

if TYPE_CHECKING:
    import torch
    from torch import nn

    from weitiao.tasks.base import Task
    from weitiao.training.loop import Loop

__all__ = ["NEFTune"]


class NEFTune(Hook):
    """Noise on token vectors, in training only."""

    class Settings(Options):
        """How much noise."""

        alpha: float = Field(5.0, gt=0, description="size of the noise of a row; the paper uses 5, 10 and 15")

    changes_frozen: ClassVar[bool] = True
    settings: Settings

    def suits(self, model: nn.Module, task: Task) -> str | None:
        """Refuse a model without a table of token vectors."""
        return why_no_token_vectors(model)

    def begin(self, loop: Loop) -> None:
        """Put the noise on the model."""
        self.vectors = TokenVectors(loop.plain_model, always=lambda vectors: self.noisy(loop, vectors))

    def noisy(self, loop: Loop, vectors: torch.Tensor) -> torch.Tensor:
        """Return the token vectors of the present pass, (rows, length, hidden), with noise."""
        inputs = self.vectors.inputs
        size = self.settings.alpha / (lengths(inputs) * vectors.shape[-1]).sqrt()  # (rows, 1, 1)
        return vectors + (size * draw(loop, self.name, inputs, vectors)).to(vectors.dtype)

    def finish(self, loop: Loop) -> None:
        """Take the noise off the model."""
        self.vectors.remove()

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default and more noise."""
        return {"settings": {}, "variants": [{"alpha": 15.0}], "idle": [{"alpha": 0.0}]}
