"""What a task is: everything about *what* the model learns, and nothing about how, or where files are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from weitiao.data.fields import Field
from weitiao.data.table import Table
from weitiao.findings import Finding
from weitiao.models import STATES
from weitiao.plugins import Named, Options

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from weitiao.models.find import Pretrained

__all__ = ["Features", "LabelPrediction", "Prediction", "Rows", "Task", "cut_off", "objects"]

Rows = Sequence[Mapping[str, Any]]
Batch = dict[str, "torch.Tensor"]


@dataclass(frozen=True)
class Features:
    """Encoded rows: one input a row, or several where a task reads a long row in windows.

    Parameters
    ----------
    inputs
        One mapping an input from name (``input_ids``, ``labels``, ...) to a value.
    places
        Where the row of each input came from, as ``file:line``.
    collate
        Pads some of `inputs` to one batch to learn from.
    states
        Gives, for numbers of inputs and their attention mask, what the frozen layers say; ``None``: they have to run.
    ask
        Pads some of `inputs` to one batch to answer; `collate` where a task makes no difference.
    owners
        The number of the row that each input belongs to, rising; one input a row when left out.
    """

    inputs: Sequence[Mapping[str, Any]]
    places: Sequence[str]
    collate: Callable[[Rows], Batch]
    states: Callable[[Sequence[int], torch.Tensor], torch.Tensor] | None = None
    ask: Callable[[Rows], Batch] | None = None
    owners: Sequence[int] | None = None

    @classmethod
    def encode(cls, task: Task, rows: Table, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Features:
        """Encode the rows of a table."""
        inputs = task.encode(list(rows), tokenizer, max_length) if len(rows) else []
        owners = [int(one.get("row", i)) for i, one in enumerate(inputs)]
        return cls(
            inputs,
            [str(rows.places[owner]) for owner in owners],
            lambda part: task.collate(part, tokenizer),
            ask=None if type(task).ask is Task.ask else lambda part: task.ask(part, tokenizer),
            owners=owners,
        )

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens an input, ``(inputs,)``."""
        return np.array([len(row["input_ids"]) for row in self.inputs], dtype=np.int64)

    def batch(self, numbers: Iterable[int], *, asking: bool = False) -> Batch:
        """Return the inputs with these numbers as one batch, to learn from or, `asking`, to answer."""
        numbers = [int(number) for number in numbers]
        inputs = [self.inputs[i] for i in numbers]
        if asking and self.ask is not None:
            return self.ask(inputs)
        batch = self.collate(inputs)
        if self.states is not None:
            batch[STATES] = self.states(numbers, batch["attention_mask"])
        return batch


@dataclass(frozen=True)
class Prediction:
    """What a bundle answers for one row, as JSON values; and how sure it is, where it can tell."""

    answer: Any
    confidence: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        sure = {} if self.confidence is None else {"confidence": self.confidence}
        return {"answer": self.answer, **sure}


@dataclass(frozen=True, init=False)
class LabelPrediction(Prediction):
    """One label of several, with calibrated probabilities."""

    probabilities: Mapping[str, float]

    def __init__(self, label: str, confidence: float, probabilities: Mapping[str, float]) -> None:
        super().__init__(label, confidence)
        object.__setattr__(self, "probabilities", probabilities)

    @property
    def label(self) -> str:
        """The likeliest label."""
        return self.answer

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"label": self.label, "confidence": self.confidence, "probabilities": dict(self.probabilities)}


def objects(values: Iterable[Any]) -> np.ndarray:
    """Return an array ``(rows,)`` that holds each value as it is, tuples and sets too."""
    values = list(values)
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def cut_off(features: Mapping[str, Features]) -> Iterator[Finding]:
    """Say of each split what share of its tokens `encode` had to leave out."""
    for split, encoded in features.items():
        cut = [i for i, one in enumerate(encoded.inputs) if one.get("tokens_lost")]
        if cut:
            lost = sum(encoded.inputs[i]["tokens_lost"] for i in cut)
            share = lost / (lost + int(encoded.lengths.sum()))
            yield Finding(
                "lengths",
                "warning",
                f"{len(cut):,} of {len(encoded):,} rows of {split} are longer than the model takes with what is said "
                f"around them: {lost:,} tokens ({share:.1%}) are left out.",
                "Shorten these rows, raise model.max_length if the model takes more, or choose a model that does.",
                places=tuple(encoded.places[i] for i in cut[:20]),
                count=len(cut),
            )
        short = [i for i, one in enumerate(encoded.inputs) if one.get("examples_lost")]
        if short:
            yield Finding(
                "examples",
                "info",
                f"{len(short):,} of {len(encoded):,} inputs of {split} have no room for all examples: "
                f"{sum(encoded.inputs[i]['examples_lost'] for i in short):,} are left out, the unlikest first.",
                "Lower task.prompt.examples.count, or choose a model that takes more.",
                places=tuple(encoded.places[i] for i in short[:20]),
                count=len(short),
            )


class Task(Named):
    """What is predicted. One file in this folder is the whole of one task.

    A task knows rows, tokens and logits. It never sees the method, the loop or a file. The loop needs
    four things of it, each per *item* (a row, a token, a span: whatever the loss is a sum over):
    `items`, `logits`, `targets` and `loss`. From the first three, any regularizer works on any task.

    What a model *says* of a row (logits, a written text) is kept until all rows are read; `answer` makes of it what
    metrics compare with `truth`, and `decode` what people are given.

    Attributes
    ----------
    gives
        Forms of answers that `answer` gives, as metrics name them in `needs`.
    baselines
        What the tuned model has to beat: names in the family of baselines. The first is the model before tuning.
    formats
        File formats of its own, tried before tables.
    pooled
        Whether the head reads one pooled vector a row: then the head alone can be solved for, pooling be chosen, and
        neighbors be found.
    has_new_head
        Whether its model has weights to learn from nothing; a head that was pretrained has no rate of its own.
    selects_by
        What chooses the best weights: the main metric on dev, or (where answering takes long) the loss on dev.
    classes_are_targets
        Whether `targets` are class indices; regularizers that need them are refused otherwise.
    one_item_a_row
        Whether each row is one item of the loss and one vector for the head; regularizers that join rows are refused
        otherwise.
    cuts_by_itself
        Whether only `encode` knows what a long row loses: nothing where it reads windows, more where a prompt and room
        for an answer come on top of the texts.
    one_sequence
        Whether an input is one sequence through the layers, so that what frozen layers say of it can be kept.
    augments
        Whether a training text may be written again; not if labels are places in it.
    couples_rows
        Whether the loss of a row depends on the rows beside it in a forward pass, so that a step can be cut into
        neither micro-batches nor shares of several processes; both are refused.
    """

    class Settings(Options):
        """Settings of the task in the recipe."""

    fields: ClassVar[tuple[Field, ...]]
    metrics: ClassVar[tuple[str, ...]]
    main_metric: ClassVar[str]
    gives: ClassVar[tuple[str, ...]]
    baselines: tuple[str, ...] = ("untuned",)
    formats: ClassVar[tuple[str, ...]] = ()
    pooled: bool = False
    has_new_head: bool = True
    selects_by: ClassVar[Literal["metric", "loss"]] = "metric"
    classes_are_targets: ClassVar[bool] = True
    one_item_a_row: bool = False
    cuts_by_itself: bool = False
    augments: ClassVar[bool] = True
    one_sequence: bool = True
    couples_rows: ClassVar[bool] = False

    def __init__(self, settings: Options | None = None, state: Mapping[str, Any] | None = None) -> None:
        self.settings = settings or self.Settings()
        self.state: dict[str, Any] = dict(state or {})

    @property
    def labels(self) -> list[str]:
        """The labels, in the order of the logits; `learn` puts them into `state`. None where there are none."""
        return self.state.get("labels", [])

    @classmethod
    def text_fields(cls, there: Sequence[str]) -> tuple[str, ...]:
        """Return the fields among the columns `there` that the model reads."""
        return tuple(f.name for f in cls.fields if f.kind == "text" and f.name in there)

    @classmethod
    def request_fields(cls, there: Sequence[str]) -> tuple[str, ...]:
        """Return the fields among the columns `there` that a request has."""
        return tuple(f.name for f in cls.fields if f.is_input and f.name in there)

    @classmethod
    def label_field(cls) -> str | None:
        """Return the field that holds one label a row, if there is one."""
        return next((f.name for f in cls.fields if f.kind == "label"), None)

    @property
    def balances(self) -> str | None:
        """The setting that makes up for rare classes in the loss, if one is on; rows drawn evenly would do it again."""
        return None

    # --- rows ---

    def learn(self, train: Table) -> None:
        """Find out the facts that prediction needs (labels, ...) into `state`, JSON values that the bundle keeps.

        Only ever sees the training rows.
        """

    def meet(self, pretrained: Pretrained) -> None:
        """Get to know the model before rows are encoded for it; facts go into `state`, as in `learn`."""

    def extend(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
        """Return the tokenizer that rows are encoded with: the model's own, with the words that this task adds."""
        return tokenizer

    def why_not_augment(self) -> str | None:
        """Return ``None`` if training texts may be written again, or a sentence that says why not."""
        if self.augments:
            return None
        return "its labels are places in the text, and a text that is written again has other places"

    def accepts(self, table: Table) -> Mapping[int, str]:
        """Return the rows of `table` that cannot be learnt from or measured, index to reason."""
        return {}

    def findings(
        self, tables: Mapping[str, Table], tokenizer: PreTrainedTokenizerBase | None = None
    ) -> Iterator[Finding]:
        """Say what is wrong with rows of this task, beyond what holds for any rows.

        Parameters
        ----------
        tables
            Split to its rows; only ``all`` where nothing was split.
        tokenizer
            Of the chosen model; ``None`` when no model was chosen.
        """
        yield from ()

    def portable(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row that needs no file beside it, for a bundle to keep."""
        return dict(row)

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Turn rows into model inputs; the same function encodes training rows and served requests.

        Rows without the target field give inputs without targets. An input that is one of several of a row says
        the row's number, from 0, as ``row``.

        Raises
        ------
        DataError
            A text is missing, or a label is not one of `labels`; names the row, counted from 1.
        """
        raise NotImplementedError

    def collate(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Pad encoded rows to one batch, each tensor ``(rows, length)`` or ``(rows,)``."""
        raise NotImplementedError

    def ask(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Pad encoded rows to one batch that `say` answers, with no target in it that could be read."""
        return self.collate(inputs, tokenizer)

    # --- model and loss ---

    def build(self, pretrained: Pretrained, *, pooling: str, dropout: float | None, seed: int) -> nn.Module:
        """Return a stock model with this task's head; `seed` decides the new weights."""
        raise NotImplementedError

    def reopen(self, folder: Any) -> nn.Module:
        """Open a model that `build` made and somebody saved."""
        raise NotImplementedError

    def model_inputs(self, batch: Mapping[str, torch.Tensor]) -> Batch:
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

    def classes(self, inputs: Rows) -> np.ndarray | None:
        """Return the class of each encoded row, ``(rows,)``, to balance by; ``None`` if rows have no one class."""
        return None

    # --- answers ---

    def say(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> Sequence[Any]:
        """Return what the model says of each input of a batch: its logits, float32, unless a task says otherwise."""
        return list(self.logits(model(**self.model_inputs(batch)), batch).float().cpu().numpy())

    def join(self, said: Sequence[Any], inputs: Rows) -> Any:
        """Put together what was said of the inputs of one row."""
        return said[0]

    def numbers(self, said: Any) -> np.ndarray:
        """Return what was said of one row as one vector, which a reopened model has to say again."""
        return np.ravel(said).astype(np.float64)

    def truth(self, rows: Rows) -> np.ndarray:
        """Return what is true of each row, ``(rows,)``, as metrics take it."""
        raise NotImplementedError

    def calibrate(self, said: Sequence[Any], rows: Rows) -> dict[str, float]:
        """Find on dev what turns sayings into answers (a temperature, a threshold); kept in the bundle."""
        return {}

    def answer(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> Any:
        """Return the answers, one a row, as metrics take them: an array, or one for each form in `gives`."""
        raise NotImplementedError

    def decode(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> list[Prediction]:
        """Turn what was said into what people are given."""
        raise NotImplementedError

    def right(self, targets: np.ndarray, answers: Any) -> np.ndarray:
        """Return whether the answer to each row is wholly right, ``(rows,)``."""
        first = next(iter(answers.values())) if isinstance(answers, Mapping) else answers
        return np.array([self.shown(t) == self.shown(a) for t, a in zip(targets, first, strict=True)], dtype=bool)

    def sure(self, answers: Any) -> np.ndarray | None:
        """Return how sure the model is of each answer, ``(rows,)``; ``None`` if it cannot tell."""
        return None

    def shown(self, value: Any) -> str:
        """Write one row's truth or answer for people to read."""
        return str(value)

    def label_rows(self) -> Table | None:
        """Return one row a class that says its name, for a model before tuning; ``None`` if names say nothing."""
        return None

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the smallest working case, which the contract tests overfit.

        ``{"rows": [...], "settings": {...}, "variants": [...]}``: at least eight rows; and, for every setting,
        other settings (each a whole one) under which another thing is learnt. A setting that no variant names,
        or two variants that come out the same, fail. ``"family"`` names the tiny model to learn on (``bert`` if left
        out), ``"epochs"`` how long (60 if left out), ``"learning_rate"`` how fast (0.01 if left out).
        """
        raise NotImplementedError
