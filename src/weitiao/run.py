"""A run: seven steps, in order, in a folder that survives a crash at any instant.

::

    runs/NAME/   recipe.yaml  run.json  set_aside.jsonl  events.jsonl  tensorboard/  checkpoints/
                 bundle/  report.html

1 data, 2 checks, 3 model, 4 training, 5 calibration, 6 the honest test, 7 the bundle. Each step is a method here;
what it does is in the room it calls. A run that was killed goes on where its newest checkpoint stands; all else is
computed again, and comes out the same.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from weitiao import __version__
from weitiao import bundle as bundles
from weitiao.bundle import Bundle, Contents
from weitiao.card import model_card
from weitiao.cluster import in_workers
from weitiao.data.augment import Context, augment
from weitiao.data.check import run_checks
from weitiao.data.checks.base import CheckInput
from weitiao.data.learnt import FILE as LEARNT
from weitiao.data.learnt import Learnt
from weitiao.data.prepare import Prepared, prepare
from weitiao.data.table import Table
from weitiao.data.unlabeled import account
from weitiao.errors import RecipeError, TrainingError, WeitiaoError
from weitiao.evaluation.baselines.base import Told
from weitiao.evaluation.breakdown import slice_rows
from weitiao.evaluation.comparison import gives, suited
from weitiao.evaluation.contenders import BEFORE, contenders
from weitiao.evaluation.inference import ask, mean_loss
from weitiao.evaluation.report import Contender, Counts, Report, ReportInput, Temperature, Training, build_report
from weitiao.files import write_json, write_text
from weitiao.findings import Finding
from weitiao.methods.base import Known, parameter_counts
from weitiao.models import parts
from weitiao.models.find import Pretrained, find
from weitiao.models.frozen import FrozenLayers
from weitiao.models.load import load_tokenizer
from weitiao.models.seq2seq import open_translator
from weitiao.plugins import find as find_member
from weitiao.progress import Listeners
from weitiao.randomness import derive_seed
from weitiao.recipe import Recipe
from weitiao.tasks.base import Features, Rows, cut_off
from weitiao.training import convex, health
from weitiao.training.checkpoint import Checkpoints
from weitiao.training.contrastive import FEW, by_pairs, learnt_too, with_dev, with_names
from weitiao.training.devices import accelerator, precision
from weitiao.training.estimate import estimate
from weitiao.training.hook import why_not
from weitiao.training.loop import Loop, Outside
from weitiao.training.method_hook import method_hooks
from weitiao.training.position import Position
from weitiao.training.prefix import Reader, States, plan, probe, probe_rows
from weitiao.training.processes import Processes
from weitiao.training.self_training import Steps, self_train
from weitiao.training.store import Store
from weitiao.training.supplies import Supplies

__all__ = ["Run", "Trained", "run"]

_REFERENCE_ROWS = 32
_STATED = ("torch", "transformers", "tokenizers", "peft", "accelerate", "safetensors", "scikit-learn", "numpy")


def run(recipe: Recipe, folder: str | Path = "runs/run", *, show: bool = True) -> Bundle:
    """Execute a recipe and return its bundle, reopened from the disk and verified.

    A folder that holds an unfinished run of the same recipe is gone on with; a finished one is opened.

    Parameters
    ----------
    folder
        The run's folder.
    show
        Draw progress in the terminal.

    Raises
    ------
    RecipeError
        The folder holds a run of another recipe, or a setting would have no effect.
    DataError, ModelError, TrainingError
        The data, the model or the training does not allow it; what was finished is kept.
    """
    if recipe.resources.cluster == "local":
        return Run(recipe, Path(folder), show=show).execute()
    job = {"recipe": recipe.dump(), "folder": str(Path(folder).absolute()), "here": str(Path.cwd()), "show": show}
    if (stopped := in_workers(_work, job, recipe.resources)) is not None:
        raise stopped
    return Bundle(folder)


def _work(job: dict[str, Any]) -> WeitiaoError | None:
    """Do the run of a job in a worker of a cluster; what the user has to mend is returned, and not tried again."""
    os.chdir(job["here"])  # paths of a recipe are relative to it
    try:
        Run(Recipe(**job["recipe"]), Path(job["folder"]), show=job["show"]).execute()
    except WeitiaoError as error:
        return error
    return None


@dataclass(frozen=True)
class Trained:
    """One training: the model with its best weights, and what it says of rows that it has not learnt from."""

    model: nn.Module
    said: Mapping[str, Sequence[Any]]  # of each row of a split
    calibration: dict[str, float]  # found on dev
    score: float  # what chose the weights, on dev; higher is better
    history: tuple[dict[str, float], ...]
    counts: tuple[int, int]
    seconds: float
    findings: tuple[Finding, ...] = ()  # about the training itself
    outcome: Mapping[str, Any] = field(default_factory=dict)  # what the method says of itself


@dataclass(frozen=True)
class Material:
    """What steps 1 to 3 lay out: rows, their encoding, and the pretrained model."""

    data: Prepared
    features: Mapping[str, Features]
    findings: Sequence[Finding]
    pretrained: Pretrained
    tokenizer: Any
    max_length: int
    pooling: str
    states: Mapping[str, States]  # of the untuned backbone: train, dev, test, and the labels' names
    supplies: Supplies
    told: CheckInput  # the texts of the rows
    teachers: Mapping[str, Bundle]  # opened for the training, by path
    learnt: Learnt  # what the pretrained model and the teachers know

    @cached_property
    def rows(self) -> Mapping[str, Rows]:
        """The rows of dev and test, as a task takes them."""
        return {split: list(self.data.tables[split]) for split in ("dev", "test")}


class Run:
    """One execution of a recipe in a folder."""

    def __init__(self, recipe: Recipe, folder: Path, *, show: bool = True) -> None:
        self.recipe, self.folder, self.show = recipe, folder, show
        self.processes = Processes()
        self.task = recipe.task.make("tasks")
        self.method = recipe.method.make("methods")
        self.main_metric = recipe.evaluation.main_metric or self.task.main_metric
        names = recipe.evaluation.metrics or self.task.metrics
        self.metrics = {name: find_member("metrics", name)() for name in dict.fromkeys((self.main_metric, *names))}

    def execute(self) -> Bundle:
        """Do the seven steps; of several processes only the main one does more than its share of the training."""
        with ExitStack() as held:
            self.processes.on_main(lambda: held.enter_context(self._claimed()))
            heard = self.folder if self.processes.main else None
            self.tell = held.enter_context(Listeners(heard, show=self.show and self.processes.main))
            self.processes.agree(self.recipe.fingerprint, "the recipes")
            if not self.processes.on_main((self.folder / "bundle" / "bundle.json").is_file):
                self._make()
            return self.finish()

    def _make(self) -> None:
        """Do all but the last half step: the folder holds a bundle when this is done."""
        data = self.read()
        material = self.prepare(data)
        self.processes.on_main(lambda: self._remember(data, material.pretrained))
        if self.processes.count > 1:
            rows = Store.key(rows=np.concatenate([row["input_ids"] for row in material.features["train"].inputs]))
            self.processes.agree((rows, data.fingerprints, material.pretrained.content_hash), "the rows or the models")
        best, scores, seconds = None, [], 0.0
        for number in range(self.recipe.training.seeds):
            trained = self._in_rounds(material, number)
            if trained is None:  # not the main process
                continue
            answers = self.task.answer(trained.said["test"], material.rows["test"], trained.calibration)
            scores.append(self._measure(answers, material.rows["test"])[self.main_metric])
            seconds += trained.seconds
            if best is None or trained.score > best.score:
                best = trained  # the others' models are let go

        def account() -> None:
            if best is None:
                raise TrainingError("nothing was trained.")
            whole = replace(best, seconds=seconds)  # what came of it cost all of them
            self.hand_over(material, whole, self.test(material, whole, scores))

        self.processes.on_main(account)

    def read(self) -> Prepared:
        """Step 1: read, map and split the rows; learn the labels from train."""
        with self.tell.phase("reading"):
            seed = derive_seed(self.recipe.seed, "split")
            data = prepare(self.recipe.data, self.task.fields, seed, self.task.accepts, self.task.formats)
            self.task.learn(data.splits.train)
            data = data.without(self.task.accepts)
            for column in self.recipe.evaluation.slices:
                slice_rows(data.splits.test, column)  # raises now what would be raised after training
            if self.processes.main:
                self._account_for(data)
        splits = {name: len(table) for name, table in data.tables.items()}
        self.tell({"event": "data", "rows_in": data.rows_in, "splits": splits, "set_aside": data.reasons})
        return data

    def prepare(self, data: Prepared) -> Material:
        """Find the model, say what is wrong with the data for it, and encode the rows: steps 2 and 3."""
        chosen = self.recipe.model
        with self.tell.phase("model"):
            pretrained = find(chosen.name)
            self.task.meet(pretrained)
            tokenizer = self.task.extend(load_tokenizer(pretrained))
        if chosen.max_length and chosen.max_length > pretrained.max_length:
            raise RecipeError(
                f"model.max_length is {chosen.max_length}, but {chosen.name} takes {pretrained.max_length} tokens.",
                fix="Leave it out, or choose a model that takes more.",
            )
        max_length = chosen.max_length or pretrained.max_length
        with self.tell.phase("checking"):
            most = None if self.task.cuts_by_itself else max_length
            told = CheckInput(data.tables, self._text_fields(data), self.task.label_field(), tokenizer, most)
            found = self.task.findings(data.tables, tokenizer)
            findings = run_checks(told, found=found).findings if self.processes.main else []  # nobody reads others'
        pooling = pretrained.pooling if chosen.pooling == "auto" else chosen.pooling
        tables = dict(data.tables)
        vectors = lambda: parts.token_vectors(self._build(pretrained, pooling, 0))  # noqa: E731
        context = Context(tokenizer, vectors, open_translator)
        if data.unlabeled is not None:
            tables["unlabeled"], findings = data.unlabeled, [*findings, account(data.unlabeled)]
        if self.recipe.augmentation:
            tables["train"], found = self._augment(data, context)
            findings = [*findings, found]
        with self.tell.phase("encoding"):
            if (names := self.task.label_rows()) is not None:
                tables["labels"] = names
            features = {name: Features.encode(self.task, t, tokenizer, max_length) for name, t in tables.items()}
        if self.task.cuts_by_itself:
            findings = [*findings, *cut_off(features)]
        untuned = self._build(pretrained, pooling, self.recipe.seed)
        self._refuse_unsuited(untuned)
        encode = lambda table: Features.encode(self.task, table, tokenizer, max_length)  # noqa: E731
        teachers: dict[str, Bundle] = {}
        open_bundle = lambda path: teachers.get(path) or teachers.setdefault(path, Bundle(path))  # noqa: E731
        supplies = Supplies(tables["train"], encode, open_bundle, data.unlabeled, context, accelerator().device)
        for member in self.recipe.regularizers:
            member.make("regularizers").look(supplies, self.task)
        before = {} if pretrained.bundle is None else {f"the model {pretrained.name}": pretrained.bundle}
        learnt = Learnt.of({**before, **{f"the teacher {path}": one.folder for path, one in teachers.items()}})
        findings = [*findings, *learnt.findings(told.normalised("test"), data.tables["test"].places)]
        for finding in findings:
            self.tell({"event": "finding", **finding.to_json()})
        states = self._read_untuned(untuned, pretrained, pooling, features)
        found = data, features, findings, pretrained, tokenizer, max_length, pooling, states, supplies
        return Material(*found, told, teachers, learnt)

    def _with_rows(self, material: Material, added: Table) -> Material:
        """Return the same with more training rows."""
        rows = Table.concat([material.supplies.rows, added])
        features = {**material.features, "train": material.supplies.encode(rows)}
        untuned = self._build(material.pretrained, material.pooling, self.recipe.seed)
        states = self._read_untuned(untuned, material.pretrained, material.pooling, features)
        return replace(material, features=features, states=states, supplies=replace(material.supplies, rows=rows))

    def _augment(self, data: Prepared, context: Context) -> tuple[Table, Finding]:
        """Return the training rows with those made of them, and what there is to say about it."""
        if reason := self.task.why_not_augment():
            raise RecipeError(f"augmentation cannot be used: {reason}.")
        with self.tell.phase("augmenting"):
            table, counts = augment(
                data.splits.train,
                [member.make("augmentations") for member in self.recipe.augmentation],
                text_fields=self._text_fields(data),
                label_field=self.task.label_field(),
                seed=self.recipe.seed,
                context=context,
            )
        made = len(table) - len(data.splits.train)
        each = "; ".join(f"{name}: " + ", ".join(f"{n:,} {k}" for k, n in c.items() if n) for name, c in counts.items())
        message = f"{made:,} rows were added to {len(data.splits.train):,} training rows ({each})."
        return table, Finding("augmentation", "info", message, "Nothing to do.", count=made, evidence=counts)

    def _read_untuned(
        self, untuned: nn.Module, pretrained: Pretrained, pooling: str, features: Mapping[str, Features]
    ) -> dict[str, States]:
        """Let the untuned model read every row once, and keep what training will not have to compute again."""
        store, depth = Store(self.recipe.cache), 0
        if self.method.trains == "gradient" and not self.recipe.resources.shard:  # parts of layers cannot be skipped
            depth, why_not = self.processes.on_main(lambda: self._frozen_depth(pretrained, pooling, features, store))
            self.tell({"event": "frozen", "layers": depth, "kept": why_not is None, "reason": why_not})
            depth = 0 if why_not else depth
        reader = Reader(
            untuned,
            self.task,
            pooling if self.task.pooled else None,
            depth=depth,
            batch_size=self.recipe.evaluation.batch_size,
            base=pretrained.content_hash,
            store=store,
        )
        states, kept = {}, _kept_splits(store)
        with self.processes.main_first(of_machine=True):  # the others find on the disk what it has read
            needed = depth or (self.processes.main and self.task.pooled)
            for name, rows in features.items() if needed else ():
                if name == "unlabeled" and self.method.trains != "convex":
                    continue  # nothing reads their states
                with self.tell.phase(f"untuned model, {name}", len(rows)) as advance:
                    states[name] = reader.read(rows, tokens=name in kept, progress=advance)
                if reader.trouble:
                    self.tell({"event": "not_kept", "rows": name, "reason": reader.trouble})
        return states

    def _frozen_depth(
        self, pretrained: Pretrained, pooling: str, features: Mapping[str, Features], store: Store
    ) -> tuple[int, str | None]:
        """Return how many layers nothing will train, and why what they say cannot be kept, if so."""
        seed, names = self.recipe.seed, _kept_splits(store)
        marked = self.method.apply(self._build(pretrained, pooling, seed), seed=seed)
        hooks = [member.make("regularizers") for member in self.recipe.regularizers]
        return plan(marked, self.task, {name: features[name] for name in names}, hooks, store)

    def _in_rounds(self, material: Material, number: int) -> Trained | None:
        """Train, and if the recipe says so again, with labels that the model gave to rows without any."""
        rest, told = material.data.unlabeled, self.recipe.self_training
        if rest is None or not told.rounds:
            return self.train(material, number)
        spent = [0.0]

        def train(again: int, added: Table | None) -> Trained | None:
            trained = self.train(material if added is None else self._with_rows(material, added), number, again)
            spent[0] += trained.seconds if trained else 0.0
            return trained

        steps = Steps[Trained](
            train,
            lambda trained: self.task.answer(trained.said["unlabeled"], list(rest), trained.calibration),
            self.processes.on_main,
        )
        best, found = self_train(told, rest, str(self.task.label_field()), self.task.labels, steps)
        if best is None or found is None:
            return None
        self.tell({"event": "finding", **found.to_json()})
        said = {**best.said, "test": self._say(best.model, material, material.features, "test")}  # once
        return replace(best, said=said, findings=(*best.findings, found), seconds=spent[0])

    def train(self, material: Material, number: int, again: int = 0) -> Trained | None:
        """Step 4: train with the seed of this number; the best weights meet dev and, once, test.

        Returns ``None`` where this is not the main process. `again` is the round of self-training: then the rows
        without labels are answered, and test is left for the best round.
        """
        started, found = time.monotonic(), []
        seed = derive_seed(self.recipe.seed, "training", number)
        model = self._build(material.pretrained, material.pooling, seed)
        model = self.method.apply(model, seed=seed)
        counts = parameter_counts(model)
        self.tell({"event": "training", "seed": number, "trainable": counts[0], "parameters": counts[1]})
        if self.method.trains == "gradient":
            with _skipping(model, self.task, material) as features:
                position = self._by_gradient(model, material, features, seed, (number, again))
                if not self.processes.main:
                    return None
                said = {split: self._say(model, material, features, split) for split in self._asked}
            history, seconds = position.history, position.seconds
            found = health.findings(position.health, position.skipped)
        elif self.method.trains == "pairs":
            position, tuned = self._by_pairs(model, material, seed, (number, again))
            if not self.processes.main:
                return None
            history = self._by_optimum(model, tuned)
            said = {split: self._say(model, material, material.features, split) for split in self._asked}
            seconds = time.monotonic() - started
            found = health.findings(position.health, position.skipped)
            found += [] if "dev" in tuned.states else [learnt_too(material.features["dev"])]
        elif not self.processes.main:
            return None
        elif self.method.trains == "nothing":
            history = []
            if self.task.pooled:
                self.method.fill(model, _known(material))
            said = {split: self._say(model, material, material.features, split) for split in self._asked}
            seconds = time.monotonic() - started
        else:
            history = self._by_optimum(model, material)
            said = {split: self._say(model, material, material.features, split) for split in self._asked}
            seconds = time.monotonic() - started
        apart = "dev" in said and not (self.method.trains == "pairs" and self._learns_dev(material))
        calibration = self.task.calibrate(said["dev"], material.rows["dev"]) if apart else {}  # step 5
        sign = 1 if self.metrics[self.main_metric].higher_is_better else -1
        if self.task.selects_by == "loss":
            score = max((-entry["dev_loss"] for entry in history), default=0.0)
        else:
            answers = self.task.answer(said["dev"], material.rows["dev"], calibration)
            score = sign * self._measure(answers, material.rows["dev"])[self.main_metric]
        outcome = self.method.outcome(model)
        return Trained(model, said, calibration, score, tuple(history), counts, seconds, tuple(found), outcome)

    @property
    def _asked(self) -> tuple[str, ...]:
        """Splits whose rows the tuned model answers; of dev only its loss is wanted where answers take long."""
        if self.recipe.self_training.rounds:
            return "dev", "unlabeled"
        return ("test",) if self.task.selects_by == "loss" else ("dev", "test")

    def _refuse_unsuited(self, model: nn.Module) -> None:
        """Refuse, before any time is spent, what cannot work on this model or would have no effect."""
        if self.method.trains in ("convex", "pairs") and not self.task.pooled:
            raise RecipeError(
                f"the method {self.recipe.method.name} cannot be applied: it solves for a head that reads one vector a "
                f"row, and that of {self.recipe.task.name} reads more.",
                fix="Choose top_layers, a parameter-efficient method, or full.",
            )
        for name, value in (("pooling", self.recipe.model.pooling != "auto"), ("dropout", self.recipe.model.dropout)):
            if value and not self.task.pooled:
                raise RecipeError(f"model.{name} cannot be chosen for the task {self.recipe.task.name}.")
        if reason := self.method.suits(model):
            raise RecipeError(f"the method {self.recipe.method.name} cannot be applied: {reason}.")
        if self.recipe.resources.shard and self.method.trains != "gradient":
            raise RecipeError(f"resources.shard has no effect with the method {self.recipe.method.name}.")
        if self.method.trains in ("gradient", "pairs"):
            precision(self.recipe.training.precision)
        for member in self.recipe.regularizers:
            if reason := why_not(member.make("regularizers"), model, self.task):
                raise RecipeError(f"the regularizer {member.name} would have no effect: {reason}.")

    def _by_gradient(
        self, model: nn.Module, material: Material, features: Mapping[str, Features], seed: int, which: tuple[int, int]
    ) -> Position:
        hooks = [*method_hooks(self.method), *(member.make("regularizers") for member in self.recipe.regularizers)]
        by_loss = self.task.selects_by == "loss"
        outside = replace(
            self._outside(material, which),
            measure=lambda m: self._measure_dev(m, material, features),
            higher_is_better=not by_loss and self.metrics[self.main_metric].higher_is_better,
        )
        loop = Loop(model, self.task, features["train"], self.recipe.training, seed, hooks, outside)
        self.tell(estimate(loop, len(features["dev"])).event())
        return loop.run()

    def _outside(self, material: Material, which: tuple[int, int]) -> Outside:
        number, again = which
        return Outside(
            checkpoints=Checkpoints(self.folder / "checkpoints" / f"seed-{number}{f'-round-{again}' if again else ''}"),
            report=lambda event: self.tell({**event, "seed": number}),
            supplies=material.supplies,
            shard=self.recipe.resources.shard,
        )

    def _by_pairs(
        self, model: nn.Module, material: Material, seed: int, which: tuple[int, int]
    ) -> tuple[Position, Material]:
        """Tune the backbone on pairs; return what it now says of the rows that the head is solved on."""
        told, rows, dev = self.method.settings, material.features["train"], {"dev": material.features["dev"]}
        if self._learns_dev(material):
            rows, dev = with_dev(rows, dev["dev"]), {}
        if told.label_names:
            rows = with_names(rows, material.features.get("labels"))
        how = (self.recipe.training, seed, self._outside(material, which))
        position = by_pairs(model, self.task, material.pooling, rows, told, how)
        features = {"train": rows, **dev}
        if not self.processes.main:
            return position, material
        reader = Reader(model, self.task, material.pooling, batch_size=self.recipe.evaluation.batch_size)
        states = {name: reader.read(some) for name, some in features.items()}
        return position, replace(material, features=features, states=states)

    def _learns_dev(self, material: Material) -> bool:
        """Whether dev was cut off train, is too small to say anything, and has nothing to choose."""
        chooses = len(self.method.settings.C) > 1 or self.recipe.training.seeds > 1 or self.recipe.self_training.rounds
        few = max(FEW, 2 * len(self.task.labels))
        return not chooses and self.recipe.data.dev is None and len(material.features["dev"]) < few

    def _by_optimum(self, model: nn.Module, material: Material) -> list[dict[str, float]]:
        return convex.solve(
            model,
            self.task,
            {k: (material.features[k], material.states[k]) for k in ("train", "dev") if k in material.states},
            strengths=self.method.settings.C,
            standardized=self.method.trains == "convex",
            measure=lambda said: self._measure(self.task.answer(said, material.rows["dev"], {}), material.rows["dev"]),
            report=self.tell,
        )

    def _measure_dev(self, model: nn.Module, material: Material, features: Mapping[str, Features]) -> dict[str, float]:
        rows = material.rows["dev"]
        if self.task.selects_by == "loss":
            return {
                "dev_loss": mean_loss(model, self.task, features["dev"], batch_size=self.recipe.evaluation.batch_size)
            }
        return self._measure(self.task.answer(self._ask(model, features, "dev"), rows, {}), rows)

    def test(self, material: Material, best: Trained, scores: Sequence[float]) -> Report:
        """Step 6: the tuned model beside what it has to beat, on the same rows."""
        data, rows, evaluation = material.data, material.rows["test"], self.recipe.evaluation
        texts = self._text_fields(data)
        with self.tell.phase("comparing"):
            answers = self.task.answer(best.said["test"], rows, best.calibration)
            rivals = contenders(self._told(material, texts), evaluation.baselines)
            told = ReportInput(
                title=f"{self.recipe.method.name}: {', '.join(source.file for source in data.sources)}",
                table=data.splits.test,
                text_fields=texts,
                task=self.task,
                targets=self.task.truth(rows),
                contenders=[Contender("tuned", "the tuned model", answers, "", "微调后的模型"), *rivals],
                metrics=list(self.metrics),
                main_metric=self.main_metric,
                counts=Counts(data.rows_in, {k: len(t) for k, t in data.tables.items()}, data.reasons),
                before=BEFORE if any(rival.key == BEFORE for rival in rivals) else None,
                temperature=self._temperature(best, rows),
                training=self._account(material, best),
                seeds_scores=scores if len(scores) > 1 else (),
                findings=[*material.findings, *best.findings],
                recipe=self.recipe.to_yaml(),
                slices=evaluation.slices,
                seed=derive_seed(self.recipe.seed, "bootstrap") % 2**32,
                resamples=evaluation.resamples,
            )
            report = build_report(told)
        self.tell({"event": "tested", "line": report.line, "headline": report.headline})
        return report

    def _temperature(self, best: Trained, rows: Rows) -> Temperature | None:
        """Return the temperature of the confidences with what they would be without it, where the task has one."""
        plain = dict(best.calibration)
        temperature = plain.pop("temperature", None)
        return (
            None if temperature is None else Temperature(temperature, self.task.answer(best.said["test"], rows, plain))
        )

    def _told(self, material: Material, texts: tuple[str, ...]) -> Told:
        """Return what baselines may look at; rows that augmentation made come after the others, and help none."""
        train, test = material.data.splits.train, material.data.splits.test
        pooled = {k: states.hidden.numpy() for k, states in material.states.items() if states.hidden is not None}
        features = {name: hidden[: len(train)] if name == "train" else hidden for name, hidden in pooled.items()}

        def untuned() -> Any:
            model = self._build(material.pretrained, material.pooling, self.recipe.seed)
            return self.task.answer(self._ask(model, material.features, "test"), material.rows["test"], {})

        return Told(
            self.task, train, test, texts, features, untuned, self.recipe.evaluation.neighbors, self.recipe.seed
        )

    def hand_over(self, material: Material, best: Trained, report: Report) -> None:
        """Step 7, first half: write the bundle."""
        data, test = material.data, material.data.splits.test
        chosen = sorted(range(len(test)), key=lambda i: test.ids[i])[:_REFERENCE_ROWS]
        names = self.task.request_fields(test.column_names)
        facts = {
            "base": {
                "name": material.pretrained.name,
                "content_hash": material.pretrained.content_hash,
                "pooling": material.pooling,
            },
            "metrics": {k: [v.value, v.low, v.high] for k, v in report.standings[0].scores.items()},
            "rows": {"in": data.rows_in, **{k: len(t) for k, t in data.tables.items()}, "set_aside": data.reasons},
            "data": data.fingerprints,
            "recipe": self.recipe.fingerprint,
            "labels": self.task.labels,
            "outcome": dict(best.outcome),
            "lineage": bundles.lineage(material.pretrained),
            "teachers": {path: bundles.seal_of(one) for path, one in material.teachers.items()},
            "versions": _versions(),
        }
        model = best.model if self.method.part == "adapter" else self.method.whole(best.model)
        splits = ("train", "dev") if self.method.trains == "pairs" and self._learns_dev(material) else ("train",)
        texts = [text for split in splits for text in material.told.normalised(split)]
        card = model_card(self.recipe, facts, report, self.method, model)
        contents = Contents(
            recipe=self.recipe,
            task=self.task,
            method=self.method,
            model=best.model.eval(),
            tokenizer=material.tokenizer,
            max_length=material.max_length,
            calibration=best.calibration,
            facts=facts,
            reference=[self.task.portable({name: test[i][name] for name in names}) for i in chosen],
            extra={
                "report.json": report.write_json,
                "report.html": report.write_html,
                "README.md": lambda path: write_text(path, card),
                LEARNT: lambda path: material.learnt.write(path, texts),
            },
        )
        with self.tell.phase("writing"):
            bundles.write(self.folder / "bundle", contents)

    def finish(self) -> Bundle:
        """Step 7, second half: reopen the bundle, let it prove itself, and only then let the checkpoints go."""
        done = Bundle(self.folder, verify=self.processes.main)
        if not self.processes.main:
            return done
        if not (self.folder / "report.html").is_file():  # a run that had ended before has nothing more to tell
            write_text(self.folder / "report.html", done.report.to_html())
            self.tell({"event": "done", "bundle": str(done.folder), "verified": done.verified})
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        return done

    def _build(self, pretrained: Pretrained, pooling: str, seed: int) -> nn.Module:
        return self.task.build(pretrained, pooling=pooling, dropout=self.recipe.model.dropout, seed=seed)

    def _say(self, model: nn.Module, material: Material, features: Mapping[str, Features], split: str) -> list[Any]:
        """Return what a trained model says of each row of a split; of a solved head, without asking its backbone."""
        if self.method.trains == "convex":
            return list(convex.logits(model, self.task, features[split], material.states[split]))
        return self._ask(model, features, split)

    def _ask(self, model: nn.Module, features: Mapping[str, Features], split: str) -> list[Any]:
        rows, size = features[split], self.recipe.evaluation.batch_size
        with self.tell.phase(f"measuring {split}", len(rows)) as advance:
            return ask(model, self.task, rows, batch_size=size, progress=advance)

    def _measure(self, answers: Any, rows: Rows) -> dict[str, float]:
        """Return each metric, the main one first, of answers to rows."""
        labels, truth = self.task.labels, self.task.truth(rows)
        return {
            name: metric(suited(metric, truth, labels), suited(metric, answers, labels), classes=len(labels))
            for name, metric in self.metrics.items()
            if gives(answers, metric)
        }

    def _account(self, material: Material, best: Trained) -> Training:
        names = {name: name for name in ("step", "epoch", "loss", "C", "dev_loss")} | {self.main_metric: "score"}
        history = tuple({names[k]: v for k, v in entry.items() if k in names} for entry in best.history)
        return Training(
            method=self.recipe.method.name,
            model=bundles.told(bundles.lineage(material.pretrained)) or material.pretrained.name,
            trainable_parameters=best.counts[0],
            total_parameters=best.counts[1],
            epochs=best.history[-1].get("epoch", 0.0) if best.history else 0.0,
            seconds=best.seconds,
            history=history,
        )

    def _text_fields(self, data: Prepared) -> tuple[str, ...]:
        return self.task.text_fields(data.splits.train.column_names)

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """Hold the folder alone, and refuse one that holds a run of another recipe."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:  # the kernel frees it when the process dies
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise TrainingError("another process is running in this folder.", where=self.folder) from error
            kept = self.folder / "recipe.yaml"
            if not (self.folder / "run.json").is_file():  # nothing was begun with what stands there
                write_text(kept, self.recipe.to_yaml())
            elif there := self.recipe.differences(Recipe.load(kept)):
                raise RecipeError(
                    f"holds a run of another recipe ({'; '.join(there[:5])}).",
                    where=self.folder,
                    fix="Choose another folder with --folder, or delete this one.",
                )
            yield

    def _account_for(self, data: Prepared) -> None:
        """Write each row that was set aside, with its file, line and reason."""
        rest = () if data.unlabeled is None else data.unlabeled.set_aside
        lines = (asdict(row) | {"place": str(row.place)} for row in (*data.set_aside, *rest))
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_text(self.folder / "set_aside.jsonl", text)

    def _remember(self, data: Prepared, pretrained: Pretrained) -> None:
        """Keep what the run began with; refuse to go on with other rows or another model."""
        path = self.folder / "run.json"
        now = {"data": data.fingerprints, "model": pretrained.content_hash}
        if path.is_file() and (before := json.loads(path.read_text(encoding="utf-8"))) != now:
            changed = "the model" if before["data"] == now["data"] else "the data"
            raise TrainingError(
                f"{changed} changed since this run began.",
                where=self.folder,
                fix="Bring back what was there, or run in another folder.",
            )
        write_json(path, now)


@contextmanager
def _skipping(model: nn.Module, task: Any, material: Material) -> Iterator[Mapping[str, Features]]:
    """Let `model` take kept states in place of its frozen layers; gives the rows that have them.

    They are compared first with what the layers of this very model say.
    """
    kept = {name: states.tokens for name, states in material.states.items() if states.tokens is not None}
    if not kept:
        yield material.features
        return
    train = material.features["train"]
    inputs, rows = probe(task, train), probe_rows(train)
    frozen = FrozenLayers.of(model, inputs)
    exact = kept["train"].dtype == torch.float32
    states = kept["train"](rows, train.batch(rows)["attention_mask"])
    if reason := frozen.why_not(inputs, states, tolerance=1e-3 if exact else 1e-1):
        raise TrainingError(
            f"what was kept of the frozen layers does not fit the model: {reason}.",
            fix="Set cache.frozen_states to off, and tell us.",
        )
    with frozen.skipped():  # rounded states are good enough to learn from, not to be measured by
        yield {name: replace(rows, states=kept.get(name)) for name, rows in material.features.items()}


def _known(material: Material) -> Known:
    """Return what a method that trains nothing may look at."""
    train, labels = material.states["train"].hidden, material.states.get("labels")
    if train is None:
        raise TrainingError("the pooled states of the training rows were not kept.")
    targets = torch.tensor([row["labels"] for row in material.features["train"].inputs])
    return Known(train, targets, None if labels is None else labels.hidden)


def _kept_splits(store: Store) -> tuple[str, ...]:
    """Return the rows whose states are kept: rounded ones only to learn from."""
    exact = store.settings.frozen_states == "float32"
    return ("train", "dev", "test") if exact else ("train",)


def _versions() -> dict[str, str]:
    return {"weitiao": __version__, "python": platform.python_version()} | {name: version(name) for name in _STATED}
