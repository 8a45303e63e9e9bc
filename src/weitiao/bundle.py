"""The bundle: what a run hands over, and the only thing that is served, explained, compressed or shared.

::

    bundle/  bundle.json  recipe.yaml  model/ | adapter/  tokenizer/  reference.jsonl
             report.json  report.html  README.md  learnt.safetensors  checksums.json

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
from weitiao.data.table import Table
from weitiao.errors import BundleError, DataError, RecipeError
from weitiao.files import sha256, whole_folder, write_json
from weitiao.integrity import SUMS, check_files, check_labels, find_bundle, read_object, read_reference, seal
from weitiao.recipe import Recipe
from weitiao.tasks.base import Features, Prediction, Rows, Task

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from weitiao.evaluation.report import Report
    from weitiao.methods.base import Method
    from weitiao.models.find import Pretrained

__all__ = ["FORMAT_VERSION", "TOLERANCE", "Bundle", "Contents", "lineage", "seal_of", "told", "write"]

FORMAT_VERSION = 1
# Largest difference between a number said of a reference row when saved and when loaded. In float32, another batch
# or another kernel moves logits by 1e-6 to 1e-5; another weight, label or token by far more. Where all logits lie
# within less than 1 of each other (a model that has hardly learnt), it is less in proportion.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Contents:
    """What goes into a bundle.

    Parameters
    ----------
    calibration
        What `Task.calibrate` found.
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
    calibration: Mapping[str, float]
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


def lineage(pretrained: Pretrained) -> list[dict[str, Any]]:
    """Return what a base model was made of, the oldest first: names, content hashes, tasks and methods.

    Nothing if it is no bundle's: then it was trained elsewhere.
    """
    if pretrained.bundle is None:
        return []
    facts = read_object(pretrained.bundle, "bundle.json")
    recipe = Recipe.load_trained(pretrained.bundle / "recipe.yaml")
    base = facts["base"]
    first = {"name": base["name"], "content_hash": base["content_hash"], "task": None, "method": None}
    last = {
        "name": pretrained.name,
        "content_hash": pretrained.content_hash,
        "task": recipe.task.name,
        "method": recipe.method.name,
    }
    return [*(facts.get("lineage") or [first]), last]


def seal_of(bundle: Bundle) -> dict[str, Any]:
    """Return what tells a bundle from any other: its task and method, and the hash over all its files."""
    names = {"task": bundle.recipe.task.name, "method": bundle.recipe.method.name}
    return {**names, "content_hash": sha256(bundle.folder / SUMS)}


def told(lineage: Sequence[Mapping[str, Any]]) -> str:
    """Return a lineage for people to read, the oldest first."""
    made = [f"{one['name']}" + (f" ({one['task']} by {one['method']})" if one["task"] else "") for one in lineage]
    return " → ".join(made)


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
    said = _ask(contents.model, task, rows, contents.tokenizer, contents.max_length)
    (folder / "reference.jsonl").write_text("".join(_reference_lines(contents, rows, said)), encoding="utf-8")
    write_json(
        folder / "bundle.json",
        {
            "format_version": FORMAT_VERSION,
            "task": {"name": contents.recipe.task.name, "state": task.state},
            "part": part,
            "text_fields": list(contents.reference[0]),
            "max_length": contents.max_length,
            "calibration": dict(contents.calibration),
            "tolerance": TOLERANCE * min(1.0, float(np.ptp(np.concatenate([task.numbers(one) for one in said])))),
            **contents.facts,
        },
    )
    for name, writer in contents.extra.items():
        writer(folder / name)


def _reference_lines(contents: Contents, rows: Rows, said: Sequence[Any]) -> Iterator[str]:
    answers = contents.task.decode(said, rows, contents.calibration)
    for row, one, answer in zip(rows, said, answers, strict=True):
        line = {"row": row, "said": contents.task.numbers(one).tolist(), "answer": answer.answer}
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
            self.calibration: dict[str, float] = self.facts["calibration"]
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
        from weitiao.models.prompted import SETTINGS

        if self.facts["part"] == "model":
            prompt, config = (self.folder / "model" / name for name in (SETTINGS, "config.json"))
            config = prompt if prompt.is_file() else transformer_folder(config.parent) / config.name
            if self.task.labels:
                check_labels(self.folder, config, self.task.labels)
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
        The largest difference of a number the model says from its value at the moment of saving.

        Raises
        ------
        BundleError
            A difference is larger than the tolerance, or an answer is another one; names the row.
        """
        reference = read_reference(self.folder)
        rows = [line["row"] for line in reference]
        said = self.ask(rows)
        answers = [p.answer for p in self.task.decode(said, rows, self.calibration)]
        largest = 0.0
        off = []
        for i, (line, one, answer) in enumerate(zip(reference, said, answers, strict=True)):
            saved, values = np.array(line["said"]), self.task.numbers(one)
            gap = float(np.abs(saved - values).max(initial=0.0)) if saved.shape == values.shape else float("inf")
            largest = max(largest, gap)
            if not gap <= self.facts["tolerance"] or not _same(json.loads(json.dumps(answer)), line["answer"]):
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

    def ask(self, rows: Rows, *, batch_size: int = 64) -> list[Any]:
        """Return what the model says of rows with the task's fields: of a classifier, logits ``(classes,)`` a row."""
        return _ask(self.model, self.task, rows, self.tokenizer, self.max_length, batch_size)

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
            yield from self.task.decode(self.ask(chunk, batch_size=batch_size), chunk, self.calibration)

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


def _same(answer: Any, saved: Any) -> bool:
    """Whether two JSON values are the same but for what float32 makes of a number on another machine."""
    if isinstance(answer, float) and isinstance(saved, int | float):
        return abs(answer - saved) <= TOLERANCE * max(1.0, abs(saved))
    if isinstance(answer, dict) and isinstance(saved, dict):
        return answer.keys() == saved.keys() and all(_same(value, saved[key]) for key, value in answer.items())
    if isinstance(answer, list) and isinstance(saved, list):
        return len(answer) == len(saved) and all(map(_same, answer, saved))
    return answer == saved


def _ask(
    model: nn.Module,
    task: Task,
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    batch_size: int = 64,
) -> list[Any]:
    from weitiao.evaluation.inference import ask

    features = Features.encode(task, Table.from_rows(rows), tokenizer, max_length)
    return ask(model, task, features, batch_size=batch_size)
