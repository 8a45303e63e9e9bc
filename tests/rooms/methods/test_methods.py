"""What is special to one method; what holds for all is in the contracts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from trial import adapt, make, train, trial
from weitiao.errors import ModelError
from weitiao.methods.base import parameter_counts
from weitiao.training.convex import solve
from weitiao.training.prefix import Reader

Make = Callable[[str], Path]
TASK = "classification"


def names(model) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


# --- full ---


def test_full_trains_all(tiny_bert):
    trainable, total = parameter_counts(make("methods", "full").apply(trial(TASK, tiny_bert).build(), seed=0))
    assert trainable == total


# --- top_layers ---


@pytest.mark.parametrize("k", [1, 2])
def test_top_layers_trains_the_last_k_the_pooler_and_the_head(k, tiny_bert):
    model = make("methods", "top_layers", {"k": k}).apply(trial(TASK, tiny_bert).build(), seed=0)
    trained = names(model)
    numbers = {name.split("layer.")[1][0] for name in trained if "encoder.layer." in name}
    assert numbers == {str(i) for i in range(2 - k, 2)}
    assert {"classifier.weight", "bert.pooler.dense.weight"} <= trained
    assert not any("embeddings" in name for name in trained)


@pytest.mark.parametrize(("family", "norm"), [("llama", "model.norm.weight"), ("gpt2", "transformer.ln_f.weight")])
def test_top_layers_trains_the_final_norm(family, norm, tiny_model: Make):
    model = make("methods", "top_layers").apply(trial(TASK, tiny_model(family)).build(), seed=0)
    assert norm in names(model)


def test_top_layers_refuses_more_layers_than_there_are(tiny_bert):
    reason = make("methods", "top_layers", {"k": 3}).suits(trial(TASK, tiny_bert).build())
    assert reason == "k is 3, but the model has 2 layers"


@pytest.mark.parametrize("k", [0, -1])
def test_top_layers_refuses_none(k):
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        make("methods", "top_layers", {"k": k})


# --- head ---


def test_head_reaches_the_optimum_of_logistic_regression(tiny_bert):
    from sklearn.linear_model import LogisticRegression

    at = trial(TASK, tiny_bert, pooling="mean")
    method = make("methods", "head", {"C": [10.0]})
    model = method.apply(at.build(), seed=0)
    features = Reader(model, at.task, "mean").read(at.features).hidden.double().numpy()
    features = (features - features.mean(0)) / features.std(0, ddof=1)
    adapt(method, model, at)
    ours = torch.tensor(at.logits(model)).softmax(-1).numpy()
    # with two classes scikit-learn has one vector w, and we v and -v with w = 2v, which cost half of w: hence 2 C
    theirs = LogisticRegression(C=20.0, tol=1e-10, max_iter=10_000).fit(features, at.targets())
    np.testing.assert_allclose(ours, theirs.predict_proba(features), atol=1e-4)


@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_head_is_not_moved_by_a_feature_that_never_changes(noise, tiny_bert):
    """Noise of float32 is no change either; scaled up to a spread of one it would decide the rest."""
    at, solved = trial(TASK, tiny_bert, pooling="mean"), []
    states = Reader(at.build(), at.task, "mean").read(at.features)
    for value in (0.0, 0.01):
        model = make("methods", "head", {"C": [1.0]}).apply(at.build(), seed=0)
        hidden = states.hidden.clone()
        hidden[:, 3] = value + (noise * torch.linspace(-1, 1, len(hidden)) if value else 0.0)
        both = (at.features, replace(states, hidden=hidden))
        measure = {"measure": lambda logits: (solved.append(logits), {"accuracy": 1.0})[1]}
        (entry,) = solve(model, at.task, {"train": both, "dev": both}, strengths=[1.0], **measure)
        assert entry["converged"]
        assert all(p.isfinite().all() for p in model.parameters())
    without, there = solved
    np.testing.assert_allclose(there, without, atol=2e-3)


def test_head_does_not_depend_on_the_seed(tiny_bert):
    said = []
    for seed in (0, 1):
        at, method = trial(TASK, tiny_bert, pooling="mean"), make("methods", "head", {"C": [1.0]})
        model = method.apply(at.build(seed), seed=seed)
        adapt(method, model, at)
        said.append(at.logits(model))
    np.testing.assert_allclose(*said, atol=1e-3)


@pytest.mark.parametrize(("family", "way"), [("roberta", "mean"), ("distilbert", "mean"), ("modernbert", "last")])
def test_head_refuses_a_head_that_is_not_linear(family, way, tiny_model: Make):
    at = trial(TASK, tiny_model(family))
    reason = make("methods", "head").suits(at.build())
    assert "has 2 new layers (" in reason
    assert reason.endswith(
        f"so the problem is not convex; set model.pooling to {way}, which puts one linear layer on the backbone"
    )
    at.pooling = way
    assert make("methods", "head").suits(at.build()) is None


def test_head_leaves_a_dense_layer_of_the_checkpoint_as_it_is(tiny_model: Make):
    """ModernBERT's own comes from pretraining; only what follows it is solved for."""
    at, method = trial(TASK, tiny_model("modernbert")), make("methods", "head", {"C": [10.0]})
    model = at.build()
    model.new_parameters = frozenset({"classifier.weight", "classifier.bias"})
    assert method.suits(model) is None
    assert names(method.apply(model, seed=0)) == {"classifier.weight", "classifier.bias"}
    before = at.logits(model)
    adapt(method, model, at)
    assert np.abs(at.logits(model) - before).max() > 1e-2


def test_head_weighs_features_as_the_classifier_reads_them(tiny_model: Make):
    """ModernBERT's dense layer stands between the backbone's states and the classifier, and is as wide as they are."""
    from sklearn.linear_model import LogisticRegression

    at, method = trial(TASK, tiny_model("modernbert")), make("methods", "head", {"C": [0.1]})
    model = at.build()
    model.new_parameters = frozenset({"classifier.weight", "classifier.bias"})
    model = method.apply(model, seed=0).eval()
    with torch.no_grad():
        features = model.head(Reader(model, at.task, at.pooling).read(at.features).hidden).double().numpy()
    features = (features - features.mean(0)) / features.std(0, ddof=1)
    adapt(method, model, at)
    ours = torch.tensor(at.logits(model)).softmax(-1).numpy()
    theirs = LogisticRegression(C=0.2, tol=1e-10, max_iter=10_000).fit(features, at.targets())  # 2 C, as above
    np.testing.assert_allclose(ours, theirs.predict_proba(features), atol=1e-3)


def test_head_refuses_a_backbone_with_weights_nobody_trained(tiny_bert):
    at = trial(TASK, tiny_bert, pooling="cls")
    model = at.build()
    model.new_parameters = frozenset({*model.new_parameters, "bert.pooler.dense.weight"})
    assert make("methods", "head").suits(model) == (
        "the checkpoint has no weights for bert.pooler.dense.weight, so the frozen backbone would give random "
        "features; set model.pooling to mean"
    )


@pytest.mark.parametrize("strengths", [[], [0.0], [-1.0, 1.0]])
def test_head_refuses_strengths_that_are_none(strengths):
    with pytest.raises(ValidationError):
        make("methods", "head", {"C": strengths})


# --- lora ---


def test_lora_trains_low_rank_updates_of_query_and_value_and_the_head(tiny_bert):
    model = make("methods", "lora", {"rank": 4}).apply(trial(TASK, tiny_bert, pooling="mean").build(), seed=0)
    trained = names(model)
    updates = {name for name in trained if "lora_" in name}
    assert len(updates) == 2 * 2 * 2  # layers, query and value, A and B
    assert all(".query." in name or ".value." in name for name in updates)
    assert len(trained - updates) == 2
    assert all(".classifier." in name for name in trained - updates)
    assert parameter_counts(model)[0] == 2 * 2 * (4 * 32 + 32 * 4) + 32 * 2 + 2


def test_lora_update_is_alpha_over_rank_times_b_a(tiny_bert):
    at = trial(TASK, tiny_bert, pooling="mean")
    method = make("methods", "lora", {"rank": 4, "alpha": 6.0})
    before = dict(at.build().named_parameters())
    model = method.apply(at.build(), seed=0)
    train(model, at)
    after = dict(method.whole(model).named_parameters())
    layer = dict(model.named_modules())["base_model.model.encoder.encoder.layer.1.attention.self.query"]
    name = "encoder.encoder.layer.1.attention.self.query.weight"
    update = 6.0 / 4 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    torch.testing.assert_close(after[name] - before[name], update, rtol=1e-4, atol=1e-6)
    key = name.replace("query", "key")
    assert torch.equal(after[key], before[key])


def test_lora_refuses_names_that_match_nothing(tiny_bert):
    method = make("methods", "lora", {"target_modules": ["q_lin"]})
    with pytest.raises(ModelError, match=r"LoRA fits no layer of BertModel.*q_lin.*Dense layers here: .*query"):
        method.apply(trial(TASK, tiny_bert).build(), seed=0)


def test_lora_takes_names_of_layers(tiny_bert):
    method = make("methods", "lora", {"target_modules": ["key"]})
    trained = names(method.apply(trial(TASK, tiny_bert).build(), seed=0))
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in trained if "lora_" in name} == {"key"}


def test_lora_keeps_what_the_checkpoint_lacked(tmp_path):
    """A pooler that no checkpoint gave is random; it trains with the head, and is saved with it."""
    import tiny

    folder = tiny.make("bert", tmp_path / "model")
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "pooler" not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    at, method = trial(TASK, folder, pooling="cls"), make("methods", "lora")
    model = method.apply(at.build(seed=0), seed=0)
    assert any("pooler" in name for name in names(model))
    train(model, at)
    method.save(model, tmp_path / "adapter")
    opened = method.open(at.build(seed=1), tmp_path / "adapter")
    np.testing.assert_allclose(at.logits(opened), at.logits(model), atol=1e-6)
