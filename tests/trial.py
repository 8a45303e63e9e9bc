"""A small training, as the contract tests of tasks, methods and regularizers need it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from weitiao import plugins
from weitiao.data.fields import map_fields
from weitiao.data.table import Table
from weitiao.evaluation.inference import ask
from weitiao.methods.base import Known
from weitiao.models.find import find
from weitiao.models.load import load_tokenizer
from weitiao.randomness import derive_seed
from weitiao.tasks.base import Features, Task
from weitiao.training.contrastive import by_pairs, with_names
from weitiao.training.convex import solve
from weitiao.training.hook import Hook
from weitiao.training.loop import Loop, Outside
from weitiao.training.method_hook import method_hooks
from weitiao.training.prefix import Reader
from weitiao.training.settings import TrainingSettings
from weitiao.training.supplies import Supplies


def make(family: str, name: str, settings: Mapping[str, Any] | None = None) -> Any:
    """Return a member with settings, or with those of its smallest case."""
    member = plugins.find(family, name)
    return member(member.Settings(**(member.tiny()["settings"] if settings is None else settings)))


def cases(family: str, name: str) -> list[dict[str, Any]]:
    """Return the settings of the smallest case, then those of its variants."""
    tiny = plugins.find(family, name).tiny()
    return [tiny["settings"], *tiny["variants"]]


@dataclass
class Trial:
    """A task that has learnt its tiny rows, their features, and the tiny model they are for."""

    task: Task
    rows: list[dict[str, Any]]
    pretrained: Any
    tokenizer: Any
    features: Features
    pooling: str
    strangers: dict[str, Stranger] = field(default_factory=dict)

    def build(self, seed: int = 0) -> nn.Module:
        return self.task.build(self.pretrained, pooling=self.pooling, dropout=None, seed=seed)

    def said(self, model: nn.Module) -> list[Any]:
        """What the model says of each row."""
        return ask(model, self.task, self.features)

    def logits(self, model: nn.Module) -> np.ndarray:
        """What it says as numbers; of a classifier, logits ``(rows, classes)``."""
        rows = [self.task.numbers(said) for said in self.said(model)]
        even = len({len(row) for row in rows}) == 1
        return (np.stack(rows) if even else np.concatenate(rows)).astype(np.float32)

    def decoded(self, model: nn.Module) -> list[Any]:
        return self.task.decode(self.said(model), self.rows, {})

    def supplies(self) -> Supplies:
        """Its rows, the same without labels, and a model a name in place of bundles."""
        table = Table.from_rows(self.rows)
        bare = [request(self, row) for row in self.rows]

        def encode(rows: Table) -> Features:
            return Features.encode(self.task, rows, self.tokenizer, 64)

        return Supplies(table, encode, self.stranger, Table.from_rows(bare))

    def stranger(self, name: str) -> Stranger:
        """The model of a name, made once."""
        return self.strangers.get(name) or self.strangers.setdefault(name, Stranger(self, name))

    def batch(self, rows: Iterable[int] | None = None) -> dict[str, torch.Tensor]:
        return self.features.batch(range(len(self.features)) if rows is None else rows)

    def outputs(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> Any:
        return model(**self.task.model_inputs(batch))

    def targets(self) -> np.ndarray:
        return np.array([row["labels"] for row in self.features.inputs])


class Stranger:
    """Another model for the same task, other than the one that trains; its labels are in another order."""

    def __init__(self, at: Trial, name: str) -> None:
        self.task = copy.deepcopy(at.task)
        self.task.state["labels"] = at.task.labels[::-1]
        self.text_fields = at.task.request_fields(list(at.rows[0]))
        self._at, seed = at, derive_seed(0, name)
        self.model = at.task.build(at.pretrained, pooling=at.pooling, dropout=None, seed=seed)

    def ask(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        features = Features.encode(self.task, Table.from_rows(rows), self._at.tokenizer, 64)
        return [500.0 * said for said in ask(self.model, self.task, features)]  # an untrained head hardly decides


def trial(name: str, folder: Path, settings: Mapping[str, Any] | None = None, *, pooling: str | None = None) -> Trial:
    """Return the tiny case of the task called `name` on the model in `folder`."""
    rows = plugins.find("tasks", name).tiny()["rows"]
    task = make("tasks", name, settings)
    table = map_fields(Table.from_rows(rows), task.fields)
    rows = [dict(row) for row in table]
    task.learn(table)
    pretrained = find(str(folder))
    task.meet(pretrained)
    tokenizer = task.extend(load_tokenizer(pretrained))
    features = Features.encode(task, table, tokenizer, 64)
    return Trial(task, rows, pretrained, tokenizer, features, pooling or pretrained.pooling)


def train(
    model: nn.Module, at: Trial, *, hooks: Sequence[Hook] = (), outside: Outside | None = None, **settings: Any
) -> Loop:
    """Train for a few steps on all rows at once; return the loop, done."""
    chosen = {"batch_size": 64, "learning_rate": 1e-2, "weight_decay": 0}
    chosen |= {"schedule": {"name": "constant", "warmup_share": 0}}
    chosen |= {"clip_norm": None, "epochs": 3} | settings
    outside = outside or Outside()
    if outside.supplies is None and hooks:
        outside = replace(outside, supplies=at.supplies())
    loop = Loop(model, at.task, at.features, TrainingSettings(**chosen), 0, hooks, outside)
    loop.run()
    return loop


def request(at: Trial, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what somebody who asks would have of a row."""
    names = at.task.request_fields(list(row))
    return {name: row[name] for name in names}


def adapt(method: Any, model: nn.Module, at: Trial, *, steps: int = 3) -> None:
    """Train a model that `method` was applied to, in the method's way."""
    if method.trains == "gradient":
        train(model, at, hooks=method_hooks(method), epochs=steps)
        return
    if method.trains == "nothing" and not at.task.pooled:
        return
    rows = at.features
    if method.trains == "pairs":
        rows = with_names(rows, names_of(at)) if method.settings.label_names else rows
        how = TrainingSettings(epochs=1, batch_size=16, learning_rate=1e-2), 0, Outside()
        by_pairs(model, at.task, at.pooling, rows, method.settings, how)
    states = (rows, Reader(model, at.task, at.pooling).read(rows))
    if method.trains == "nothing":
        method.fill(model, _known(model, at, states[1].hidden))
        return
    solve(
        model,
        at.task,
        {"train": states, "dev": states},
        strengths=method.settings.C,
        standardized=method.trains == "convex",
        measure=lambda logits: {"accuracy": float((logits.argmax(1)[: len(at.rows)] == at.targets()).mean())},
    )


def names_of(at: Trial) -> Features | None:
    """The names of the labels as encoded rows, if they say anything."""
    names = at.task.label_rows()
    return None if names is None else Features.encode(at.task, names, at.tokenizer, 64)


def _known(model: nn.Module, at: Trial, hidden: Any) -> Known:
    rows = names_of(at)
    said = None if rows is None else Reader(model, at.task, at.pooling).read(rows).hidden
    return Known(hidden, torch.from_numpy(at.targets()), said)


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of all weights and buffers."""
    return copy.deepcopy({**dict(model.named_parameters()), **dict(model.named_buffers())})


def weights(model: nn.Module) -> torch.Tensor:
    """Return all that trains, as one vector."""
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])


def without_dropout(model: nn.Module) -> nn.Module:
    """Switch all dropout off, also what attention reads from the config."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("dropout_prob", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model


def check_introduction(family: str, name: str) -> None:
    """What holds for every member of every family."""
    member = plugins.find(family, name)
    module = inspect.getmodule(member)
    assert module is not None
    assert member.name == name == Path(inspect.getfile(member)).stem
    assert plugins.summary(family, name).endswith(".")
    assert "Source:" in (module.__doc__ or "")
    assert inspect.getdoc(member)
    needed = {key for key, setting in member.Settings.model_fields.items() if setting.is_required()}
    member.Settings(**{key: value for key, value in member.tiny()["settings"].items() if key in needed})
    with pytest.raises(ValidationError, match="no_such_setting"):
        member.Settings(no_such_setting=1)
    for setting in member.Settings.model_fields.values():
        assert setting.description
    siblings = set(plugins.names(family)) - {name}
    package = f"weitiao.{plugins.FAMILIES[family][0].replace('/', '.')}"
    imported = {value.__module__ for value in vars(module).values() if hasattr(value, "__module__")}
    assert not imported & {f"{package}.{sibling}" for sibling in siblings}


def check_variants(family: str, name: str) -> None:
    """Every setting is shown to do something by a variant."""
    member = plugins.find(family, name)
    shown = {key for case in cases(family, name) for key in case}
    assert shown >= set(member.Settings.model_fields), "tiny() has no variant for some setting"
