"""Rows without labels from the file to the bundle: what is left out, what gets a label, which round is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made
import weitiao
from weitiao.data.table import Table
from weitiao.errors import DataError, RecipeError
from weitiao.randomness import generator
from weitiao.recipe import Recipe
from weitiao.run import Run
from weitiao.training.self_training import SelfTrainingSettings, Steps, choose, self_train


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def recipe(folder: Path, model: Path, **sections: Any) -> Recipe:
    """Twelve labeled rows of each split and forty more, one of which is a test row and one a dev row."""
    rows = made.rows(76)
    parts = {"train": rows[:12], "dev": rows[12:24], "test": rows[24:36]}
    rest = [{"review": row["text"], "stars": 5} for row in [*rows[36:], rows[24], rows[12], rows[40]]]
    data = {name: write(folder / f"{name}.jsonl", part) for name, part in parts.items()}
    plain: dict[str, Any] = {
        "data": {**data, "unlabeled": write(folder / "more.jsonl", rest)},
        "model": str(model),
        "method": "head",
        "self_training": {"rounds": 2, "confidence": 0.5},
        "evaluation": {"resamples": 100},
    }
    return Recipe(**plain | sections)


def finding(bundle: weitiao.Bundle, check: str) -> Any:
    return next(f for f in bundle.report.findings if f.check == check)


GRADIENT = {
    "training": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-2, "checkpoint_seconds": 0},
    "method": "full",
}


@pytest.mark.parametrize("how", [{}, GRADIENT], ids=["head", "full"])
def test_a_run_in_rounds_meets_test_once(how: Any, tmp_path: Path, tiny_bert: Path, monkeypatch: Any) -> None:
    asked: list[str] = []
    say = Run._say

    def watch(self: Run, model: Any, material: Any, features: Any, split: str) -> list[Any]:
        asked.append(split)
        return say(self, model, material, features, split)

    monkeypatch.setattr(Run, "_say", watch)
    bundle = weitiao.run(recipe(tmp_path, tiny_bert, **how), tmp_path / "run", show=False)
    assert asked[-1] == "test"
    assert asked.count("test") == 1
    assert asked.count("unlabeled") == asked.count("dev") >= 2
    rest = finding(bundle, "unlabeled")
    assert rest.severity == "warning"
    assert rest.evidence["used"] == 40
    assert rest.evidence["left_out"] == {
        "the same text as a row of dev or test": 2,
        "the same text stands in another such row": 1,
    }
    told = finding(bundle, "self_training").evidence
    assert told["rounds"][0]["added"] == 0
    assert all(1 <= entry["added"] == sum(entry["by_class"].values()) for entry in told["rounds"][1:])
    assert told["kept"] == max(range(len(told["rounds"])), key=lambda i: told["rounds"][i]["score"])
    assert bundle.facts["rows"]["train"] == 12  # rows that people labeled
    assert "unlabeled" in bundle.facts["data"]


class Killed(BaseException):
    """What nothing catches."""


def test_a_run_killed_in_a_later_round_ends_with_the_same_model(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = recipe(tmp_path, tiny_bert, **GRADIENT)
    whole = weitiao.run(chosen, tmp_path / "whole", show=False)
    with monkeypatch.context() as patch:
        real = Run._measure_dev

        def die(self: Run, model: Any, material: Any, features: Any) -> Any:
            if len(material.features["train"]) > 12:
                raise Killed
            return real(self, model, material, features)

        patch.setattr(Run, "_measure_dev", die)
        with pytest.raises(Killed):
            weitiao.run(chosen, tmp_path / "killed", show=False)
    again = weitiao.run(chosen, tmp_path / "killed", show=False)
    rows = [{"text": "good room"}, {"text": "bad food"}]
    assert np.array_equal(whole.ask(rows), again.ask(rows))
    assert finding(whole, "self_training") == finding(again, "self_training")


def test_consistency_runs_from_a_file(tmp_path: Path, tiny_bert: Path) -> None:
    about = {"name": "consistency", "confidence": 0.0, "augmentations": ["swap", {"name": "deletion", "share": 0.3}]}
    chosen = recipe(tmp_path, tiny_bert, **GRADIENT, self_training={}, regularizers=[about])
    assert Recipe(**chosen.dump()) == chosen
    assert weitiao.run(chosen, tmp_path / "run", show=False).verified is not None


def test_the_surest_rows_come_first_and_no_class_takes_all() -> None:
    p = np.array([[0.95, 0.05], [0.99, 0.01], [0.6, 0.4], [0.92, 0.08], [0.1, 0.9], [0.97, 0.03]])
    ids = list("abcdef")
    sure = SelfTrainingSettings(rounds=1, confidence=0.9)
    assert choose(p, sure, ids) == [(1, 0), (4, 1), (5, 0)]  # five are sure, so an even share is two
    assert choose(p, sure.model_copy(update={"balance": None}), ids) == [(0, 0), (1, 0), (3, 0), (4, 1), (5, 0)]
    assert choose(p, SelfTrainingSettings(rounds=1, confidence=0.999), ids) == []
    rng = generator(0, "test")
    many = rng.dirichlet(np.ones(3), size=200)
    taken = choose(many, SelfTrainingSettings(rounds=1, confidence=0.7), [str(i) for i in range(200)])
    counts = np.bincount([k for _, k in taken], minlength=3)
    assert counts.max() <= round((many.max(1) >= 0.7).sum() / 3)


class Told:
    def __init__(self, score: float) -> None:
        self.score = score


def test_the_best_round_is_kept_and_the_first_of_equal_ones() -> None:
    table = Table.from_rows([{"text": c} for c in "abcd"])
    scores, said = [0.5, 0.7, 0.7, 0.6], iter([[0, 1], [0, 1, 2], [0, 1, 2, 3]])

    def probabilities(_: Told) -> np.ndarray:
        rows = np.full((4, 2), 0.5)
        rows[next(said)] = (0.95, 0.05)
        return rows

    seen: list[Any] = []

    def train(number: int, added: Table | None) -> Told:
        seen.append(None if added is None else (added.column("text"), added.column("label")))
        return Told(scores[number])

    steps = Steps[Told](train, probabilities, lambda act: act())
    settings = SelfTrainingSettings(rounds=3, balance=None)
    best, found = self_train(settings, table, "label", ["x", "y"], steps)
    assert best is not None
    assert best.score == 0.7
    assert seen == [None, (["a", "b"], ["x"] * 2), (["a", "b", "c"], ["x"] * 3), (list("abcd"), ["x"] * 4)]
    assert found is not None
    assert found.evidence["kept"] == 1
    assert found.message.startswith("Round 1 is kept, with labels of the model's own for 2 of 4 rows (x 2, y 0)")


def test_there_is_no_round_without_rows() -> None:
    unsure = Steps[Told](lambda number, added: Told(0.5), lambda _: np.full((1, 2), 0.5), lambda act: act())
    best, found = self_train(
        SelfTrainingSettings(rounds=3), Table.from_rows([{"text": "a"}]), "label", ["x", "y"], unsure
    )
    assert best is not None
    assert found is not None
    assert found.severity == "warning"
    assert "sure of none of 1 rows" in found.message


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"data": {"train": "a", "unlabeled": "b"}}, "data.unlabeled has no effect"),
        ({"data": "a", "self_training": {"rounds": 1}}, "name their file in data.unlabeled"),
        ({"data": "a", "regularizers": ["consistency"]}, "the regularizer consistency learns from rows without labels"),
        ({"data": "a", "self_training": {"confidence": 0.5}}, "no effect with rounds 0"),
        ({"data": {"train": "a", "unlabeled": "b"}, "task": "ner", "self_training": {"rounds": 1}}, "one label"),
        ({"data": "a", "regularizers": ["distillation"]}, "teacher is missing"),
    ],
)
def test_what_has_no_effect_is_refused(sections: Any, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        Recipe(**sections)


def test_rows_without_the_field_are_refused(tmp_path: Path, tiny_bert: Path) -> None:
    chosen = recipe(tmp_path, tiny_bert)
    write(tmp_path / "more.jsonl", [{"stars": 5, "price": 3}] * 4)
    with pytest.raises(DataError, match="which column is the text"):
        weitiao.run(chosen, tmp_path / "run", show=False)
    write(tmp_path / "more.jsonl", [{"text": row["text"]} for row in made.rows(36)[24:]])
    with pytest.raises(DataError, match="no row of unlabeled is left"):
        weitiao.run(chosen, tmp_path / "other", show=False)
