"""Words change places, at random.

Of n words, max(1, round(share * n)) pairs are drawn one after the other and exchanged; punctuation and spaces stay
where they are. In Chinese a word is taken to be two characters, counted by chance from the first or the second of
a run.

Source: Wei and Zou, EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification Tasks,
2019, arXiv:1901.11196, random swap.
Differs: numbers, negations, addresses and placeholders stay where they are; Chinese.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from weitiao.data.augment import Augmentation
from weitiao.data.words import bigrams, replace_spans, spans

__all__ = ["Swap"]


class Swap(Augmentation):
    """Rows whose words stand in another order."""

    class Settings(Augmentation.Settings):
        """How much is moved."""

        share: float = Field(default=0.1, gt=0, le=1, description="exchanges for each word; one at least")

    settings: Settings

    def edit(self, text: str, rng: np.random.Generator) -> str:
        """Return the text with words exchanged."""
        words = bigrams(spans(text), int(rng.integers(2)))
        if len(words) < 2:
            return text
        said = [text[word.start : word.end] for word in words]
        for _ in range(max(1, round(self.settings.share * len(words)))):
            a, b = rng.choice(len(words), 2, replace=False)
            said[a], said[b] = said[b], said[a]
        return replace_spans(text, [(word.start, word.end, new) for word, new in zip(words, said, strict=True)])

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, more exchanges, and two copies."""
        return {"settings": {}, "variants": [{"share": 1.0}, {"copies": 2}], "idle": [{"share": 0.0}, {"copies": 0}]}
