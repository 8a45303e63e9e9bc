"""What every metric must do; a new file in the folder is tested the moment it exists."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest

from weitiao import plugins
from weitiao.evaluation.metrics.base import Metric, Needs

every_metric = pytest.mark.parametrize("name", plugins.names("metrics"))
Pair = tuple[np.ndarray, np.ndarray]  # targets and predictions
CLASSES = 5


def make(name: str) -> Metric:
    return plugins.find("metrics", name)()


def objects(items: list[Any]) -> np.ndarray:
    """One object a row; numpy alone would make a matrix of equally long tuples."""
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    return array


def sets(rows: Any) -> np.ndarray:
    return objects([frozenset(tuple(span) for span in row) for row in rows])


def tuples(rows: Any) -> np.ndarray:
    return objects([tuple(row) for row in rows])


def floats(rows: Any) -> np.ndarray:
    return np.array(rows, dtype=np.float64)


def booleans(rows: Any) -> np.ndarray:
    return np.array(rows, dtype=bool)


# How plain lists, as in `tiny`, become the arrays of each form: targets, predictions.
AS_ARRAYS: dict[str, tuple[Callable[[Any], np.ndarray], Callable[[Any], np.ndarray]]] = {
    "labels": (np.array, np.array),
    "names": (objects, objects),
    "probabilities": (np.array, np.array),
    "named_probabilities": (objects, objects),
    "label_sets": (booleans, booleans),
    "values": (floats, floats),
    "entities": (sets, sets),
    "texts": (tuples, objects),
    "likelihood": (np.array, floats),
    "ranks": (tuples, tuples),
}

ENGLISH = ["The", "cat", "sat", "naïve", "3.5", "don't", "a,", "&quot;", "mat.", "Größe", "BERT", "-", "x_1"]
CHINESE = ["猫", "今天", "，", "3.5", "。", "学习", "BERT", "模型", "的", "《", "中 国", "很好"]


def sentence(generator: np.random.Generator, vocabulary: list[str], gap: str) -> str:
    return gap.join(generator.choice(vocabulary, generator.integers(0, 12)))


def draw_classes(generator: np.random.Generator, rows: int) -> Pair:
    """The last class occurs on neither side."""
    targets = generator.integers(0, CLASSES - 1, rows)
    logits = generator.normal(size=(rows, CLASSES))
    logits[np.arange(rows), targets] += 1
    logits[:, -1] = -9
    return targets, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def draw_labels(generator: np.random.Generator, rows: int) -> Pair:
    targets, probabilities = draw_classes(generator, rows)
    return targets, probabilities.argmax(axis=1)


RELATIONS = ["Cause-Effect(e1,e2)", "Cause-Effect(e2,e1)", "Other", "属于(e1,e2)", "属于(e2,e1)"]


def draw_names(generator: np.random.Generator, rows: int) -> Pair:
    """Names of relations with their directions, as a data set for relation extraction has them."""
    targets, predictions = draw_labels(generator, rows)
    return objects([RELATIONS[i] for i in targets]), objects([RELATIONS[i] for i in predictions])


def draw_named_probabilities(generator: np.random.Generator, rows: int) -> Pair:
    """Names of relations, and rounded probabilities, so that there are ties."""
    targets, predictions = draw_classes(generator, rows)
    named = [dict(zip(RELATIONS, row, strict=True)) for row in predictions.round(1).tolist()]
    return objects([RELATIONS[i] for i in targets]), objects(named)


def draw_label_sets(generator: np.random.Generator, rows: int) -> Pair:
    """Rows without a label on one or both sides, and a label that never occurs."""
    targets = generator.random((rows, CLASSES)) < 0.3
    targets[:, -1] = False
    return targets, targets ^ (generator.random((rows, CLASSES)) < [0.2, 0.2, 0.2, 0.2, 0])


def draw_values(generator: np.random.Generator, rows: int) -> Pair:
    """Rounded, so that there are ties."""
    targets = generator.normal(size=rows).round(1)
    return targets, (targets + generator.normal(size=rows)).round(1)


def draw_entities(generator: np.random.Generator, rows: int) -> Pair:
    """Spans that are right, of another type, of another length, missing or made up."""

    def spans(most: int) -> set[tuple[int, int, str]]:
        starts = 10 * generator.permutation(6)[: generator.integers(0, most + 1)]
        return {(int(s), int(s + generator.integers(1, 3)), str(generator.choice(["PER", "地点"]))) for s in starts}

    targets = [spans(3) for _ in range(rows)]
    predictions = [{one for one in row if generator.random() < 0.7} | spans(1) for row in targets]
    return objects([frozenset(row) for row in targets]), objects([frozenset(row) for row in predictions])


def draw_texts(generator: np.random.Generator, rows: int) -> Pair:
    """English or Chinese, up to three references or none, and empty texts; rows repeat."""
    vocabulary, gap = [(ENGLISH, " "), (CHINESE, "")][int(generator.integers(2))]
    targets, predictions = [], []
    for _ in range(rows):
        references = tuple(sentence(generator, vocabulary, gap) for _ in range(generator.integers(0, 4)))
        near = references[-1][int(generator.integers(3)) :] if references else ""
        targets.append(references)
        predictions.append(near if generator.random() < 0.6 else sentence(generator, vocabulary, gap))
    return objects(targets), objects(predictions)


def draw_likelihood(generator: np.random.Generator, rows: int) -> Pair:
    tokens = generator.integers(1, 30, rows)
    return np.zeros(rows), np.stack([-tokens * generator.exponential(size=rows), tokens], axis=1)


def draw_ranks(generator: np.random.Generator, rows: int) -> Pair:
    """One candidate or more, graded, sometimes none relevant."""
    lists = [tuple(generator.integers(0, 3, generator.integers(1, 9)).tolist()) for _ in range(rows)]
    return objects(lists), objects(lists)


DRAWS: dict[str, Callable[[np.random.Generator, int], Pair]] = {
    "labels": draw_labels,
    "names": draw_names,
    "named_probabilities": draw_named_probabilities,
    "probabilities": draw_classes,
    "label_sets": draw_label_sets,
    "values": draw_values,
    "entities": draw_entities,
    "texts": draw_texts,
    "likelihood": draw_likelihood,
    "ranks": draw_ranks,
}


def draw(metric: Metric, *, rows: int = 400, seed: int = 0) -> Pair:
    return DRAWS[metric.needs](np.random.default_rng(seed), rows)


TRUE = np.array([0, 1, 1, 0, 1])
# Targets, the best predictions there are, and the worst.
ENDS: dict[str, tuple[Any, Any, Any]] = {
    "labels": (TRUE, TRUE, 1 - TRUE),
    "names": (["A(e1,e2)", "B(e1,e2)"], ["A(e1,e2)", "B(e1,e2)"], ["B(e1,e2)", "A(e1,e2)"]),
    "probabilities": (TRUE, np.eye(2)[TRUE], np.eye(2)[1 - TRUE]),
    "named_probabilities": (["a", "a"], [{"a": 0.9}, {"a": 0.8}], [{"b": 0.9}, {"b": 0.8}]),
    "label_sets": (np.eye(2)[TRUE], np.eye(2)[TRUE], np.eye(2)[1 - TRUE]),
    "values": ([-2, -1, 0, 1, 2], [-2, -1, 0, 1, 2], [2, 1, 0, -1, -2]),
    "entities": ([[(0, 1, "A")], [(2, 4, "B")]], [[(0, 1, "A")], [(2, 4, "B")]], [[(0, 1, "B")], [(2, 3, "B")]]),
    "texts": ([["q r s t u v"], ["k l m n o p"]], ["q r s t u v", "k l m n o p"], ["", ""]),
    "likelihood": ([0, 0], [[0, 4], [0, 2]], [[-np.inf, 4], [-3, 2]]),
    "ranks": (
        [(1, 0, 0), (1, 0)],
        [(1, 0, 0), (1, 0)],
        [(0, 0, 0), (0, 0)],
    ),  # one relevant, so that recall at 1 can be 1
}


def test_every_form_is_drawn() -> None:
    assert set(DRAWS) == set(AS_ARRAYS) == set(ENDS) == set(get_args(Needs))


@every_metric
def test_says_where_it_comes_from(name: str) -> None:
    module = inspect.getmodule(plugins.find("metrics", name))
    assert module is not None
    assert "Source:" in (module.__doc__ or "")
    assert plugins.summary("metrics", name)


@every_metric
def test_gives_the_known_values_of_its_tiny_cases(name: str) -> None:
    metric = make(name)
    cases = metric.tiny()
    assert cases
    as_targets, as_predictions = AS_ARRAYS[metric.needs]
    for case in cases:
        value = metric(as_targets(case["targets"]), as_predictions(case["predictions"]), classes=case["classes"])
        assert isinstance(value, float)
        assert value == pytest.approx(case["value"], abs=1e-12)


@every_metric
def test_perfect_and_worst_answers_are_the_ends_of_its_range(name: str) -> None:
    metric = make(name)
    as_targets, as_predictions = AS_ARRAYS[metric.needs]
    targets, *ends = ENDS[metric.needs]
    values = [metric(as_targets(targets), as_predictions(end), classes=2) for end in ends]
    best, worst = metric.range[::-1] if metric.higher_is_better else metric.range
    assert values[0] == pytest.approx(best, abs=1e-9)
    if np.isfinite(worst) or metric.needs == "likelihood":
        assert values[1] == pytest.approx(worst, abs=1e-9)
    else:  # no number is the worst
        assert (values[0] > values[1]) == metric.higher_is_better


@every_metric
def test_stays_in_its_range(name: str) -> None:
    metric = make(name)
    for seed in range(20):
        targets, predictions = draw(metric, rows=7, seed=seed)
        assert metric.range[0] <= metric(targets, predictions, classes=CLASSES) <= metric.range[1]


@every_metric
def test_the_order_of_rows_changes_nothing(name: str) -> None:
    metric = make(name)
    targets, predictions = draw(metric)
    order = np.random.default_rng(1).permutation(len(targets))
    value = metric(targets[order], predictions[order], classes=CLASSES)
    assert value == pytest.approx(metric(targets, predictions, classes=CLASSES), abs=1e-12)


@every_metric
@pytest.mark.parametrize("rows", [4, 9, 200])
def test_equals_its_reference(name: str, rows: int) -> None:
    metric, reference = make(name), make(name).reference()
    if reference is None:
        pytest.skip("has no independent implementation")
    for seed in range(4):
        targets, predictions = draw(metric, rows=rows, seed=seed)
        assert metric(targets, predictions, classes=CLASSES) == pytest.approx(
            reference(targets, predictions, CLASSES), abs=1e-9
        )


@every_metric
@pytest.mark.parametrize("seed", range(3))
def test_many_resamples_at_once_equal_one_by_one(name: str, seed: int) -> None:
    metric = make(name)
    targets, predictions = draw(metric, rows=40, seed=seed)
    weights = np.random.default_rng(2).multinomial(40, np.full(40, 1 / 40), size=25).astype(np.float64)
    together = metric.weighted(targets, predictions, weights, classes=CLASSES)
    one_by_one = Metric.weighted(metric, targets, predictions, weights, classes=CLASSES)
    assert together.shape == (25,)
    np.testing.assert_allclose(together, one_by_one, atol=1e-12)
