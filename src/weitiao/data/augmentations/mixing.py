"""Two rows of the same label, one after the other, are one longer row of that label.

The other row is drawn at random among those of the label, and so is which of the two comes first. Where rows are
pairs, first texts are joined with first texts and second ones with second ones, in the same order.

Source: Kondo et al., Sentence Concatenation Approach to Data Augmentation for Neural Machine Translation, 2021,
arXiv:2104.08478.
Differs: the rows are those of one class, not pairs of sentences to translate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from weitiao.data.augment import Augmentation, Context, Rows, Texts
from weitiao.data.words import is_chinese

__all__ = ["Mixing"]

_ENDS = tuple('.!?;:,…。！？；：，、~～)）"”')


class Mixing(Augmentation):
    """Rows joined with another row of their label."""

    class Settings(Augmentation.Settings):
        """Which of the two comes first."""

        order: Literal["random", "after"] = Field(
            default="random", description="after: the row itself is always first, so that cutting at the end spares it"
        )

    settings: Settings

    def begin(self, rows: Rows, context: Context) -> None:
        """Put the rows together by label."""
        self._rows: dict[str, list[int]] = defaultdict(list)
        for i in sorted(range(len(rows.ids)), key=lambda i: rows.ids[i]):
            label = rows.labels[i]
            if label is not None and any(text.strip() for text in rows.texts[i]):
                self._rows[label].append(i)

    def rewrite(self, rows: Rows, numbers: Sequence[int], chance: Callable[[int], np.random.Generator]) -> list[Texts]:
        """Return rows joined with another; one that is alone of its label stays as it is."""
        made = []
        for i in numbers:
            label = rows.labels[i]
            same = self._rows[label] if label is not None else []
            if len(same) < 2:
                made.append(rows.texts[i])
                continue
            rng = chance(i)
            other = same[rng.integers(len(same) - 1)]
            other = same[-1] if other == i else other  # each of the others is as likely
            first, second = (other, i) if self.settings.order == "random" and rng.integers(2) else (i, other)
            made.append(tuple(_joined(a, b) for a, b in zip(rows.texts[first], rows.texts[second], strict=True)))
        return made

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, a fixed order, and two copies."""
        return {"settings": {}, "variants": [{"order": "after"}, {"copies": 2}], "idle": [{"copies": 0}]}


def _joined(first: str, second: str) -> str:
    """Return two texts as one, with a full stop between them if the first has none."""
    first, second = first.strip(), second.strip()
    if not first or not second:
        return first or second
    if is_chinese(first):
        return f"{first}{'' if first.endswith(_ENDS) else '。'}{second}"
    return f"{first}{'' if first.endswith(_ENDS) else '.'} {second}"
