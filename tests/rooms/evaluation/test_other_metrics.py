"""Metrics of spans, relations, label sets, numbers and rankings equal their references on wild and on real input."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weitiao import plugins
from weitiao.evaluation.metrics.base import Metric
from weitiao.evaluation.panels import TablePanel

Span = tuple[int, int, str]


def make(name: str) -> Metric:
    return plugins.find("metrics", name)()


def objects(items: list) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    return array


def of(name: str, targets: np.ndarray, predictions: np.ndarray) -> float:
    return make(name)(targets, predictions, classes=0)


def resampled(name: str, targets: np.ndarray, predictions: np.ndarray, n: int = 10) -> None:
    """Values of resamples all at once equal those of the repeated rows."""
    weights = np.random.default_rng(0).multinomial(len(targets), np.full(len(targets), 1 / len(targets)), size=n)
    rows = [np.repeat(np.arange(len(targets)), w) for w in weights]
    one_by_one = [of(name, targets[i], predictions[i]) for i in rows]
    together = make(name).weighted(targets, predictions, weights.astype(float), classes=0)
    np.testing.assert_allclose(together, one_by_one, atol=1e-9)


# --- entities ---

NER = {"wnut17": "ner/wnut17/emerging.test.annotated", "weibo": "ner/weibo_ner/weiboNER_2nd_conll.test"}


def tagged(path: Path) -> list[list[str]]:
    """The tags of every sentence of a CoNLL file."""
    blocks = re.split(r"\n\s*\n", path.read_text(encoding="utf-8").strip())
    return [[line.split("\t")[1] for line in block.splitlines()] for block in blocks]


def spans(tags: list[str]) -> frozenset[Span]:
    """What IOB2 tags stand for, in positions of tags; an I that continues nothing is left out."""
    found: list[list] = []
    for i, tag in enumerate(tags):
        if tag.startswith("B-"):
            found.append([i, i + 1, tag[2:]])
        elif tag.startswith("I-") and found and found[-1][1:] == [i, tag[2:]]:
            found[-1][1] = i + 1
    return frozenset((start, end, kind) for start, end, kind in found)


def written(entities: Iterable[Span], length: int) -> list[str]:
    """IOB2 tags of entities, without those that would overlap an earlier one."""
    tags = ["O"] * length
    for start, end, kind in entities:
        if start < end <= length and all(tag == "O" for tag in tags[start:end]):
            tags[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return tags


def perturbed(gold: frozenset[Span], length: int, kinds: list[str], generator: np.random.Generator) -> list[str]:
    """IOB2 tags of entities some of which are lost, moved, cut, of another type, or invented."""
    wanted = []
    for start, end, kind in sorted(gold):
        fate = generator.integers(6)
        if fate == 0:
            continue
        start += int(fate == 1)
        end += int(fate == 2)
        wanted.append((start, end, str(generator.choice(kinds)) if fate == 3 else kind))
    if generator.random() < 0.3:
        at = int(generator.integers(length))
        wanted.append((at, at + 2, str(generator.choice(kinds))))
    return written(wanted, length)


@pytest.fixture(scope="module", params=NER)
def real_entities(request: pytest.FixtureRequest, real_data: Path) -> tuple[list[list[str]], list[list[str]]]:
    """True tags of real sentences, and wrong ones as a model would give."""
    # written anew: four entities of the Weibo file begin with I, which seqeval's modes read differently
    gold = [written(spans(tags), len(tags)) for tags in tagged(real_data / NER[request.param])]
    kinds = sorted({kind for tags in gold for _, _, kind in spans(tags)})
    generator = np.random.default_rng(0)
    return gold, [perturbed(spans(tags), len(tags), kinds, generator) for tags in gold]


@pytest.mark.parametrize("mode", ["default", "strict"])
def test_entities_are_scored_as_seqeval_scores_them(real_entities, mode: str) -> None:
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.scheme import IOB2

    settings = {"mode": "strict", "scheme": IOB2} if mode == "strict" else {}
    gold, said = real_entities
    true, found = (objects([spans(tags) for tags in side]) for side in (gold, said))
    for name, score in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
        value = of(f"entity_{name}", true, found)
        assert 0.2 < value < 0.9
        assert value == pytest.approx(score(gold, said, **settings), abs=1e-12)
        resampled(f"entity_{name}", true, found)


def table(targets: np.ndarray, predictions: np.ndarray) -> TablePanel:
    (panel,) = make("entity_f1").panels(targets, predictions, [])
    assert isinstance(panel, TablePanel)
    return panel


def test_every_type_of_entity_has_the_numbers_of_seqeval(real_entities) -> None:
    from seqeval.metrics import classification_report

    gold, said = real_entities
    report: Any = classification_report(gold, said, output_dict=True)
    panel = table(*(objects([spans(tags) for tags in side]) for side in (gold, said)))
    assert panel.columns == ("type", "n", "precision", "recall", "F1")
    assert {str(row[0]) for row in panel.rows} == {kind for kind in report if not kind.endswith(" avg")}
    f1s: list[Any] = [row[4] for row in panel.rows]
    assert f1s == sorted(f1s)
    for kind, *numbers in panel.rows:
        theirs = report[str(kind)]
        names = ("support", "precision", "recall", "f1-score")
        assert [x or 0 for x in numbers] == pytest.approx([theirs[key] for key in names])


def test_a_type_on_one_side_only_has_no_recall_or_no_precision() -> None:
    gold, said = objects([frozenset({(0, 2, "人名")})]), objects([frozenset({(0, 2, "地名")})])
    panel = table(gold, said)
    assert panel.rows == (("人名", 1, None, 0.0, 0.0), ("地名", 0, 0.0, None, 0.0))
    assert "人名" in panel.to_html()


@given(
    st.lists(st.tuples(*[st.frozensets(st.tuples(st.integers(0, 2), st.integers(3, 4), st.sampled_from("AB")))] * 2))
)
def test_entity_f1_is_the_harmonic_mean_of_precision_and_recall(rows) -> None:
    sides = objects([a for a, _ in rows]), objects([b for _, b in rows])
    p, r = of("entity_precision", *sides), of("entity_recall", *sides)
    assert of("entity_f1", *sides) == pytest.approx(2 * p * r / (p + r) if p + r else 0.0)


# --- relations ---


def official_score(key: list[str], proposed: list[str]) -> float:
    """What the scorer of SemEval-2010 task 8 calls its official score, by its own tables, in [0, 1]."""

    def bare(label: str) -> str:
        return re.sub(r"\(e[12],e[12]\)$", "", label)

    answers = Counter(bare(label) for label in key)
    matrix: Counter[tuple[str, str]] = Counter()
    columns: Counter[str] = Counter()
    for answer, said in zip(key, proposed, strict=True):
        column = "WRONG_DIR" if said != answer and bare(said) == bare(answer) else bare(said)
        matrix[column, bare(answer)] += 1
        columns[column] += 1
    total = 0.0
    for relation in set(answers) - {"Other"}:
        hits = matrix[relation, relation]
        precision = hits / (columns[relation] + matrix["WRONG_DIR", relation]) if columns[relation] else 0
        recall = hits / answers[relation]
        total += 2 * precision * recall / (precision + recall) if precision + recall else 0
    return total / len(set(answers) - {"Other"})


@pytest.fixture(scope="module")
def relations(real_data: Path) -> list[str]:
    lines = (real_data / "relation_extraction/semeval2010_task8/TEST_FILE_FULL.TXT").read_text("utf-8").splitlines()
    return [lines[i + 1].strip() for i, line in enumerate(lines) if re.match(r'\d+\t"', line)]


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9])
def test_relation_f1_is_the_official_score_of_semeval(relations: list[str], kept: float) -> None:
    assert len(relations) == 2717
    generator = np.random.default_rng(0)
    kinds = sorted(set(relations))
    turned = {"(e1,e2)": "(e2,e1)", "(e2,e1)": "(e1,e2)"}
    said = []
    for label in relations:
        fate = generator.random()
        if fate < kept:
            said.append(label)
        elif fate < kept + 0.05:
            said.append(re.sub(r"\(e[12],e[12]\)$", lambda match: turned[match[0]], label))
        else:
            said.append(str(generator.choice(kinds)))
    sides = objects(relations), objects(said)
    assert of("relation_f1", *sides) == pytest.approx(official_score(relations, said), abs=1e-12)
    resampled("relation_f1", *sides, n=3)


@given(st.data())
def test_relation_f1_is_the_official_score_on_few_rows(data: st.DataObject) -> None:
    """With relations that are only true or only predicted."""
    label = st.sampled_from(["A(e1,e2)", "A(e2,e1)", "B(e1,e2)", "B(e2,e1)", "C(e1,e2)", "Other"])
    rows = data.draw(st.lists(st.tuples(label, label), min_size=1, max_size=8))
    key, said = (list(side) for side in zip(*rows, strict=True))
    value = of("relation_f1", objects(key), objects(said))
    assert value == (0 if set(key) == {"Other"} else pytest.approx(official_score(key, said)))
    resampled("relation_f1", objects(key), objects(said), n=3)


def test_a_wrong_direction_is_wrong_and_no_relation_is_no_class() -> None:
    key = objects(["Cause-Effect(e1,e2)", "Cause-Effect(e1,e2)", "Other", "Other"])
    right = objects(["Cause-Effect(e1,e2)", "Cause-Effect(e1,e2)", "Other", "Other"])
    turned = objects(["Cause-Effect(e1,e2)", "Cause-Effect(e2,e1)", "Other", "Other"])
    invented = objects(["Cause-Effect(e1,e2)", "Cause-Effect(e1,e2)", "Other", "Cause-Effect(e2,e1)"])
    values = [of("relation_f1", key, said) for said in (right, turned, invented)]
    assert values == pytest.approx([1, 1 / 2, 4 / 5])


@pytest.mark.parametrize("none", ["Other", "no_relation", "NA", "None", "无关系"])
def test_relations_without_direction_count_as_themselves(none: str) -> None:
    key, said = objects(["位于", "位于", "出生于", none]), objects(["位于", none, "出生于", "出生于"])
    assert of("relation_f1", key, said) == pytest.approx((2 / 3 + 2 / 3) / 2)


# --- label sets ---


@given(st.data())
def test_label_sets_equal_scikit_learn(data: st.DataObject) -> None:
    rows, labels = data.draw(st.integers(1, 7)), data.draw(st.integers(2, 4))
    flags = st.lists(st.booleans(), min_size=rows * labels, max_size=rows * labels)
    targets, predictions = (np.array(data.draw(flags)).reshape(rows, labels) for _ in range(2))
    for name in ("micro_f1", "label_macro_f1", "subset_accuracy"):
        reference = make(name).reference()
        assert reference is not None
        value = of(name, targets, predictions)
        assert value == pytest.approx(reference(targets, predictions, labels), abs=1e-12)
        resampled(name, targets, predictions, n=3)


# --- numbers ---

column = st.lists(st.integers(-50, 50), min_size=2, max_size=9)


@given(st.data())
def test_numbers_equal_scipy_and_scikit_learn(data: st.DataObject) -> None:
    """Constant columns too: SciPy has no answer there, and ours is 0."""
    x = data.draw(column)
    y = data.draw(st.lists(st.integers(-50, 50), min_size=len(x), max_size=len(x)))
    scale, offset = data.draw(st.sampled_from([(1.0, 0.0), (0.1, 0.1), (1e-3, 1e4), (1e6, -1e9)]))
    sides = np.array(x) * scale + offset, np.array(y, dtype=float)
    for name in ("pearson", "spearman", "mean_squared_error", "mean_absolute_error"):
        reference = make(name).reference()
        assert reference is not None
        assert of(name, *sides) == pytest.approx(reference(*sides, 0), rel=1e-9, abs=1e-7)
    for name in ("pearson", "spearman"):
        weights = np.eye(len(x)) * len(x)  # every resample is constant
        assert make(name).weighted(*sides, weights, classes=0) == pytest.approx(np.zeros(len(x)), abs=0)
        resampled(name, *sides, n=3)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
@pytest.mark.parametrize("value", [0.1, 3.7, 1e9 + 0.1])
def test_constant_predictions_have_no_correlation(name: str, value: float) -> None:
    assert of(name, np.array([1.0, 2.0, 4.0, 3.0, 9.0]), np.full(5, value)) == 0.0


def test_only_errors_are_better_when_lower() -> None:
    lower = {name for name in ("pearson", "spearman", "mean_squared_error", "mean_absolute_error", "mrr", "ndcg_at_10")
             if not make(name).higher_is_better}  # fmt: skip
    assert lower == {"mean_squared_error", "mean_absolute_error"}
    assert make("mean_squared_error").range == (0.0, math.inf)


def test_human_similarity_scores_correlate_as_scipy_says(real_data: Path) -> None:
    """Real scores with many ties against a count of shared words."""
    lines = (real_data / "pair_matching/sick2014/SICK_test_annotated.txt").read_text("utf-8").splitlines()[1:]
    fields = [line.split("\t") for line in lines]
    targets = np.array([float(f[3]) for f in fields])
    sides = [[set(f[i].lower().split()) for f in fields] for i in (1, 2)]
    predictions = np.array([len(a & b) / len(a | b) for a, b in zip(*sides, strict=True)])
    for name in ("pearson", "spearman"):
        reference = make(name).reference()
        assert reference is not None
        assert 0.4 < of(name, targets, predictions) < 0.9
        assert of(name, targets, predictions) == pytest.approx(reference(targets, predictions, 0), abs=1e-12)


# --- rankings ---

queries = st.lists(st.lists(st.integers(0, 3), max_size=14).map(tuple), min_size=1, max_size=5)


@given(queries)
def test_rankings_equal_scikit_learn(lists: list[tuple[int, ...]]) -> None:
    side = objects(lists)
    for name in ("mrr", "ndcg_at_10"):
        reference = make(name).reference()
        assert reference is not None
        assert of(name, side, side) == pytest.approx(reference(side, side, 0), abs=1e-12)


@given(queries)
def test_recall_counts_what_is_found_among_the_first(lists: list[tuple[int, ...]]) -> None:
    side = objects(lists)
    for k in (1, 10):
        shares = []
        for found in lists:
            where = [i for i, relevance in enumerate(found) if relevance]
            shares.append(sum(i < k for i in where) / len(where) if where else 0)
        assert of(f"recall_at_{k}", side, side) == pytest.approx(np.mean(shares))


@pytest.mark.parametrize("name", ["mrr", "recall_at_1", "recall_at_10", "ndcg_at_10"])
def test_a_query_without_a_relevant_candidate_counts_zero(name: str) -> None:
    for empty in [(), (0,), (0, 0, 0)]:
        side = objects([empty, (1, 0)])
        assert of(name, side, side) == 0.5
