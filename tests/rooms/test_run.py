"""A run's folder: what it holds, what is refused before time is spent, and how it is finished after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import made
import weitiao
from weitiao.errors import RecipeError
from weitiao.progress import Listeners
from weitiao.recipe import Recipe
from weitiao.run import Run


def recipe_for(folder: Path, model: Path, rows: list[dict[str, Any]] | None = None, **sections: Any) -> Recipe:
    data = folder / "rows.jsonl"
    table = made.rows(48) if rows is None else rows
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table), encoding="utf-8")
    plain: dict[str, Any] = {
        "data": str(data),
        "model": str(model),
        "training": {"epochs": 1, "batch_size": 16, "checkpoint_seconds": 0.0},
        "evaluation": {"resamples": 100},
    }
    return Recipe(**plain | sections)


def events(folder: Path) -> list[str]:
    return [json.loads(line)["event"] for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]


class Killed(BaseException):
    """What nothing catches."""


def test_a_run_killed_before_its_bundle_was_verified_is_finished(tmp_path, tiny_bert, monkeypatch):
    recipe, folder = recipe_for(tmp_path, tiny_bert), tmp_path / "run"

    def killed(self: Run) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Run, "finish", killed)
        with pytest.raises(Killed):
            weitiao.run(recipe, folder, show=False)
    assert (folder / "bundle" / "bundle.json").is_file()
    assert not (folder / "report.html").exists()
    assert list((folder / "checkpoints" / "seed-0").iterdir())
    trained = events(folder).count("step")

    bundle = weitiao.run(recipe, folder, show=False)
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "report" in report.lower()
    assert not (folder / "checkpoints").exists()
    assert events(folder)[-1] == "done"
    assert events(folder).count("step") == trained > 0
    assert bundle.predict(["good room"])[0].label in bundle.task.labels

    (folder / "report.html").write_text("the user's own notes", encoding="utf-8")
    weitiao.run(recipe, folder, show=False)
    assert (folder / "report.html").read_text(encoding="utf-8") == "the user's own notes"


def test_a_column_that_cannot_be_sliced_by_is_refused_before_training(tmp_path, tiny_bert):
    rows = [row | {"地区": "北方" if i % 3 else "南方", "语言": "中文"} for i, row in enumerate(made.rows(48))]
    folder = tmp_path / "run"

    def attempt(column: str) -> Any:
        evaluation = {"resamples": 100, "slices": [column]}
        return weitiao.run(recipe_for(tmp_path, tiny_bert, rows, evaluation=evaluation), folder, show=False)

    with pytest.raises(RecipeError, match=r"no column '地' to slice by"):
        attempt("地")
    with pytest.raises(RecipeError, match="语言"):
        attempt("语言")  # one value, so nothing to compare
    assert "training" not in events(folder)
    bundle = attempt("地区")  # in the same folder, with the recipe corrected
    assert {part.column for part in bundle.report.slices} - {"length"} == {"地区"}
    assert "地区" in (folder / "recipe.yaml").read_text(encoding="utf-8")
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        attempt("语言")


def test_every_row_that_is_set_aside_is_listed_with_its_place_and_reason(tmp_path, tiny_bert):
    strays = [
        {"text": "", "label": "positive"},
        {"text": "没有标签", "label": None},
        {"text": "写错了标签", "label": "postive"},
    ]
    task = {"name": "classification", "labels": ["positive", "negative"]}
    run = Run(recipe_for(tmp_path, tiny_bert, [*made.rows(30), *strays], task=task), tmp_path / "run", show=False)
    run.folder.mkdir()
    with Listeners(run.folder, show=False) as run.tell:
        data = run.read()
    text = (run.folder / "set_aside.jsonl").read_text(encoding="utf-8")
    listed = {row["place"]: row for row in map(json.loads, text.splitlines())}
    assert sorted(listed) == ["rows.jsonl:31", "rows.jsonl:32", "rows.jsonl:33"]
    assert len(listed) == len(data.set_aside) == data.rows_in - 30
    assert "empty" in listed["rows.jsonl:31"]["reason"]
    wanted = "a label that is not among the task's: 'postive'. Did you mean 'positive'?"
    assert listed["rows.jsonl:33"]["reason"] == wanted
    assert "写错了标签" in text  # readable, not escaped


def test_a_run_without_rows_set_aside_lists_none(tmp_path, tiny_bert):
    run = Run(recipe_for(tmp_path, tiny_bert), tmp_path / "run", show=False)
    run.folder.mkdir()
    with Listeners(run.folder, show=False) as run.tell:
        run.read()
    assert (run.folder / "set_aside.jsonl").read_text(encoding="utf-8") == ""
