"""A number for each text, or pair of texts: how alike they are, how many stars.

The model learns standardized values, and answers in the units of the data. With z its one output and y a row's value,

    loss = (z - (y - m) / s)^2

summed over rows, m and s the mean and the standard deviation of the training values: so a learning rate means the same
for ratings from 1 to 5 and for prices in thousands. With `ordinal`, values are whole steps of a scale; answers are
rounded to a step and stay within the steps of the training rows.

Source: Bishop, Pattern Recognition and Machine Learning, 2006, equation 1.2 (sum of squares); Devlin et al., BERT,
2018, arXiv:1810.04805, table 1 (STS-B: a likeness score as regression).
Differs: BERT learns scores as they are; here they are standardized.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field as Setting

from weitiao.data.checks.base import num_rows, places
from weitiao.data.fields import TEXT, TEXT_PAIR, Field
from weitiao.data.table import Table
from weitiao.errors import DataError
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

__all__ = ["Regression"]

_FAR = 6  # standard deviations from the mean from which a value is worth a look
_NAMES = ("value", "score", "rating", "relatedness_score", "similarity_score", "similarity", "stars", "star", "grade")
_NAMES += ("target", "label", "分数", "评分", "得分", "相似度", "星级", "打分")


class Regression(Task):
    """Give a number to a text, or to a pair of texts."""

    class Settings(Options):
        """What kind of number it is."""

        ordinal: bool = Setting(False, description="whole steps of a scale (stars): answers are rounded to a step")

    fields: ClassVar[tuple[Field, ...]] = (TEXT, TEXT_PAIR, Field("value", "number", True, _NAMES))
    metrics: ClassVar[tuple[str, ...]] = ("pearson", "spearman", "mean_squared_error", "mean_absolute_error")
    one_item_a_row: ClassVar[bool] = True
    main_metric: ClassVar[str] = "pearson"
    gives: ClassVar[tuple[str, ...]] = ("values",)
    baselines: ClassVar[tuple[str, ...]] = ("untuned", "tfidf_ridge", "mean")
    pooled: ClassVar[bool] = True
    classes_are_targets: ClassVar[bool] = False
    settings: Settings

    # --- rows ---

    def learn(self, train: Table) -> None:
        """Keep mean, standard deviation and range of the training values, and whether rows are pairs."""
        values = np.array(train.column("value"), dtype=np.float64)
        if not len(values) or values.min() == values.max():
            what = f"all {len(values):,} training rows have the value {values[0]:g}." if len(values) else "no rows."
            raise DataError(what, fix="There is nothing to learn: add rows of other values, or name the right column.")
        if self.settings.ordinal and (wrong := [i for i, value in enumerate(values) if value != round(value)]):
            raise DataError(
                f"{len(wrong):,} training rows have values that are no whole steps, such as {values[wrong[0]]:g}.",
                where=str(train.places[wrong[0]]),
                fix="Leave ordinal out.",
            )
        self.state = {
            "mean": float(values.mean()),
            "spread": float(values.std()),
            "range": [float(values.min()), float(values.max())],
            "pair": "text_pair" in train.column_names,
        }

    def findings(
        self, tables: Mapping[str, Table], tokenizer: PreTrainedTokenizerBase | None = None
    ) -> Iterator[Finding]:
        """Find values far from all others, and ratings that are whole steps."""
        for split, table in tables.items():
            values = np.array([math.nan if v is None else v for v in table.column("value")], dtype=np.float64)
            known = values[np.isfinite(values)]
            if not len(known):
                continue
            middle, spread = np.median(known), known.std()
            far = np.flatnonzero(np.abs(values - middle) > _FAR * spread) if spread else np.array([], dtype=int)
            if len(far):
                yield Finding(
                    "regression",
                    "warning",
                    f"{num_rows(len(far), split)} {'has a value' if len(far) == 1 else 'have values'} more than {_FAR} "
                    f"standard deviations away from the median {middle:g}.",
                    "Look whether a decimal point is lost or another unit meant; squares make such a row count much.",
                    places=places(table, far.tolist()),
                    count=len(far),
                    evidence={"values": values[far][:10].tolist()},
                )
            steps = np.unique(known)
            if split in ("train", "all") and not self.settings.ordinal and len(steps) <= 10 and (steps % 1 == 0).all():
                yield Finding(
                    "regression",
                    "info",
                    f"The values are {len(steps)} whole steps ({', '.join(f'{step:g}' for step in steps)}).",
                    "If answers have to be steps too, set task.ordinal.",
                    count=len(known),
                )

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Tokenize; a text that is too long loses its end, and `tokens_lost` says how much."""
        names = ("text", "text_pair") if self.state.get("pair") else ("text",)
        encoded = tokenize(rows, names, tokenizer, max_length)
        for i, (row, values) in enumerate(zip(rows, encoded, strict=True)):
            if row.get("value") is not None:
                values["labels"] = self._standardized(row["value"], i + 1)
        return encoded

    def _standardized(self, value: Any, number: int) -> float:
        try:
            return (float(value) - self.state["mean"]) / self.state["spread"]
        except (TypeError, ValueError) as error:
            raise DataError(f"value is no number: {value!r}.", where=f"row {number}") from error

    def collate(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
        """Pad to the longest row: ``input_ids (rows, length)``, ``labels (rows,)``, standardized values."""
        import torch

        tensors = pad(inputs, tokenizer)
        if "labels" in inputs[0]:
            tensors["labels"] = torch.tensor([row["labels"] for row in inputs], dtype=torch.float32)
        return tensors

    # --- model and loss ---

    def build(self, pretrained: Pretrained, *, pooling: str, dropout: float | None, seed: int) -> nn.Module:
        """Return the stock sequence classifier of this architecture, with one output."""
        from weitiao.models.load import load_sequence_classifier

        return load_sequence_classifier(
            pretrained, labels=("value",), pooling=pooling, seed=seed, dropout=dropout, problem="regression"
        )

    def reopen(self, folder: Path) -> nn.Module:
        """Open a saved sequence classifier."""
        from weitiao.models.load import open_saved

        return open_saved(folder)

    def logits(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the standardized answers, ``(rows, 1)``."""
        return outputs.logits

    def targets(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the standardized values, ``(rows,)``."""
        return batch["labels"]

    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the sum of the squared errors."""
        return (outputs.logits[:, 0] - batch["labels"]).square().sum()

    # --- answers ---

    def truth(self, rows: Rows) -> np.ndarray:
        """Return the values, ``(rows,)``."""
        return np.array([float(row["value"]) for row in rows], dtype=np.float64)

    def answer(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> np.ndarray:
        """Return the answers in the units of the data, ``(rows,)``."""
        values = np.asarray(said, dtype=np.float64).reshape(-1) * self.state["spread"] + self.state["mean"]
        return np.clip(np.round(values), *self.state["range"]) if self.settings.ordinal else values

    def decode(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> list[Prediction]:
        """Return one number a row; a whole one where values are steps."""
        values = self.answer(said, rows, calibration).tolist()
        # what is said twice of one row may differ in the last digits, an answer may not
        return [Prediction(int(value) if self.settings.ordinal else float(f"{value:.4g}")) for value in values]

    def right(self, targets: np.ndarray, answers: Any) -> np.ndarray:
        """Return whether the step is right; without steps, whether the error is below half a standard deviation."""
        allowed = 0.0 if self.settings.ordinal else self.state["spread"] / 2
        return np.abs(np.asarray(answers) - targets) <= allowed

    def shown(self, value: Any) -> str:
        """Return the number."""
        return f"{float(value):.4g}"

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return nine ratings."""
        texts = [
            "bad room",
            "服务太差",
            "poor food",
            "the room",
            "the hotel",
            "nice room",
            "good food",
            "很好",
            "love it",
        ]
        values = [1.0, 1.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0, 5.0]
        rows = [{"text": text, "value": value} for text, value in zip(texts, values, strict=True)]
        return {"rows": rows, "settings": {}, "variants": [{"ordinal": True}]}
