"""What a task is: everything about *what* the model learns, and nothing about how, or where files are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weitiao.data.fields import Field
from weitiao.data.table import Table
from weitiao.models import STATES
from weitiao.plugins import Options

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from weitiao.models.find import Pretrained

__all__ = ["Features", "Prediction", "Task"]


@dataclass(frozen=True)
class Features:
    """Encoded rows, in the order of the table.

    Parameters
    ----------
    inputs
        One mapping a row from input name (``input_ids``, ``labels``, ...) to a value.
    places
        Where each row came from, as ``file:line``.
    collate
        Pads some of `inputs` to one batch of tensors.
    states
        Gives, for row numbers and their attention mask, what the frozen layers say; ``None``: they have to run.
    """

    inputs: Sequence[Mapping[str, Any]]
    places: Sequence[str]
    collate: Callable[[Sequence[Mapping[str, Any]]], dict[str, torch.Tensor]]
    states: Callable[[Sequence[int], torch.Tensor], torch.Tensor] | None = None

    @classmethod
    def encode(cls, task: Task, rows: Table, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Features:
        """Encode the rows of a table."""
        inputs = task.encode(list(rows), tokenizer, max_length) if len(rows) else []
        return cls(inputs, [str(place) for place in rows.places], lambda part: task.collate(part, tokenizer))

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens a row, ``(rows,)``."""
        return np.array([len(row["input_ids"]) for row in self.inputs], dtype=np.int64)

    def batch(self, rows: Iterable[int]) -> dict[str, torch.Tensor]:
        """Return the rows with these numbers as one batch."""
        rows = [int(row) for row in rows]
        batch = self.collate([self.inputs[i] for i in rows])
        if self.states is not None:
            batch[STATES] = self.states(rows, batch["attention_mask"])
        return batch


@dataclass(frozen=True)
class Prediction:
    """What the model says of one row, and how sure it is (a calibrated probability)."""

    label: str
    confidence: float
    probabilities: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"label": self.label, "confidence": self.confidence, "probabilities": dict(self.probabilities)}


class Task:
    """What is predicted. One file in this folder is the whole of one task.

    A task knows rows, tokens and logits. It never sees the method, the loop or a file. The loop needs
    four things of it, each per *item* (a row, a token, a span: whatever the loss is a sum over):
    `items`, `logits`, `targets` and `loss`. From the first three, any regularizer works on any task.
    """

    class Settings(Options):
        """Settings of the task in the recipe."""

    name: ClassVar[str]
    fields: ClassVar[tuple[Field, ...]]
    metrics: ClassVar[tuple[str, ...]]
    main_metric: ClassVar[str]
    augments: ClassVar[bool] = True  # whether a training text may be written again; not if labels are places in it

    def __init__(self, settings: Options | None = None, state: Mapping[str, Any] | None = None) -> None:
        self.settings = settings or self.Settings()
        self.state: dict[str, Any] = dict(state or {})

    @property
    def labels(self) -> list[str]:
        """The labels, in the order of the logits; `learn` puts them into `state`."""
        return self.state["labels"]

    def learn(self, train: Table) -> None:
        """Find out the facts that prediction needs (labels, ...) into `state`, JSON values that the bundle keeps.

        Only ever sees the training rows.
        """
        raise NotImplementedError

    def why_not_augment(self) -> str | None:
        """Return ``None`` if training texts may be written again, or a sentence that says why not."""
        if self.augments:
            return None
        return "its labels are places in the text, and a text that is written again has other places"

    def accepts(self, table: Table) -> Mapping[int, str]:
        """Return the rows of `table` that cannot be learnt from or measured, index to reason."""
        raise NotImplementedError

    def encode(
        self, rows: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> list[dict[str, Any]]:
        """Turn rows into model inputs; the same function encodes training rows and served requests.

        Rows without the label field give inputs without targets.

        Raises
        ------
        DataError
            A text is missing, or a label is not one of `labels`; names the row, counted from 1.
        """
        raise NotImplementedError

    def collate(
        self, inputs: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase
    ) -> dict[str, torch.Tensor]:
        """Pad encoded rows to one batch, each tensor ``(rows, length)`` or ``(rows,)``."""
        raise NotImplementedError

    def build(self, pretrained: Pretrained, *, pooling: str, dropout: float | None, seed: int) -> nn.Module:
        """Return a stock model with this task's head; `seed` decides the new weights."""
        raise NotImplementedError

    def reopen(self, folder: Any) -> nn.Module:
        """Open a model that `build` made and somebody saved."""
        raise NotImplementedError

    def model_inputs(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return what the model is called with: never the targets, for the loss is ours."""
        return {key: value for key, value in batch.items() if key != "labels"}

    def items(self, batch: Mapping[str, torch.Tensor]) -> int:
        """Return how many items `loss` is a sum over."""
        return int(self.targets(batch).shape[0])

    def logits(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return ``(items, classes)``."""
        raise NotImplementedError

    def targets(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return ``(items,)``, class indices."""
        raise NotImplementedError

    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the SUM of the items' losses; the loop divides by the items of the whole window."""
        raise NotImplementedError

    def classes(self, inputs: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
        """Return the class of each encoded row, ``(rows,)``, to balance by; ``None`` if rows have no one class."""
        return None

    def label_rows(self) -> Table | None:
        """Return one row a class that says its name, for a model before tuning; ``None`` if names say nothing."""
        return None

    def decode(self, logits: np.ndarray, *, temperature: float = 1.0) -> list[Prediction]:
        """Turn logits ``(rows, classes)`` into predictions; confidences are divided by `temperature` first."""
        raise NotImplementedError

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the smallest working case, which the contract tests overfit.

        ``{"rows": [...], "settings": {...}, "variants": [...]}``: at least eight rows; and, for every setting,
        other settings (each a whole one) under which another thing is learnt. A setting that no variant names,
        or two variants that come out the same, fail.
        """
        raise NotImplementedError
