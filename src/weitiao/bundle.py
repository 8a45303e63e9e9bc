"""The bundle: what a run hands over, and the only thing that is served, explained, compressed or shared.

::

    bundle/  bundle.json  recipe.yaml  model/ | adapter/  tokenizer/  reference.jsonl
             report.json  report.html  README.md  checksums.json

It is written aside and renamed. On every load each file is compared with its checksum, and some real rows with
the outputs they had at the moment of saving: a bundle that does not reproduce itself is not opened. That is how
"the served model differs from the trained one" becomes impossible.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from weitiao.data.request import ROWS_ARE, request_texts
from weitiao.errors import BundleError, DataError, RecipeError
from weitiao.files import whole_folder, write_json
from weitiao.integrity import check_files, check_labels, find_bundle, read_object, read_reference, seal
from weitiao.recipe import Recipe
from weitiao.tasks.base import Features, Prediction, Task

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from weitiao.evaluation.report import Report
    from weitiao.methods.base import Method

__all__ = ["FORMAT_VERSION", "TOLERANCE", "Bundle", "Contents", "write"]

FORMAT_VERSION = 1
# Largest difference between a logit of a reference row when saved and when loaded. In float32, another batch
# or another kernel moves logits by 1e-6 to 1e-5; another weight, label or token by far more. Where all logits lie
# within less than 1 of each other (a model that has hardly learnt), it is less in proportion.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Contents:
    """What goes into a bundle.

    Parameters
    ----------
    facts
        Put into ``bundle.json`` as they are: metrics, counts, lineage.
    reference
        Real rows whose outputs every later form of the model must reproduce.
    extra
        More files, name to writer.
    """

    recipe: Recipe
    task: Task
    method: Method
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    temperature: float
    facts: Mapping[str, Any]
    reference: Sequence[Mapping[str, Any]]
    extra: Mapping[str, Callable[[Path], None]]


def write(folder: Path, contents: Contents) -> None:
    """Write a bundle as one folder that is there whole or not at all, replacing one that was there.

    Raises
    ------
    OSError
        The disk is full, say. What was there before is untouched.
    """
    with whole_folder(folder) as aside:
        _write_files(aside, contents)
        seal(aside)


def _write_files(folder: Path, contents: Contents) -> None:
    from weitiao.models.load import save

    part = contents.method.part
    if part == "model":
        save(contents.method.whole(contents.model), folder / part, contents.tokenizer, max_length=contents.max_length)
    else:
        contents.method.save(contents.model, folder / part, base=contents.facts["base"]["name"])
    contents.tokenizer.save_pretrained(folder / "tokenizer")
    (folder / "recipe.yaml").write_text(contents.recipe.to_yaml(), encoding="utf-8")
    task, rows = contents.task, [dict(row) for row in contents.reference]
    logits = _logits(contents.model, task, rows, contents.tokenizer, contents.max_length)
    (folder / "reference.jsonl").write_text("".join(_reference_lines(contents, rows, logits)), encoding="utf-8")
    write_json(
        folder / "bundle.json",
        {
            "format_version": FORMAT_VERSION,
            "task": {"name": contents.recipe.task.name, "state": task.state},
            "part": part,
            "text_fields": list(contents.reference[0]),
            "max_length": contents.max_length,
            "temperature": contents.temperature,
            "tolerance": TOLERANCE * min(1.0, float(np.ptp(logits))),
            **contents.facts,
        },
    )
    for name, writer in contents.extra.items():
        writer(folder / name)


def _reference_lines(contents: Contents, rows: Sequence[Mapping[str, Any]], logits: np.ndarray) -> Iterator[str]:
    answers = contents.task.decode(logits, temperature=contents.temperature)
    for row, values, answer in zip(rows, logits, answers, strict=True):
        line = {"row": row, "logits": [float(v) for v in values], "label": answer.label}
        yield json.dumps(line, ensure_ascii=False) + "\n"


class Bundle:
    """A trained model with all that is needed to trust and use it.

    Parameters
    ----------
    folder
        A bundle's folder, or the folder of the run that made it.
    verify
        Recompute the reference rows before answering. Only for looking at a bundle without its model is it
        worth leaving out: `predict` verifies in any case.

    Raises
    ------
    BundleError
        It is no bundle, a file is missing, damaged or edited, or it does not reproduce itself.
    """

    def __init__(self, folder: str | Path, *, verify: bool = True) -> None:
        self.folder = find_bundle(Path(folder))
        check_files(self.folder)
        self.facts = read_object(self.folder, "bundle.json")
        if self.facts.get("format_version") != FORMAT_VERSION:
            raise BundleError(
                f"was written in format {self.facts.get('format_version')}; this weitiao reads {FORMAT_VERSION}.",
                where=self.folder,
                fix="Install the weitiao that wrote it: see versions in bundle.json.",
            )
        try:
            self.recipe = Recipe.load_trained(self.folder / "recipe.yaml")
            self.task: Task = self.recipe.task.make("tasks", self.facts["task"]["state"])
            self.method: Method = self.recipe.method.make("methods")
            self.text_fields: tuple[str, ...] = tuple(self.facts["text_fields"])
            self.max_length: int = self.facts["max_length"]
            self.temperature: float = self.facts["temperature"]
        except RecipeError as error:
            raise BundleError(f"its recipe cannot be read: {error}", where=self.folder) from error
        except (KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"was edited: bundle.json lacks {error}.", where=self.folder) from error
        self.verified: float | None = None  # largest difference of the reference rows
        if verify:
            self.verify()

    @property
    def report(self) -> Report:
        """The honest account of this bundle."""
        from weitiao.evaluation.report import Report

        return Report.from_json(read_object(self.folder, "report.json"))

    @cached_property
    def model(self) -> nn.Module:
        """The model, ready to answer."""
        from weitiao.models.find import find, transformer_folder

        if self.facts["part"] == "model":
            config = transformer_folder(self.folder / "model") / "config.json"
            check_labels(self.folder, config, self.task.state["labels"])
            return self.task.reopen(self.folder / "model").eval()
        base = self.facts["base"]
        pretrained = find(base["name"])
        if pretrained.content_hash != base["content_hash"]:
            raise BundleError(
                f"its adapter was trained on {base['name']} with content {base['content_hash'][:12]}, but the model "
                f"of that name here has content {pretrained.content_hash[:12]}.",
                where=self.folder,
                fix="Bring back the version it was trained on.",
            )
        model = self.task.build(pretrained, pooling=base["pooling"], dropout=None, seed=self.recipe.seed)
        return self.method.open(model, self.folder / "adapter").eval()

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, as it was in training."""
        from weitiao.models.load import open_tokenizer

        return open_tokenizer(self.folder / "tokenizer")

    def verify(self) -> float:
        """Recompute the reference rows.

        Returns
        -------
        The largest difference of a logit from its value at the moment of saving.

        Raises
        ------
        BundleError
            A difference is larger than the tolerance, or a label is another one; names the row.
        """
        reference = read_reference(self.folder)
        logits = self.logits([line["row"] for line in reference])
        labels = [p.label for p in self.task.decode(logits, temperature=self.temperature)]
        largest = 0.0
        off = []
        for i, (line, values, label) in enumerate(zip(reference, logits, labels, strict=True)):
            saved = np.array(line["logits"])
            gap = float(np.abs(saved - values).max()) if saved.shape == values.shape else float("inf")
            largest = max(largest, gap)
            if not gap <= self.facts["tolerance"] or label != line["label"]:
                off.append(i + 1)
        if off:
            versions = ", ".join(f"{name} {version}" for name, version in self.facts.get("versions", {}).items())
            raise BundleError(
                f"does not reproduce itself: {len(off)} of {len(reference)} reference rows differ (largest difference "
                f"{largest:.3g}, tolerance {self.facts['tolerance']}; first row {off[0]}). Nothing is answered.",
                where=self.folder,
                fix=f"It was saved with {versions}; install these, or run again.",
            )
        self.verified = largest
        return largest

    def logits(self, rows: Sequence[Mapping[str, Any]], *, batch_size: int = 64) -> np.ndarray:
        """Return logits ``(rows, classes)`` of rows with the task's fields."""
        return _logits(self.model, self.task, rows, self.tokenizer, self.max_length, batch_size)

    def predict(self, rows: Any, *, batch_size: int = 64) -> Any:
        """Predict one row or many.

        Parameters
        ----------
        rows
            A text; a mapping of fields (``{"text": ..., "text_pair": ...}``); or a sequence of either.

        Returns
        -------
        A `Prediction` for one row, a list of them for many. Confidences are calibrated.
        """
        if isinstance(rows, str | Mapping):
            return next(self.stream([rows]))
        if not isinstance(rows, Iterable) or isinstance(rows, bytes):
            raise DataError(f"{type(rows).__name__} is no kind of row.", fix=ROWS_ARE)
        return list(self.stream(rows, batch_size=batch_size))

    def stream(self, rows: Iterable[Any], *, batch_size: int = 64) -> Iterator[Prediction]:
        """Predict row after row in constant memory, in the order given; rows are as in `predict`.

        Raises
        ------
        DataError
            A row lacks a text; rows before it have been answered.
        """
        if self.verified is None:
            self.verify()
        source = (request_texts(row, i + 1, self.text_fields, self.task.fields) for i, row in enumerate(rows))
        while chunk := list(islice(source, 16 * batch_size)):
            yield from self.task.decode(self.logits(chunk, batch_size=batch_size), temperature=self.temperature)

    def save(self, folder: str | Path) -> Bundle:
        """Copy the bundle to a new folder and open it there.

        Raises
        ------
        BundleError
            The folder exists.
        """
        target = Path(folder)
        if target.exists():
            raise BundleError("exists already.", where=target, fix="Choose another folder.")
        if self.folder.resolve() in target.resolve().parents:
            raise BundleError("lies inside the bundle itself.", where=target, fix="Choose another folder.")
        with whole_folder(target) as aside:
            shutil.copytree(self.folder, aside, dirs_exist_ok=True)
        return Bundle(target)


def _logits(
    model: nn.Module,
    task: Task,
    rows: Sequence[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    batch_size: int = 64,
) -> np.ndarray:
    from weitiao.evaluation.inference import predict_logits

    inputs = task.encode(rows, tokenizer, max_length)
    features = Features(inputs, [str(i + 1) for i in range(len(rows))], lambda part: task.collate(part, tokenizer))
    return predict_logits(model, task, features, batch_size=batch_size)
