"""One label a row, from one text or a pair of texts.

The loss is the cross-entropy of the softmax over classes, for a row with logits z and class y

    -w_y * log(exp(z_y) / sum_k exp(z_k))

with weight w_y = 1 unless `class_weights` is set, or the focal loss, which turns down rows that are
already right:

    -w_y * (1 - p_y)^gamma * log p_y

Logit adjustment trains on z + tau * log pi in the place of z, pi the share of each class in the training rows, and
predicts from z: what is then best is the mean of the classes' accuracies, not the accuracy. The p_y of the focal loss
is that of the adjusted logits.

Source: Bishop, Pattern Recognition and Machine Learning, 2006, equation 4.108; Lin et al., Focal Loss
for Dense Object Detection, 2017, arXiv:1708.02002; balanced weights: King and Zeng, Logistic Regression
in Rare Events Data, 2001; logit adjustment: Menon et al., Long-tail Learning via Logit Adjustment, 2020,
arXiv:2007.07314, equation 10.
Differs: a class that is listed and has no training row counts as one row in pi.
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
from weitiao.tasks.base import Prediction, Task

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from weitiao.models.find import Pretrained

__all__ = ["Classification"]

_Weight = Annotated[float, Setting(gt=0, allow_inf_nan=False)]


class Classification(Task):
    """Assign one of a fixed set of labels to a text, or to a pair of texts."""

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
        def _no_idle_setting(self) -> Classification.Settings:
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
    settings: Settings

    def learn(self, train: Table) -> None:
        """Keep the labels, their weights, and whether rows are pairs."""
        counts = Counter(train.column("label"))
        labels = list(self.settings.labels) or sorted(counts)
        if len(labels) < 2:
            raise DataError(
                f"all {len(train):,} training rows have the label {labels[0]!r}." if labels else "there are no labels.",
                fix="Classification needs at least two classes: add rows of the others, or name the right column.",
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

    def encode(
        self, rows: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> list[dict[str, Any]]:
        """Tokenize; a text that is too long loses its end, and `tokens_lost` says how much."""
        pair = self.state.get("pair", False)
        for i, row in enumerate(rows):
            for name in ("text", "text_pair") if pair else ("text",):
                if not isinstance(row.get(name), str) or not row[name].strip():
                    raise DataError(f"{name} is empty or missing.", where=f"row {i + 1}", fix="Every row needs it.")
        texts = [row["text"] for row in rows]
        pairs = [row["text_pair"] for row in rows] if pair else None
        cut = tokenizer(texts, pairs, truncation=True, max_length=max_length)
        full = [i for i, ids in enumerate(cut["input_ids"]) if len(ids) >= max_length]
        long = [texts[i] for i in full], [pairs[i] for i in full] if pairs else None
        whole = tokenizer(*long, truncation=False, verbose=False)["input_ids"] if full else []
        lost = {i: len(ids) - len(cut["input_ids"][i]) for i, ids in zip(full, whole, strict=True)}
        index = {label: i for i, label in enumerate(self.labels)}
        encoded = []
        for i, row in enumerate(rows):
            values: dict[str, Any] = {key: cut[key][i] for key in cut}
            values["tokens_lost"] = lost.get(i, 0)
            if row.get("label") is not None:
                values["labels"] = index.get(row["label"], -1)
                if values["labels"] < 0:
                    raise DataError(
                        f"there is no label {row['label']!r}.{did_you_mean(row['label'], index)}",
                        where=f"row {i + 1}",
                        fix=f"Labels: {', '.join(self.labels[:20])}.",
                    )
            encoded.append(values)
        return encoded

    def collate(
        self, inputs: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase
    ) -> dict[str, torch.Tensor]:
        """Pad to the longest row: ``input_ids (rows, length)``, ``labels (rows,)``."""
        import torch

        keys = [key for key in inputs[0] if key not in ("labels", "tokens_lost")]
        batch = tokenizer.pad([{key: row[key] for key in keys} for row in inputs], return_tensors="pt")
        tensors = {key: batch[key] for key in keys}
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

    def classes(self, inputs: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
        """Return the rows' labels, as places in `labels`."""
        return np.array([row["labels"] for row in inputs], dtype=np.int64)

    def label_rows(self) -> Table | None:
        """Return the label names as texts, unless rows are pairs or a name is a number."""
        if self.state["pair"] or any(not any(c.isalpha() for c in label) for label in self.labels):
            return None
        return Table.from_rows([{"text": label.replace("_", " ")} for label in self.labels])

    def decode(self, logits: np.ndarray, *, temperature: float = 1.0) -> list[Prediction]:
        """Return the likeliest label of each row with all calibrated probabilities."""
        scaled = logits.astype(np.float64) / temperature
        scaled -= scaled.max(axis=-1, keepdims=True)
        p = np.exp(scaled)
        p /= p.sum(axis=-1, keepdims=True)  # (rows, classes)
        best = p.argmax(axis=-1)
        return [
            Prediction(self.labels[k], float(row[k]), dict(zip(self.labels, map(float, row), strict=True)))
            for k, row in zip(best, p, strict=True)
        ]

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return nine rows of two classes."""
        good = ["good book", "very nice", "i like it", "房间很干净"]
        bad = ["bad book", "very poor", "i hate it", "服务太差", "糟糕"]
        rows = [{"text": t, "label": "positive"} for t in good] + [{"text": t, "label": "negative"} for t in bad]
        variants = [
            {"loss": "focal"},
            {"loss": "focal", "gamma": 0.5},
            {"class_weights": "balanced"},
            {"class_weights": {"positive": 3.0}},
            {"logit_adjustment": 1.0},
            {"logit_adjustment": 2.0, "loss": "focal"},
            {"labels": ["positive", "negative"]},
        ]
        return {"rows": rows, "settings": {}, "variants": variants}
