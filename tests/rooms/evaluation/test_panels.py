"""The building blocks of a report: right numbers, safe strings, Chinese, both ways through JSON."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from weitiao.errors import WeitiaoError
from weitiao.evaluation.panels import (
    Bar,
    BarsPanel,
    CurvePanel,
    HeatmapPanel,
    Panel,
    Series,
    TablePanel,
    calibration_panel,
    confusion,
    panel_from_json,
    per_class,
)
from weitiao.evaluation.plots import clean, number, shorten

EVIL = "<script>alert('好')</script>"
GENERATOR = np.random.default_rng(0)
TARGETS, SAID = GENERATOR.integers(0, 4, 300), GENERATOR.integers(0, 4, 300)
PANELS: list[Panel] = [
    TablePanel(EVIL, ("类别", EVIL), (("好", 1), (EVIL, 2500), (EVIL, None)), EVIL),
    confusion(TARGETS, SAID, ["退款", EVIL, "c", "d"]),
    confusion(TARGETS, SAID, ["退款", EVIL, *map(str, range(40))]),
    CurvePanel(EVIL, EVIL, "分数", (Series(EVIL, (0.0, 1.0), (0.5, 0.5), (3, 4)), Series("好", (0.0,), (1.0,)))),
    BarsPanel(EVIL, (Bar(EVIL, 0.5, 0.4, 0.6, True), Bar("多数类", 0.1)), EVIL),
]


@pytest.mark.parametrize("panel", PANELS, ids=lambda p: p.kind)
def test_every_panel_survives_json_and_escapes_strings(panel: Panel) -> None:
    assert panel_from_json(json.loads(json.dumps(panel.to_json()))) == panel
    html = panel.to_html()
    assert "<script" not in html
    assert "&lt;script" in html
    ET.fromstring(html)  # well-formed: every tag closed, every attribute quoted


def test_an_unknown_panel_is_named() -> None:
    with pytest.raises(WeitiaoError, match=r"no panel is of kind 'pie'\. Known: table, heatmap, curve, bars"):
        panel_from_json({"kind": "pie"})


def test_the_class_table_equals_scikit_learn_and_puts_the_worst_first() -> None:
    table = per_class(TARGETS, SAID, ["a", "b", "c", "d", "从未出现"])
    scores = np.array(precision_recall_fscore_support(TARGETS, SAID, labels=range(4)))
    rows = {row[0]: row[1:] for row in table.rows}
    for i, name in enumerate("abcd"):
        assert rows[name][:3] == pytest.approx(scores[:3, i])
        assert rows[name][3:] == (TARGETS.tolist().count(i), SAID.tolist().count(i))
    assert rows["从未出现"] == (None, None, None, 0, 0)
    f1s = [float(row[3] or 0) for row in table.rows[:-1]]
    assert f1s == sorted(f1s)


def test_the_confusion_matrix_equals_scikit_learn() -> None:
    found = np.zeros((4, 4), dtype=int)
    for true, predicted, n in confusion(TARGETS, SAID, list("abcd")).cells:
        found[true, predicted] = n
    np.testing.assert_array_equal(found, confusion_matrix(TARGETS, SAID))


def test_many_classes_show_the_most_confused_pairs() -> None:
    targets = np.repeat(np.arange(40), 5)
    said = targets.copy()
    said[:4] = 1  # 4 of the 5 rows of class 0
    html = confusion(targets, said, [f"意图{i}" for i in range(40)]).to_html()
    assert "Most confused pairs" in html
    assert '<th scope="row">意图0</th><td>意图1</td><td class="num">4</td>' in html
    small = confusion(targets, said, [f"意图{i}" for i in range(40)]).cells
    assert len(small) == 41  # only what is not zero is kept


def test_the_reliability_plot_shows_both_lines_and_their_gaps() -> None:
    served = np.tile([0.75, 0.25], (4, 1))
    panel = calibration_panel(served, np.array([0, 0, 0, 1]), uncalibrated=np.tile([0.95, 0.05], (4, 1)))
    assert panel.diagonal
    assert panel.series[0] == Series("as served", (0.75,), (0.75,), (4,))
    assert "as served 0.000, before calibration 0.200" in panel.note
    assert len(calibration_panel(served, np.array([0, 0, 0, 1])).series) == 1


def test_a_heatmap_without_mistakes_or_rows_still_draws() -> None:
    for size in (2, 50):
        labels = tuple(str(i) for i in range(size))
        ET.fromstring(HeatmapPanel("t", labels, ((0, 0, 3),)).to_html())
        ET.fromstring(HeatmapPanel("t", labels, ()).to_html())


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6), st.text(max_size=30))
def test_any_values_and_any_text_give_a_well_formed_plot(values: list[float], text: str) -> None:
    steps = tuple(float(i) for i in range(len(values)))
    ET.fromstring(CurvePanel(text, text, text, (Series(text, steps, tuple(values)),)).to_html())
    ET.fromstring(BarsPanel(text, tuple(Bar(text, v, v - 1, v + 1) for v in values)).to_html())


@given(st.text(st.characters(codec=None)))
def test_any_text_can_be_shown(text: str) -> None:
    clean(text).encode("utf-8")
    assert "\x00" not in clean(text)


def test_numbers_and_text_read_as_people_write_them() -> None:
    assert [number(v) for v in (None, True, 12345, 0.12345, "好")] == ["–", "yes", "12,345", "0.123", "好"]
    assert shorten("a  short\ntext", 40) == "a short text"
    assert shorten("房间很干净也很安静", 8) == "房间很…"
    assert shorten("abcdefghij", 6) == "abcde…"
