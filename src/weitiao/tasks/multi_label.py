"""Any number of labels a text, each of them there or not.

Each pair of row and label is one item: with z the model's output for the label, the loss is the binary cross-entropy

    -w * y * log s(z) - (1 - y) * log(1 - s(z)),        s(z) = 1 / (1 + exp(-z))

which is the cross-entropy of the two classes with logits 0 and z. w is 1, or, with `positive_weight: balanced`, the
number of rows without the label over the number of those with it.

A label is given where its probability is above a threshold of its own, found on dev: the t that maximises

    P * F1(t) - logit(t)^2 / 2

with P the number of dev rows that have the label. The second term is a normal prior on logit(t), around 0 with a
standard deviation of 1: three rows that happen to lie well move a threshold little, hundreds outweigh it.

Source: Nam et al., Large-scale Multi-label Text Classification: Revisiting Neural Networks, 2014, arXiv:1312.5419
(binary cross-entropy, a sum over labels); Yang, A Study on Thresholding Strategies for Text Categorization, 2001
(SCut: one threshold a label, by F1 on held-out rows).
Differs: the prior, in the place of Yang's fallback for rare labels.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Setting
from pydantic import model_validator

from weitiao.data.checks.base import excerpt, num_rows, of, places
from weitiao.data.fields import LABEL, TEXT, Field, label_text
from weitiao.data.near import normalise
from weitiao.data.table import Table
from weitiao.errors import DataError, did_you_mean
from weitiao.findings import Finding
from weitiao.plugins import Options
from weitiao.tasks._texts import pad, tokenize
from weitiao.tasks.base import Prediction, Rows, Task

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from weitiao.models.find import Pretrained

__all__ = ["LabelSetPrediction", "MultiLabel"]

_SEPARATORS = (",", ";", "|", "、", "，", "；")
_FEW = 10  # training rows of a label from which hardly anything is learnt
_NAMES = ("labels", "tags", "categories", "topics", "genres", "subjects", "keywords", "标签组", "多标签")


@dataclass(frozen=True)
class LabelSetPrediction(Prediction):
    """The labels of a row, in their order, and the probability of each label there is."""

    probabilities: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"answer": self.answer, "probabilities": dict(self.probabilities)}


class MultiLabel(Task):
    """Assign any number of a fixed set of labels to a text."""

    class Settings(Options):
        """How labels are written, and how much a label counts where it is there."""

        separator: str | None = Setting(
            None,
            min_length=1,
            description="what stands between labels written in one text; null: found among , ; | 、 ， ；",
        )
        positive_weight: Literal["none", "balanced"] = Setting(
            "none", description="'balanced': the rows that have a label weigh as much as those that have it not"
        )
        labels: tuple[str, ...] = Setting((), description="the labels, in order; empty: those of the training rows")

        @model_validator(mode="after")
        def _each_once(self) -> MultiLabel.Settings:
            if len(set(self.labels)) < len(self.labels):
                raise ValueError("labels should each be named once")
            return self

    fields: ClassVar[tuple[Field, ...]] = (TEXT, Field("labels", "target", True, (*_NAMES, *LABEL.synonyms)))
    metrics: ClassVar[tuple[str, ...]] = ("micro_f1", "label_macro_f1", "subset_accuracy")
    main_metric: ClassVar[str] = "micro_f1"
    gives: ClassVar[tuple[str, ...]] = ("label_sets",)
    baselines: ClassVar[tuple[str, ...]] = ("untuned", "tfidf_labels")
    settings: Settings

    # --- rows ---

    def learn(self, train: Table) -> None:
        """Keep the labels, how they are separated, and how rare each is."""
        self.state = {"separator": self._separator(train.column("labels"))}
        sets = [self._read(value) for value in train.column("labels")]
        counts = Counter(label for labels in sets for label in labels)
        labels = list(self.settings.labels) or sorted(counts)
        if not labels:
            raise DataError("no training row has a label.", fix="Name the right column in data.fields.labels.")
        weights = [1.0] * len(labels)
        if self.settings.positive_weight == "balanced":
            weights = [(len(sets) - counts[label]) / counts[label] if counts[label] else 1.0 for label in labels]
        # of a label that every row has there is nothing to weigh it against
        self.state |= {"labels": labels, "weights": [weight or 1.0 for weight in weights]}

    def accepts(self, table: Table) -> Mapping[int, str]:
        """Refuse rows whose labels cannot be read, or are not among the task's once these are given or learnt."""
        known, reasons = set(self.state.get("labels", self.settings.labels)), {}
        separator = self._separator(table.column("labels"))
        for i, value in enumerate(table.column("labels")):
            try:
                found = self._read(value, separator)
            except ValueError:
                reasons[i] = f"labels that cannot be read as a JSON list: {excerpt(str(value), 60)}"
                continue
            wrong = [label for label in found if known and label not in known]
            if wrong:
                reasons[i] = f"a label that is not among the task's: {wrong[0]!r}.{did_you_mean(wrong[0], known)}"
        return reasons

    def findings(
        self, tables: Mapping[str, Table], tokenizer: PreTrainedTokenizerBase | None = None
    ) -> Iterator[Finding]:
        """Say how labels were separated, and find rows that look like one label a row, or too few of a label."""
        learning = tables.get("train", tables.get("all"))
        if learning is None or "labels" not in learning.column_names or not len(learning):
            return
        values = learning.column("labels")
        separator = self._separator(values)
        sets = []
        for value in values:
            try:
                sets.append(self._read(value, separator))
            except ValueError:  # `accepts` sets it aside
                sets.append([])
        if separator and self.settings.separator is None:
            several = [i for i, (value, found) in enumerate(zip(values, sets, strict=True)) if separator in str(value)]
            yield Finding(
                "multi_label",
                "info",
                f"Labels were taken apart at {separator!r}, which {num_rows(len(several), 'all')} of "
                f"{len(values):,} hold.",
                "If it belongs into a label's name, write labels as JSON lists, or set task.separator.",
                places=places(learning, several, limit=5),
                count=len(several),
                evidence={"examples": {str(values[i]): sets[i] for i in several[:5]}},
            )
        yield from _one_a_row(learning, sets)
        for split, table in tables.items():
            yield from _repeated(split, table)
        counts = Counter(label for found in sets for label in found)
        rare = {label: count for label, count in sorted(counts.items()) if count < _FEW}
        if rare:
            yield Finding(
                "multi_label",
                "warning",
                f"{len(rare):,} of {len(counts):,} labels have fewer than {_FEW} rows to learn from.",
                "Add rows of them, or leave them out of task.labels.",
                count=len(rare),
                evidence={"rows": dict(list(rare.items())[:20])},
            )

    def _separator(self, values: Sequence[Any]) -> str:
        """Return what stands between labels: as set, as learnt, or what most rows hold; ``""`` for nothing."""
        if self.settings.separator is not None or "separator" in self.state:
            return self.settings.separator or self.state["separator"]
        texts = [text for text in map(str, values) if not text.lstrip().startswith("[")]
        counts = {each: sum(each in text for text in texts) for each in _SEPARATORS}
        most = max(_SEPARATORS, key=counts.__getitem__)  # the first of equals
        return most if counts[most] else ""

    def _read(self, value: Any, separator: str | None = None) -> list[str]:
        """Return the labels of a row, each once; a `ValueError` says that they cannot be read."""
        separator = self.state.get("separator", "") if separator is None else separator
        text = value.strip() if isinstance(value, str) else value
        if isinstance(text, str) and text.startswith("["):
            try:
                text = json.loads(text)
            except ValueError:
                try:
                    text = ast.literal_eval(text)  # as pandas writes lists into a CSV
                except (SyntaxError, MemoryError, RecursionError) as error:
                    raise ValueError("no list") from error
            if not isinstance(text, list) or any(isinstance(one, list | dict | tuple | set) for one in text):
                raise ValueError("no list of labels")
        elif isinstance(text, str):
            text = text.split(separator) if separator else [text]
        parts = text if isinstance(text, list | tuple) else [text]
        return list(dict.fromkeys(label for label in map(label_text, parts) if label))

    def _indicators(self, row: Mapping[str, Any], number: int) -> list[int]:
        index = {label: i for i, label in enumerate(self.labels)}
        where = f"row {number}"
        try:
            found = self._read(row["labels"])
        except ValueError as error:
            raise DataError(f"labels cannot be read: {row['labels']!r}.", where=where, fix="A JSON list.") from error
        for label in found:
            if label not in index:
                raise DataError(
                    f"there is no label {label!r}.{did_you_mean(label, index)}",
                    where=where,
                    fix=f"Labels: {', '.join(self.labels[:20])}.",
                )
        return [int(label in found) for label in self.labels]

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Tokenize; a text that is too long loses its end, and `tokens_lost` says how much."""
        encoded = tokenize(rows, ("text",), tokenizer, max_length)
        for i, (row, values) in enumerate(zip(rows, encoded, strict=True)):
            if row.get("labels") is not None:
                values["labels"] = self._indicators(row, i + 1)
        return encoded

    def collate(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
        """Pad to the longest row: ``input_ids (rows, length)``, ``labels (rows, labels)``, 0 or 1."""
        import torch

        tensors = pad(inputs, tokenizer)
        if "labels" in inputs[0]:
            tensors["labels"] = torch.tensor([row["labels"] for row in inputs], dtype=torch.long)
        return tensors

    # --- model and loss ---

    def build(self, pretrained: Pretrained, *, pooling: str, dropout: float | None, seed: int) -> nn.Module:
        """Return the stock sequence classifier of this architecture; other tools take sigmoids of its outputs."""
        from weitiao.models.load import load_sequence_classifier

        return load_sequence_classifier(
            pretrained,
            labels=self.labels,
            pooling=pooling,
            seed=seed,
            dropout=dropout,
            problem="multi_label_classification",
        )

    def reopen(self, folder: Path) -> nn.Module:
        """Open a saved sequence classifier."""
        from weitiao.models.load import open_saved

        return open_saved(folder)

    def logits(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return 0 and z of each pair of row and label, ``(rows * labels, 2)``."""
        import torch

        z = outputs.logits.reshape(-1)
        return torch.stack([torch.zeros_like(z), z], dim=-1)

    def targets(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return whether the label is there, ``(rows * labels,)``, 0 or 1."""
        return batch["labels"].reshape(-1)

    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the sum over rows and labels of the binary cross-entropy."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        z = outputs.logits  # (rows, labels)
        z = z.float() if z.itemsize < 4 else z
        weights = z.new_tensor(self.state["weights"])
        return binary_cross_entropy_with_logits(z, batch["labels"].to(z.dtype), pos_weight=weights, reduction="sum")

    # --- answers ---

    def say(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> Sequence[Any]:
        """Return the outputs of each row, ``(labels,)``."""
        return list(model(**self.model_inputs(batch)).logits.float().cpu().numpy())

    def truth(self, rows: Rows) -> np.ndarray:
        """Return which labels each row has, bool ``(rows, labels)``."""
        return np.array([self._indicators(row, i + 1) for i, row in enumerate(rows)], dtype=bool)

    def calibrate(self, said: Sequence[Any], rows: Rows) -> dict[str, float]:
        """Return the threshold of each label."""
        if not len(said):
            return {}
        z, true = np.asarray(said, dtype=np.float64), self.truth(rows)
        return {f"threshold/{label}": _threshold(z[:, i], true[:, i]) for i, label in enumerate(self.labels)}

    def answer(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> dict[str, np.ndarray]:
        """Return which labels each row is given, bool ``(rows, labels)``."""
        limits = np.array([calibration.get(f"threshold/{label}", 0.5) for label in self.labels])
        return {"label_sets": _sigmoid(np.asarray(said).reshape(-1, len(self.labels))) > limits}

    def decode(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> list[Prediction]:
        """Return the labels of each row, with the probability of every label."""
        found = []
        for z, given in zip(said, self.answer(said, rows, calibration)["label_sets"], strict=True):
            each = dict(zip(self.labels, _sigmoid(z).tolist(), strict=True))
            chosen = [label for label, there in zip(self.labels, given, strict=True) if there]
            found.append(LabelSetPrediction(chosen, None, each))
        return found

    def shown(self, value: Any) -> str:
        """Return the labels that are there, in their order."""
        return ", ".join(label for label, there in zip(self.labels, value, strict=True) if there) or "none"

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return nine rows of three labels, none to three of them a row."""
        texts = [
            ("room is clean", ["room"]),
            ("房间很干净", ["room"]),
            ("good food", ["food"]),
            ("早餐好吃", ["food"]),
            ("cheap room", ["room", "price"]),
            ("价格便宜", ["price"]),
            ("the food is bad, so is the price", ["food", "price"]),
            ("room, food and price", ["room", "food", "price"]),
            ("where is my phone", []),
        ]
        rows = [{"text": text, "labels": json.dumps(labels) if labels else "[]"} for text, labels in texts]
        rows.append({"text": "very slow", "labels": "price/food"})
        variants = [
            {"separator": "/"},
            {"positive_weight": "balanced"},
            {"labels": ["price/food", "room", "price", "food"]},
        ]
        return {"rows": rows, "settings": {}, "variants": variants}


def _sigmoid(z: Any) -> np.ndarray:
    from scipy.special import expit

    return expit(np.asarray(z, dtype=np.float64))


def _threshold(z: np.ndarray, true: np.ndarray) -> float:
    """Return the threshold of one label, a probability, from outputs and truth of dev rows, each ``(rows,)``."""
    positives = int(true.sum())
    ordered = np.unique(z)
    between = np.concatenate([[0.0], (ordered[1:] + ordered[:-1]) / 2, ordered[:1] - 1, ordered[-1:] + 1])
    # rows above each candidate: one sort, then a look-up
    all_above = len(z) - np.searchsorted(np.sort(z), between, side="right")
    right = positives - np.searchsorted(np.sort(z[true]), between, side="right")
    f1 = 2 * right / np.maximum(all_above + positives, 1)
    return float(_sigmoid(between[np.argmax(positives * f1 - between**2 / 2)]))  # the first of equals: 0.5


def _one_a_row(table: Table, sets: Sequence[Sequence[str]]) -> Iterator[Finding]:
    if max(map(len, sets), default=0) <= 1:
        yield Finding(
            "multi_label",
            "warning",
            f"No row has more than one label ({len(sets):,} rows to learn from).",
            "If each text has one label, the task classification fits better; else look how labels are written, and "
            "set task.separator.",
            places=places(table, range(len(table)), limit=3),
            count=len(sets),
        )


def _repeated(split: str, table: Table) -> Iterator[Finding]:
    """Find texts that stand in several rows with different labels: one label a row, it may be."""
    where: dict[str, list[int]] = {}
    for i, text in enumerate(table.column("text")):
        where.setdefault(normalise(text or ""), []).append(i)
    labels = table.column("labels")
    torn = [rows for rows in where.values() if len({labels[i] for i in rows}) > 1]
    if torn:
        total = sum(map(len, torn))
        yield Finding(
            "multi_label",
            "warning",
            f"{len(torn):,} texts{of(split)} stand in several rows with different labels ({total:,} rows); each row "
            "is learnt and measured as if its labels were all.",
            "Put all labels of a text into one row, as a JSON list, before the data is split.",
            places=places(table, [i for rows in torn for i in rows]),
            count=total,
            evidence={
                "texts": len(torn),
                "examples": [
                    {"text": excerpt(table[rows[0]]["text"]), "labels": [labels[i] for i in rows[:6]]}
                    for rows in torn[:5]
                ],
            },
        )
