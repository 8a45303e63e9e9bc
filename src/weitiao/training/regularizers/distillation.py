"""Learn what a larger model says of each row, beside the row's label.

Adds, with t and z the logits of the teacher and of the model that trains, and T the temperature,

    strength * T^2 * KL(softmax(t / T) || softmax(z / T))

The teacher is a bundle with the same labels, in any order; it may be of another architecture and has its own
tokenizer. It reads every training row once, before the first step, those of augmentation too; after that a step costs
no more than without it. The bundle that comes out does not need the teacher.

Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531, section 2.
Differs: the loss on the label counts 1, and this term is added to it, where the paper weighs the two; with strength s
that is, but for the rate, a share of s / (1 + s) for the teacher.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from weitiao.errors import TrainingError
from weitiao.plugins import Options
from weitiao.training.hook import Hook

if TYPE_CHECKING:
    import torch

    from weitiao.tasks.base import Task
    from weitiao.training.loop import Loop
    from weitiao.training.supplies import Supplies

__all__ = ["Distillation"]

_REMEMBERED = 32  # rows by which a resumed run knows its teacher
_SAME = 1e-2  # largest difference of a logit of the same teacher on another machine


class Distillation(Hook):
    """Predictions near those of a teacher."""

    class Settings(Options):
        """Whose predictions, how soft, and how much that counts."""

        teacher: str = Field(min_length=1, description="folder of a bundle, or of the run that made it")
        temperature: float = Field(
            2.0, gt=0, description="above 1, what the teacher says of the other labels counts more; the paper uses 1-20"
        )
        strength: float = Field(1.0, gt=0, description="weight of the extra term; that of the labels is 1")

    needs_classes: ClassVar[bool] = True
    needs_row_items: ClassVar[bool] = True
    settings: Settings

    def __init__(self, settings: Options | None = None) -> None:
        super().__init__(settings)
        self._said: torch.Tensor | None = None  # of each training row, (rows, classes)
        self._before: torch.Tensor | None = None  # of the first rows, by the teacher this training began with

    def look(self, supplies: Supplies, task: Task) -> None:
        """Ask the teacher, so that one that does not fit is refused before time is spent."""
        supplies.logits_of(self.settings.teacher, task.labels)

    def begin(self, loop: Loop) -> None:
        """Take what the teacher says of the rows.

        Raises
        ------
        TrainingError
            The run began with another teacher.
        """
        import torch

        said = loop.supplies.logits_of(self.settings.teacher, loop.task.labels)
        owners = range(len(loop.train)) if loop.train.owners is None else loop.train.owners
        self._said = torch.from_numpy(said)[list(owners)]
        now, before = self._said[:_REMEMBERED], self._before
        if before is not None and (before.shape != now.shape or (before - now).abs().max() > _SAME):
            raise TrainingError(
                f"the teacher {self.settings.teacher} is another one than when this run began.",
                fix="Bring back the bundle that was there, or run in another folder.",
            )
        self._before = now

    def loss(self, loop: Loop, batch: dict[str, torch.Tensor], outputs: Any) -> torch.Tensor:
        """Return the divergence from the teacher, a mean over rows."""
        heat = self.settings.temperature
        logits = loop.task.logits(outputs, batch).float()
        said = self._said[loop.numbers].to(logits.device)  # type: ignore[index]  # (rows, classes)
        teacher, own = (said / heat).log_softmax(-1), (logits / heat).log_softmax(-1)
        divergences = (teacher.exp() * (teacher - own)).sum(-1)  # (rows,)
        return self.settings.strength * heat**2 * divergences.mean()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return what the teacher says of the first rows."""
        return {} if self._before is None else {"teacher": self._before}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Remember the teacher of before."""
        self._before = state.get("teacher")

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return two teachers by names that a test has to know, and one variant a setting."""
        base = {"teacher": "teacher"}
        return {
            "settings": base,
            "variants": [{"teacher": "other"}, base | {"temperature": 1.0}, base | {"strength": 5.0}],
            "idle": [base | {"strength": 0.0}],
        }
