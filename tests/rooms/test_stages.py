"""Runs one after another on each other's models: what is taken over, what goes on after a kill, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import made
import weitiao
from weitiao.cli import main
from weitiao.errors import BundleError, ModelError, RecipeError
from weitiao.models.find import find
from weitiao.models.heads import load_with_head
from weitiao.models.load import load_sequence_classifier, load_tokenizer, save
from weitiao.recipe import Recipe
from weitiao.run import Run
from weitiao.stages import Stages

FILE = """
data: rows.jsonl
model: {{name: {model}, max_length: 24}}
training: {{epochs: 1, batch_size: 16}}
evaluation: {{resamples: 100}}
stages:
  - name: pretrain
    task: {{name: language_modeling, vocabulary: extend}}
    data: raw.txt
  - name: tune
    training: {{batch_size: 8}}
"""


@pytest.fixture
def place(tmp_path, tiny_bert, monkeypatch) -> Path:
    """A folder with raw texts, rows, and a recipe in two stages."""
    monkeypatch.chdir(tmp_path)
    rows = made.rows(32)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    Path("rows.jsonl").write_text(lines, encoding="utf-8")
    Path("raw.txt").write_text("\n\n".join(f"{row['text']} and a xylophone." for row in rows), encoding="utf-8")
    Path("recipe.yaml").write_text(FILE.format(model=tiny_bert), encoding="utf-8")
    return tmp_path


class Killed(BaseException):
    """What nothing catches."""


def test_pretrains_then_tunes_and_goes_on_where_it_was_killed(place, tiny_bert, monkeypatch, capsys):
    def killed(self: Run, *_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        train = Run.train
        patch.setattr(Run, "train", lambda self, *a: killed(self) if self.folder.name == "tune" else train(self, *a))
        with pytest.raises(Killed):
            Stages.load("recipe.yaml").run("runs/both", show=False)
    first = Path("runs/both/pretrain/events.jsonl")
    before = first.read_bytes()
    assert not Path("runs/both/bundle").exists()
    with pytest.raises(BundleError, match="not finished"):
        find("runs/both/tune")
    assert main(["run", "runs/both", "--quiet"]) == 0  # the folder knows its stages
    assert first.read_bytes() == before
    assert "bundle: runs/both/tune/bundle" in capsys.readouterr().out

    bundle: Any = weitiao.Bundle("runs/both")
    base = find("runs/both/pretrain")
    assert bundle.recipe.model.name == "runs/both/pretrain"
    assert bundle.recipe.model.max_length == 24
    assert (bundle.recipe.training.epochs, bundle.recipe.training.batch_size) == (1, 8)
    assert [(one["name"], one["task"], one["method"]) for one in bundle.facts["lineage"]] == [
        (str(tiny_bert), None, None),
        ("runs/both/pretrain", "language_modeling", "full"),
    ]
    assert (
        [one["content_hash"] for one in bundle.facts["lineage"]][1]
        == base.content_hash
        == bundle.facts["base"]["content_hash"]
    )
    assert "runs/both/pretrain (language_modeling by full)" in Path("runs/both/bundle/README.md").read_text("utf-8")
    assert "runs/both/pretrain (language_modeling by full)" in Path("runs/both/tune/report.html").read_text("utf-8")
    assert "xylophone" in bundle.tokenizer.get_vocab()
    assert bundle.predict("the room is clean").label in bundle.task.labels

    notes = Path("runs/both/tune/run.json")
    notes.write_text(notes.read_text("utf-8").replace(base.content_hash, "0" * 64), encoding="utf-8")
    with pytest.raises(RecipeError, match="from another runs/both/pretrain"):
        Stages.load("recipe.yaml").run("runs/both", show=False)
    Path("runs/both/pretrain/bundle/model/config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BundleError, match=r"config.json is not what was saved"):
        find("runs/both/pretrain")


def test_a_stage_takes_over_settings_and_may_name_its_own(place):
    stages = Stages.load(
        "recipe.yaml", ["training.epochs=3", "stages.tune.training.epochs=2", "stages.tune.model=other"]
    )
    recipes = stages.recipes(Path("f"))
    assert stages.names == ["pretrain", "tune"]
    assert [(r.training.epochs, r.training.batch_size) for r in recipes.values()] == [(3, 16), (2, 8)]
    assert recipes["tune"].model.name == "other"
    assert recipes["tune"].task.name == "classification"
    with pytest.raises(RecipeError, match=r"no stage is called 'tine'.*Did you mean 'tune'"):
        Stages.load("recipe.yaml", ["stages.tine.method=lora"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("batch_size: 8", "batchsize: 8"), r"recipe.yaml:11: stage tune: training.batchsize is not a setting"),
        (("epochs: 1", "epoch: 1"), r"recipe.yaml:4: stage pretrain: training.epoch is not a setting"),
        (("    data: raw.txt", "    method: lora"), r"stage pretrain: the method lora leaves an adapter, and tune"),
        (("name: tune", "name: pretrain"), r"recipe.yaml:10: two stages are called pretrain"),
        (("name: tune", "name: a/b"), r"recipe.yaml:10: stage 2 needs a name"),
        (("name: tune", "nome: tune"), r"recipe.yaml:10: stage 2 needs a name"),
    ],
)
def test_says_which_stage_is_wrong(place, change, reason):
    path = Path("recipe.yaml")
    path.write_text(path.read_text("utf-8").replace(*change), encoding="utf-8")
    with pytest.raises(RecipeError, match=reason):
        Stages.load("recipe.yaml").run("f", show=False)
    assert not Path("f").exists()


def test_one_recipe_is_not_several(place):
    with pytest.raises(RecipeError, match=r"recipe.yaml:6: holds stages"):
        Recipe.load("recipe.yaml")


def test_an_adapter_is_no_base_model(place, tiny_bert):
    recipe = Recipe(
        data="rows.jsonl", model=str(tiny_bert), method="lora", training={"epochs": 1}, evaluation={"resamples": 100}
    )
    weitiao.run(recipe, "lora", show=False)
    with pytest.raises(ModelError, match=r"holds an adapter.*method.merge"):
        find("lora")


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_next_task_has_the_encoder_and_a_head_of_its_own(tiny_bert, tmp_path, pooling):
    first: Any = load_sequence_classifier(find(str(tiny_bert)), labels=["yes", "no"], pooling=pooling, seed=5)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.01)
    save(first, tmp_path, load_tokenizer(find(str(tiny_bert))))
    there = find(str(tmp_path))
    assert there.pooling == pooling
    for labels, is_kept in ((["yes", "no"], True), (["no", "yes"], False), (["a", "b", "c"], False)):
        model: Any = load_sequence_classifier(there, labels=labels, pooling=pooling, seed=0)
        words = model.get_input_embeddings().weight
        torch.testing.assert_close(words, first.get_input_embeddings().weight)
        assert ("classifier.weight" in model.new_parameters) != is_kept
        if is_kept:
            torch.testing.assert_close(model.classifier.weight, first.classifier.weight)


def test_a_token_head_of_the_same_size_is_new_for_other_labels(tiny_bert, tmp_path):
    first: Any = load_with_head(find(str(tiny_bert)), "tokens", labels=["O", "A"], seed=5)
    save(first, tmp_path, load_tokenizer(find(str(tiny_bert))))
    same: Any = load_with_head(find(str(tmp_path)), "tokens", labels=["O", "A"], seed=0)
    other: Any = load_with_head(find(str(tmp_path)), "tokens", labels=["O", "B"], seed=0)
    assert not same.new_parameters
    assert torch.equal(same.classifier.weight, first.classifier.weight)
    assert other.new_parameters == {"classifier.weight", "classifier.bias"}
    assert not torch.equal(other.classifier.weight, first.classifier.weight)


def test_an_override_of_a_stage_begins_with_what_it_takes_over(place, tiny_bert):
    text = FILE.format(model=tiny_bert).replace("stages:", "method: {name: lora, rank: 4}\nstages:")
    text = text.replace("task: {name: language_modeling, vocabulary: extend}\n    data: raw.txt", "method: full")
    Path("recipe.yaml").write_text(text, encoding="utf-8")
    tune = Stages.load("recipe.yaml", ["stages.tune.method.merge=true"]).recipes(Path("runs"))["tune"]
    assert (tune.method.name, tune.method.settings.rank, tune.method.settings.merge) == ("lora", 4, True)


def test_a_folder_of_another_run_is_left_as_it_is(place):
    stages = Stages.load("recipe.yaml")
    Path("runs/plain/bundle").mkdir(parents=True)
    with pytest.raises(RecipeError, match="holds a run without stages"):
        stages.run("runs/plain")
    made_of = stages.recipes(Path("runs/both"))["pretrain"]
    Path("runs/both/pretrain").mkdir(parents=True)
    Path("runs/both/pretrain/run.json").write_text("{}")
    Path("runs/both/pretrain/recipe.yaml").write_text(made_of.to_yaml(), encoding="utf-8")
    Path("runs/both/stages.yaml").write_text("as it was")
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        Stages.load("recipe.yaml", ["training.epochs=3"]).run("runs/both")
    assert Path("runs/both/stages.yaml").read_text() == "as it was"


def test_rows_that_an_earlier_bundle_learnt_are_told_when_they_come_to_the_test(place, tiny_bert):
    rows = made.rows(32)
    for name, some in {
        "first": rows,
        "last": rows[:8],
        "new": [{**row, "text": row["text"] + " 再来"} for row in rows],
    }.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in some)
        Path(f"{name}.jsonl").write_text(lines, encoding="utf-8")
    own = {"training": {"epochs": 1}, "evaluation": {"resamples": 100}}

    def learnt(folder: str, test: str, model: str = str(tiny_bert), **more: Any) -> list[tuple[int | None, str]]:
        recipe = Recipe(data={"train": "new.jsonl", "test": test}, model=model, **own, **more)
        found = weitiao.run(recipe, folder, show=False).report.findings
        return [(one.count, one.message) for one in found if one.check == "learnt_before"]

    weitiao.run(
        Recipe(data={"train": "first.jsonl", "dev": "last.jsonl", "test": "new.jsonl"}, model=str(tiny_bert), **own),
        "one",
        show=False,
    )
    assert learnt("plain", "last.jsonl") == []
    ((count, message),) = learnt("two", "last.jsonl", "one")
    assert count == 8
    assert message.endswith("were learnt by the model one.")
    ((_, message),) = learnt("three", "last.jsonl", "two")  # what the first learnt, the second knows
    assert message.endswith("were learnt by the model two.")
    taught = {"regularizers": [{"name": "distillation", "teacher": "one"}]}
    ((_, message),) = learnt("four", "last.jsonl", **taught)
    assert message.endswith("were learnt by the teacher one.")
    assert weitiao.Bundle("four").facts["teachers"]["one"]["method"] == "full"


def test_an_override_of_a_stage_keeps_the_model_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "data: rows.csv\nmodel: base\ntraining: {epochs: 3}\nstages: [{name: a, method: full}, {name: b, method: full}]"
    )
    told = ["stages.b.model.max_length=32", "stages.b.training.batch_size=8", "training.epochs=5"]
    for overrides in (told, told[::-1]):
        b = Stages.load(path, overrides).recipes(tmp_path)["b"]
        assert (b.model.name, b.model.max_length) == (str(tmp_path / "a"), 32)
        assert (b.training.epochs, b.training.batch_size) == (5, 8)
    named = Stages.load(path, ["stages.b.model.dropout=0.3", "model.name=other"]).recipes(tmp_path)
    assert (named["a"].model.name, named["b"].model.name) == ("other", str(tmp_path / "a"))
