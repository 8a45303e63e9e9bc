"""From a file of labelled rows to an answer: by command line and by Python, with rows that cannot be used."""

from __future__ import annotations

import csv
import fcntl
import json
import os
from pathlib import Path

import pytest

import weitiao
from weitiao import cli
from weitiao.errors import RecipeError, TrainingError

ENGLISH = [
    {"Comment": f"the {thing} is {word}", "Category": label}
    for thing in ("room", "hotel", "food", "film", "book", "card", "phone", "battery")
    for label, words in {"praise": ("good", "great", "nice"), "complaint": ("bad", "poor", "dirty")}.items()
    for word in words
]
CHINESE = [
    {"编号": str(i), "内容": f"{thing}{word}", "标签": label}
    for i, (thing, word, label) in enumerate(
        (thing, word, label)
        for thing in ("房间", "服务", "早餐", "电影", "书店", "屏幕", "泳池", "价格")
        for label, words in {"好评": ("很干净", "非常好", "喜欢"), "差评": ("太脏了", "非常差", "讨厌")}.items()
        for word in words
    )
]
# What is planted, and how it is said: one row without text, one without label, one with a field too many.
PLANTED = {
    "english": ',praise\nthe room is lost,\n"the card",praise,much\n',
    "chinese": "97,,好评\n98,服务,\n99,价格,好评,多\n",
}


@pytest.fixture(params=["english", "chinese"])
def case(request, tmp_path, monkeypatch, tiny_bert):
    """A folder with rows, a recipe and a model; the recipe names no column."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rich.console.Console.is_terminal", False)
    rows, encoding = (ENGLISH, "utf-8") if request.param == "english" else (CHINESE, "gbk")
    with Path("rows.csv").open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        file.write(PLANTED[request.param])
    write_recipe(tiny_bert)
    return {"rows": rows, "encoding": encoding, "column": list(rows[0])[-2]}


def write_recipe(model):
    Path("recipe.yaml").write_text(
        f"data: rows.csv\nmodel: {model}\ntraining: {{epochs: 1, batch_size: 8}}\nevaluation: {{resamples: 100}}\n",
        encoding="utf-8",
    )


@pytest.fixture
def call(capsys):
    def run(*args, code=0):
        capsys.readouterr()
        got = cli.main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        assert got == code, err
        return out, err

    return run


def test_by_command_line(case, call):
    out, _ = call("check", "rows.csv", "--model", "none", "--json", code=1)  # rows that cannot be used are an error
    checked = json.loads(out)["counts"]["all"]
    assert checked == {"rows_in": 51, "used": 48, "set_aside": 3}

    out, err = call("run", "recipe.yaml", "--folder", "runs/mine")
    assert "51 rows in = train" in err
    assert "set aside 3" in err
    assert "accuracy" in out.splitlines()[0]
    assert_accounts_add_up(Path("runs/mine"))

    first, _ = call("predict", "runs/mine", "good room", "--json")
    assert set(json.loads(first)["probabilities"]) == {list(row.values())[-1] for row in case["rows"]}
    out, err = call("predict", "runs/mine", "rows.csv", "--out", "answers.csv")
    assert "51 rows: 49 answered, 2 not" in err  # a row without label can be predicted well enough
    with Path("answers.csv").open(encoding="utf-8-sig", newline="") as file:
        answers = list(csv.DictReader(file))
    assert [a[case["column"]] for a in answers[:48]] == [row[case["column"]] for row in case["rows"]]
    assert all(a["predicted"] for a in answers[:48])

    out, _ = call("report", "runs/mine")
    assert "51" in out
    out, _ = call("verify", "runs/mine", "--json")
    assert json.loads(out)["largest_difference"] == 0.0

    out, err = call("run", "recipe.yaml", "--folder", "runs/mine", "--json")  # done already: opened
    assert json.loads(out)["bundle"] == "runs/mine/bundle"
    assert "rows in" not in err


def assert_accounts_add_up(folder):
    rows = json.loads((folder / "bundle" / "bundle.json").read_text(encoding="utf-8"))["rows"]
    used = rows["train"] + rows["dev"] + rows["test"]
    assert rows["in"] == used + sum(rows["set_aside"].values()) == 51
    assert len(rows["set_aside"]) == 3  # three reasons, and each says something
    report = json.loads((folder / "bundle" / "report.json").read_text(encoding="utf-8"))
    text = json.dumps(report, ensure_ascii=False)
    for reason in rows["set_aside"]:
        assert reason in text
        assert reason in (folder / "bundle" / "README.md").read_text(encoding="utf-8")
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    (data,) = (event for event in events if event["event"] == "data")
    assert data["rows_in"] == sum(data["splits"].values()) + sum(data["set_aside"].values())
    assert data["set_aside"] == rows["set_aside"]


def test_by_python(case, tiny_bert):
    recipe = weitiao.Recipe(
        data="rows.csv", model=str(tiny_bert), method={"name": "lora", "rank": 2}, evaluation={"resamples": 100}
    )
    bundle = weitiao.run(recipe, "runs/python", show=False)
    assert bundle.predict(["good", "房间很干净"])[1].label in {list(row.values())[-1] for row in case["rows"]}
    saved = bundle.save("my-model")
    assert saved.predict("good") == bundle.predict("good")
    assert saved.report.line == bundle.report.line
    assert_accounts_add_up(Path("runs/python"))
    events = Path("runs/python/events.jsonl").read_text(encoding="utf-8")
    again = weitiao.run(recipe, "runs/python", show=False)
    assert again.verified == 0.0
    assert Path("runs/python/events.jsonl").read_text(encoding="utf-8") == events  # nothing was done
    assert len(weitiao.load("rows.csv")) + 1 == 51


class TestFolders:
    """A run's folder belongs to one recipe, one set of rows and one process."""

    @pytest.fixture(autouse=True)
    def _here(self, tmp_path, monkeypatch, tiny_bert):
        monkeypatch.chdir(tmp_path)
        with Path("rows.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(ENGLISH[0]))
            writer.writeheader()
            writer.writerows(ENGLISH)
        write_recipe(tiny_bert)

    @pytest.fixture
    def unfinished(self, monkeypatch):
        """A run that stopped after training."""
        from weitiao.run import Run

        def stop(*args):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Run, "test", stop)
            with pytest.raises(KeyboardInterrupt):
                weitiao.run(weitiao.Recipe.load("recipe.yaml"), "runs/a", show=False)
        assert not Path("runs/a/bundle").exists()

    def test_another_recipe_is_refused_with_what_differs(self, unfinished, call):
        _, err = call("run", "recipe.yaml", "training.epochs=2", "seed=5", "--folder", "runs/a", code=2)
        assert "holds a run of another recipe" in err
        assert "training.epochs: 2 here, 1 there" in err
        assert "seed: 5 here, 0 there" in err
        assert "--folder" in err

    def test_other_rows_are_refused(self, unfinished):
        with Path("rows.csv").open("a", encoding="utf-8") as file:
            file.write("the pool is late,complaint\n")
        with pytest.raises(TrainingError, match="the data changed since this run began"):
            weitiao.run(weitiao.Recipe.load("recipe.yaml"), "runs/a", show=False)

    def test_the_folder_is_enough_to_go_on(self, unfinished, call):
        out, err = call("run", "runs/a", "--json")
        assert "resumed" in err
        assert json.loads(out)["bundle"] == "runs/a/bundle"
        assert weitiao.Bundle("runs/a").verified == 0.0
        assert not Path("runs/a/checkpoints").exists()

    def test_a_second_process_is_refused(self):
        Path("runs/a").mkdir(parents=True)
        with Path("runs/a/.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(TrainingError, match="another process is running in this folder"):
                weitiao.run(weitiao.Recipe.load("recipe.yaml"), "runs/a", show=False)

    def test_a_recipe_that_cannot_work_leaves_a_word(self, call):
        with pytest.raises(RecipeError, match="takes 64 tokens"):
            weitiao.run(weitiao.Recipe.load("recipe.yaml", ["model.max_length=9999"]), "runs/b", show=False)
        assert os.listdir("runs") == ["b"]
