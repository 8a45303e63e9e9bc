"""The loss equals its formulas; labels, weights and pairs are what the training rows say."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import cross_entropy

from trial import adapt, make, trial
from weitiao.data.table import Table
from weitiao.errors import DataError, RecipeError
from weitiao.models.find import find
from weitiao.models.load import load_tokenizer
from weitiao.progress import Listeners
from weitiao.recipe import Recipe
from weitiao.run import Run
from weitiao.tasks.base import Features
from weitiao.tasks.classification import Classification

LABELS = ["差", "一般", "好"]
COUNTS = (6, 3, 1)


def rows(**more: Any) -> list[dict[str, Any]]:
    return [
        {"text": f"{label} {i}", "label": label} | more
        for label, n in zip(LABELS, COUNTS, strict=True)
        for i in range(n)
    ]


def learned(table_rows: list[dict[str, Any]] | None = None, **settings: Any) -> Classification:
    task = Classification(Classification.Settings(**settings))
    task.learn(Table.from_rows(table_rows or rows()))
    return task


def draw(classes: int = 3, n: int = 40, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(n, classes, generator=generator, dtype=dtype), torch.randint(
        classes, (n,), generator=generator
    )


def loss(task: Classification, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return task.loss(SimpleNamespace(logits=logits), {"labels": targets})


# --- the loss ---


@pytest.mark.parametrize("n", [1, 2, 40])
def test_cross_entropy_is_torchs_sum(n):
    logits, targets = draw(n=n)
    torch.testing.assert_close(loss(learned(), logits, targets), cross_entropy(logits, targets, reduction="sum"))


def test_cross_entropy_is_the_formula_of_its_source():
    """Bishop 4.108: minus the sum over rows and classes of t log y, with y the softmax (4.104)."""
    logits, targets = draw(n=5)
    by_hand = 0.0
    for z, y in zip(logits.tolist(), targets.tolist(), strict=True):
        by_hand -= math.log(math.exp(z[y]) / sum(math.exp(v) for v in z))
    assert loss(learned(), logits, targets).item() == pytest.approx(by_hand, rel=1e-12)


def test_weights_count_as_torch_counts_them():
    task = learned(class_weights="balanced")
    logits, targets = draw()
    # labels are sorted: 一般 (3 rows), 好 (1), 差 (6); n / (classes * n_c)
    weights = torch.tensor([10 / 9, 10 / 3, 10 / 18], dtype=logits.dtype)
    assert task.state["weights"] == pytest.approx(weights.tolist())
    torch.testing.assert_close(
        loss(task, logits, targets), cross_entropy(logits, targets, weight=weights, reduction="sum")
    )


def test_balanced_weights_give_every_class_the_same_total_and_rows_a_mean_of_one():
    task = learned(class_weights="balanced")
    totals = [w * COUNTS[LABELS.index(label)] for label, w in zip(task.labels, task.state["weights"], strict=True)]
    assert totals == pytest.approx([10 / 3] * 3)
    assert sum(totals) / 10 == pytest.approx(1)


def test_balanced_weights_do_not_count_rows_that_are_refused():
    """A row of a label that is not among those given is not trained on, so it has no part in the mean."""
    task = learned(labels=["差", "好"], class_weights="balanced")
    assert task.state["weights"] == pytest.approx([7 / (2 * 6), 7 / (2 * 1)])


def test_weights_by_name_and_one_for_the_rest():
    assert dict(zip(LABELS, [1.0, 1.0, 2.5], strict=True)) == dict(
        zip((task := learned(class_weights={"好": 2.5})).labels, task.state["weights"], strict=True)
    )


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("weights", ["none", {"好": 3.0}])
def test_focal_loss_is_the_formula_of_its_source(gamma, weights):
    """Lin et al., equation 5: -(1 - p)^gamma log p, times the weight of the class."""
    task = learned(loss="focal", gamma=gamma, class_weights=weights)
    logits, targets = draw()
    p = logits.softmax(-1)[torch.arange(len(targets)), targets]
    w = torch.tensor(task.state["weights"], dtype=p.dtype)[targets]
    torch.testing.assert_close(loss(task, logits, targets), -(w * (1 - p) ** gamma * p.log()).sum())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"class_weights": "balanced"},
        {"class_weights": {"好": 3.0, "差": 0.1}},
        {"loss": "focal"},
        {"loss": "focal", "gamma": 0.5},
        {"loss": "focal", "gamma": 5.0, "class_weights": "balanced"},
        {"logit_adjustment": 1.0},
        {"logit_adjustment": 0.5, "loss": "focal"},
    ],
)
def test_gradient_is_checked_numerically(settings):
    task = learned(**settings)
    logits, targets = draw(n=6)
    assert torch.autograd.gradcheck(lambda z: loss(task, z, targets), logits.requires_grad_(True))


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_logit_adjustment_is_the_formula_of_its_source(tau):
    """Menon et al., equation 10: log(1 + sum over y' of (pi_y' / pi_y)^tau * exp(z_y' - z_y))."""
    task = learned(logit_adjustment=tau)
    pi = [COUNTS[LABELS.index(label)] / 10 for label in task.labels]
    logits, targets = draw(n=5)
    by_hand = 0.0
    for z, y in zip(logits.tolist(), targets.tolist(), strict=True):
        by_hand += math.log1p(sum((pi[k] / pi[y]) ** tau * math.exp(z[k] - z[y]) for k in range(3) if k != y))
    assert loss(task, logits, targets).item() == pytest.approx(by_hand, rel=1e-12)


def test_logit_adjustment_in_the_focal_loss_adjusts_its_p_too():
    task = learned(logit_adjustment=1.0, loss="focal", gamma=2.0)
    logits, targets = draw()
    adjusted = logits + torch.tensor(task.state["log_shares"], dtype=logits.dtype)
    torch.testing.assert_close(loss(task, logits, targets), loss(learned(loss="focal", gamma=2.0), adjusted, targets))


def test_logit_adjustment_predicts_from_plain_logits():
    logits = draw()[0].numpy()
    assert learned(logit_adjustment=1.0).decode(logits, [], {}) == learned().decode(logits, [], {})


def test_logit_adjustment_bears_a_class_without_training_rows():
    task = learned(logit_adjustment=1.0, labels=[*LABELS, "没有"])
    assert task.state["log_shares"] == pytest.approx(np.log(np.array([6, 3, 1, 1]) / 11))
    assert loss(task, *draw(classes=4)).isfinite()


def test_logit_adjustment_of_equal_classes_changes_nothing():
    even = [{"text": label, "label": label} for label in LABELS]
    logits, targets = draw()
    torch.testing.assert_close(
        loss(learned(even, logit_adjustment=3.0), logits, targets), loss(learned(even), logits, targets)
    )


def test_logit_adjustment_reaches_what_is_solved_for_too(tiny_bert: Path):
    """At the optimum the mean prediction is the share of a class; adjusted, the rarer class gets more than that."""

    def solved(**settings: Any) -> torch.Tensor:
        at = trial("classification", tiny_bert, settings)
        method, model = make("methods", "head", {"C": [1.0]}), at.build()
        model = method.apply(model, seed=0)
        adapt(method, model, at)
        return torch.from_numpy(at.logits(model)).softmax(-1).mean(0)

    plain, adjusted = solved(), solved(logit_adjustment=1.0)
    assert plain[0].item() == pytest.approx(5 / 9, abs=1e-3)  # negative: five rows of nine
    assert 0.45 < adjusted[0].item() < plain[0].item() - 0.02


def test_gradient_of_cross_entropy_is_softmax_minus_target():
    logits, targets = draw()
    loss(learned(), logits.requires_grad_(True), targets).backward()
    one_hot = torch.nn.functional.one_hot(targets, 3)
    torch.testing.assert_close(logits.grad, logits.detach().softmax(-1) - one_hot)


@pytest.mark.parametrize(
    "settings", [{}, {"loss": "focal", "gamma": 0.01}, {"loss": "focal", "gamma": 0.5}, {"loss": "focal"}]
)
@pytest.mark.parametrize("size", [20.0, 200.0, 1e4])
def test_extreme_logits_have_finite_loss_and_gradient(settings, size):
    logits = torch.tensor([[size, -size, 0.0], [-size, size, 0.0]], requires_grad=True)
    value = loss(learned(**settings), logits, torch.tensor([0, 0]))
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()
    assert value.item() == pytest.approx(2 * size, rel=1e-3)  # the first row is learnt, the second as wrong as can be


# --- labels ---


def test_labels_are_those_of_the_training_rows_sorted():
    assert learned().labels == sorted(LABELS)


def test_labels_keep_the_order_given():
    assert learned(labels=LABELS).labels == LABELS


def test_one_class_is_refused_with_its_name():
    with pytest.raises(DataError, match=r"all 2 training rows have the label '好'.*at least two classes"):
        learned([{"text": "a", "label": "好"}] * 2)


def test_unknown_label_is_named_with_the_nearest():
    task = learned([{"text": "a", "label": "positive"}, {"text": "b", "label": "negative"}])
    table = Table.from_rows([{"text": "c", "label": x} for x in ("postive", "negative", "好")])
    words = "a label that is not among the task's"
    assert task.accepts(table) == {0: f"{words}: 'postive'. Did you mean 'positive'?", 2: f"{words}: '好'."}


def test_before_anything_is_learnt_only_labels_that_are_given_refuse_rows():
    table = Table.from_rows(rows())
    assert Classification(Classification.Settings()).accepts(table) == {}
    refused = Classification(Classification.Settings(labels=["差", "一般"])).accepts(table)
    assert refused == {9: "a label that is not among the task's: '好'."}


def test_weight_of_an_unknown_label_is_refused():
    with pytest.raises(
        RecipeError, match=r"task.class_weights: there is no label 'positiv'. Did you mean 'positive'\?"
    ):
        learned(
            [{"text": "a", "label": "positive"}, {"text": "b", "label": "negative"}], class_weights={"positiv": 2.0}
        )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gamma": 1.0}, "gamma has no effect unless loss is focal"),
        ({"loss": "focal", "gamma": 0.0}, "greater than 0"),
        ({"class_weights": {"a": -1.0}}, "greater than 0"),
        ({"class_weights": {"a": float("nan")}}, "greater than 0|finite"),
        ({"class_weights": {}}, "at least 1"),
        ({"logit_adjustment": 0.0}, "greater than 0"),
        ({"logit_adjustment": float("inf")}, "finite"),
        ({"logit_adjustment": 1.0, "class_weights": "balanced"}, "both make up for rare classes"),
        ({"labels": ["a"]}, "two or more"),
        ({"labels": ["a", "b", "a"]}, "each named once"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(ValidationError, match=words):
        Classification.Settings(**settings)


def test_only_the_training_rows_are_learnt_from(tmp_path: Path):
    """Through the run itself: a label that only dev or test has is not learnt, and its rows are set aside."""
    data = tmp_path / "data.csv"
    parts = [("train", "a"), ("train", "b"), ("dev", "a"), ("dev", "only dev"), ("test", "b"), ("test", "only test")]
    body = [f"text {i} of {part},{label},{part}" for part, label in parts for i in range(4)]
    data.write_text("text,label,split\n" + "\n".join(body), encoding="utf-8")
    run = Run(Recipe(data={"train": str(data), "split_column": "split"}), tmp_path / "run", show=False)
    run.folder.mkdir()
    seen = []
    learn = run.task.learn
    run.task.learn = lambda table: (seen.append(table), learn(table))
    with Listeners(run.folder, show=False) as run.tell:
        prepared = run.read()
    assert [set(table.column("split")) for table in seen] == [{"train"}]
    assert run.task.labels == ["a", "b"]
    assert len(prepared.splits.dev) == len(prepared.splits.test) == 4
    assert sum(prepared.reasons.values()) == 8


# --- rows ---


def test_pairs_are_encoded_as_pairs(tiny_bert: Path):
    tokenizer = load_tokenizer(find(str(tiny_bert)))
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]  # as BERT's own says
    single = learned()
    pair = learned(rows(text_pair="the room"))
    assert (single.state["pair"], pair.state["pair"]) == (False, True)
    row = {"text": "房间很干净", "text_pair": "the room"}
    (one,), (two,) = (task.encode([row], tokenizer, 64) for task in (single, pair))
    assert two["input_ids"] == tokenizer("房间很干净", "the room")["input_ids"]
    assert set(two["token_type_ids"]) == {0, 1}
    assert one["input_ids"] == tokenizer("房间很干净")["input_ids"]
    with pytest.raises(DataError, match="row 1: text_pair is empty or missing"):
        pair.encode([{"text": "房间很干净"}], tokenizer, 64)


def test_a_pair_that_is_too_long_keeps_both_texts(tiny_bert: Path):
    tokenizer, task = load_tokenizer(find(str(tiny_bert))), learned(rows(text_pair="x"))
    (row,) = task.encode([{"text": "good " * 30, "text_pair": "bad " * 30}], tokenizer, 16)
    assert (len(row["input_ids"]), row["tokens_lost"]) == (16, 63 - 16)
    assert {"good", "bad"} <= set(tokenizer.convert_ids_to_tokens(row["input_ids"]))


def test_a_text_that_is_too_long_loses_its_end(tiny_bert: Path):
    tokenizer, task = load_tokenizer(find(str(tiny_bert))), learned()
    (row,) = task.encode([{"text": "很" * 20 + "差"}], tokenizer, 12)
    assert tokenizer.convert_ids_to_tokens(row["input_ids"]) == ["[CLS]", *"很" * 10, "[SEP]"]
    assert row["tokens_lost"] == 11


@pytest.mark.parametrize("pair", [False, True])
def test_lost_tokens_are_counted_of_short_and_long_rows_alike(tiny_bert: Path, pair: bool):
    """Around the length where it begins: the rows that are tokenized a second time are those that may be cut."""
    tokenizer, most = load_tokenizer(find(str(tiny_bert))), 12
    task = learned(rows(text_pair="x")) if pair else learned()
    own = 3 if pair else 2  # [CLS], and a [SEP] after each text
    sizes = [3, 30, 12 - own, 13 - own, 11 - own, 14 - own, 4, 100]
    texts = [{"text": "很" * (n - pair)} | ({"text_pair": "好"} if pair else {}) for n in sizes]
    encoded = task.encode(texts, tokenizer, most)
    assert [row["tokens_lost"] for row in encoded] == [max(0, n + own - most) for n in sizes]
    assert [len(row["input_ids"]) for row in encoded] == [min(most, n + own) for n in sizes]


def test_padding_changes_no_output(tiny_bert: Path):
    task = learned()
    pretrained = find(str(tiny_bert))
    tokenizer = load_tokenizer(pretrained)
    table = Table.from_rows([{"text": "很好", "label": "好"}, {"text": "very " * 20, "label": "差"}])
    features = Features.encode(task, table, tokenizer, 64)
    model = task.build(pretrained, pooling="cls", dropout=None, seed=0)
    with torch.no_grad():
        together = model(**task.model_inputs(features.batch([0, 1]))).logits[0]
        alone = model(**task.model_inputs(features.batch([0]))).logits[0]
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


def test_its_classes_are_the_labels(tiny_bert: Path):
    task, tokenizer = learned(), load_tokenizer(find(str(tiny_bert)))
    classes = task.classes(task.encode(rows(), tokenizer, 16))
    assert classes is not None
    assert [task.labels[i] for i in classes] == [row["label"] for row in rows()]


def test_a_task_says_why_its_texts_may_not_be_written_again():
    class Spans(Classification):
        augments = False

    assert Classification().why_not_augment() is None
    assert "places in the text" in str(Spans().why_not_augment())


def test_label_names_speak_unless_they_are_numbers():
    words = learned([{"text": "a", "label": "card_arrival"}, {"text": "b", "label": "lost card"}]).label_rows()
    assert [row["text"] for row in words] == ["card arrival", "lost card"]
    assert learned([{"text": "a", "label": "0"}, {"text": "b", "label": "1"}]).label_rows() is None
    assert learned(rows(text_pair="x")).label_rows() is None


def test_decode_gives_every_label_its_probability():
    (said,) = learned().decode(np.log(np.array([[0.2, 0.7, 0.1]])), [], {})
    assert said.label == sorted(LABELS)[1]
    assert dict(said.probabilities) == pytest.approx(dict(zip(sorted(LABELS), [0.2, 0.7, 0.1], strict=True)))
    assert said.confidence == pytest.approx(0.7)
