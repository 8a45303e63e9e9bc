"""The report: the answer first, every number with its interval, nothing of the user run as code."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from weitiao.data.table import Table
from weitiao.errors import BundleError, DataError, RecipeError, WeitiaoError
from weitiao.evaluation.comparison import Interval, bootstrap, paired_bootstrap
from weitiao.evaluation.report import Contender, Counts, Report, ReportInput, Temperature, Training, build_report, line
from weitiao.findings import Finding
from weitiao.plugins import find
from weitiao.probability import softmax

EVIL = "<script>alert(1)</script>"
LABELS = ["退款申请", "物流查询", EVIL]
METRICS = ["accuracy", "macro_f1", "log_loss"]


def probabilities(targets: np.ndarray, skill: float, seed: int, classes: int = 3) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(len(targets), classes))
    logits[np.arange(len(targets)), targets] += skill
    return softmax(logits)


def classifier(labels: list[str]) -> Any:
    return find("tasks", "classification")(None, {"labels": labels, "pair": False})


def given(rows: int = 240, **changes: Any) -> ReportInput:
    targets = np.random.default_rng(0).integers(0, 3, rows)
    tuned = probabilities(targets, 3.0, 1)
    texts = [f"第{i}个问题：什么时候发货？{EVIL if i % 7 == 0 else '谢谢' * (i % 5)}" for i in range(rows)]
    plain = ReportInput(
        title=f"客服意图 {EVIL}",
        table=Table.from_rows(
            [{"text": t, "渠道": ["app", "电话"][i % 2]} for i, t in enumerate(texts)], file="test.csv"
        ),
        text_fields=("text",),
        targets=targets,
        task=classifier(LABELS),
        contenders=[
            Contender("tuned", "the tuned model", tuned, "", "微调后的模型"),
            Contender("tfidf", "TF-IDF", probabilities(targets, 2.9, 2)),
            Contender("before", "the model before tuning", probabilities(targets, 0.8, 3), EVIL, "微调前的模型"),
        ],
        metrics=METRICS,
        main_metric="accuracy",
        counts=Counts(rows + 1010, {"train": 1000, "test": rows}, {"empty text": 9, EVIL: 1}),
        before="before",
        temperature=Temperature(1.5, softmax(np.log(tuned) * 1.5)),
        training=Training(
            EVIL,
            "小模型",
            10,
            1000,
            2,
            75.0,
            ({"epoch": 1, "loss": 1.5, "score": 0.5}, {"epoch": 2, "loss": 1.0, "score": 0.8}),
        ),
        seeds_scores=(0.9, 0.92, 0.88),
        findings=[Finding("duplicates", "warning", f"重复 {EVIL}", "去掉它们。", ("a.csv:3",))],
        recipe=f"data: {EVIL}\n",
        slices=["渠道"],
        resamples=200,
    )
    return dataclasses.replace(plain, **changes)


@pytest.fixture(scope="module")
def report() -> Report:
    return build_report(given())


class Page(HTMLParser):
    """Collects the tags, the addresses and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("href", "src", "action")]
        self.ids += [v or "" for k, v in attrs if k == "id"]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_numbers_are_those_of_the_metrics_and_tests(report: Report) -> None:
    data = given()
    alone = {"classes": 3, "seed": 0, "resamples": 200}
    for standing, contender in zip(report.standings, data.contenders, strict=True):
        for name in METRICS:
            expected = bootstrap(find("metrics", name)(), data.targets, contender.answers, **alone)
            assert standing.scores[name] == expected
    for one in report.comparisons:
        other = next(c for c in data.contenders if c.key == one.against)
        for name in METRICS:
            both = (data.contenders[0].answers, other.answers)
            assert one.differences[name] == paired_bootstrap(find("metrics", name)(), data.targets, *both, **alone)


def test_the_headline_is_before_after_and_the_strongest_rival_in_both_languages(report: Report) -> None:
    before = report.standings[2].scores["accuracy"].value
    assert report.headline.startswith(f"Accuracy {before:.3f} → {report.main}. Better than the model before tuning:")
    assert "than TF-IDF" in report.headline
    assert report.headline_zh.startswith(f"准确率 {before:.3f} → {report.main}。优于微调前的模型：准确率提高")
    assert report.comparisons[0].against == "before"


def test_the_number_line() -> None:
    found = Interval(0.9126, 0.897, 0.928, 1200)
    said = line("accuracy", found, {"before": 0.412, "TF-IDF": 0.861})
    assert said == "accuracy 0.913 [0.897, 0.928] (n=1,200; before 0.412; TF-IDF 0.861)"


def test_the_line_of_a_report_names_before_and_the_strongest_rival() -> None:
    data = given()
    weak = Contender("weak", "a weak rival", probabilities(data.targets, 0.1, 9))
    report = build_report(dataclasses.replace(data, contenders=[*data.contenders, weak]))
    before, rival = (report.standings[i].scores["accuracy"].value for i in (2, 1))
    assert report.line == f"accuracy {report.main} (n=240; before {before:.3f}; TF-IDF {rival:.3f})"
    loss = build_report(dataclasses.replace(data, contenders=[*data.contenders, weak], main_metric="log_loss"))
    assert re.fullmatch(r"log loss .* \(n=240; before [\d.]+; TF-IDF [\d.]+\)", loss.line)
    assert loss.comparisons[0].outcome == "better"
    assert "log loss falls by" in loss.headline


def test_a_model_that_is_no_better_is_said_to_be_so() -> None:
    data = given()
    same = [dataclasses.replace(c, answers=data.contenders[0].answers) for c in data.contenders]
    report = build_report(dataclasses.replace(data, contenders=same))
    assert report.comparisons[0].outcome == "unclear"
    assert "The same as the model before tuning: no difference in accuracy" in report.headline
    assert "The same as the model before tuning" in report.to_html()
    worse = build_report(dataclasses.replace(data, contenders=data.contenders[::-1], before="tuned"))
    assert worse.comparisons[0].outcome == "worse"
    assert "Worse than the tuned model" in worse.to_html()


def test_it_survives_json(report: Report, tmp_path: Path) -> None:
    report.write_json(tmp_path / "report.json")
    data = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert data["format_version"] == 1
    assert Report.from_json(data) == report
    assert Report.from_json(data).to_html() == report.to_html()
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_a_report_of_another_version_or_in_pieces_is_refused(report: Report) -> None:
    data = report.to_json()
    with pytest.raises(BundleError, match="format version 99; this weitiao reads 1"):
        Report.from_json(data | {"format_version": 99})
    with pytest.raises(BundleError, match="the report is not whole: recipe"):
        Report.from_json({k: v for k, v in data.items() if k != "recipe"})


def test_the_page_needs_nothing_from_outside_and_runs_nothing(report: Report, tmp_path: Path) -> None:
    report.write_html(tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert all(address.startswith("#") and address[1:] in page.ids for address in page.addresses)
    assert not re.search(r"url\(|@import|https?://", html)
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 10  # title, label, text, note, reason, finding, recipe
    for word in (
        "退款申请",
        "微调后的模型",
        "个问题：什么时候发货？",
        "去掉它们。",
        "电话",
        "prefers-color-scheme: dark",
        "@media print",
    ):
        assert word in html


def test_the_page_shows_the_numbers_of_the_json(report: Report) -> None:
    page, data = Page(report.to_html()), report.to_json()
    for standing in data["standings"]:
        for score in standing["scores"].values():
            assert f"{score['value']:.3f}[{score['low']:.3f}, {score['high']:.3f}]" in page.text
    for one in data["comparisons"]:
        for d in one["differences"].values():
            assert f"{d['value']:+.3f}[{d['low']:+.3f}, {d['high']:+.3f}]" in page.text
    for mistake in data["mistakes"]:
        assert mistake["place"] in page.text
        assert f"{mistake['confidence']:.3f}" in page.text
    assert data["headline_"]["en"] in page.text
    assert data["headline_"]["zh"] in page.text
    assert "1,250 read, 1,240 used, 10 set aside" in page.text


def test_slices_hold_every_row_once(report: Report) -> None:
    assert {s.column for s in report.slices} == {"length", "渠道"}
    for column in ("length", "渠道"):
        parts = [s for s in report.slices if s.column == column]
        assert sum(s.score.n for s in parts) == 240
        weighted = sum(s.score.value * s.score.n for s in parts) / 240
        assert weighted == pytest.approx(report.main.value)
        assert all(s.before is not None and s.score.low <= s.score.value <= s.score.high for s in parts)


def test_mistakes_are_the_wrong_rows_the_surest_first(report: Report) -> None:
    data = given()
    wrong = data.contenders[0].answers.argmax(axis=1) != data.targets
    assert report.wrong == wrong.sum()
    assert len(report.mistakes) == min(20, wrong.sum())
    sure = [m.confidence for m in report.mistakes]
    assert sure == sorted(sure, reverse=True)
    for mistake in report.mistakes:
        row = int(mistake.place.partition(":")[2]) - 1
        assert wrong[row]
        assert LABELS[data.targets[row]] == mistake.true != mistake.predicted


@pytest.mark.parametrize(("axis", "label"), [("epoch", "epoch"), ("step", "step"), ("C", "as a power of 10")])
def test_training_is_drawn_over_what_it_was_measured_by(axis: str, label: str) -> None:
    history = ({axis: 10.0, "score": 0.8}, {axis: 1.0, "score": 0.5})
    html = build_report(given(training=Training("m", "模型", 10, 1000, 2, 75.0, history))).to_html()
    assert "accuracy on dev" in html
    assert "Training loss" not in html  # nothing was measured
    assert label in html


def test_little_is_enough() -> None:
    data = given(rows=1)
    only = dataclasses.replace(
        data, contenders=data.contenders[:1], before=None, temperature=None, training=None,
        seeds_scores=(), findings=(), recipe="", slices=(),
    )  # fmt: skip
    report = build_report(only)
    assert report.headline.endswith("(n=1).")
    assert not report.comparisons
    assert "Measured" in report.to_html()
    report.show(Console(file=io.StringIO()))
    assert Report.from_json(report.to_json()) == report


def test_pairs_and_empty_texts_are_shown() -> None:
    rows = [{"text": None if i % 2 else "问", "text_pair": "答"} for i in range(240)]
    report = build_report(given(table=Table.from_rows(rows), text_fields=("text", "text_pair"), slices=()))
    assert {m.text for m in report.mistakes} <= {"问 ⏐ 答", "⏐ 答"}


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"targets": np.zeros(3, int)}, DataError, "one target each; got 240 rows, 3 targets"),
        ({"task": classifier(LABELS[:2])}, DataError, r"'tuned' have shape \(240, 3\); 240 test rows need \(240, 2\)"),
        ({"main_metric": "acuracy"}, RecipeError, "'acuracy' is not among the metrics.*Did you mean 'accuracy'"),
        ({"before": "none"}, WeitiaoError, "contenders tuned, tfidf, before need different keys, and 'none' among"),
        ({"slices": ["渠"]}, RecipeError, "no column '渠' to slice by.*Columns: text, 渠道"),
        ({"slices": ["text"]}, RecipeError, "column 'text' has 2.. different values in test; a slice needs 2 to 12"),
    ],
)
def test_what_cannot_be_reported_is_said(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        build_report(given(**changes))


def test_a_model_that_diverged_is_not_reported() -> None:
    data = given()
    broken = data.contenders[0].answers.copy()
    broken[4, 1] = np.nan
    tuned = dataclasses.replace(data.contenders[0], answers=broken)
    with pytest.raises(DataError, match=r"test\.csv:5: the answers of 'tuned' are not finite in 1 test rows"):
        build_report(dataclasses.replace(data, contenders=[tuned]))


def test_rows_that_are_lost_are_not_hidden() -> None:
    with pytest.raises(WeitiaoError, match="do not add up: 10 read, but 8 used and 1 set aside"):
        Counts(10, {"train": 5, "test": 3}, {"empty": 1})


def test_the_terminal_shows_the_answer(report: Report) -> None:
    out = io.StringIO()
    report.show(Console(file=out, width=160))
    said = out.getvalue()
    for words in (
        "Better than the model before tuning",
        "准确率",
        "McNemar",
        "1,250 read = train 1,000, test 240",
        "±",
    ):
        assert words in said
    assert EVIL in said  # as text; brackets of a label are no markup either


def test_thousands_of_rows_and_many_classes_take_seconds() -> None:
    targets = np.random.default_rng(0).integers(0, 77, 3080)
    many = [Contender(k, k, probabilities(targets, 4, i, 77)) for i, k in enumerate(("tuned", "before", "b", "c"))]
    rows = Table.from_rows([{"text": f"第{i}行"} for i in range(3080)])
    data = given(
        table=rows, targets=targets, task=classifier([str(i) for i in range(77)]), contenders=many, slices=(),
        temperature=None, metrics=["accuracy", "macro_f1", "weighted_f1", "mcc", "log_loss"], resamples=1000,
    )  # fmt: skip
    started = time.process_time()
    build_report(data)
    assert time.process_time() - started < 25
