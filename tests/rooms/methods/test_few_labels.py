"""Methods for no labeled row, or a handful of each class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import made
import weitiao
from tiny import WORDS
from trial import adapt, make, names_of, trial
from weitiao.errors import RecipeError, TrainingError
from weitiao.evaluation.before import label_names, nearest
from weitiao.methods.base import Known
from weitiao.models import load
from weitiao.probability import softmax
from weitiao.recipe import Recipe
from weitiao.training.prefix import Reader

TASK = "classification"


def test_label_names_answers_as_the_baseline_of_that_name(tiny_bert: Path) -> None:
    at, method = trial(TASK, tiny_bert, pooling="mean"), make("methods", "label_names", {"scale": 7.0})
    model = method.apply(at.build(), seed=0)
    reader = Reader(model, at.task, "mean")
    rows, names = reader.read(at.features).hidden, reader.read(names_of(at)).hidden
    adapt(method, model, at)
    expected = label_names(names.numpy(), rows.numpy(), scale=7.0)
    np.testing.assert_allclose(softmax(at.logits(model)), expected, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_normalized_classifier_is_a_plain_sentence_transformers_model(
    pooling: str, tiny_bert: Path, tmp_path: Path
) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    at, method = trial(TASK, tiny_bert, pooling=pooling), make("methods", "label_names")
    model = method.apply(at.build(), seed=0)
    adapt(method, model, at)
    load.save(model, tmp_path, at.tokenizer)
    texts = ["good room", "房间很干净", "bad service, slow and dirty"]
    opened = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    assert [type(module).__name__ for module in opened] == ["Transformer", "Pooling", "Normalize", "Dense"]
    given = opened.encode(texts, convert_to_tensor=True, show_progress_bar=False)
    inputs = at.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.allclose(given, model(**inputs).logits, atol=1e-6)
        assert torch.allclose(given, load.open_saved(tmp_path)(**inputs).logits, atol=1e-6)


def test_label_names_wants_names_that_say_something(tiny_bert: Path) -> None:
    at, method = trial(TASK, tiny_bert, pooling="mean"), make("methods", "label_names")
    with pytest.raises(TrainingError, match="the names of the labels say nothing"):
        method.fill(at.build(), Known(torch.zeros(2, 32), torch.tensor([0, 1]), None))
    assert "set model.pooling to another way" in method.suits(trial(TASK, tiny_bert).build())
    assert "here a row has a number" in method.suits(trial("regression", tiny_bert, pooling="mean").build())


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_nearest_neighbors_votes_as_the_baseline_of_that_name(pooling: str, tiny_bert: Path) -> None:
    at, method = trial(TASK, tiny_bert, pooling=pooling), make("methods", "nearest_neighbors", {"k": 3})
    model = method.apply(at.build(), seed=0)
    adapt(method, model, at)
    rows = Reader(model, at.task, pooling).read(at.features).hidden.numpy()
    classes = len(at.task.labels)
    votes = nearest(rows, at.targets(), rows, classes=classes, k=3)
    # a row finds itself at no distance, and rounding decides how near no distance is
    np.testing.assert_allclose(np.exp(at.logits(model)), (3 * votes + 1 / classes) / 4, atol=1e-3)


def test_nearest_neighbors_gives_the_mean_of_numbers(tiny_bert: Path) -> None:
    at, method = trial("regression", tiny_bert, pooling="mean"), make("methods", "nearest_neighbors", {"k": 99})
    model = method.apply(at.build(), seed=0)
    adapt(method, model, at)
    said = at.logits(model)[:, 0]
    assert (np.abs(said - at.targets()) < np.abs(said.mean() - at.targets()) + 0.05).all()  # each is near itself
    assert said.min() >= at.targets().min() - 1e-5
    assert said.max() <= at.targets().max() + 1e-5


@pytest.mark.parametrize(
    ("method", "training"),
    [
        ({"name": "contrastive", "iterations": 2, "label_names": True, "C": [0.01, 1.0]}, {"learning_rate": 1e-3}),
        ({"name": "label_names"}, {}),
        ({"name": "nearest_neighbors"}, {}),
    ],
    ids=lambda value: value.get("name", ""),
)
def test_a_run_from_rows_to_a_bundle_that_proves_itself(
    method: dict[str, Any], training: dict[str, Any], tiny_bert: Path, tiny_bundle: Callable[..., Path]
) -> None:
    model = {"name": str(tiny_bert), "pooling": "mean"}
    bundle = weitiao.Bundle(tiny_bundle(method=method, training=training, model=model))
    assert bundle.verified is not None
    texts = ["the room is good", "the food is 太差", "房间很好"]
    alone, together = [bundle.predict(text) for text in texts], bundle.predict(texts)
    assert [one.label for one in alone] == [one.label for one in together]
    assert bundle.facts["part"] == ("adapter" if method["name"] == "nearest_neighbors" else "model")
    card = (bundle.folder / "README.md").read_text(encoding="utf-8")
    assert ("PEFT" in card) is False


def test_contrastive_tells_classes_apart_that_the_untuned_vectors_mix(tiny_bert: Path) -> None:
    at, method = trial(TASK, tiny_bert, pooling="mean"), make("methods", "contrastive", {"iterations": 20})
    model = method.apply(at.build(), seed=0)

    def gap() -> float:
        u = torch.nn.functional.normalize(Reader(model, at.task, "mean").read(at.features).hidden, dim=-1)
        same = torch.from_numpy(at.targets()[:, None] == at.targets())
        cosines = u @ u.T
        return float(cosines[same].mean() - cosines[~same].mean())

    before = gap()
    adapt(method, model, at)
    assert gap() > before + 0.3
    assert (at.logits(model).argmax(1) == at.targets()).all()


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        (
            {"training": {"patience": 1}},
            "training.patience has no effect with the method contrastive, which learns from",
        ),
        ({"training": {"sampling": "balanced"}}, "training.sampling has no effect"),
        ({"training": {"schedule": "reduce_on_plateau", "evaluate_steps": 1}}, "training.schedule"),
        ({"regularizers": ["r_drop"]}, "regularizers has no effect"),
        ({"model": {"dropout": 0.1}}, "model.dropout has no effect"),
        (
            {"method": {"name": "contrastive", "temperature": 0.3}},
            "temperature has no effect unless loss is supervised",
        ),
    ],
)
def test_what_would_have_no_effect_on_pairs_is_refused(sections: dict[str, Any], why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        Recipe(**{"data": "rows.csv", "method": "contrastive", **sections})


@pytest.mark.parametrize(
    ("settings", "classes", "learnt"),
    [({}, 2, True), ({"C": [0.1, 1.0]}, 2, False), ({}, 60, True), ({}, 20, False)],
)
def test_contrastive_learns_from_a_dev_too_small_to_calibrate_by(
    settings: dict[str, Any], classes: int, learnt: bool, tiny_bert: Path, tmp_path: Path
) -> None:
    rows = made.rows(48)
    if classes > 2:  # so that dev has more than 50 rows, of 60 classes one each
        told = [f"{one} {two} {three}" for one in WORDS[:10] for two in WORDS[20:30] for three in WORDS[40:46]]
        rows = [{"text": text, "label": f"class {i % classes}"} for i, text in enumerate(told[:540])]
    data = made.write_csv(tmp_path / "rows.csv", rows)
    bundle = weitiao.run(
        weitiao.Recipe(
            data=str(data),
            model={"name": str(tiny_bert), "pooling": "mean"},
            method={"name": "contrastive", "iterations": 1, **settings},
            training={"epochs": 1},
            evaluation={"resamples": 100},
        ),
        tmp_path / "run",
        show=False,
    )
    told = [finding.message for finding in bundle.report.findings if finding.check == "dev"]
    assert [f"dev has {bundle.facts['rows']['dev']} rows" in message for message in told] == [True] * learnt
    assert (bundle.calibration == {}) == learnt
    named = [finding for finding in bundle.report.findings if "not calibrated" in finding.message]
    assert bool(named) == learnt
