"""Learn mixtures of two rows, to be predicted as mixtures of their labels.

Adds, with h_i what row i is mixed at, j its partner (a random order of the batch), L the task's loss and one l a step,

    strength * mean over i of  l * L(m_i, y_i) + (1 - l) * L(m_i, y_j)
    m_i = l * h_i + (1 - l) * h_j,    l from Beta(alpha, alpha)

h is the representation that the head reads, or the token vectors: there m_i has the tokens of row i, mixed place by
place as far as row j goes (rows of a batch are of like length). Costs the head alone for representations; for token
vectors a second forward and backward pass, twice the time of a step.

Source: Verma et al., Manifold Mixup: Better Representations by Interpolating Hidden States, 2019, arXiv:1806.05236,
section 2; Sun et al., Mixup-Transformer: Dynamic Data Augmentation for NLP Tasks, 2020, arXiv:2010.02394.
Differs: the plain loss is kept beside; the layer is chosen and not drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from weitiao.errors import RecipeError, TrainingError
from weitiao.plugins import Options
from weitiao.randomness import generator
from weitiao.training.hook import Hook
from weitiao.training.regularizers._first_pass import mask_of
from weitiao.training.regularizers._head_input import HeadInput, why_no_head, why_not_rows
from weitiao.training.regularizers._token_vectors import TokenVectors, why_no_token_vectors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from weitiao.tasks.base import Task
    from weitiao.training.loop import Loop

__all__ = ["Mixup"]


class Mixup(Hook):
    """Straight lines between rows."""

    class Settings(Options):
        """Where rows are mixed, how evenly, and how much that counts."""

        strength: float = Field(1.0, gt=0, description="weight of the loss on mixed rows")
        alpha: float = Field(0.5, gt=0, description="small: one row prevails; 1: all shares alike; large: halves")
        at: Literal["representation", "tokens"] = Field(
            "representation", description="what the head reads (next to no time), or token vectors (a second pass)"
        )

    couples_rows: ClassVar[bool] = True
    changes_frozen: ClassVar[bool] = True
    needs_row_items: ClassVar[bool] = True
    settings: Settings

    def __init__(self, settings: Options | None = None) -> None:
        super().__init__(settings)
        # only token vectors lie below what a method may freeze
        self.changes_frozen = self.settings.at == "tokens"  # type: ignore[misc]

    def suits(self, model: nn.Module, task: Task) -> str | None:
        """Refuse a model without a table of token vectors, or whose head cannot be told from the rest."""
        return why_no_token_vectors(model) if self.settings.at == "tokens" else why_no_head(model)

    def begin(self, loop: Loop) -> None:
        """Put the hooks on the model."""
        if loop.settings.batch_size < 2:
            raise RecipeError(
                f"{self.name} mixes the rows of a batch, and there is one.",
                where="training.batch_size",
                fix="Make it larger, or leave the regularizer out.",
            )
        self.passes = (TokenVectors if self.settings.at == "tokens" else HeadInput)(loop.plain_model)

    def before_batch(self, loop: Loop, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Forget what a pass outside of a step left; the batch stays as it is."""
        self.passes.forget()
        return batch

    def loss(self, loop: Loop, batch: dict[str, Tensor], outputs: Any) -> Tensor:
        """Return the loss on mixed rows, a mean over items."""
        reason = why_not_rows(loop.task, batch)
        if reason:
            raise TrainingError(f"{self.name} cannot be used with this task: {reason}.")
        share, partners = self.draw(loop, batch)
        mixed = self.passes.forward(loop, batch, lambda h: h.lerp(h[partners], self._weight(batch, partners, share, h)))
        own = loop.task.loss(mixed, batch)
        inputs = loop.task.model_inputs(batch)
        others = {key: value if key in inputs else value[partners] for key, value in batch.items()}
        total = share * own + (1 - share) * loop.task.loss(mixed, others)
        return self.settings.strength * total / loop.task.items(batch)

    def draw(self, loop: Loop, batch: dict[str, Tensor]) -> tuple[float, Tensor]:
        """Return the share of the row itself in this step, and each row's partner, (rows,)."""
        import torch

        rows = batch["input_ids"]
        random = generator(loop.seed, self.name, loop.position.step)
        share = float(random.beta(self.settings.alpha, self.settings.alpha))
        return share, torch.from_numpy(random.permutation(len(rows))).to(rows.device)

    def _weight(self, batch: dict[str, Tensor], partners: Tensor, share: float, h: Tensor) -> Tensor:
        """Return the share of the partner, for each row or for each token that both rows have."""
        import torch

        if h.dim() == 2:
            return torch.full((len(h), 1), 1 - share, dtype=h.dtype, device=h.device)
        mask = mask_of(batch)
        return (1 - share) * (mask & mask[partners])[..., None].to(h.dtype)  # (rows, length, 1)

    def after_backward(self, loop: Loop, batch: dict[str, Tensor]) -> None:
        """Forget the micro-batch."""
        self.passes.forget()

    def finish(self, loop: Loop) -> None:
        """Take the hooks off the model."""
        self.passes.remove()

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, and one variant a setting."""
        variants = [{"strength": 0.3}, {"alpha": 4.0}, {"at": "tokens"}]
        return {"settings": {}, "variants": variants, "idle": [{"strength": 0.0}]}
