"""A text is translated to another language and back.

Two translation models that you name do it: `there` from the language of the rows, `back` to it. `back` may draw
from the likeliest tokens, which gives other words and another text for every copy, or search for the best text.
A text that is longer than a model takes is left out, as its end would be lost.

Source: Sennrich, Haddow and Birch, Improving Neural Machine Translation Models with Monolingual Data, 2016,
arXiv:1511.06709; drawing against search: Edunov, Ott, Auli and Grangier, Understanding Back-Translation at Scale,
2018, arXiv:1808.09381.
Differs: the text that comes back is a new row, not the source of a pair; the way there is always a search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from weitiao.data.augment import Augmentation, Context, Rows, Texts

__all__ = ["BackTranslation"]


class BackTranslation(Augmentation):
    """Rows said in other words by way of another language."""

    class Settings(Augmentation.Settings):
        """Which models, and how they write."""

        there: str = Field(description="model that translates from the rows' language: path, package:NAME, or hub id")
        back: str = Field(description="model that translates back")
        decoding: Literal["sampling", "search"] = Field(
            default="sampling", description="how the way back is written: drawn, or the best that beam search finds"
        )
        sample_from: int = Field(default=10, ge=2, description="sampling: from how many of the likeliest tokens")
        beams: int = Field(
            default=4, ge=1, description="texts that a search follows at once; the way there is always one"
        )

        @model_validator(mode="after")
        def _no_idle_setting(self) -> BackTranslation.Settings:
            if self.decoding == "search" and self.sample_from != 10:
                raise ValueError("sample_from has no effect unless decoding is sampling")
            if self.decoding == "search" and self.copies > 1:
                raise ValueError("search always finds the same text, so there is only one copy; use sampling")
            return self

    settings: Settings

    @property
    def tries(self) -> int:
        """A search would find the same again."""
        return 3 if self.settings.decoding == "sampling" else 1

    def suits(self, context: Context) -> str | None:
        """Refuse to go without a way to open models."""
        return None if context.open_translator else "no translation models can be opened"

    def begin(self, rows: Rows, context: Context) -> None:
        """Open both models, and translate all texts there, once."""
        if context.open_translator is None:
            return
        texts = list(dict.fromkeys(text for row in rows.texts for text in row if text.strip()))
        there = context.open_translator(self.settings.there)
        said = there(texts, seed=0, sample_from=1, beams=self.settings.beams)
        self._abroad = dict(zip(texts, said, strict=True))
        self._back = context.open_translator(self.settings.back)

    def rewrite(self, rows: Rows, numbers: Sequence[int], chance: Callable[[int], np.random.Generator]) -> list[Texts]:
        """Return the rows' texts as they come back."""
        wanted = [(i, at) for i in numbers for at, text in enumerate(rows.texts[i]) if text.strip()]
        wanted = [place for place in wanted if self._abroad[rows.texts[place[0]][place[1]]].strip()]
        made = {i: list(rows.texts[i]) for i in numbers}
        if wanted:
            sampling = self.settings.decoding == "sampling"
            said = self._back(
                [self._abroad[rows.texts[i][at]] for i, at in wanted],
                seed=int(chance(wanted[0][0]).integers(2**62)),
                sample_from=self.settings.sample_from if sampling else 1,
                beams=1 if sampling else self.settings.beams,
            )
            for (i, at), text in zip(wanted, said, strict=True):
                made[i][at] = text.strip() or rows.texts[i][at]  # what could not be translated stays as it is
        return [tuple(made[i]) for i in numbers]

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return two models by names that a test has to know."""
        base = {"there": "there", "back": "back"}
        return {
            "settings": base,
            "variants": [
                {"there": "back", "back": "back"},
                {"there": "there", "back": "there"},
                base | {"decoding": "search"},
                base | {"decoding": "search", "beams": 2},
                base | {"sample_from": 3},
                base | {"copies": 2},
            ],
            "idle": [
                base | {"decoding": "search", "sample_from": 3},
                base | {"decoding": "search", "copies": 2},
                base | {"sample_from": 1},
                base | {"copies": 0},
            ],
        }
