"""Answers in texts: found in their contexts, learnt and answered in windows, cut out letter by letter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trial import make
from weitiao import plugins
from weitiao.bundle import Bundle
from weitiao.check import check_files
from weitiao.data.fields import map_fields
from weitiao.data.read import read
from weitiao.data.table import Table
from weitiao.errors import DataError, ModelError
from weitiao.models.find import find
from weitiao.models.load import load_tokenizer
from weitiao.predict import predict_file
from weitiao.recipe import Recipe
from weitiao.run import run
from weitiao.tasks._answers import Answer, find_span, read_answers
from weitiao.tasks._passages import Spans, aims, best_spans

TASK = plugins.find("tasks", "question_answering")
TINY = TASK.tiny()["rows"]


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: Path) -> Any:
    return load_tokenizer(find(str(tiny_bert)))


def told(*answers: tuple[str, int | None]) -> str:
    return json.dumps([{"text": text, "start": start} for text, start in answers], ensure_ascii=False)


def row(question: str, context: str, *answers: tuple[str, int | None]) -> dict[str, str]:
    return {"question": question, "context": context, "answers": told(*answers)}


def said(pairs: list[tuple[float, int, int]], no_answer: float) -> Spans:
    """What a model would say: spans with their scores, best first."""
    return Spans(
        np.array([place for _, *place in pairs]).reshape(-1, 2),
        np.array([s for s, *_ in pairs]),
        no_answer,
        np.zeros(2),
    )


# --- answers as files give them ---


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ('[{"text": "公元78年", "start": 4}]', [Answer("公元78年", 4)]),
        ('[{"text": "a", "answer_start": 2.0}, {"text": "b"}]', [Answer("a", 2), Answer("b")]),
        ('{"text": ["a", "b"], "answer_start": [1, 2]}', [Answer("a", 1), Answer("b", 2)]),
        ('["red", "blue"]', [Answer("red"), Answer("blue")]),
        ("1998", [Answer("1998")]),
        ("[1] and [2]", [Answer("[1] and [2]")]),
        ("[1, 2]", [Answer("[1, 2]")]),
        ('{"a": 1}', [Answer('{"a": 1}')]),
        ("[]", []),
        ('{"text": [], "answer_start": []}', []),
        ("ANSWERNOTFOUND", []),
        ('["CANNOTANSWER"]', []),
        ('[{"text": " ", "start": -1}]', []),
    ],
)
def test_reads_answers_in_all_their_forms(cell: str, expected: list[Answer]) -> None:
    assert read_answers(cell) == expected


@pytest.mark.parametrize(
    ("context", "answer", "expected"),
    [
        ("红的房子，红的门", Answer("红的", 5), (5, 7)),
        ("红的房子，红的门", Answer("红的", 4), (5, 7)),
        ("红的房子，红的门", Answer("红的", -3), (0, 2)),
        ("红的房子，红的门", Answer("红的"), (0, 2)),
        ("the anti-glare film", Answer("anti - glare", None), (4, 14)),
        ("New\n York", Answer(" New York "), (0, 9)),
        ("a b", Answer("c", 0), None),
        ("a b", Answer("a b c", 0), None),
    ],
)
def test_finds_an_answer_nearest_to_its_offset(context: str, answer: Answer, expected: tuple[int, int] | None) -> None:
    assert find_span(context, answer) == expected


@given(st.text(), st.text(min_size=1), st.text(), st.one_of(st.none(), st.integers(-5, 50)))
def test_an_answer_of_the_context_is_found_whatever_its_offset(a: str, answer: str, b: str, start: int | None) -> None:
    first, last = find_span(a + answer + b, Answer(answer, start)) or (0, 0)
    assert (a + answer + b)[first:last] == answer


@given(st.text())
def test_any_cell_is_read(cell: str) -> None:
    for answer in read_answers(cell):
        assert answer.text.strip()


# --- what is wrong with rows ---


def test_names_the_faults_of_answers() -> None:
    rows = [
        row("q", "a red house", ("red", 3)),
        row("q", "a red house", ("blue", 2)),
        row("q", "a red house", ("red", 2), ("blue", 2)),
        {"question": "q", "context": "red or red", "answers": "red"},
        {"question": "q", "context": "anti-glare", "answers": "anti - glare"},
        {"question": "q", "context": "red", "answers": "ANSWERNOTFOUND"},
        row("q", "red", ("", 0)),
        row("why " * 300, "red", ("red", 0)),
        row("q", "红" * 600, ("红", 3)),
    ]
    table = Table.from_rows(rows)
    found = {f.evidence["fault"]: f for f in TASK().findings({"train": table})}
    one_row = ("absent", "partly", "spaced", "ambiguous", "marker", "blank", "long_question", "windows")
    assert {kind: found[kind].count for kind in one_row} == dict.fromkeys(one_row, 1)
    assert (found["absent"].severity, found["shifted"].severity) == ("error", "warning")
    assert "3 of 8 answers of train" in found["shifted"].message
    assert (found["shifted"].evidence["elsewhere"], found["shifted"].evidence["nowhere"]) == (1, 2)
    assert found["shifted"].evidence["examples"][0] | {"place": ""} == {
        "place": "", "answer": "red", "start": 3, "there": "ed ", "found": 2,
    }  # fmt: skip
    assert TASK().accepts(table) == {1: "its answer does not stand in the context: 'blue'"}


def test_says_that_no_answer_was_never_learnt() -> None:
    train, dev = Table.from_rows([row("q", "red", ("red", 0))]), Table.from_rows([row("q", "red")])
    (found,) = TASK().findings({"train": train, "dev": dev})
    assert "1 of 1 row of dev have no answer" in found.message
    assert not list(TASK().findings({"train": dev, "dev": train}))


def test_refuses_questions_without_answer_where_there_has_to_be_one() -> None:
    table = Table.from_rows([row("q", "red"), row("q", "red", ("red", 0))])
    assert make("tasks", "question_answering", {"no_answer": False}).accepts(table) == {
        0: "has no answer, and no_answer is false"
    }
    assert not make("tasks", "question_answering", {"no_answer": True}).accepts(table)


def test_names_a_row_that_cannot_be_learnt(tokenizer: Any) -> None:
    with pytest.raises(DataError, match=r"row 2.*does not stand in the context.*blue"):
        TASK().encode([row("q", "red"), row("q", "red", ("blue", 0))], tokenizer, 64)


@pytest.mark.parametrize(("setting", "rows", "expected"), [("auto", 0, False), ("auto", 1, True), (True, 0, True)])
def test_learns_whether_there_may_be_no_answer(setting: Any, rows: int, expected: bool) -> None:
    task = make("tasks", "question_answering", {"no_answer": setting})
    task.learn(Table.from_rows([row("q", "red", ("red", 0)), *[row("q", "red")] * rows]))
    assert task.state == {"no_answer": expected}


# --- windows ---


def text_of(window: dict[str, Any], context: str) -> str:
    """The context that a window's labels cut out."""
    pairs = np.asarray(window["offsets"]).reshape(-1, 2)
    first, last = window["labels"]
    return context[pairs[first, 0] : pairs[last, 1]] if first != window["none_at"] else ""


_WORDS = st.sampled_from(["room", "干净", "  ", "很", "\u200b", "🙂", "dirty,", "\n", "xyzzy", "é", "A", "。"])


@given(st.lists(_WORDS, min_size=1, max_size=80), st.integers(0, 79), st.integers(1, 40), st.integers(1, 60))
def test_every_row_has_a_window_with_its_answer(
    tokenizer: Any, words: list[str], at: int, size: int, stride: int
) -> None:
    at = min(at, len(words) - 1)
    answer = " ".join(words[at : at + size])
    context, start = " ".join(words), len(" ".join([*words[:at], ""]))
    if not answer.strip() or not tokenizer.tokenize(context):
        return
    task = make("tasks", "question_answering", {"stride": stride})
    windows = task.encode([row("how is it", context, (answer, start))], tokenizer, 32)
    assert any(window["labels"] != [window["none_at"]] * 2 for window in windows)
    assert all(len(window["input_ids"]) <= 32 for window in windows)
    covered = {i for w in windows for a, b in np.asarray(w["offsets"]).reshape(-1, 2) for i in range(a, b)}
    once = tokenizer(context, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert covered == {i for a, b in once for i in range(a, b)}  # nothing of the context is lost
    held = [text_of(window, context) for window in windows]
    if len(tokenizer.tokenize(answer)) <= min(stride, 11) and tokenizer.tokenize(answer):
        assert max(held, key=len).strip("\u200b \n") == answer.strip("\u200b \n")


@pytest.mark.parametrize("family", ["bert", "roberta", "llama", "gpt2"])
def test_a_span_of_tokens_is_the_answer_as_it_was_written(family: str, tiny_model: Any) -> None:
    tokenizer = load_tokenizer(find(str(tiny_model(family))))
    context = "The Hotel,  very CLEAN；房间 很干净！And 价格便宜"
    for answer in ("Hotel", "very CLEAN", "房间 很干净", "便宜", "The"):
        (window,) = TASK().encode([row("how", context, (answer, context.index(answer)))], tokenizer, 128)
        assert text_of(window, context) == answer


def test_a_question_is_cut_only_over_half_a_window(tokenizer: Any) -> None:
    task, context = TASK(), "the room is clean " * 10
    for words, lost in ((16, 0), (17, 1), (40, 24)):
        windows = task.encode([row("why " * words, context, ("room", 4))], tokenizer, 32)
        assert [window["tokens_lost"] for window in windows] == [lost] + [0] * (len(windows) - 1)
        assert all(
            window["input_ids"].count(tokenizer.convert_tokens_to_ids("why")) == min(words, 16) for window in windows
        )
    with pytest.raises(DataError, match="no room"):
        task.encode([row("why", context)], tokenizer, 4)
    with pytest.raises(DataError, match=r"row 2.*context"):
        task.encode([row("why", context), row("why", " ")], tokenizer, 32)


def test_an_answer_that_fits_no_window_is_aimed_at_by_its_largest_part() -> None:
    windows = [
        {"none_at": 0, "offsets": [-1, -1, 0, 1, 1, 2, 2, 3]},
        {"none_at": 0, "offsets": [-1, -1, 2, 3, 3, 4, 4, 5]},
    ]
    assert aims(windows, (1, 5)) == [(0, 0), (1, 3)]
    assert aims(windows, (1, 3)) == [(2, 3), (0, 0)]
    assert aims(windows, (2, 3)) == [(3, 3), (1, 1)]
    assert aims(windows, None) == [(0, 0), (0, 0)]


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_the_best_spans_are_those_of_all_pairs(tokens: int, longest: int, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(size=(2, tokens + 1)).astype(np.float32)
    offsets = [-1, -1, *(x for i in range(tokens) for x in (2 * i, 2 * i + 1))]
    found = best_spans([logits], [{"offsets": offsets, "none_at": 0}], longest)
    pairs = [
        (float(logits[0, i] + logits[1, j]), 2 * (i - 1), 2 * (j - 1) + 1)
        for i in range(1, tokens + 1)
        for j in range(i, min(i + longest, tokens + 1))
    ]
    best = sorted(pairs, reverse=True)[:20]
    np.testing.assert_allclose(found.scores, [score for score, *_ in best])
    assert found.places.tolist() == [place for _, *place in best]
    assert found.no_answer == pytest.approx(float(logits[:, 0].sum()))


def test_windows_are_weighed_against_each_other() -> None:
    first = np.array([[5.0, 1, 2], [5.0, 1, 0]], dtype=np.float32)
    second = np.array([[-1.0, 2, 3], [-1.0, 0, 9]], dtype=np.float32)
    windows = [{"none_at": 0, "offsets": [-1, -1, 0, 1, 2, 3]}, {"none_at": 0, "offsets": [-1, -1, 2, 3, 4, 5]}]
    found = best_spans([first, second], windows, 2)
    assert found.no_answer == -2
    assert found.places.tolist()[0] == [4, 5]
    assert found.places.tolist().count([2, 3]) == 1
    assert len(found.logits) == 12


# --- answers ---


def ready(no_answer: bool = True) -> Any:
    return TASK(TASK.Settings(), {"no_answer": no_answer})


def test_cuts_the_answer_from_the_context() -> None:
    rows = [row("何年", "张衡生于公元 78年。", ("公元 78年", 4))]
    (one,) = ready().decode([said([(3.0, 4, 10), (1.0, 0, 2)], 0.0)], rows, {})
    assert one.to_json() == {"answer": "公元 78年", "confidence": one.confidence, "start": 4, "end": 10}
    assert one.confidence == pytest.approx(np.exp(3) / (np.exp(3) + np.exp(1) + 1))
    (none,) = ready().decode([said([(3.0, 4, 10)], 4.0)], rows, {})
    assert (none.answer, none.start, none.end) == ("", None, None)
    assert ready().decode([said([(3.0, 4, 10)], 4.0)], rows, {"no_answer_threshold": 2.0})[0].answer == "公元 78年"
    assert ready(False).decode([said([(3.0, 4, 10)], 4.0)], rows, {})[0].answer == "公元 78年"
    assert ready(False).decode([said([], 4.0)], rows, {})[0].confidence == 0


def test_the_threshold_is_the_best_there_is() -> None:
    generator = np.random.default_rng(0)
    for _ in range(30):
        rows, all_said = [], []
        for i in range(12):
            rows.append(row("q", "abcdef", *([("ab", 0)] if i % 3 else [])))
            all_said.append(said([(float(generator.integers(0, 5)), 0, int(generator.integers(1, 5)))], 2.0))
        found = ready().calibrate(all_said, rows)["no_answer_threshold"]
        margins = [one.margin for one in all_said]

        def worth(threshold: float, rows: Any = rows, margins: Any = margins, all_said: Any = all_said) -> float:
            total = 0.0
            for one, margin, own in zip(rows, margins, all_said, strict=True):
                end = own.places[0, 1]
                shared = 2 * min(end, 2) / (end + 2) if read_answers(one["answers"]) else 0.0
                total += shared if margin <= threshold else not read_answers(one["answers"])
            return total

        assert worth(found) == pytest.approx(max(worth(x) for x in np.arange(-6, 6, 0.25)))


def test_no_threshold_is_made_up() -> None:
    rows = [row("q", "ab", ("a", 0))]
    assert ready().calibrate([said([(1.0, 0, 1)], 5.0)], rows) == {"no_answer_threshold": 0.0}
    assert ready(False).calibrate([said([(1.0, 0, 1)], 5.0)], rows) == {}


def test_truth_and_what_is_right() -> None:
    task = ready()
    rows = [row("q", "New York", ("New York", 0), ("York", 4)), row("q", "x")]
    truth = task.truth(rows)
    assert truth.tolist() == [("New York", "York"), ()]
    answers = {"texts": np.array(["new  york", ""], dtype=object)}
    assert task.right(truth, answers).tolist() == [True, True]
    assert [task.shown(value) for value in truth] == ["New York / York", "(no answer)"]
    assert task.shown("a") == "a"


def test_the_model_cannot_aim_outside_the_context(tokenizer: Any) -> None:
    task = TASK()
    windows = task.encode(
        [row("how is the room", "the room is clean", ("clean", 12)), row("房", "房间", ("房", 0))], tokenizer, 64
    )
    batch = task.collate(windows, tokenizer)
    assert not {"labels", "can_be", "offsets", "none_at"} & set(task.model_inputs(batch))
    assert task.items(batch) == 4
    zeros = torch.zeros(batch["input_ids"].shape)
    outputs = type("Outputs", (), {"start_logits": zeros, "end_logits": zeros})
    p = task.logits(outputs, batch).softmax(-1)
    expected = [1 + 4, 1 + 4, 1 + 2, 1 + 2]  # the context, and "no answer"
    assert (p > 0).sum(-1).tolist() == expected
    assert task.loss(outputs, batch).item() == pytest.approx(np.log(expected).sum(), rel=1e-5)


@pytest.mark.parametrize(
    "family", ["bert", "distilbert", "roberta", "deberta-v2", "modernbert", "albert", "llama", "gpt2"]
)
def test_learns_on_every_backbone(family: str, tiny_model: Any) -> None:
    pretrained = find(str(tiny_model(family)))
    task = TASK()
    task.learn(Table.from_rows(TINY))
    model = task.build(pretrained, pooling="cls", dropout=None, seed=0)
    tokenizer = load_tokenizer(pretrained)
    batch = task.collate(task.encode(TINY[:6], tokenizer, 64), tokenizer)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(12):
        loss = task.loss(model(**task.model_inputs(batch)), batch) / task.items(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_refuses_a_decoder_whose_weights_would_be_lost(tiny_model: Any) -> None:
    """transformers looks for a Llama's weights under another name than those it was saved with."""
    with pytest.raises(ModelError, match=r"cannot find spans.*does not find \d+ of its weights"):
        TASK().build(find(str(tiny_model("llama", writer=True))), pooling="last", dropout=None, seed=0)
    model = TASK().build(find(str(tiny_model("gpt2", writer=True))), pooling="last", dropout=None, seed=0)
    assert model.new_parameters == {"qa_outputs.weight", "qa_outputs.bias"}


# --- real data ---


def test_finds_the_200_offsets_of_cmrc_that_do_not_match(real_data: Path) -> None:
    found = check_files(
        {"dev": [str(real_data / "qa/cmrc2018/cmrc2018_dev.json.gz")]}, "none", task="question_answering"
    ).findings
    (shifted,) = [f for f in found if f.evidence.get("fault") == "shifted"]
    assert shifted.count == 200
    assert (shifted.evidence["elsewhere"], shifted.evidence["nowhere"]) == (7, 193)
    assert "200 of 9,657 answers of dev" in shifted.message


def test_reads_squad_and_the_columns_of_subjqa(real_data: Path) -> None:
    xquad = map_fields(read([str(real_data / "qa/xquad_en/xquad.en.json")], None, TASK.formats), TASK.fields)
    assert len(xquad) == 1190
    assert not TASK().accepts(xquad)
    subjqa = {"train": [str(real_data / "qa/subjqa_electronics/train.csv.gz")]}
    subjqa["dev"] = [str(real_data / "qa/subjqa_electronics/dev.csv")]
    report = check_files(subjqa, "none", {"answers": "human_ans_spans"}, task="question_answering")
    assert any(f.check == "leakage" and "249 of 261 dev rows" in f.message for f in report.findings)
    assert any(f.evidence.get("fault") == "marker" and f.count == 1399 for f in report.findings)


# --- from file to answer ---


@pytest.mark.parametrize("method", ["full", "lora", "top_layers"])
def test_a_run_gives_a_bundle_that_answers_alike_in_every_way(method: str, tiny_bert: Path, tmp_path: Path) -> None:
    rows = [{**one, "context": f"{one['context']} {word}"} for word in ("room", "钱", "film") for one in TINY]
    parts = {"train": rows, "dev": TINY, "test": [{**one, "context": f"the {one['context']}"} for one in TINY]}
    for name, own in parts.items():
        own = [{**one, "answers": json.dumps([a.text for a in read_answers(one["answers"])])} for one in own]
        text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in own)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    data = tmp_path / "train.jsonl"
    recipe = Recipe(
        data={name: str(tmp_path / f"{name}.jsonl") for name in parts},
        model=str(tiny_bert),
        task={"name": "question_answering", "stride": 16},
        method=method,
        training={"epochs": 2, "learning_rate": 1e-2},
        evaluation={"resamples": 100},
    )
    bundle = run(recipe, tmp_path / "run", show=False)
    assert bundle.verified is not None
    assert set(bundle.facts["metrics"]) == {"answer_f1", "exact_match"}
    assert "no_answer_threshold" in bundle.calibration
    assert {standing.key for standing in bundle.report.standings} >= {"tuned", "before", "sliding_window"}
    asked = [{"question": one["question"], "context": one["context"]} for one in TINY]
    batch = Bundle(tmp_path / "run").predict(asked)
    for one, wanted in zip(asked, batch, strict=True):
        alone = bundle.predict(one)
        assert (alone.answer, alone.start, alone.end) == (wanted.answer, wanted.start, wanted.end)
        assert alone.confidence == pytest.approx(wanted.confidence, abs=1e-4)
        assert one["context"][alone.start : alone.end] == alone.answer if alone.answer else alone.start is None
    said_of_file = list(predict_file(bundle, data))[: len(TINY)]
    of_rows = bundle.predict([{k: one[k] for k in ("question", "context")} for one in rows[: len(TINY)]])
    assert [one["answer"] for one in said_of_file] == [one.answer for one in of_rows]
    assert [one["start"] for one in said_of_file] == [one.start for one in of_rows]
