"""Predict the same for a row without label and for the same row written in another way.

In each step, `ratio` rows without labels are drawn for every labeled row. Adds, with p what the model says of such a
row (no gradient, no dropout), p' the same sharpened, and q what it says of the row written again,

    strength * mean over drawn rows of  [max p >= confidence] * KL(p' || q),    p' = softmax(log p / temperature)

Temperature 1 leaves p as it is; near 0 its likeliest class is the label. Every row is written again in a number of
`views` before the first step, each by all `augmentations`, one after the other. What a labeled row draws depends on the
seed, the step and its place in the step alone. Costs for each labeled row `ratio` forward passes without gradient, and
`ratio` with forward and backward: with a ratio of 3, a step takes about five times as long.

Source: Xie et al., Unsupervised Data Augmentation for Consistency Training, 2019, arXiv:1904.12848; Sohn et al.,
FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence, 2020, arXiv:2001.07685.
Differs: p is taken without dropout; the row itself stands for FixMatch's weak view; training signals are not annealed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, WithJsonSchema, field_validator

from weitiao.data.augment import Augmentation, Context, Rows, Texts
from weitiao.data.table import Table
from weitiao.errors import RecipeError
from weitiao.plugins import Member, Options, as_member
from weitiao.randomness import generator
from weitiao.training.hook import Hook

if TYPE_CHECKING:
    import torch
    from torch import nn

    from weitiao.tasks.base import Features, Task
    from weitiao.training.loop import Loop
    from weitiao.training.supplies import Supplies

__all__ = ["Consistency"]

_SCHEMA = {"type": "array", "minItems": 1, "items": {"type": ["string", "object"]}}


class Consistency(Hook):
    """Predictions that do not depend on how a row is written, learnt from rows without labels."""

    class Settings(Options):
        """How rows are written again, which of them count, and how much."""

        strength: float = Field(1.0, gt=0, description="weight of the extra term")
        confidence: float = Field(0.8, ge=0, lt=1, description="probability from which a row counts; 0: all rows do")
        temperature: float = Field(0.4, gt=0, description="below 1, what is to be predicted is sharpened")
        ratio: int = Field(3, ge=1, description="rows without labels for each labeled row of a step")
        views: int = Field(4, ge=1, description="ways in which each row is written again")
        augmentations: Annotated[tuple[Member, ...], WithJsonSchema(_SCHEMA)] = Field(
            default_factory=lambda: (as_member("augmentations", "deletion"),),
            min_length=1,
            description="what writes a row again, one after the other: names, or a name with its settings",
        )

        @field_validator("augmentations", mode="before")
        @classmethod
        def _by_name(cls, value: Any) -> Any:
            if not isinstance(value, list | tuple):
                raise ValueError("should be a list of augmentations")
            members = tuple(as_member("augmentations", item) for item in value)
            for member in members:
                if member.name.endswith(".py"):
                    raise ValueError(f"{member.name} is a file; a bundle could not be opened without it")
                if member.settings.copies > 1:
                    raise ValueError(f"copies of {member.name} has no effect here; set views")
            return members

    needs_classes: ClassVar[bool] = True
    needs_row_items: ClassVar[bool] = True
    needs_unlabeled: ClassVar[bool] = True
    settings: Settings

    def __init__(self, settings: Options | None = None) -> None:
        super().__init__(settings)
        self._rows: Features | None = None
        self._views: Features | None = None  # all rows in their first view, then all in their second, ...
        self._drawn: tuple[int, np.ndarray, np.ndarray] | None = None  # step, rows, their views

    def suits(self, model: nn.Module, task: Task) -> str | None:
        """Refuse a task whose texts cannot be written again."""
        return task.why_not_augment()

    def look(self, supplies: Supplies, task: Task) -> None:
        """Refuse an augmentation that cannot work here."""
        for member in self.settings.augmentations:
            if reason := member.make("augmentations").suits(supplies.context):
                raise RecipeError(f"the augmentation {member.name} cannot work here: {reason}.")

    def begin(self, loop: Loop) -> None:
        """Write the rows again, and encode them all.

        Raises
        ------
        RecipeError
            There are no rows without labels, or no augmentation changes any.
        """
        table = loop.supplies.unlabeled
        if table is None:
            raise RecipeError("the regularizer consistency learns from rows without labels, and there are none.")
        names = list(loop.task.text_fields(table.column_names))
        columns = [["" if v is None else str(v) for v in table.column(name)] for name in names]
        texts: list[Texts] = list(zip(*columns, strict=True))
        members = [member.make("augmentations") for member in self.settings.augmentations]
        views = _written_again(members, texts, table.ids, self.settings.views, loop.seed, loop.supplies.context)
        if all(view == texts for view in views):
            raise RecipeError(
                "the augmentations of consistency change no row without label.", fix="Choose others, or other settings."
            )
        encode = loop.supplies.encode
        again = [table.with_columns(dict(zip(names, zip(*view, strict=True), strict=True))) for view in views]
        self._rows, self._views = encode(table), encode(Table.concat(again))

    def loss(self, loop: Loop, batch: dict[str, torch.Tensor], outputs: Any) -> torch.Tensor:
        """Return the divergence over the rows that this micro-batch's rows draw, a mean over them."""
        import torch

        chosen = self.settings
        rows, views = self._own(loop)
        loop.plain_model.eval()
        with torch.no_grad():
            plain = self._logits(loop, self._rows, rows).log_softmax(-1)  # (drawn, classes)
        loop.prepare_to_train()
        counts = plain.exp().amax(-1) >= chosen.confidence  # (drawn,)
        target = (plain / chosen.temperature).log_softmax(-1)
        said = self._logits(loop, self._views, views * len(self._rows or ()) + rows).log_softmax(-1)
        divergences = (target.exp() * (target - said)).sum(-1)
        return chosen.strength * (counts * divergences).mean()

    def _own(self, loop: Loop) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows without labels that belong to the rows of this micro-batch, and the view of each."""
        step, ratio, there = loop.position.step, self.settings.ratio, len(self._rows or ())
        wanted = ratio * len(loop.window)
        if self._drawn is None or self._drawn[0] != step or len(self._drawn[1]) != wanted:
            rng = generator(loop.seed, self.name, "draw", step)
            rounds = [rng.permutation(there) for _ in range(-(-wanted // there))]  # none twice before each once
            self._drawn = step, np.concatenate(rounds)[:wanted], rng.integers(self.settings.views, size=wanted)
        own = (loop.part[:, None] * ratio + np.arange(ratio)).ravel()
        return self._drawn[1][own], self._drawn[2][own]

    def _logits(self, loop: Loop, features: Any, numbers: np.ndarray) -> torch.Tensor:
        batch = {name: value.to(loop.accelerator.device) for name, value in features.batch(numbers).items()}
        return loop.task.logits(loop.forward(batch), batch).float()

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return a case in which every row counts, and one variant a setting."""
        # an untrained model says nearly the same of all rows
        base = {
            "strength": 20.0,
            "confidence": 0.0,
            "temperature": 0.05,
            "augmentations": [{"name": "deletion", "share": 0.5}],
        }
        return {
            "settings": base,
            "variants": [
                base | {"strength": 5.0},
                base | {"confidence": 0.503},
                base | {"temperature": 1.0},
                base | {"ratio": 1},
                base | {"views": 1},
                base | {"augmentations": ["noise"]},
            ],
            "idle": [{"strength": 0.0, "confidence": 0.0}],
        }


def _written_again(
    members: Sequence[Augmentation], texts: list[Texts], ids: Sequence[str], views: int, seed: int, context: Context
) -> list[list[Texts]]:
    """Return the texts of all rows in each view."""
    made = []
    numbers = sorted(range(len(texts)), key=lambda i: ids[i])
    for view in range(views):
        now = texts
        for at, member in enumerate(members):
            rows = Rows(now, [None] * len(texts), ids)
            if at or not view:  # the first always sees the same texts
                member.begin(rows, context)

            def chance(i: int, at: int = at, view: int = view) -> np.random.Generator:
                return generator(seed, "consistency", at, view, ids[i])

            new = dict(zip(numbers, member.rewrite(rows, numbers, chance), strict=True))
            now = [new[i] for i in range(len(texts))]
        made.append(now)
    return made
