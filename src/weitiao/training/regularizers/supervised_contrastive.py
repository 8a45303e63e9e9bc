"""Draw rows of one class together and others apart, in the representation that the head reads.

Adds, with z_i the representation of row i at length 1, P_i the other rows of its class in the batch and n the rows,

    strength * 1/n * sum over i of  -1/|P_i| * sum over j in P_i of  log p_ij
    p_ij = exp(z_i z_j / temperature) / sum over k != i of exp(z_i z_k / temperature)

A row alone in its class adds 0. Costs a product of the representations with each other.

Source: Gunel et al., Supervised Contrastive Learning for Pre-trained Language Model Fine-tuning, 2021,
arXiv:2011.01403, equations 1 to 3.
Differs: the task's own loss keeps its weight 1 (in the paper 1 - lambda and lambda; strength is their quotient).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from weitiao.errors import RecipeError, TrainingError
from weitiao.plugins import Options
from weitiao.training.hook import Hook
from weitiao.training.regularizers._head_input import HeadInput, why_no_head, why_not_rows

if TYPE_CHECKING:
    import torch
    from torch import nn

    from weitiao.tasks.base import Task
    from weitiao.training.loop import Loop

__all__ = ["SupervisedContrastive"]


class SupervisedContrastive(Hook):
    """Representations that keep classes together."""

    class Settings(Options):
        """How much that counts, and how sharp it is."""

        strength: float = Field(1.0, gt=0, description="weight of the extra term; the paper tries about 0.1 to 9")
        temperature: float = Field(0.3, gt=0, description="smaller: the nearest rows of other classes count more")

    couples_rows: ClassVar[bool] = True
    needs_classes: ClassVar[bool] = True
    needs_row_items: ClassVar[bool] = True
    settings: Settings

    def suits(self, model: nn.Module, task: Task) -> str | None:
        """Refuse a model whose head cannot be told from the rest."""
        return why_no_head(model)

    def begin(self, loop: Loop) -> None:
        """Put the hooks on the model."""
        if loop.settings.batch_size < 2:
            raise RecipeError(
                f"{self.name} compares the rows of a batch, and there is one.",
                where="training.batch_size",
                fix="Make it larger, or leave the regularizer out.",
            )
        self.head = HeadInput(loop.plain_model)

    def before_batch(self, loop: Loop, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Forget what a pass outside of a step left; the batch stays as it is."""
        self.head.forget()
        return batch

    def loss(self, loop: Loop, batch: dict[str, torch.Tensor], outputs: Any) -> torch.Tensor:
        """Return the contrastive term, a mean over rows."""
        import torch

        reason = why_not_rows(loop.task, batch)
        if reason or self.head.seen is None:
            raise TrainingError(f"{self.name} cannot be used with this task: {reason or 'its head was not run'}.")
        z = torch.nn.functional.normalize(self.head.seen.float(), dim=-1)  # (rows, hidden)
        targets = loop.task.targets(batch)
        own = torch.eye(len(z), dtype=torch.bool, device=z.device)
        log_p = (z @ z.T / self.settings.temperature).masked_fill(own, -1e30).log_softmax(-1)  # (rows, rows)
        same = (targets[:, None] == targets) & ~own
        near = (log_p * same).sum(1) / same.sum(1).clamp(min=1)
        return -self.settings.strength * near.mean()

    def after_backward(self, loop: Loop, batch: dict[str, torch.Tensor]) -> None:
        """Forget the micro-batch."""
        self.head.forget()

    def finish(self, loop: Loop) -> None:
        """Take the hooks off the model."""
        self.head.remove()

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return what an untrained model feels, whose rows all look alike, and one variant a setting."""
        variants = [{"strength": 100.0}, {"strength": 10.0, "temperature": 0.05}]
        return {"settings": {"strength": 10.0}, "variants": variants, "idle": [{"strength": 0.0}]}
