"""Metrics of texts against the programs that published numbers come from, on real texts and on wild ones."""

from __future__ import annotations

import gzip
import json
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nltk.tokenize import NLTKWordTokenizer
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from weitiao import plugins
from weitiao.evaluation.metrics import _texts
from weitiao.evaluation.metrics._rouge import common_subsequence

ROUGE = {"rouge1": "rouge1", "rouge2": "rouge2", "rouge_l": "rougeL"}
Rows = list[tuple[tuple[str, ...], str]]  # references and prediction


def value(name: str, rows: Rows) -> float:
    targets, predictions = np.empty(len(rows), dtype=object), np.empty(len(rows), dtype=object)
    for i, (references, prediction) in enumerate(rows):
        targets[i], predictions[i] = references, prediction
    return plugins.find("metrics", name)()(targets, predictions, classes=0)


def lines(path: Path) -> list[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return file.read().splitlines()


@pytest.fixture(scope="module")
def german(real_data: Path) -> Rows:
    """Each line as the reference; its beginning, or the line after it, as the prediction."""
    found = lines(real_data / "machine_translation/multi30k_en_de/val.de.gz")[:300]
    return [((a,), a[: 2 * len(a) // 3] if i % 2 else b) for i, (a, b) in enumerate(pairwise(found))]


@pytest.fixture(scope="module")
def titles(real_data: Path) -> Rows:
    """Chinese titles, and the first 20 characters of the abstracts."""
    found = [line.split("\t") for line in lines(real_data / "summarization/csl_title/test.tsv")[:300]]
    return [((title,), abstract[:20]) for _, abstract, title in found]


@pytest.fixture(scope="module")
def summaries(real_data: Path) -> Rows:
    """English summaries, several a paper, and the first sentence of the abstracts."""
    found = [json.loads(line) for line in lines(real_data / "summarization/scitldr_a/test.jsonl")[:300]]
    return [(tuple(row["target"]), row["source"][0]) for row in found]


@pytest.fixture(scope="module")
def questions(real_data: Path) -> Rows:
    """Chinese answers; as predictions those of other annotators, longer ones, and those of other questions."""
    document = json.loads("\n".join(lines(real_data / "qa/cmrc2018/cmrc2018_dev.json.gz")))
    paragraphs = [paragraph for article in document["data"] for paragraph in article["paragraphs"]]
    found = [tuple(one["text"] for one in asked["answers"]) for p in paragraphs for asked in p["qas"]][:600]
    said = [[here[-1], f"大约{here[0]}。", here[-1][:4], there[0]] for here, there in pairwise(found)]
    return [(found[i][:2], row[i % 4]) for i, row in enumerate(said)]


@pytest.fixture(scope="module")
def english_questions(real_data: Path) -> Rows:
    """English answers; as predictions the same, longer, shorter and other ones; some without an answer."""
    document = json.loads((real_data / "qa/xquad_en/xquad.en.json").read_text(encoding="utf-8"))
    found = [
        one["answers"][0]["text"] for article in document["data"] for p in article["paragraphs"] for one in p["qas"]
    ][:600]
    said = [[here.upper(), f"about the {here}!", here[:9], there, ""] for here, there in pairwise(found)]
    return [((found[i],) if i % 7 else (), row[i % 5]) for i, row in enumerate(said)]


def columns(rows: Rows) -> tuple[list[str], list[list[Any]]]:
    """Predictions and streams of references as sacreBLEU takes them."""
    most = max(len(references) for references, _ in rows)
    return [said for _, said in rows], [[r[k] if k < len(r) else None for r, _ in rows] for k in range(most)]


@pytest.mark.parametrize(("texts", "tokenizer"), [("german", "13a"), ("summaries", "13a"), ("titles", "zh")])
def test_bleu_and_chrf_are_those_of_sacrebleu(texts: str, tokenizer: str, request: pytest.FixtureRequest) -> None:
    rows = request.getfixturevalue(texts)
    predictions, streams = columns(rows)
    expected = BLEU(tokenize=tokenizer).corpus_score(predictions, streams).score
    assert 5 < expected < 70
    assert value("bleu", rows) == pytest.approx(expected, abs=1e-9)
    assert value("chrf", rows) == pytest.approx(CHRF().corpus_score(predictions, streams).score, abs=1e-9)


@pytest.mark.parametrize("name", ROUGE)
def test_rouge_is_googles_on_english(name: str, summaries: Rows) -> None:
    scorer = RougeScorer([ROUGE[name]])
    # a Greek letter is no word to the package, and one to us
    rows = [row for row in summaries if all(ord(letter) < 0x370 or not letter.isalpha() for letter in str(row))]
    assert len(rows) > 295
    expected = np.mean([scorer.score_multi(references, said)[ROUGE[name]].fmeasure for references, said in rows])
    assert 0.1 < expected < 0.5
    assert value(name, rows) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ROUGE)
def test_rouge_of_chinese_is_googles_of_characters_written_as_words(name: str, titles: Rows) -> None:
    """The package is given every Chinese character as a word of letters that it knows."""

    def spelled(text: str) -> str:
        return re.sub(r"[\u4e00-\u9fff]", lambda found: f" zh{ord(found[0])} ", text)

    rows = [
        row
        for row in titles
        if re.fullmatch(r"[\x00-\x7f\u4e00-\u9fff\u3000-\u303f\uff00-\uff20]+", "".join((*row[0], row[1])))
    ]
    assert len(rows) > 200
    scorer = RougeScorer([ROUGE[name]])
    fmeasures = [scorer.score_multi([*map(spelled, r)], spelled(said))[ROUGE[name]].fmeasure for r, said in rows]
    assert np.mean(fmeasures) > 0.2
    assert value(name, rows) == pytest.approx(np.mean(fmeasures), abs=1e-9)
    bare = [scorer.score_multi(references, said)[ROUGE[name]].fmeasure for references, said in rows]
    assert np.mean(bare) < 0.1  # what anyone gets who uses the package on Chinese as it is


# ------------------------------------------------------------------ answers: the official rules, said once more


def squad_rule(references: Sequence[str], said: str) -> tuple[float, float]:
    def normal(text: str) -> str:
        bare = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())

    def f1(a: list[str], b: list[str]) -> float:
        same = sum((Counter(a) & Counter(b)).values())
        if not a or not b or not same:
            return float(a == b)
        precision, recall = same / len(b), same / len(a)
        return 2 * precision * recall / (precision + recall)

    golds = [gold for gold in references if normal(gold)] or [""]
    return (
        max(float(normal(gold) == normal(said)) for gold in golds),
        max(f1(normal(gold).split(), normal(said).split()) for gold in golds),
    )


def cmrc_rule(references: Sequence[str], said: str, cut: Callable[[str], list[str]]) -> tuple[float, float]:
    marks = "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"

    def bare(text: str) -> str:
        return "".join(letter for letter in text.lower().strip() if letter not in marks)

    def segments(text: str) -> list[str]:
        parts = re.split(r"([\u4e00-\u9fa5])", bare(text))
        return [segment for part in parts for segment in ([part] if re.match(r"[\u4e00-\u9fa5]", part) else cut(part))]

    def f1(a: list[str], b: list[str]) -> float:
        runs = [run(a[i:], b[j:]) for i in range(len(a)) for j in range(len(b))]
        longest = max(runs, default=0)
        if not longest:
            return 0.0
        precision, recall = longest / len(b), longest / len(a)
        return 2 * precision * recall / (precision + recall)

    def run(a: list[str], b: list[str]) -> int:
        same = [x == y for x, y in zip(a, b, strict=False)]
        return same.index(False) if False in same else len(same)

    return (
        max(float(bare(gold) == bare(said)) for gold in references),
        max(f1(segments(gold), segments(said)) for gold in references),
    )


def test_english_answers_are_judged_by_the_rules_of_squad(english_questions: Rows) -> None:
    exact, f1 = np.mean([squad_rule(*row) for row in english_questions], axis=0)
    assert 0.1 < exact < f1 < 0.9
    assert value("exact_match", english_questions) == pytest.approx(exact, abs=1e-12)
    assert value("answer_f1", english_questions) == pytest.approx(f1, abs=1e-12)


def test_chinese_answers_are_judged_by_the_rules_of_cmrc(questions: Rows) -> None:
    cut = NLTKWordTokenizer().tokenize
    exact, f1 = np.mean([cmrc_rule(*row, cut) for row in questions], axis=0)
    assert 0.1 < exact < f1 < 0.9
    assert value("exact_match", questions) == pytest.approx(exact, abs=1e-12)
    assert value("answer_f1", questions) == pytest.approx(f1, abs=1e-3)  # we cut Latin runs without NLTK


def test_latin_words_in_chinese_answers_are_cut_as_by_nltk_nearly_always(questions: Rows) -> None:
    cut = NLTKWordTokenizer().tokenize
    latin = {
        part for r, _ in questions for text in r for part in re.split(r"[\u4e00-\u9fa5]", _texts.cmrc_normal(text))
    }
    assert np.mean([_texts.cmrc_segments(part) == cut(part) for part in latin]) > 0.9


@pytest.mark.parametrize("name", ["exact_match", "answer_f1"])
@pytest.mark.parametrize(("right", "wrong"), [("Paris", "Lyon"), ("巴黎", "里昂")])
def test_no_answer_is_right_only_where_none_is_asked_for(name: str, right: str, wrong: str) -> None:
    rows: Rows = [((right,), right)] * 3
    assert value(name, [*rows, ((), ""), (("",), "")]) == 1
    assert value(name, [*rows, ((), wrong), (("",), wrong)]) == 0.6
    assert value(name, [*rows, ((right,), "")]) == 0.75


# ------------------------------------------------------------------ wild texts

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.text("ab 猫狗。A.1", max_size=12)
ROWS = st.lists(st.tuples(st.lists(TEXT, max_size=3).map(tuple), TEXT), min_size=1, max_size=6)


@given(ROWS)
@example([((), "")])
@example([(("\n",), "\u3000 \n")])
def test_any_text_has_a_value_in_range_and_sacrebleus_chrf(rows: Rows) -> None:
    for name in ["bleu", "chrf", *ROUGE, "exact_match", "answer_f1", "distinct1", "distinct2"]:
        low, high = plugins.find("metrics", name)().range
        assert low <= value(name, rows) <= high
    predictions, streams = columns([(references or ("",), said) for references, said in rows])
    assert value("chrf", rows) == pytest.approx(CHRF().corpus_score(predictions, streams).score, abs=1e-9)


@given(st.text("abcd", max_size=20), st.text("abcd", max_size=20))
def test_the_common_subsequence_is_the_tables(left: str, right: str) -> None:
    table = np.zeros((len(left) + 1, len(right) + 1), dtype=int)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
    assert common_subsequence(left, right) == table[-1, -1]


@given(st.text("abcXYZ 019-_.,éÄ'\n", max_size=30))
def test_words_of_latin_text_are_googles(text: str) -> None:
    assert _texts.words(text) == re.sub(r"[^a-z0-9]+", " ", text.lower()).split()


def test_words_of_other_scripts() -> None:
    assert _texts.words("用BERT-base 做3.5次，Привет мир β") == [
        *"用",
        "bert",
        "base",
        "做",
        "3",
        "5",
        "次",
        "привет",
        "мир",
        "β",
    ]


# ------------------------------------------------------------------ likelihood


def test_an_impossible_row_makes_only_resamples_with_it_infinite() -> None:
    metric = plugins.find("metrics", "perplexity")()
    rows = np.array([[-np.inf, 3], [np.log(1 / 4), 1]])
    assert metric(np.zeros(2), rows, classes=0) == np.inf
    np.testing.assert_allclose(metric.weighted(np.zeros(2), rows, np.array([[0, 2.0], [1, 1]]), classes=0), [4, np.inf])
