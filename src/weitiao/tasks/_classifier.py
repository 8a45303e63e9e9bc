"""What every task that gives a row one label of several has in common: its settings, its loss, its answers.

The formulas and their sources stand in ``classification.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Setting
from pydantic import model_validator

from weitiao.data.fields import LABEL, TEXT, TEXT_PAIR, Field
from weitiao.data.table import Table
from weitiao.errors import DataError, RecipeError, did_you_mean
from weitiao.plugins import Options
from weitiao.probability import fit_temperature, softmax
from weitiao.tasks._texts import pad, tokenize
from weitiao.tasks.base import LabelPrediction, Prediction, Rows, Task

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from weitiao.models.find import Pretrained

__all__ = ["Classifier"]

_Weight = Annotated[float, Setting(gt=0, allow_inf_nan=False)]


class Classifier(Task):
    """Assign one of a fixed set of labels to each row."""

    class Settings(Options):
        """How rows of different classes count."""

        loss: Literal["cross_entropy", "focal"] = Setting("cross_entropy", description="what is minimised")
        gamma: float = Setting(2.0, gt=0, description="focal loss: how strongly easy rows are turned down")
        class_weights: Literal["none", "balanced"] | Annotated[dict[str, _Weight], Setting(min_length=1)] = Setting(
            "none", description="'balanced' gives every class the same total weight; or a weight for each label"
        )
        logit_adjustment: float | None = Setting(
            None,
            gt=0,
            allow_inf_nan=False,
            description="tau: training with logits + tau * log of the class shares, for rare classes; 1 is usual",
        )
        labels: tuple[str, ...] = Setting(
            (), description="the labels, in order; empty: those of the training rows, sorted"
        )

        @model_validator(mode="after")
        def _no_idle_setting(self) -> Classifier.Settings:
            if self.loss != "focal" and self.gamma != 2.0:
                raise ValueError("gamma has no effect unless loss is focal")
            if self.logit_adjustment is not None and self.class_weights != "none":
                raise ValueError("logit_adjustment and class_weights both make up for rare classes; use one of them")
            if len(self.labels) == 1 or len(set(self.labels)) < len(self.labels):
                raise ValueError("labels should be two or more, each named once")
            return self

    fields: ClassVar[tuple[Field, ...]] = (TEXT, TEXT_PAIR, LABEL)
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1", "mcc", "log_loss")
    main_metric: ClassVar[str] = "accuracy"
    gives: ClassVar[tuple[str, ...]] = ("probabilities", "labels")
    baselines: ClassVar[tuple[str, ...]] = ("nearest", "label_names", "tfidf", "majority")
    pooled: ClassVar[bool] = True
    settings: Settings

    @property
    def balances(self) -> str | None:
        """Return the setting that makes up for rare classes, if one is on."""
        if self.settings.logit_adjustment is not None:
            return "logit_adjustment"
        return None if self.settings.class_weights == "none" else "class_weights"

    def learn(self, train: Table) -> None:
        """Keep the labels, their weights, and whether rows are pairs."""
        counts = Counter(train.column("label"))
        labels = list(self.settings.labels) or sorted(counts)
        if len(labels) < 2:
            raise DataError(
                f"all {len(train):,} training rows have the label {labels[0]!r}." if labels else "there are no labels.",
                fix="It needs at least two classes: add rows of the others, or name the right column.",
            )
        self.state = {
            "labels": labels,
            "weights": self._weights(labels, counts),
            "pair": "text_pair" in train.column_names,
        }
        if self.settings.logit_adjustment is not None:
            sizes = np.array([max(counts[label], 1) for label in labels], dtype=np.float64)
            self.state["log_shares"] = np.log(sizes / sizes.sum()).tolist()

    def _weights(self, labels: list[str], counts: Counter[str]) -> list[float]:
        chosen = self.settings.class_weights
        if isinstance(chosen, dict):
            for name in chosen:
                if name not in labels:
                    raise RecipeError(
                        f"there is no label {name!r}.{did_you_mean(name, labels)}",
                        where="task.class_weights",
                        fix=f"Labels: {', '.join(labels[:20])}.",
                    )
            return [chosen.get(label, 1.0) for label in labels]
        if chosen == "balanced":  # n / (classes * n_c): the mean over training rows is 1
            total, present = sum(counts[label] for label in labels), sum(counts[label] > 0 for label in labels)
            return [total / (present * counts[label]) if counts[label] else 1.0 for label in labels]
        return [1.0] * len(labels)

    def accepts(self, table: Table) -> Mapping[int, str]:
        """Refuse rows whose label is not one of the labels, once these are given or learnt."""
        known, reasons = set(self.state.get("labels", self.settings.labels)), {}
        if not known:
            return {}
        for i, label in enumerate(table.column("label")):
            if label not in known:
                nearest = did_you_mean(label, known)
                reasons[i] = f"a label that is not among the task's: {label!r}.{nearest}"
        return reasons

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Tokenize; a text that is too long loses its end, and `tokens_lost` says how much."""
        names = ("text", "text_pair") if self.state.get("pair") else ("text",)
        encoded = tokenize(rows, names, tokenizer, max_length)
        self._label(encoded, rows)
        return encoded

    def _label(self, encoded: Sequence[dict[str, Any]], rows: Rows) -> None:
        """Write the place of each row's label into its inputs, where it has one."""
        index = {label: i for i, label in enumerate(self.labels)}
        for at, values in enumerate(encoded):
            row = rows[i := values.get("row", at)]
            if row.get("label") is not None:
                values["labels"] = index.get(row["label"], -1)
                if values["labels"] < 0:
                    raise DataError(
                        f"there is no label {row['label']!r}.{did_you_mean(row['label'], index)}",
                        where=f"row {i + 1}",
                        fix=f"Labels: {', '.join(self.labels[:20])}.",
                    )

    def collate(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
        """Pad to the longest row: ``input_ids (rows, length)``, ``labels (rows,)``."""
        return self._with_labels(pad(inputs, tokenizer), inputs)

    def _with_labels(self, tensors: dict[str, torch.Tensor], inputs: Rows) -> dict[str, torch.Tensor]:
        import torch

        if "labels" in inputs[0]:
            tensors["labels"] = torch.tensor([row["labels"] for row in inputs], dtype=torch.long)
        return tensors

    def build(self, pretrained: Pretrained, *, pooling: str, dropout: float | None, seed: int) -> nn.Module:
        """Return the stock sequence classifier of this architecture."""
        from weitiao.models.load import load_sequence_classifier

        return load_sequence_classifier(pretrained, labels=self.labels, pooling=pooling, seed=seed, dropout=dropout)

    def reopen(self, folder: Path) -> nn.Module:
        """Open a saved sequence classifier."""
        from weitiao.models.load import open_saved

        return open_saved(folder)

    def logits(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return ``(rows, classes)``."""
        return outputs.logits

    def targets(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return ``(rows,)``."""
        return batch["labels"]

    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the sum over rows of the weighted cross-entropy, or focal loss."""
        import torch

        logits = self.logits(outputs, batch)  # (rows, classes)
        if self.settings.logit_adjustment is not None:
            logits = logits + self.settings.logit_adjustment * logits.new_tensor(self.state["log_shares"])
        log_p = logits.log_softmax(-1)
        targets = self.targets(batch)
        own = log_p.gather(1, targets[:, None])[:, 0]  # (rows,)
        weights = torch.tensor(self.state["weights"], dtype=log_p.dtype, device=log_p.device)[targets]
        if self.settings.loss == "focal":
            missing = (-own.expm1()).clamp(min=torch.finfo(own.dtype).tiny)  # 1 - p; 0 has no gradient if gamma < 1
            weights = weights * missing.pow(self.settings.gamma)
        return -(weights * own).sum()

    def classes(self, inputs: Rows) -> np.ndarray | None:
        """Return the rows' labels, as places in `labels`."""
        return np.array([row["labels"] for row in inputs], dtype=np.int64)

    def label_rows(self) -> Table | None:
        """Return the label names as texts, unless rows are pairs or a name is a number."""
        mute = any(not any(c.isalpha() for c in label) for label in self.labels)
        if mute or self.state["pair"]:
            return None
        return Table.from_rows([{"text": label.replace("_", " ")} for label in self.labels])

    def truth(self, rows: Rows) -> np.ndarray:
        """Return the place of each row's label in `labels`, ``(rows,)``."""
        index = {label: i for i, label in enumerate(self.labels)}
        return np.array([index[row["label"]] for row in rows], dtype=np.int64)

    def calibrate(self, said: Sequence[Any], rows: Rows) -> dict[str, float]:
        """Return the temperature of the confidences."""
        return {"temperature": fit_temperature(np.asarray(said), self.truth(rows))}

    def answer(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> np.ndarray:
        """Return probabilities ``(rows, classes)``."""
        return softmax(np.asarray(said), calibration.get("temperature", 1.0))

    def decode(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> list[Prediction]:
        """Return the likeliest label of each row with all calibrated probabilities."""
        found = []
        for row in self.answer(said, rows, calibration) if len(said) else ():
            each = dict(zip(self.labels, row.tolist(), strict=True))
            found.append(LabelPrediction(self.labels[row.argmax()], float(row.max()), each))
        return found

    def right(self, targets: np.ndarray, answers: Any) -> np.ndarray:
        """Return whether the likeliest class is the true one."""
        return answers.argmax(axis=1) == targets

    def sure(self, answers: Any) -> np.ndarray | None:
        """Return the largest probability of each row."""
        return answers.max(axis=1)

    def shown(self, value: Any) -> str:
        """Return the label of a class, or the likeliest of a row of probabilities."""
        return self.labels[int(np.argmax(value)) if np.ndim(value) else int(value)]
