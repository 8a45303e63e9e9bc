"""Each check's edges and settings, and the report over them."""

from __future__ import annotations

import io
import json
import xml.dom.minidom
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from weitiao import plugins
from weitiao.data.check import CheckReport, run_checks
from weitiao.data.checks.base import CheckInput, excerpt, num_rows, share
from weitiao.data.table import Place, SetAside, Source, Table
from weitiao.errors import RecipeError, UnknownName
from weitiao.findings import Finding

Pair = tuple[str, str]


def data_of(**splits: Sequence[Pair]) -> CheckInput:
    """Return an input of (text, label) pairs by split."""
    tables = {
        split: Table.from_rows([{"text": t, "label": label} for t, label in rows], file=f"{split}.csv")
        for split, rows in splits.items()
    }
    return CheckInput(tables, ("text",), "label")


def findings(name: str, data: CheckInput, **settings: Any) -> tuple[Finding, ...]:
    """Run one check with settings."""
    return run_checks(data, [name], {name: settings}).findings


def labelled(**counts: int) -> list[Pair]:
    """Return rows with that many of each label."""
    return [(f"text {label} {i}", label) for label, n in counts.items() for i in range(n)]


PARAGRAPH = "I ordered a kettle and two cups on the third of May and paid at once, yet only one cup came in the box"


# ---- settings that decide


def _aside(rows: int, gone: int) -> CheckInput:
    whole = data_of(all=labelled(a=rows)).tables["all"]
    lost = tuple(
        SetAside(Place("all.csv", rows + 2 + i), f"{i + 3} cells where there should be 2") for i in range(gone)
    )
    return CheckInput({"all": Table(whole.columns, whole.places, lost)}, ("text",), "label")


def test_set_aside_rows_are_grouped_and_graded() -> None:
    (finding,) = findings("unusable", _aside(300, 3))
    assert (finding.severity, finding.count) == ("warning", 3)
    assert "3 of 303 rows" in finding.message
    assert finding.places == ("all.csv:302", "all.csv:303", "all.csv:304")
    assert findings("unusable", _aside(100, 3))[0].severity == "error"
    assert findings("unusable", _aside(100, 3), error_share=0.5)[0].severity == "warning"


def test_damage_is_an_error_where_it_is_everywhere() -> None:
    rows = [("ä½\u00a0å¥½", "a"), ("well", "b"), ("good", "a")]
    assert findings("encoding", data_of(all=rows))[0].severity == "error"
    assert findings("encoding", data_of(all=rows), error_share=0.5)[0].severity == "warning"


@pytest.mark.parametrize(
    "text",
    [
        "Ä Ö Ü „Überraschung“ für Jürgen",
        "l'été à Orléans, déjà",
        "IRMÃ",
        "¿Qué tal, señor? ¡Ñandú!",
        "烫烫烫，太好吃了",
        "“房间”很干净……",
        "Привет, мир",
        "東京の天気",
        "Ａ",
        "naïve café — œuvre",
        "10 €, 5 £ ± 2 °C",
        "浣熊很可爱",
        "🙂👍🏽",
    ],
)
def test_sound_text_is_not_called_damaged(text: str) -> None:
    assert not [f for f in findings("encoding", data_of(all=[(text, "a")])) if f.severity != "info"]


@pytest.mark.parametrize(
    "text",
    ["CafÃ© au lait", "donâ€™t", "Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "é…’åº—", "锟斤拷", "bad \ufffd byte", "鎴戠殑鍖呰9", "ï»¿text"],
)
def test_damaged_text_is_found(text: str) -> None:
    assert "wrong encoding" in findings("encoding", data_of(all=[(text, "a")]))[0].message


def test_source_notes_are_told_once_with_their_line() -> None:
    table = data_of(all=labelled(a=2)).tables["all"]
    notes = ("not UTF-8: read as cp1252", "NUL bytes removed at line 7 and 2 more lines", "3 blank lines skipped")
    source = Source("all.csv", "csv", encoding="cp1252", notes=notes)
    data = CheckInput({s: Table(table.columns, table.places, (), (source,)) for s in ("train", "dev")}, ("text",), None)
    first, second = findings("encoding", data)
    assert (first.severity, first.places) == ("warning", ("all.csv:1",))
    assert (second.severity, second.places) == ("warning", ("all.csv:7",))


def test_duplicates_obey_their_settings() -> None:
    rows = [(PARAGRAPH, "a"), (PARAGRAPH + " today", "a"), ("short", "b"), ("Short!", "b")]
    exact, near = findings("duplicates", data_of(all=rows))
    assert (exact.count, exact.evidence["verbatim"], near.count) == (1, 0, 1)
    assert [f.severity for f in findings("duplicates", data_of(all=rows), warning_share=0.9)] == ["info", "info"]
    assert len(findings("duplicates", data_of(all=rows), threshold=0.99)) == 1


def test_leakage_counts_rows_and_texts_of_every_pair_of_splits() -> None:
    train = [("one", "a"), ("two", "b"), ("one", "a"), (PARAGRAPH, "a")]
    dev = [("two", "a"), ("three", "b")]
    test = [("one", "a"), ("one", "a"), ("ONE!", "a"), ("three", "b"), (PARAGRAPH + " now", "a"), ("four", "a")]
    found = findings("leakage", data_of(test=test, train=train, dev=dev))
    assert [f.severity for f in found] == ["error", "error", "error", "warning"]
    assert "1 of 2 dev rows also stand in train" in found[0].message
    assert "1 of them with another label" in found[0].message
    assert "2 of 6 test rows also stand in train word for word (1 different texts), and 1 more" in found[1].message
    assert found[1].count == 3
    assert found[1].places[:2] == ("test.csv:1", "train.csv:1")
    assert "1 of 6 test rows also stand in dev" in found[2].message
    assert found[3].places == ("test.csv:5", "train.csv:4")
    data = data_of(test=test, train=train, dev=dev)
    assert len(findings("leakage", data, threshold=0.99)) == 3
    assert len(findings("leakage", data, examples=1)[1].evidence["examples"]) == 1


def test_conflicts_can_be_looked_for_verbatim() -> None:
    rows = [("Good.", "a"), ("good", "b"), ("bad", "a"), ("bad", "b")]
    assert findings("conflicts", data_of(all=rows))[0].count == 4
    assert findings("conflicts", data_of(all=rows), verbatim=True)[0].count == 2
    across = findings("conflicts", data_of(train=rows[:1], test=rows[1:2]))
    assert across[0].places == ("train.csv:1", "test.csv:1")


@pytest.mark.parametrize(
    ("rare", "frequent"),
    [
        ("postive", "positive"),
        ("Positive", "positive"),
        ("card-payment", "card_payment"),
        ("ｐｏｓｉｔｉｖｅ", "positive"),
        ("card_payement", "card_payment"),
        ("物流快弟", "物流快递"),
        ("退换獲", "退换货"),
        ("1.0", "1"),
        ("帐户", "账户"),
    ],
)
def test_typos_of_labels_are_found(rare: str, frequent: str) -> None:
    (finding,) = findings("label_typos", data_of(all=labelled(**{frequent: 30, rare: 1, "other": 30})))
    assert finding.evidence["meant"] == frequent
    assert finding.places == ("all.csv:31",)


@pytest.mark.parametrize(
    ("rare", "frequent"),
    [
        ("1-star", "2-star"),
        ("-1", "1"),
        ("1.5", "15"),
        ("invalid", "valid"),
        ("不满意", "满意"),
        ("负面", "正面"),
        ("cat", "car"),
        ("topic_-1", "topic_1"),
        ("card_1", "card_2"),
        ("很好", "不好"),
        ("deactivate", "activate"),
        ("cash_lost", "card_lost"),
    ],
)
def test_labels_that_are_rightly_alike_are_left_alone(rare: str, frequent: str) -> None:
    assert not findings("label_typos", data_of(all=labelled(**{frequent: 60, rare: 1})))


def test_label_typos_obey_their_settings() -> None:
    data = data_of(all=labelled(positive=20, postive=2))
    assert len(findings("label_typos", data)) == 1
    assert not findings("label_typos", data, ratio=15)
    many = data_of(all=labelled(positive=20, postive=2, other=3))
    assert not findings("label_typos", many, max_labels=2)
    common = data_of(all=labelled(文学=20, 工学=400))
    assert not findings("label_typos", common)


def test_rare_labels_obey_their_settings() -> None:
    data = data_of(train=labelled(a=9, b=6), test=labelled(a=6, b=3))
    train, test = findings("rare_labels", data)
    assert "b (6)" in train.message
    assert (test.severity, test.evidence["labels"]) == ("info", {"b": 3})
    assert len(findings("rare_labels", data, train=5)) == 1
    assert len(findings("rare_labels", data, test=3)) == 1


def test_imbalance_obeys_its_settings() -> None:
    data = data_of(train=labelled(a=50, b=10), test=labelled(a=1))
    (finding,) = findings("imbalance", data)
    assert finding.severity == "info"
    assert "right 83.3% of the time" in finding.message
    assert findings("imbalance", data, warning_ratio=4)[0].severity == "warning"
    assert not findings("imbalance", data, info_ratio=6)


def test_lengths_without_a_model_obey_their_settings() -> None:
    rows = [("a sentence of usual length", "a")] * 9 + [("long " * 60, "b")]
    distribution, *others = findings("lengths", data_of(all=rows))
    assert distribution.evidence["quantiles_characters"]["all"] == {
        "50": 26,
        "90": 26,
        "95": 300,
        "99": 300,
        "100": 300,
    }
    assert not others
    assert findings("lengths", data_of(all=rows), long_factor=5)[1].places == ("all.csv:10",)
    assert len(findings("lengths", data_of(all=[*rows, ("k", "a")]))) == 2
    assert len(findings("lengths", data_of(all=[*rows, ("k", "a")]), short=0)) == 1


def test_mixed_language_obeys_its_settings() -> None:
    rows = [("房间很干净整洁", "a")] * 9 + [("clean room 干净", "b")]
    assert not findings("mixed_language", data_of(all=rows))
    assert findings("mixed_language", data_of(all=rows), remnant=0.4)[0].places == ("all.csv:10",)
    other = [*rows[:9], ("good", "b")]
    assert findings("mixed_language", data_of(all=other))[0].severity == "warning"
    assert findings("mixed_language", data_of(all=other), warning_share=0.5)[0].severity == "info"
    assert not findings("mixed_language", data_of(all=other), min_letters=5)


def test_japanese_is_one_script_and_not_chinese() -> None:
    rows = [("部屋はとても綺麗でした", "a"), ("朝食が美味しかった", "b"), ("东京大学附属医院", "a")]
    (finding,) = findings("mixed_language", data_of(all=rows))
    assert finding.evidence["majority"] == "Kana"
    assert finding.places == ("all.csv:3",)


@pytest.mark.parametrize(
    "text",
    [
        "订单号 20240131123456789",
        "400-810-6666",
        "价格 13800 元",
        "110105194912310021",
        "4539 1488 0343 6468",
        "3.14159265358979",
        "v1.2.3-4567",
        "10:30-12:00",
        "1111 1111 1111 1111",
        "@someone at home",
        "2008-07-31 12345678",
    ],
)
def test_numbers_that_are_nobodys_pass(text: str) -> None:
    assert not findings("personal_data", data_of(all=[(text, "a")]))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("me@mail.example.co.uk", "e-mail address"),
        ("１３８１２３４５６７８", "mobile number"),
        ("+86 138 1234 5678", "mobile number"),
        ("(010)62345678", "telephone number"),
        ("0755-2345678", "telephone number"),
        ("(212) 555-0142", "telephone number"),
        ("+49 30 123456", "telephone number"),
        ("11010519491231002x", "Chinese identity number"),
        ("6222021234567890128", "bank card number"),
    ],
)
def test_personal_data_is_found_and_never_printed(text: str, kind: str) -> None:
    (finding,) = findings("personal_data", data_of(all=[(f"联系 {text}。", "a")]))
    assert finding.evidence["kind"] == kind
    shown = json.dumps(finding.to_json(), ensure_ascii=False)
    assert text not in shown
    assert "*" in finding.evidence["masked"][0]


def test_personal_data_obeys_its_settings() -> None:
    data = data_of(all=[("a@example.org", "a"), ("b@example.org 13912345678", "b")])
    assert [f.count for f in findings("personal_data", data)] == [2, 1]
    assert len(findings("personal_data", data, kinds=("mobile number",))) == 1
    assert findings("personal_data", data, examples=0)[0].evidence["masked"] == []
    with pytest.raises(RecipeError, match="kinds"):
        findings("personal_data", data, kinds=("names",))


def test_split_drift_obeys_its_settings() -> None:
    data = data_of(train=labelled(a=500, b=500), test=labelled(a=65, b=35))
    assert not findings("split_drift", data)
    assert findings("split_drift", data, p_value=0.01)
    assert not findings("split_drift", data, p_value=0.01, distance=0.2)
    by_label = data_of(all=labelled(a=8, b=8))
    assert not findings("split_drift", by_label)
    assert findings("split_drift", by_label, min_rows=10)


# ---- with a tokenizer


@pytest.fixture
def words() -> Any:
    """A tokenizer that knows four words."""
    return plugins.find("checks", "vocabulary").tiny()["clean"].tokenizer


def _with(tokenizer: Any, texts: Sequence[str], max_length: int | None = None) -> CheckInput:
    table = Table.from_rows([{"text": text, "label": "a"} for text in texts], file="all.csv")
    return CheckInput({"all": table}, ("text",), "label", tokenizer, max_length)


def test_truncation_tells_what_is_lost(words: Any) -> None:
    data = _with(words, ["where is my card", "my card", "is my card my card"], max_length=3)
    (finding,) = findings("lengths", data)
    assert finding.severity == "warning"
    assert "2 of 3 rows" in finding.message
    assert "27.3% of all tokens" in finding.message
    assert finding.places == ("all.csv:3", "all.csv:1")
    assert findings("lengths", data, warning_share=0.9)[0].severity == "info"
    assert not findings("lengths", _with(words, ["my card"] * 3, max_length=2))


def test_unknown_tokens_are_counted_and_shown(words: Any) -> None:
    data = _with(words, ["where is my card"] * 10 + ["my 卡 卡"])
    assert findings("vocabulary", data) == ()  # 2 of 43
    (finding,) = findings("vocabulary", data, warning_share=0.01)
    assert (finding.severity, finding.places) == ("warning", ("all.csv:11",))
    assert finding.evidence["unknown"] == {"卡": 2}
    assert "Chinese" in finding.remedy
    assert findings("vocabulary", data, error_share=0.02)[0].severity == "error"


def test_pairs_of_texts_are_compared_and_encoded_as_pairs(words: Any) -> None:
    rows = [{"text": "my card", "text_pair": "is", "label": "a"}, {"text": "my", "text_pair": "card is", "label": "b"}]
    data = CheckInput({"all": Table.from_rows(rows)}, ("text", "text_pair"), "label", words, 2)
    assert not findings("conflicts", data)
    assert [len(ids) for ids in data.tokens("all")] == [3, 3]


# ---- the report


class _Page(HTMLParser):
    tags: list[str]

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.words = [], ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [value for key, value in attrs if key in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture
def report() -> CheckReport:
    evil = '<script>alert(1)</script> 房间很干净 & "ok"'
    data = data_of(train=[(evil, "好<b>"), ("早餐太差了", "差"), (evil, "差")], test=[(evil, "好<b>")])
    whole = data.tables["train"]
    source = Source("train.csv", "csv", encoding="utf-8", rows_in=4, notes=("1 <i>blank</i> line",))
    torn = Table(whole.columns, whole.places, (SetAside(Place("train.csv", 4), "no text"),), (source,))
    return run_checks(CheckInput({**data.tables, "train": torn}, ("text",), "label"))


def test_report_is_in_order_and_adds_up(report: CheckReport) -> None:
    order = ["error", "warning", "info"]
    assert [f.severity for f in report.findings] == sorted((f.severity for f in report.findings), key=order.index)
    assert report.counts["train"] == {"rows_in": 4, "used": 3, "set_aside": 1}
    assert report.sums("train") == "4 rows in = 3 used + 1 set aside"
    assert report.labels["train"] == {"差": 2, "好<b>": 1}
    assert sum(report.lengths["train"]["rows"]) == 3
    assert sum(report.num_by_severity.values()) == len(report.findings)
    assert json.loads(json.dumps(report.to_json()))["counts"]["train"]["used"] == 3


def test_page_is_one_file_with_all_user_text_escaped(report: CheckReport, tmp_path: Path) -> None:
    report.write_html(tmp_path / "check.html")
    text = (tmp_path / "check.html").read_text(encoding="utf-8")
    page = _Page(text)
    assert not {"script", "b", "i", "link", "img"} - {"b"} & set(page.tags)
    assert "<script>" not in text
    assert "好<b>" not in text
    assert "http" not in text
    assert "房间很干净" in page.words
    assert 'lang="zh-Hans"' in text
    for finding in report.findings:
        assert finding.remedy in page.words
    svg = text[text.index("<svg") : text.index("</svg>") + 6]
    assert len(xml.dom.minidom.parseString(svg).getElementsByTagName("rect")) == 24


def test_console_shows_place_remedy_and_sums(report: CheckReport) -> None:
    console = Console(record=True, width=200, file=io.StringIO())
    report.print(console)
    shown = console.export_text()
    assert "leakage: 1 of 1 test rows also stand in train" in shown
    assert "at test.csv:1, train.csv:1" in shown
    assert "→ Correct these rows in the file" in shown
    assert "train: 4 rows in = 3 used + 1 set aside" in shown
    assert "<script>alert(1)</script>" in shown  # shown as it is, not read as markup


def test_wrong_names_and_settings_are_refused() -> None:
    data = data_of(all=labelled(a=2))
    with pytest.raises(UnknownName, match="Did you mean 'leakage'"):
        run_checks(data, ["leakages"])
    with pytest.raises(RecipeError, match=r"settings of check duplicates: treshold: .*Its settings: threshold"):
        run_checks(data, ["duplicates"], {"duplicates": {"treshold": 0.9}})
    with pytest.raises(RecipeError, match="does not run"):
        run_checks(data, ["duplicates"], {"leakage": {}})


def test_words_for_people() -> None:
    assert num_rows(1, "dev") == "1 row of dev"
    assert num_rows(1, "all", among=1200) == "1 of 1,200 rows"
    assert share(1, 5000) == "under 0.1%"
    assert share(0, 0) == "0.0%"
    assert excerpt("a\n b" * 100, 10) == "a ba ba b…"


def test_known_leaks_of_a_real_set_are_counted(real_data: Path) -> None:
    from weitiao.data.fields import LABEL, TEXT, map_fields
    from weitiao.data.read import read

    folder = real_data / "classification" / "chnsenticorp"
    files = {"train": "train.tsv.gz", "dev": "dev.tsv", "test": "test.tsv"}
    tables = {split: map_fields(read(folder / file), (TEXT, LABEL)) for split, file in files.items()}
    data = CheckInput(tables, ("text",), "label")
    texts = {f.places[0].split(":")[0]: f.evidence["verbatim_texts"] for f in findings("leakage", data)[:2]}
    assert texts == {"dev.tsv": 335, "test.tsv": 330}
