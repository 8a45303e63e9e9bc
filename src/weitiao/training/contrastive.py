"""Learn from pairs of rows which belong to one class and which do not.

A pair costs nothing until it is read: which rows it joins follows from the seed and its number, so that neither memory
nor a resumed run depends on how many pairs there could be. Half of the pairs are of one class, half of two, and classes
take turns, whatever their sizes. The two texts of pairs are read once each in a step, however often they come in it.

With u_i the vector of text i at length 1, the loss of a pair (i, j) is, by the name of the loss,

    cosine_similarity   (u_i u_j - s)^2                                               s is 1 for one class, 0 for two
    supervised          -1/|P_i| * sum over p in P_i of  log( exp(u_i u_p / t) / sum over k != i of exp(u_i u_k / t) )

the second a mean over all texts i of a step, P_i the others of the class of i in it; its pairs are all of one class,
for the others of a step are what they are told from.

Source: Tunstall et al., Efficient Few-Shot Learning Without Prompts, 2022, arXiv:2209.11055, section 3
(cosine_similarity); Khosla et al., Supervised Contrastive Learning, 2020, arXiv:2004.11362, equation 2 (supervised).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from weitiao.data.batch import epoch_order
from weitiao.errors import TrainingError
from weitiao.findings import Finding
from weitiao.models import parts
from weitiao.models.pooled import SentenceClassifier
from weitiao.randomness import generator
from weitiao.tasks.base import Features, Task
from weitiao.training.loop import Loop, Outside
from weitiao.training.position import Position
from weitiao.training.settings import TrainingSettings

__all__ = ["FEW", "PairFeatures", "Pairs", "by_pairs", "learnt_too", "with_dev", "with_names"]

FEW = 50  # rows of dev; fewer, or fewer than two of each class, say too little to be worth what they could teach

Batch = dict[str, Tensor]
_ROUND = 16_384  # pairs that are drawn at a time, at most


class Pairs:
    """Pairs of rows, each drawn when its number is asked for.

    Parameters
    ----------
    classes
        Of each row, ``(rows,)``.
    count
        Pairs an epoch.
    seed
        Another seed, other pairs.
    of_one_class
        Whether all pairs are of one class, and not every second.
    """

    def __init__(self, classes: np.ndarray, count: int, *, seed: int, of_one_class: bool = False) -> None:
        self.seed, self.of_one_class = seed, of_one_class
        self.rounds = -(-count // _ROUND)  # an epoch has
        self.size = -(-count // self.rounds)  # pairs a round
        self._rows = np.argsort(classes, kind="stable")
        _, self._starts, self._sizes = np.unique(classes[self._rows], return_index=True, return_counts=True)
        self._several = np.flatnonzero(self._sizes > 1)
        self._kept: tuple[int, np.ndarray] = (-1, np.zeros((3, 0), dtype=np.int64))
        if not len(self._several) or len(self._sizes) < 2:
            raise TrainingError(
                "there are no pairs to learn from: "
                + ("all rows are of one class." if len(self._sizes) < 2 else "every class has a single row."),
                fix="Give two rows of a class and two classes at least, or set label_names where names say something.",
            )

    def of_round(self, number: int) -> np.ndarray:
        """Return the pairs of a round, from 0 over all epochs: first row, second row, whether of one class."""
        if self._kept[0] != number:
            rng = generator(self.seed, "pairs", number)
            half = self.size if self.of_one_class else (self.size + 1) // 2
            alike = rng.permutation(self._several)[np.arange(half) % len(self._several)]
            first = rng.integers(self._sizes[alike])
            second = (first + 1 + rng.integers(self._sizes[alike] - 1)) % self._sizes[alike]  # another one
            apart = rng.permutation(len(self._sizes))[np.arange(self.size - half) % len(self._sizes)]
            other = (apart + 1 + rng.integers(len(self._sizes) - 1, size=len(apart))) % len(self._sizes)
            lefts = np.concatenate(
                [self._starts[alike] + first, self._starts[apart] + rng.integers(self._sizes[apart])]
            )
            rights = np.concatenate(
                [self._starts[alike] + second, self._starts[other] + rng.integers(self._sizes[other])]
            )
            same = np.arange(self.size) < half
            self._kept = number, np.stack([self._rows[lefts], self._rows[rights], same])
        return self._kept[1]

    def __getitem__(self, numbers: Sequence[int]) -> np.ndarray:
        """Return the pairs with these numbers, ``(3, pairs)``."""
        found = np.zeros((3, len(numbers)), dtype=np.int64)
        within, rounds = np.asarray(numbers) % self.size, np.asarray(numbers) // self.size
        for number in np.unique(rounds):
            found[:, rounds == number] = self.of_round(int(number))[:, within[rounds == number]]
        return found


@dataclass(frozen=True)
class PairFeatures(Features):
    """Pairs of encoded rows, by their numbers; `lengths` and `len` are those of the first round."""

    pairs: Any = None

    @classmethod
    def of(cls, rows: Features, pairs: Pairs) -> PairFeatures:
        """Return pairs of the rows."""
        return cls(rows.inputs, _Places(rows.places, pairs), rows.collate, pairs=pairs)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.pairs.size

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of the longer text of each pair."""
        return self.lengths_of(0)

    def lengths_of(self, number: int) -> np.ndarray:
        """Return the tokens of the longer text of each pair of a round."""
        first, second, _ = self.pairs.of_round(number)
        texts, places = np.unique(np.stack([first, second]), return_inverse=True)
        lengths = np.array([len(self.inputs[i]["input_ids"]) for i in texts], dtype=np.int64)
        return lengths[places].reshape(2, -1).max(0)

    def batch(self, numbers: Iterable[int], *, asking: bool = False) -> Batch:
        """Return the texts of pairs, each once, and what the pairs are.

        Beside the model's inputs: ``pairs (2, pairs)``, places in the batch; ``same (pairs,)``, whether of one class;
        ``labels (texts,)``.
        """
        first, second, same = self.pairs[[int(number) for number in numbers]]
        texts, places = np.unique(np.stack([first, second]), return_inverse=True)
        batch = self.collate([self.inputs[i] for i in texts])
        return batch | {"pairs": torch.from_numpy(places.reshape(2, -1)), "same": torch.from_numpy(same)}


class _Places:
    """Where the two rows of a pair came from."""

    def __init__(self, places: Sequence[str], pairs: Pairs) -> None:
        self.places, self.pairs = places, pairs

    def __getitem__(self, number: int) -> str:
        first, second, _ = self.pairs[[int(number)]][:, 0]
        return f"{self.places[first]} with {self.places[second]}"


class _PairTask(Task):
    """What the loop asks of a task, for pairs and a backbone without head."""

    name: ClassVar[str] = "pairs"

    def __init__(self, inner: Task, pooling: str, temperature: float) -> None:
        super().__init__()
        self.inner, self.pooling, self.temperature = inner, pooling, temperature

    def model_inputs(self, batch: Mapping[str, Tensor]) -> Batch:
        return {k: v for k, v in self.inner.model_inputs(batch).items() if k not in ("pairs", "same")}

    def items(self, batch: Mapping[str, Tensor]) -> int:
        return len(batch["same"])

    def vectors(self, outputs: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Return what the head will read of each text, ``(texts, hidden)``, at length 1."""
        pooler = getattr(outputs, "pooler_output", None)
        read = (
            parts.pool(outputs.last_hidden_state, batch["attention_mask"], self.pooling) if pooler is None else pooler
        )
        return normalize(read.float() if read.itemsize < 4 else read, dim=-1)

    def loss(self, outputs: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the sum over pairs of the squared error of the cosine."""
        u = self.vectors(outputs, batch)
        cosines = (u[batch["pairs"][0]] * u[batch["pairs"][1]]).sum(1)
        return (cosines - batch["same"].to(u.dtype)).square().sum()


class _Supervised(_PairTask):
    couples_rows: ClassVar[bool] = True

    def loss(self, outputs: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the mean over texts of the supervised contrastive loss, times the pairs."""
        u, classes = self.vectors(outputs, batch), batch["labels"]
        own = torch.eye(len(u), dtype=torch.bool, device=u.device)
        log_p = (u @ u.T / self.temperature).masked_fill(own, -1e30).log_softmax(-1)  # (texts, texts)
        alike = (classes[:, None] == classes) & ~own  # some for each: a text comes with another of its class
        return -len(batch["same"]) * ((log_p * alike).sum(1) / alike.sum(1).clamp(min=1)).mean()


class _PairLoop(Loop):
    """The loop over rounds of pairs; a round is an epoch to it."""

    train: PairFeatures

    def order(self, epoch: int) -> list[np.ndarray]:
        """Return the numbers of the pairs of each step of a round."""
        if getattr(self, "_order_of", None) != epoch:
            how, lengths = self.settings, self.train.lengths_of(epoch)
            steps = epoch_order(lengths, how.batch_size, seed=self.seed, epoch=epoch, batch_tokens=how.batch_tokens)
            self._steps = [epoch * len(self.train) + step for step in steps]
            self._order_of = epoch
        return self._steps

    def _epochs_done(self) -> float:
        return super()._epochs_done() / self.train.pairs.rounds


def with_names(rows: Features, names: Features | None) -> Features:
    """Return rows to learn from with the names of the labels as further rows, each of its own class.

    Raises
    ------
    TrainingError
        The names say nothing.
    """
    if names is None:
        raise TrainingError(
            "the names of the labels say nothing: they are numbers, or rows are pairs.", fix="Leave label_names out."
        )
    added = [{**row, "labels": i} for i, row in enumerate(names.inputs)]
    places = [*rows.places, *(f"the name of label {i + 1}" for i in range(len(added)))]
    return replace(rows, inputs=[*rows.inputs, *added], places=places, owners=None)


def with_dev(rows: Features, dev: Features) -> Features:
    """Return rows to learn from with those of dev, where these are too few to choose or to calibrate by."""
    return replace(rows, inputs=[*rows.inputs, *dev.inputs], places=[*rows.places, *dev.places], owners=None)


def learnt_too(dev: Features) -> Finding:
    """Say that dev is learnt from as well."""
    return Finding(
        "dev",
        "info",
        f"dev has {len(dev):,} rows, too few to calibrate by: they are learnt from, too, and confidences are not "
        "calibrated.",
        "Name other rows as data.dev to have them calibrated.",
        count=len(dev),
    )


def by_pairs(
    model: nn.Module, task: Task, pooling: str, rows: Features, told: Any, how: tuple[TrainingSettings, int, Outside]
) -> Position:
    """Tune the backbone of `model` on pairs of rows, in place.

    Parameters
    ----------
    pooling
        Which position the head reads.
    rows
        To learn from.
    told
        Settings of the method: ``iterations``, ``loss``, ``temperature``.
    how
        Settings of training, seed, and what the loop has around it.

    Raises
    ------
    TrainingError
        There are no pairs, or the loss is not finite.
    """
    training, seed, outside = how
    classes = task.classes(rows.inputs)
    if classes is None:
        raise TrainingError(f"rows of {task.name} have no one class to make pairs by.", fix="Choose another method.")
    supervised = told.loss == "supervised"
    pairs = Pairs(classes, 2 * told.iterations * len(rows), seed=seed, of_one_class=supervised)
    learning = (_Supervised if supervised else _PairTask)(task, pooling, told.temperature)
    rounds = training.model_copy(update={"epochs": training.epochs * pairs.rounds})
    body = parts.backbone(model)
    loop = _PairLoop(body, learning, PairFeatures.of(rows, pairs), rounds, seed, (), outside)
    position = loop.run()
    if isinstance(model, SentenceClassifier):
        model.normalize = True  # the pairs were compared so, and the length of a vector was taught nothing
    model.to(next(body.parameters()).device)  # the head follows
    return position
