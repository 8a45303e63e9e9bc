"""What any model must beat, and what the untuned one can already do."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from weitiao.evaluation.before import label_names, nearest
from weitiao.evaluation.linear import is_unspaced, majority, tfidf

EN = [("good clean room",), ("bad dirty room",), ("good kind staff",), ("bad rude staff",)]
ZH = [("房间很干净，很好",), ("房间太脏了，很差",), ("服务很好",), ("服务太差了",)]
TARGETS = np.array([0, 1, 0, 1])


def test_the_majority_is_the_largest_class_with_the_shares_of_train() -> None:
    found = majority(np.array([2, 2, 0]), 4, 3)
    assert found.shape == (4, 3)
    assert (found.argmax(axis=1) == 2).all()
    np.testing.assert_allclose(found[0], [1 / 3, 0, 2 / 3])
    np.testing.assert_allclose(majority(np.array([], dtype=int), 1, 4), 0.25)


@pytest.mark.parametrize(("train", "test"), [(EN, [("a good room",), ("a bad room",)]), (ZH, [("很好",), ("太差",)])])
def test_tfidf_learns_english_words_and_chinese_characters(
    train: list[tuple[str, ...]], test: list[tuple[str, ...]]
) -> None:
    found = tfidf(train, TARGETS, test, classes=2, seed=0)
    assert found.argmax(axis=1).tolist() == [0, 1]
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_tfidf_gives_each_text_of_a_pair_its_own_features() -> None:
    pairs = [("yes", "no"), ("no", "yes")] * 3  # one bag of words of both texts could not tell these apart
    found = tfidf(pairs, np.array([0, 1] * 3), [("yes", "no"), ("no", "yes")], classes=2, seed=0)
    assert found.argmax(axis=1).tolist() == [0, 1]


def test_tfidf_copes_with_what_real_data_does() -> None:
    absent = tfidf(EN, TARGETS * 3, [("good",)], classes=5, seed=0)
    assert absent.shape == (1, 5)
    assert absent[0, [1, 2, 4]].tolist() == [0, 0, 0]
    single = tfidf(EN, np.array([1, 1, 1, 1]), [("good",)], classes=2, seed=0)
    np.testing.assert_allclose(single, [[0, 1]])
    nothing = tfidf([("",), ("",)], np.array([0, 1]), [("",)], classes=2, seed=0)
    np.testing.assert_allclose(nothing, [[0.5, 0.5]])
    letters = tfidf([("a",), ("b",)] * 4, np.array([0, 1] * 4), [("b",)], classes=2, seed=0)
    assert letters[0, 1] > 0.5
    assert tfidf(EN, TARGETS, [], classes=2, seed=0).shape == (0, 2)


def test_tfidf_draws_rows_by_its_seed_when_there_are_too_many() -> None:
    generator = np.random.default_rng(0)
    texts = [(" ".join(generator.choice(["red", "green", "blue", "gray"], 3)),) for _ in range(60)]
    targets = generator.integers(0, 2, 60)
    few = [tfidf(texts, targets, texts, classes=2, seed=seed, most_rows=20) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(few[0], few[1])
    assert not np.allclose(few[0], few[2])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("房间很干净", True), ("とても良い", True), ("한국어 문장", True), ("a clean room", False), ("123 !?", False)],
)
def test_scripts_without_spaces_are_found(text: str, expected: bool) -> None:
    assert is_unspaced([text]) is expected


def test_mostly_chinese_is_what_counts() -> None:
    assert is_unspaced(["我的 iPhone 屏幕碎了，怎么申请维修呢"])
    assert not is_unspaced(["the word 你好 means hello in Chinese"])


def test_nearest_equals_scikit_learn() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    generator = np.random.default_rng(0)
    train, test = generator.normal(size=(80, 6)), generator.normal(size=(30, 6))
    targets = generator.integers(0, 3, 80)
    reference = KNeighborsClassifier(7, weights="distance", metric="cosine").fit(train, targets)
    found = nearest(train, targets, test, classes=4, k=7)
    np.testing.assert_allclose(found[:, :3], reference.predict_proba(test), atol=1e-4)
    assert (found[:, 3] == 0).all()


def test_nearest_works_in_pieces_and_with_few_or_equal_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    train, targets = generator.normal(size=(20, 4)), generator.integers(0, 2, 20)
    whole = nearest(train, targets, train, classes=2, k=3)
    assert (whole.argmax(axis=1) == targets).all()  # each row finds itself
    monkeypatch.setattr("weitiao.evaluation.before._CHUNK", 50)
    np.testing.assert_allclose(nearest(train, targets, train, classes=2, k=3), whole, atol=1e-3)
    alone = nearest(np.zeros((1, 4)), np.array([1]), np.zeros((2, 4)), classes=2, k=9)
    np.testing.assert_allclose(alone, [[0, 1], [0, 1]])


def test_k_and_scale_do_something() -> None:
    generator = np.random.default_rng(0)
    train, targets, test = generator.normal(size=(30, 4)), generator.integers(0, 2, 30), generator.normal(size=(9, 4))
    one, nine = (nearest(train, targets, test, classes=2, k=k) for k in (1, 9))
    assert not np.allclose(one, nine)
    mild, sharp = (label_names(train[:3], test, scale=scale) for scale in (1.0, 50.0))
    assert sharp.max() > mild.max()


def test_label_names_choose_the_nearest_name() -> None:
    found = label_names(np.eye(3), np.array([[0.1, 5, 0.2], [3, 0, 1]]))
    assert found.argmax(axis=1).tolist() == [1, 0]
    np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "expected"), [("trec", 0.882), ("banking77", 0.8938)])
def test_tfidf_reaches_what_was_measured_on_real_data(real_data: Path, name: str, expected: float) -> None:
    splits = {"trec": _trec, "banking77": _banking77}[name](real_data / "classification" / name)
    names = sorted({label for rows in splits for _, label in rows})
    targets = [np.array([names.index(label) for _, label in rows]) for rows in splits]
    texts = [[(text,) for text, _ in rows] for rows in splits]
    found = tfidf(texts[0], targets[0], texts[1], classes=len(names), seed=0)
    assert np.mean(found.argmax(axis=1) == targets[1]) == pytest.approx(expected, abs=0.003)


def _trec(folder: Path) -> list[list[tuple[str, str]]]:
    lines = [(folder / f"TREC.{part}").read_text(encoding="latin-1").splitlines() for part in ("train", "test")]
    return [[(line.partition(" ")[2].strip(), line.partition(":")[0]) for line in part] for part in lines]


def _banking77(folder: Path) -> list[list[tuple[str, str]]]:
    parts = []
    for part in ("train", "test"):
        with (folder / f"{part}.csv").open(encoding="utf-8", newline="") as file:
            parts.append([(row["text"], row["category"]) for row in csv.DictReader(file)])
    return parts
