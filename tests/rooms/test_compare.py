"""Methods beside each other: the table, what costs a line of it, and what a second call does again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import made
from weitiao import apart
from weitiao.bundle import Bundle
from weitiao.cli import app, main
from weitiao.compare import compare, recipe_for
from weitiao.data.prepare import prepare
from weitiao.errors import DataError, RecipeError, UnknownName
from weitiao.evaluation.comparison import Interval, paired_bootstrap, suited
from weitiao.evaluation.document import MetricInfo
from weitiao.evaluation.plots import Dot, scatter_svg
from weitiao.evaluation.ranking import Cost, Measured, rank
from weitiao.plugins import find
from weitiao.randomness import derive_seed
from weitiao.recipe import Recipe

_OWN = '''"""A method of somebody's own."""
import os, signal, sys
from weitiao.methods.base import Method


class Own(Method):
    """Does not come far."""

    def suits(self, model):
        {suits}
'''


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Recipe:
    data = made.write_csv(tmp_path_factory.mktemp("compare") / "评论.csv", made.rows(120))
    return Recipe(
        data={"train": str(data), "split": {"test": 0.3}},
        model=str(tiny_bert),
        method={"name": "lora", "rank": 2},
        training={"epochs": 2, "batch_size": 8, "learning_rate": 3e-2},
        evaluation={"resamples": 200, "baselines": ["majority"]},
    )


@pytest.fixture(scope="module")
def folder(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison that was killed after two methods, as the processes of these leave it."""
    folder = tmp_path_factory.mktemp("compared")
    for name in ("lora", "head"):
        (folder / name).mkdir()
        apart._run_here(recipe_for(recipe, name)[0], folder / name, time.time())
    return folder


def test_the_best_comes_first_and_each_is_held_against_it_row_by_row(recipe: Recipe, folder: Path) -> None:
    found = compare(recipe, ["head", "lora"], folder)
    best, other = found.done
    assert best.score is not None
    assert other.score is not None
    assert best.score.value >= other.score.value
    task = recipe.task.make("tasks")
    data = prepare(recipe.data, task.fields, derive_seed(recipe.seed, "split"))
    rows = [dict(row) for row in data.splits.test]
    said = {}
    for entry in found.done:  # by hand: the bundle answers the test rows again
        bundle = Bundle(folder / entry.name)
        answers = bundle.task.answer(bundle.ask(rows), rows, bundle.calibration)
        said[entry.name] = suited(find("metrics", "accuracy")(), answers, bundle.task.labels)
        truth = bundle.task.truth(rows)
        assert entry.score == bundle.report.main
        assert entry.score.value == pytest.approx(np.mean(said[entry.name] == truth))
        assert entry.cost is not None
        size = sum(path.stat().st_size for path in bundle.folder.rglob("*") if path.is_file())
        assert entry.cost.bundle_bytes == size
        assert entry.cost.seconds > entry.cost.training_seconds > 0
        assert entry.cost.peak_mib > 50
    seed = derive_seed(recipe.seed, "bootstrap") % 2**32
    by_hand = paired_bootstrap(
        find("metrics", "accuracy")(), truth, said[other.name], said[best.name], classes=2, seed=seed, resamples=200
    )
    assert other.difference == by_hand
    assert found.rows == len(rows) == by_hand.n


def test_what_is_done_is_not_done_again_and_what_dies_costs_one_line(
    recipe: Recipe, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "dies.py").write_text(
        _OWN.format(suits="print('the last words', flush=True); os.kill(os.getpid(), signal.SIGKILL)")
    )
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    before = {name: (folder / name / "events.jsonl").read_bytes() for name in ("lora", "head")}
    said: list[str] = []
    methods = ["head", str(tmp_path / "dies.py"), "lora", str(tmp_path / "broken.py"), "top_layers"]
    found = compare(recipe, methods, folder, say=said.append)
    states = {entry.name: entry.state for entry in found.entries}
    wanted = {"head": "done", "lora": "done", "top_layers": "done", "dies": "failed", "broken": "refused"}
    assert states == wanted
    reason = {entry.name: entry.reason for entry in found.entries}
    assert "ended by SIGKILL, most likely because memory ran out" in reason["dies"]
    assert reason["dies"].endswith("\nthe last words")
    assert "nothing_of_this_name" in reason["broken"]
    assert before == {name: (folder / name / "events.jsonl").read_bytes() for name in before}
    assert [line.split(" ")[0] for line in said if line.endswith("...")] == ["dies", "top_layers"]
    cost = next(entry.cost for entry in found.done if entry.name == "top_layers")
    assert cost is not None
    assert cost.seconds > 1  # starting Python counts
    assert cost.peak_mib > 100
    page = (folder / "comparison.html").read_text(encoding="utf-8")
    for text in ("<svg", "推荐", "最好", "dies", "评论.csv", "nothing_of_this_name", found.advice.en):
        assert text in page
    assert json.loads((folder / "comparison.json").read_text(encoding="utf-8")) == found.to_json()


def test_the_command_prints_the_table_or_the_same_as_json(recipe: Recipe, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    args = ["compare", str(path), "--methods", f"lora,{tmp_path / 'broken.py'},head", "--folder", str(folder)]
    shown = CliRunner().invoke(app, args)
    assert shown.exit_code == 0, shown.output
    said = json.loads(CliRunner().invoke(app, [*args, "--json"]).stdout)
    lines = shown.output.splitlines()
    done = [entry for entry in said["entries"] if entry["state"] == "done"]
    rows = [line for line in lines if line.split()[:1] in (["lora"], ["head"])]
    for row, entry in zip(rows, done, strict=True):
        score = entry["score"]
        assert row.split()[0] == entry["name"]
        assert f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]" in row
        assert f"{entry['cost']['trainable_parameters']:,}" in row
    assert any(line.startswith("broken: refused: because ") for line in lines)
    assert any(line.startswith("head: without training.epochs, training.batch_size, which") for line in lines)
    assert said["advice"]["en"] in lines
    assert said["advice"]["zh"] in lines


def test_another_recipe_or_other_rows_are_refused_before_anything_runs(
    recipe: Recipe, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Recipe(**recipe.dump() | {"seed": 5})
    with pytest.raises(RecipeError, match=r": holds a comparison of another recipe \(seed: 5 here, 0 there\)"):
        compare(other, "lora", folder)
    with pytest.raises(UnknownName, match="Did you mean 'lora'"):
        compare(recipe, "head,lorra", folder)
    with pytest.raises(RecipeError, match="no method was named"):
        compare(recipe, "", folder)
    gone = Recipe(**recipe.dump() | {"data": str(tmp_path / "gone.csv")})
    with pytest.raises(DataError, match=r"gone\.csv"):
        compare(gone, "head", tmp_path / "new")
    with pytest.raises(RecipeError, match="no learning rate to share"):
        compare(recipe_for(recipe, "head")[0], "head,lora", tmp_path / "new", share_rate=True)
    assert not list((tmp_path / "new").glob("*/"))
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.dump()), encoding="utf-8")
    assert main(["compare", str(path), "--methods", "lorra"]) == 2
    assert "Known: all, " in capsys.readouterr().err


def test_a_reason_a_user_can_act_on_and_an_ordinary_run_are_told_apart(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "unfit.py").write_text(_OWN.format(suits="return 'it only knows left from right'"))
    other, folder = recipe_for(recipe, str(tmp_path / "unfit.py"))[0], tmp_path / "unfit"
    folder.mkdir()
    apart._run_here(other, folder, time.time())
    stopped = json.loads((folder / "stopped.json").read_text(encoding="utf-8"))
    assert stopped["state"] == "refused"
    assert "cannot be applied: it only knows left from right." in stopped["reason"]
    assert "seconds" not in json.loads((folder / "cost.json").read_text(encoding="utf-8"))


# --- what holds for which method ---


def test_settings_and_rates_stay_with_the_method_of_the_recipe(recipe: Recipe) -> None:
    assert recipe_for(recipe, "lora") == (recipe, ())
    full, left_out = recipe_for(recipe, "full")
    assert left_out == ()
    assert full.training.learning_rate == find("methods", "full").learning_rate != recipe.training.learning_rate
    assert full.training.head_learning_rate == find("methods", "full").head_learning_rate
    assert full.training.epochs == 2
    assert full.data == recipe.data
    assert recipe_for(recipe, "full", share_rate=True)[0].training.learning_rate == 3e-2
    raw = recipe.dump() | {"regularizers": ["label_smoothing"], "model": {**recipe.dump()["model"], "dropout": 0.1}}
    head, left_out = recipe_for(Recipe(**raw), "head")
    assert left_out == ("training.epochs", "training.batch_size", "regularizers", "model.dropout")
    assert head.regularizers == ()


def test_settings_of_the_task_that_came_from_the_method_stay_with_it(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "prompts.py"
    path.write_text(
        "from weitiao.methods.base import Method\n\n\nclass Prompts(Method):\n"
        '    """Needs its labels told."""\n\n    task_defaults = {"labels": ["好", "坏"]}\n'
    )
    own = Recipe(data="rows.csv", method=str(path))
    assert own.task.settings.labels == ("好", "坏")
    assert recipe_for(own, "full")[0].task.settings.labels == ()
    assert recipe_for(recipe, str(path))[0].task.settings.labels == ("好", "坏")


# --- ranks ---


def _measured(values: list[float], seconds: float, seed: int = 0) -> Measured:
    right = np.array(values)
    picked = np.random.default_rng(seed).integers(0, len(right), (400, len(right)))
    draws = right[picked].mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    score = Interval(float(right.mean()), float(low), float(high), len(right))
    return Measured(score, draws, Cost(10, 100, 2**20, seconds / 2, seconds, 300.0))


def test_the_cheapest_that_is_not_measurably_worse_is_recommended() -> None:
    rows = np.arange(300)
    many = {
        "best": _measured((rows % 10 < 9).astype(float).tolist(), 100),
        "near": _measured(((rows % 10 < 9) & (rows != 4)).astype(float).tolist(), 20),
        "poor": _measured((rows % 10 < 6).astype(float).tolist(), 1),
    }
    accuracy = MetricInfo("accuracy", "accuracy", "准确率", True)
    found = rank("a set", many, [], accuracy)
    assert [entry.name for entry in found.entries] == ["best", "near", "poor"]
    assert [entry.outcome for entry in found.entries] == ["best", "unclear", "worse"]
    assert found.recommended == "near"
    assert "20 s against 100 s" in found.advice.en
    assert "best 用了 100 秒" in found.advice.zh
    del many["near"]
    assert "what is cheaper is measurably worse" in rank("a set", many, [], accuracy).advice.en
    low = MetricInfo("log_loss", "log loss", "对数损失", False)
    assert [entry.name for entry in rank("a set", many, [], low).entries] == ["poor", "best"]
    assert rank("a set", {}, [], None).recommended is None
    with pytest.raises(DataError, match="the same rows"):
        rank("a set", many | {"other": _measured([1.0, 0.0], 3)}, [], accuracy)


def test_the_seconds_of_a_killed_process_count_up_to_its_last_event(tmp_path: Path) -> None:
    now = time.time()
    times = [now - 90, now - 80, now - 5]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps({"time": at}) + "\n" for at in times))
    spent = apart._spent(tmp_path, [now - 100, now - 50, now - 10])
    assert spent == pytest.approx(20 + 0 + 10, abs=1)


def test_the_memory_of_a_killed_process_counts(tmp_path: Path) -> None:
    path = tmp_path / "cost.json"
    path.write_text(json.dumps({"starts": [1.0]}))
    code = (
        "import os, signal, sys, time; from pathlib import Path; from weitiao import apart\n"
        "with apart._watched(Path(sys.argv[1])):\n"
        "    kept = bytearray(b'x') * 400_000_000; time.sleep(3); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    killed = json.loads(path.read_text())
    assert killed["starts"] == [1.0]
    assert killed["peak_mib"] > 400_000_000 / 2**20
    path.write_text(json.dumps(killed | {"peak_mib": 1e9}))
    with apart._watched(path):
        pass
    assert json.loads(path.read_text())["peak_mib"] == 1e9  # this process took less


def test_the_plot_names_every_dot_where_it_covers_no_other() -> None:
    dots = [Dot(f"方法{i}<", 10.0, 0.9, 0.8, 0.95, strong=i == 3) for i in range(6)]
    drawn = scatter_svg(dots, title="a & b", axes=("x", "y"))
    assert drawn.count("<circle") == 6
    assert "方法0&lt;" in drawn
    heights = sorted(map(float, re.findall(r'<text x="[^"]*" y="([^"]*)"[^>]*>方法', drawn)))
    assert len(heights) == 6
    assert all(b - a >= 14 for a, b in pairwise(heights))
    one = scatter_svg([Dot("alone", 7.0, 0.5, 0.5, 0.5)], title="t", axes=("x", "y"))
    assert "nan" not in one


def test_a_method_that_learns_pairs_keeps_what_it_reads() -> None:
    training = {"epochs": 2, "batch_size": 4, "seeds": 3, "learning_rate": 1e-3, "patience": 1, "evaluate_steps": 5}
    recipe = Recipe(data="rows.csv", method="lora", training=training, regularizers=["label_smoothing"])
    other, left_out = recipe_for(recipe, "contrastive", share_rate=True)
    assert set(left_out) == {"training.patience", "training.evaluate_steps", "regularizers"}
    kept = other.training
    assert (kept.epochs, kept.batch_size, kept.seeds, kept.learning_rate) == (2, 4, 3, 1e-3)
    assert recipe_for(recipe, "contrastive")[0].training.learning_rate == find("methods", "contrastive").learning_rate


def test_examples_are_shown_by_the_method_that_shows_examples_alone() -> None:
    prompt = {"template": "{text} topic: {mask}", "examples": {"count": 4}}
    recipe = Recipe(data="rows.csv", method="in_context", task={"name": "classification", "prompt": prompt})
    asked = recipe_for(recipe, "zero_shot")[0].task.settings.prompt
    assert (asked.template, asked.examples) == (prompt["template"], None)
    assert recipe_for(recipe, "lora")[0].task.settings.prompt is None
    template = {"name": "classification", "prompt": {"template": prompt["template"]}}
    back = recipe_for(Recipe(data="rows.csv", method="zero_shot", task=template), "in_context")[0].task.settings.prompt
    assert (back.template, back.examples.count) == (prompt["template"], 8)
