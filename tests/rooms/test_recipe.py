"""Recipes: everything wrong at once, nothing lost in writing, nothing idle accepted."""

from __future__ import annotations

import json

import jsonschema
import pytest
import yaml

from weitiao.errors import RecipeError, UnknownName
from weitiao.plugins import names
from weitiao.recipe import Member, Recipe


@pytest.fixture
def load(tmp_path):
    def read(text, *overrides, encoding="utf-8"):
        path = tmp_path / "r.yaml"
        path.write_bytes(text.encode(encoding))
        return Recipe.load(path, overrides)

    return read


def wrong(call, *args, **kwargs):
    with pytest.raises(RecipeError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


# --- mistakes ---


def test_all_mistakes_at_once_each_with_its_line(load):
    said = wrong(
        load,
        "data:\n  train: a.csv\n  dve: b.csv\n"  # 3
        "model:\n  name: m\n  max_length: 2\n  pooling: middle\n"  # 6, 7
        "method:\n  name: lorra\n"  # 8
        "training:\n  epoch: 3\n  batch_size: many\n  learning_rate: -1\n"  # 11, 12, 13
        "regularisers: []\n"  # 14
        "evaluation: {metrics: [accuracy, f1]}\n",  # 15
    )
    for words in (
        "9 things to fix in the recipe.",
        "r.yaml:3: data.dve is not a setting. Did you mean 'dev'?",
        "r.yaml:6: model.max_length",
        "r.yaml:7: model.pooling should be 'auto', 'cls', 'mean' or 'last'; got 'middle'.",
        "Did you mean 'lora'?",
        "r.yaml:11: training.epoch is not a setting. Did you mean 'epochs'?",
        "r.yaml:12: training.batch_size should be a whole number; got 'many'.",
        "r.yaml:13: training.learning_rate",
        "r.yaml:14: regularisers is not a setting. Did you mean 'regularizers'?",
    ):
        assert words in said, said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no settings. Write at least data: FILE."),
        ("just words", "holds no settings"),
        ("model: m\n", "data is missing."),
        ("data: [", "r.yaml:1: is not YAML"),
        ("data: a\ndata: [\n", "is not YAML"),
        ("data: a\nmethod:\n  rank: 4\n", "method needs a name; known: adalora, bitfit, contrastive, "),
        ("data: a\nmethod: {name: lora, rnk: 4}\n", "method.rnk is not a setting. Did you mean 'rank'?"),
        ("data: a\nregularizers: r_drop\n", "regularizers should be a list"),
        ("data: a\nregularizers: [r_drpo]\n", "r.yaml:2: regularizers.0 is unknown"),
        ("data: a\nregularizers: [label_smoothing, r_drpo]\n", "Did you mean 'r_drop'?"),
        ("data: a\ntask: classificaton\n", "Did you mean 'classification'?"),
        ("data: a\ntraining: 5\n", "training should be a group of settings; got 5."),
        ("data: a\nseed: -1\n", "seed"),
        ("data: a\nseed: 1.5\n", "seed should be a whole number; got 1.5."),
        ("data: {train: a, remove_leaks: perhaps}\n", "data.remove_leaks should be true or false; got 'perhaps'."),
        ("data: {train: a, read: {encodin: gbk}}\n", "data.read.encodin is not a setting. Did you mean 'encoding'?"),
        ("data: a\nevaluation: {main_metric: acuracy}\n", "Did you mean 'accuracy'?"),
        ("data: a\n1: 2\n", "1 Keys should be strings"),
    ],
)
def test_single_mistakes(load, text, words):
    assert words in wrong(load, text)


def test_the_same_mistakes_in_python():
    said = wrong(Recipe, data="a.csv", method="lorra", training={"epoch": 1})
    assert "2 things to fix" in said
    assert "Did you mean 'lora'?" in said
    assert "Did you mean 'epochs'?" in said
    with pytest.raises((RecipeError, TypeError), match="does not belong in a recipe"):
        Recipe(data=object())


# --- settings that would do nothing ---

IDLE = [
    ({"training": {"optimizer": {"name": "sgd", "momentum": 0, "nesterov": True}}}, "no effect without momentum"),
    ({"training": {"schedule": {"name": "linear", "warmup_share": 0.1, "warmup_steps": 9}}}, "leave one of them out"),
    ({"training": {"schedule": {"name": "cosine", "warmup_share": None}}}, "for no warm-up set warmup_share to 0"),
    ({"training": {"optimizer": "schedule_free_adamw"}}, "the schedule linear lets it fall; set schedule to constant"),
    (
        {"training": {"patience": 1, "schedule": "reduce_on_plateau"}},
        "training stops after 1 measurements without a new best (patience), and the rate would fall after 1",
    ),
    ({"training": {"schedule": "reduce_on_plateau", "epochs": 2}}, "2 epochs, measured once each, end before"),
    ({"training": {"layer_decay": 1.0}}, "training.layer_decay should be less than 1"),
    (
        {"regularizers": ["ema"], "training": {"optimizer": "schedule_free_adamw", "schedule": "constant"}},
        "the optimizer schedule_free_adamw averages the weights, and so does the regularizer ema",
    ),
    ({"method": "head", "training": {"optimizer": "sgd"}}, "training.optimizer has no effect with the method head"),
    ({"training": {"batch_size": 8, "micro_batch_size": 16}}, "micro_batch_size 16 is larger than batch_size 8"),
    ({"method": "head", "training": {"epochs": 5}}, "training.epochs has no effect with the method head"),
    ({"method": "head", "training": {"learning_rate": 1.0}}, "training.learning_rate has no effect with the method"),
    ({"method": "head", "regularizers": ["r_drop"]}, "regularizers has no effect with the method head"),
    ({"data": {"train": "a", "dev": "b", "split_column": "s"}}, "split_column has no effect when dev or test is given"),
    ({"data": {"train": "a", "dev": "b", "test": "c", "split": {"dev": 0.3}}}, "split has no effect when dev and test"),
    ({"data": {"train": "a", "split": {"time": "t"}}}, "time has no effect with by: auto"),
    ({"data": {"train": "a", "split": {"by": "time"}}}, "by: time needs the column of dates"),
    ({"data": {"train": "a", "split": {"dev": 0.5, "test": 0.5}}}, "leave no rows for training"),
    ({"task": {"name": "classification", "gamma": 3.0}}, "gamma has no effect unless loss is focal"),
    ({"data": {"train": "a", "dev": "b", "split": {"dev": 0.3}}}, "split.dev has no effect when dev is given"),
    ({"data": {"train": "a", "test": "b", "split": {"test": 0.3}}}, "split.test has no effect when test is given"),
    ({"data": {"train": "a", "remove_leaks": True}}, "remove_leaks has no effect when dev and test are cut from train"),
    ({"method": "head", "model": {"name": "m", "dropout": 0.1}}, "model.dropout has no effect with the method head"),
    ({"regularizers": ["r_drop", {"name": "r_drop", "strength": 2.0}]}, "regularizers names r_drop twice"),
]


@pytest.mark.parametrize(("sections", "words"), IDLE, ids=lambda value: value[:30] if isinstance(value, str) else "")
def test_settings_without_effect_are_refused(sections, words):
    assert words in wrong(Recipe, **{"data": "a.csv", **sections})


@pytest.mark.parametrize(
    "sections",
    [
        {"data": {"train": "a", "dev": "b", "split": {"test": 0.3}}},
        {"data": {"train": "a", "test": "b", "split": {"dev": 0.3, "group": "客户"}}},
        {"data": {"train": "a", "test": "b", "remove_leaks": True}},
        {"data": {"train": "a", "split_column": "s", "remove_leaks": True}},
        {"method": "full", "model": {"name": "m", "dropout": 0.1}},
        {"regularizers": ["r_drop", "label_smoothing"]},
        {"regularizers": ["ema"], "training": {"schedule": "constant"}},
        {"training": {"optimizer": "schedule_free_adamw", "schedule": "constant"}},
        {"training": {"schedule": {"name": "reduce_on_plateau", "patience": 2}, "patience": 3, "epochs": 4}},
        {"training": {"schedule": "reduce_on_plateau", "epochs": 1, "evaluate_steps": 5}},
        {
            "training": {
                "optimizer": {"name": "sgd", "nesterov": True},
                "schedule": {"name": "linear", "warmup_share": 0},
            }
        },
    ],
    ids=str,
)
def test_the_same_settings_are_taken_where_they_have_an_effect(sections):
    Recipe(**{"data": "a.csv", **sections})


# --- reading and writing ---

FULL = {
    "data": {"train": ["a.csv", "评论.csv"], "fields": {"text": "内容"}, "split": {"group": "客户"}},
    "model": {"name": "m", "pooling": "mean", "dropout": 0.2},
    "task": {"name": "classification", "loss": "focal", "class_weights": {"好": 2.0}},
    "method": {"name": "lora", "rank": 4},
    "regularizers": ["r_drop"],
    "training": {
        "epochs": 2,
        "optimizer": {"name": "sgd", "momentum": 0.5},
        "schedule": {"name": "cosine", "warmup_steps": 5},
        "head_learning_rate": 0.01,
        "layer_decay": 0.9,
    },
    "evaluation": {"metrics": ["accuracy"], "slices": ["地区"]},
    "seed": 7,
}


@pytest.mark.parametrize(
    "sections", [{"data": "a.csv"}, FULL, {"data": "a", "method": "head"}], ids=["short", "full", "head"]
)
def test_what_is_written_is_total_and_reads_back_equal(load, sections):
    recipe = Recipe(**sections)
    text = recipe.to_yaml()
    again = load(text)
    assert again == recipe
    assert again.fingerprint == recipe.fingerprint
    assert again.to_yaml() == text
    assert list(recipe.dump()) == list(Recipe.model_fields)
    schedule = recipe.dump()["training"]["schedule"]  # defaults are written too
    assert schedule == {"name": "linear", "warmup_share": 0.06, "warmup_steps": None} or sections is FULL
    assert recipe.dump()["training"]["learning_rate"] is not None


def test_short_forms_are_the_same_recipe():
    short = Recipe(data="a.csv", model="m", method="lora")
    long = Recipe(data={"train": "a.csv"}, model={"name": "m"}, task="classification", method={"name": "lora"})
    assert short == long
    assert short.fingerprint == long.fingerprint
    assert isinstance(short.method, Member)
    assert Recipe(**short.dump()) == short
    assert Recipe(data=short.data, method=short.method, model=short.model) == short


def test_another_recipe_has_another_fingerprint_and_names_what_differs():
    one, other = Recipe(data="a.csv"), Recipe(data="a.csv", training={"epochs": 5}, method="lora")
    assert one.fingerprint != other.fingerprint
    there = one.differences(other)
    assert "training.epochs: 3 here, 5 there" in there
    assert any(line.startswith("method.name: 'full' here, 'lora' there") for line in there)
    assert one.differences(Recipe(data="a.csv")) == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_line_ends_marks_and_chinese(load, encoding):
    recipe = load("data: 评论.csv\r\n# 一个注释\r\ntraining:\r\n  epochs: 2\r\n", encoding=encoding)
    assert recipe.data.train == "评论.csv"
    assert recipe.training.epochs == 2
    assert "评论.csv" in recipe.to_yaml()
    assert "r.yaml:4: training.epoch" in wrong(load, "data: 评论\r\n\r\ntraining:\r\n  epoch: 2\r\n", encoding=encoding)


def test_a_recipe_that_is_not_there(tmp_path):
    (tmp_path / "recipe.yaml").touch()
    assert "Did you mean 'recipe.yaml'?" in wrong(Recipe.load, tmp_path / "recpie.yaml")
    (tmp_path / "gbk.yaml").write_bytes("data: 评论".encode("gbk"))
    assert "is not UTF-8" in wrong(Recipe.load, tmp_path / "gbk.yaml")


# --- overrides ---

REST = {"beta2": 0.999, "epsilon": 1e-8}  # of adamw


@pytest.mark.parametrize(
    ("override", "place", "value"),
    [
        ("training.epochs=5", ("training", "epochs"), 5),
        ("seed=3", ("seed",), 3),
        ("method=lora", ("method", "name"), "lora"),
        ("data=b.csv", ("data", "train"), "b.csv"),
        ("data.dev=b.csv", ("data", "dev"), "b.csv"),
        ("data.fields.text=内容", ("data", "fields", "text"), "内容"),
        ("model.pooling=mean", ("model", "pooling"), "mean"),
        ("task.class_weights=balanced", ("task", "class_weights"), "balanced"),
        ("training.clip_norm=null", ("training", "clip_norm"), None),
        ("evaluation.slices=[a, b]", ("evaluation", "slices"), ["a", "b"]),
        ("regularizers=[r_drop]", ("regularizers", 0, "name"), "r_drop"),
        ("training.optimizer=lion", ("training", "optimizer", "name"), "lion"),
        ("training.optimizer.beta1=0.8", ("training", "optimizer"), {"name": "adamw", "beta1": 0.8, **REST}),
        ("training.schedule.warmup_steps=9", ("training", "schedule", "warmup_steps"), 9),
    ],
)
def test_overrides(load, override, place, value):
    found = load("data: a.csv\nmodel: m\n", override).dump()
    for part in place:
        found = found[part]
    assert found == value


def test_overrides_come_on_top_one_after_the_other(load):
    recipe = load("data: a.csv\nmethod: lora\n", "method.rank=4", "method.rank=2", "training.epochs=9")
    assert recipe.method.settings.rank == 2
    assert recipe.training.epochs == 9


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training", "'training' is not an override. Write it as training.epochs=3."),
        ("=3", "is not an override"),
        ("training.epoch=3", "training.epoch is not a setting. Did you mean 'epochs'?"),
        ("seed.x=3", "seed is not a group of settings"),
        ("seed=[1", "'[1' is not YAML"),
        ("training.epochs=", "training.epochs should be a whole number; got None."),
    ],
)
def test_wrong_overrides(load, override, words):
    assert words in wrong(load, "data: a.csv\nseed: 1\n", override)


def test_overrides_go_into_a_member_that_is_a_lone_name(load):
    recipe = load("data: a.csv\ntraining:\n  optimizer: sgd\n", "training.optimizer.momentum=0.5", "training.epochs=9")
    assert recipe.training.optimizer.dump() == {"name": "sgd", "momentum": 0.5, "nesterov": False}


# --- members inside training ---


def test_mistakes_inside_a_member_of_training_each_with_its_line(load):
    said = wrong(
        load,
        "data: a\ntraining:\n  epoch: 3\n"  # 3
        "  optimizer:\n    name: sgd\n    momentom: 1\n    nesterov: perhaps\n"  # 6, 7
        "  schedule: cosin\n",  # 8
    )
    for words in (
        "4 things to fix in the recipe.",
        "r.yaml:3: training.epoch is not a setting. Did you mean 'epochs'?",
        "r.yaml:6: training.optimizer.momentom is not a setting. Did you mean 'momentum'?",
        "r.yaml:7: training.optimizer.nesterov should be true or false; got 'perhaps'.",
        "r.yaml:8: training.schedule is unknown: no schedule is called 'cosin'. Did you mean 'cosine'?",
    ):
        assert words in said, said


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"optimizer": {"beta1": 0.8}}, "training.optimizer needs a name; known: adafactor, adamw"),
        ({"optimizer": None}, "training.optimizer needs a name"),
        ({"optimizer": ["sgd"]}, "training.optimizer needs a name"),
        ({"momentum": 0.5}, "training.momentum is not a setting. Known: batch_size"),
        ({"warmup_share": 0.5}, "training.warmup_share is not a setting. Known: batch_size"),
    ],
    ids=str,
)
def test_single_mistakes_inside_training(training, words):
    assert words in wrong(Recipe, data="a", training=training)


def test_settings_made_directly_find_their_members():
    from weitiao.training.settings import TrainingSettings

    settings = TrainingSettings(optimizer="sgd", schedule={"name": "cosine", "end_share": 0.1})
    assert settings.optimizer.settings.momentum == 0.9
    assert settings.schedule.settings.end_share == 0.1
    assert settings == TrainingSettings(**settings.model_dump())
    with pytest.raises(ValueError, match="Did you mean 'sgd'"):
        TrainingSettings(optimizer="sdg")


# --- JSON Schema ---


def test_the_schema_knows_every_setting_and_member():
    schema = Recipe.json_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert set(schema["properties"]) == {*Recipe(data="a").dump(), "stages"}
    assert schema["anyOf"] == [{"required": ["data"]}, {"required": ["stages"]}]
    assert schema["additionalProperties"] is False
    known, *each = schema["properties"]["method"]["oneOf"]
    assert known["enum"] == names("methods")
    assert [one["properties"]["name"]["const"] for one in each] == names("methods")
    optimizer = schema["$defs"]["TrainingSettings"]["properties"]["optimizer"]["oneOf"]
    assert optimizer[0]["enum"] == names("optimizers")
    assert "momentum" in optimizer[1 + names("optimizers").index("sgd")]["properties"]
    assert "rank" in next(one for one in each if one["properties"]["name"]["const"] == "lora")["properties"]


def test_the_schema_accepts_what_is_right_and_refuses_what_is_not():
    check = jsonschema.Draft202012Validator(Recipe.json_schema())
    plain = yaml.safe_load(Recipe(**FULL).to_yaml())
    for good in (
        {"data": "a"},
        {"data": "a", "method": "lora"},
        {"data": "a", "method": {"name": "lora", "rank": 2}},
        {"data": "a", "training": {"optimizer": "lion", "schedule": {"name": "cosine", "warmup_steps": 3}}},
        plain,
    ):
        assert not list(check.iter_errors(good)), good
    for bad in (
        {},
        {"data": "a", "metod": "lora"},
        {"data": "a", "method": "lorra"},
        {"data": "a", "seed": "x"},
        {"data": "a", "training": {"optimizer": "lyon"}},
        {"data": "a", "training": {"optimizer": {"name": "sgd", "beta1": 0.5}}},
    ):
        assert list(check.iter_errors(bad)), bad


def test_an_unknown_member_is_an_unknown_name():
    from weitiao.plugins import find

    with pytest.raises(UnknownName, match="Did you mean 'lora'"):
        find("methods", "lorra")
