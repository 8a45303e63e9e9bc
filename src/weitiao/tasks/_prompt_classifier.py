"""A classifier that is asked by a prompt, where its settings have one: a language model with the head it came with.

Members share this; it is none itself. What the model reads stands in ``_prompted.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field as Setting

from weitiao.data.table import Table
from weitiao.findings import Finding
from weitiao.plugins import Options
from weitiao.tasks._classifier import Classifier
from weitiao.tasks._prompted import Prompted, PromptSettings
from weitiao.tasks.base import Rows

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from weitiao.models.find import Pretrained

__all__ = ["PromptClassifier"]


class PromptClassifier(Classifier):
    """A classifier with a new head, or one that is asked in words."""

    class Settings(Classifier.Settings):
        """How rows of different classes count, and how the model is asked."""

        prompt: PromptSettings | None = Setting(
            None, description="a language model is asked for the label, with its pretrained head; null: a new head"
        )

    one_item_a_row: bool = True
    baselines: tuple[str, ...] = Classifier.baselines  # type: ignore[misc]
    pooled: bool = True  # type: ignore[misc]
    settings: Settings

    def __init__(self, settings: Options | None = None, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings, state)
        told = self.settings.prompt
        self._prompted = None if told is None else Prompted(told, self.state.get("prompt", {}))
        if told is not None:  # no head is new, and none reads one vector a row
            self.pooled, self.has_new_head, self.cuts_by_itself = False, False, True
            self.baselines = ("untuned", "tfidf", "majority")
            self.one_item_a_row = told.examples is None or told.examples.orders == 1

    def learn(self, train: Table) -> None:
        """Keep what a classifier keeps, and what the prompt takes of the rows."""
        super().learn(train)
        if self._prompted is not None:
            self.state["prompt"] = self._prompted.learn(train, self.labels, pair=self.state["pair"])

    def meet(self, pretrained: Pretrained) -> None:
        """Find out how a prompted model answers."""
        if self._prompted is not None:
            self._prompted.meet(pretrained)
            self.one_sequence = self._prompted.one_sequence

    def findings(
        self, tables: Mapping[str, Table], tokenizer: PreTrainedTokenizerBase | None = None
    ) -> Iterator[Finding]:
        """Find labels whose names tell a prompted model nothing."""
        told = self.settings.prompt
        asks = told is not None and told.verbalizer != "auto"
        names = [label for label in self.labels if told and told.word(label) is None] if asks else []
        mute = [label for label in names if not any(c.isalpha() for c in label)]
        if mute:
            yield Finding(
                "prompt",
                "warning",
                f"{len(mute):,} of {len(self.labels):,} labels have names without a word, such as {mute[0]!r}: a model "
                "that is not trained cannot know what they mean.",
                "Name words for them in task.prompt.verbalizer.",
                count=len(mute),
            )

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Tokenize, or turn into prompts; a text that is too long loses its end, and `tokens_lost` says how much."""
        if self._prompted is None:
            return super().encode(rows, tokenizer, max_length)
        encoded = self._prompted.encode(rows, tokenizer, max_length)
        self._label(encoded, rows)
        return encoded

    def collate(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
        """Pad to the longest row: ``input_ids (rows, length)``, ``labels (rows,)``."""
        if self._prompted is None:
            return super().collate(inputs, tokenizer)
        return self._with_labels(self._prompted.collate(inputs), inputs)

    def build(self, pretrained: Pretrained, *, pooling: str, dropout: float | None, seed: int) -> nn.Module:
        """Return the stock sequence classifier of this architecture, or a prompted language model."""
        if self._prompted is not None:
            return self._prompted.build(pretrained, self.labels)
        return super().build(pretrained, pooling=pooling, dropout=dropout, seed=seed)

    def reopen(self, folder: Path) -> nn.Module:
        """Open a saved sequence classifier, or prompted language model."""
        return super().reopen(folder) if self._prompted is None else self._prompted.reopen(folder)

    def label_rows(self) -> Table | None:
        """Return the label names as texts; nothing of a prompted model, which reads them in its own way."""
        return super().label_rows() if self._prompted is None else None

    def join(self, said: Sequence[Any], inputs: Rows) -> Any:
        """Return the mean of the logits of a row's inputs, where examples stand in several orders."""
        return said[0] if len(said) == 1 else np.mean(said, axis=0)
