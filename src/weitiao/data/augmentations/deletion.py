"""Words are left out, each with the same probability.

At least one word goes and one stays. In Chinese a word is taken to be two characters, counted by chance from the
first or the second of a run.

Source: Wei and Zou, EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification Tasks,
2019, arXiv:1901.11196, random deletion.
Differs: numbers, negations, addresses and placeholders are never left out; Chinese.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from weitiao.data.augment import Augmentation
from weitiao.data.words import bigrams, spans

__all__ = ["Deletion"]


class Deletion(Augmentation):
    """Rows that lack a few words."""

    class Settings(Augmentation.Settings):
        """How much is left out."""

        share: float = Field(default=0.1, gt=0, lt=1, description="probability that a word is left out")

    settings: Settings

    def edit(self, text: str, rng: np.random.Generator) -> str:
        """Return the text without some of its words, and without the spaces that stood before them."""
        words = bigrams(spans(text), int(rng.integers(2)))
        if len(words) < 2:
            return text
        drawn = rng.random(len(words))
        gone = drawn < self.settings.share
        gone[drawn.argmin()], gone[drawn.argmax()] = True, False
        parts, at = [], 0
        for word, leave_out in zip(words, gone, strict=True):
            if leave_out:
                parts.append(text[at : word.start].rstrip(" \t"))
                at = word.end
        return "".join([*parts, text[at:]]).lstrip(" \t")

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, more deletions, and two copies."""
        return {"settings": {}, "variants": [{"share": 0.6}, {"copies": 2}], "idle": [{"share": 0.0}, {"copies": 0}]}
