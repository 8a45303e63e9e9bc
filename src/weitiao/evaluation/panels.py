"""Building blocks of a report: a task brings its own pictures and tables by returning some of these.

Each is plain data with `to_json` and `to_html`; `panel_from_json` reads any of them back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from weitiao.errors import WeitiaoError
from weitiao.evaluation.calibration import mean_gap, reliability
from weitiao.evaluation.plots import Bar, Series, bars_svg, cells_svg, clean, curves_svg, number, shorten

__all__ = [
    "Bar",
    "BarsPanel",
    "Cell",
    "CurvePanel",
    "HeatmapPanel",
    "Panel",
    "Series",
    "TablePanel",
    "calibration_panel",
    "confusion",
    "panel_from_json",
    "per_class",
]

Cell = str | int | float | None
_MOST_NUMBERED = 30  # classes up to which a confusion matrix shows every number
_MOST_CONFUSED = 15
_LONG_TABLE = 12  # rows from which a table is folded to a scrolling box


@dataclass(frozen=True)
class TablePanel:
    """A table: text cells left, numbers right, three decimals for fractions."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    kind: Literal["table"] = "table"

    def to_json(self) -> dict[str, Any]:
        """Return the panel as JSON values."""
        return asdict(self)

    def to_html(self) -> str:
        """Return a self-contained HTML figure."""
        numeric = [
            bool(self.rows) and all(isinstance(row[i], int | float | None) for row in self.rows)
            for i in range(len(self.columns))
        ]
        head = "".join(
            f'<th scope="col"{_num(is_number)}>{clean(name)}</th>'
            for name, is_number in zip(self.columns, numeric, strict=True)
        )
        lines = []
        for row in self.rows:
            first, *rest = (clean(number(cell)) for cell in row)
            cells = "".join(f"<td{_num(numeric[i + 1])}>{cell}</td>" for i, cell in enumerate(rest))
            lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        long = " long" if len(self.rows) > _LONG_TABLE else ""
        return _figure(self.title, f'<div class="scroll{long}" tabindex="0">{table}</div>', self.note)


@dataclass(frozen=True)
class HeatmapPanel:
    """A square matrix of counts, rows true and columns predicted, kept as its nonzero ``(row, column, count)``."""

    title: str
    labels: tuple[str, ...]
    cells: tuple[tuple[int, int, int], ...]
    note: str = ""
    kind: Literal["heatmap"] = "heatmap"

    def to_json(self) -> dict[str, Any]:
        """Return the panel as JSON values."""
        return asdict(self)

    def to_html(self) -> str:
        """Return a self-contained HTML figure: every number, or for many classes the most confused pairs."""
        if len(self.labels) <= _MOST_NUMBERED:
            return _figure(self.title, self._matrix(), self.note)
        confused = sorted((c for c in self.cells if c[0] != c[1]), key=lambda c: (-c[2], c[0], c[1]))
        pairs = tuple((self.labels[t], self.labels[p], n) for t, p, n in confused[:_MOST_CONFUSED])
        table = TablePanel("Most confused pairs", ("true", "predicted", "rows"), pairs)
        picture = cells_svg(len(self.labels), self.cells, self.labels, title=self.title)
        caption = "Rows are true classes, columns predicted; gray: right, color: confused. Point at a cell to read it."
        body = f'<div class="side"><div>{picture}<p class="note">{caption}</p></div>{table.to_html()}</div>'
        return _figure(self.title, body, self.note)

    def _matrix(self) -> str:
        size = len(self.labels)
        counts = np.zeros((size, size), dtype=np.int64)
        for true, predicted, n in self.cells:
            counts[true, predicted] = n
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        names = [clean(shorten(name, 22)) for name in self.labels]
        turn = size > 6 or max(map(len, self.labels), default=0) > 12
        head = "".join(f'<th scope="col"{_turned(name) if turn else ""}><span>{name}</span></th>' for name in names)
        lines = []
        for i, name in enumerate(names):
            cells = "".join(_shaded(int(counts[i, j]), float(share[i, j]), i == j) for j in range(size))
            lines.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
        table = (
            f'<table class="matrix"><thead><tr><th scope="col">true \\ predicted</th>{head}</tr></thead>'
            f"<tbody>{''.join(lines)}</tbody></table>"
        )
        return f'<div class="scroll" tabindex="0">{table}</div>'


@dataclass(frozen=True)
class CurvePanel:
    """Lines over two axes; `diagonal` marks where they would be equal."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    diagonal: bool = False
    note: str = ""
    kind: Literal["curve"] = "curve"

    def to_json(self) -> dict[str, Any]:
        """Return the panel as JSON values."""
        return asdict(self)

    def to_html(self) -> str:
        """Return a self-contained HTML figure."""
        domains = ((0.0, 1.0), (0.0, 1.0)) if self.diagonal else (None, None)
        picture = curves_svg(
            self.series, title=self.title, axes=(self.x_label, self.y_label), diagonal=self.diagonal, domains=domains
        )
        return _figure(self.title, picture, self.note)


@dataclass(frozen=True)
class BarsPanel:
    """Values side by side, with their intervals where known."""

    title: str
    bars: tuple[Bar, ...]
    note: str = ""
    kind: Literal["bars"] = "bars"

    def to_json(self) -> dict[str, Any]:
        """Return the panel as JSON values."""
        return asdict(self)

    def to_html(self) -> str:
        """Return a self-contained HTML figure."""
        return _figure(self.title, bars_svg(self.bars, title=self.title), self.note)


Panel = TablePanel | HeatmapPanel | CurvePanel | BarsPanel
_KINDS: dict[str, type[Panel]] = {"table": TablePanel, "heatmap": HeatmapPanel, "curve": CurvePanel, "bars": BarsPanel}


def panel_from_json(data: Mapping[str, Any]) -> Panel:
    """Read back what `to_json` of any panel gave.

    Raises
    ------
    WeitiaoError
        A kind of panel that this version does not know, or fields that are not its own.
    """
    kind = _KINDS.get(str(data.get("kind")))
    if kind is None:
        raise WeitiaoError(f"no panel is of kind {data.get('kind')!r}.", fix=f"Known: {', '.join(_KINDS)}.")
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_python(dict(data))


def per_class(targets: np.ndarray, predictions: np.ndarray, labels: Sequence[str]) -> TablePanel:
    """Return precision, recall, F1 and rows of every class, the worst F1 first.

    Parameters
    ----------
    targets, predictions
        ``(rows,)``, class indices.
    labels
        Names of the classes, in order; a class that occurs on neither side has no numbers.
    """
    size = len(labels)
    support, predicted = (np.bincount(x, minlength=size) for x in (targets, predictions))
    correct = np.bincount(targets[targets == predictions], minlength=size)
    rows: list[tuple[Cell, ...]] = []
    for name, right, true, said in zip(labels, correct.tolist(), support.tolist(), predicted.tolist(), strict=True):
        f1 = 2 * right / (true + said) if true + said else None
        rows.append((name, right / said if said else None, right / true if true else None, f1, true, said))
    rows.sort(key=lambda row: (row[3] is None, row[3]))
    columns = ("class", "precision", "recall", "F1", "true rows", "predicted rows")
    note = "Worst first. Precision: the share of rows called so that are. Recall: the share of rows that are, found."
    return TablePanel("Every class", columns, tuple(rows), note)


def confusion(targets: np.ndarray, predictions: np.ndarray, labels: Sequence[str]) -> HeatmapPanel:
    """Return which class was taken for which."""
    size = len(labels)
    found, counts = np.unique(np.asarray(targets) * size + np.asarray(predictions), return_counts=True)
    cells = tuple((int(c) // size, int(c) % size, int(n)) for c, n in zip(found, counts, strict=True))
    return HeatmapPanel("What is taken for what", tuple(labels), cells)


def calibration_panel(
    probabilities: np.ndarray, targets: np.ndarray, *, uncalibrated: np.ndarray | None = None, bins: int = 15
) -> CurvePanel:
    """Return the reliability plot: whether a confidence of 80% means right in 80% of the rows.

    Parameters
    ----------
    probabilities
        ``(rows, classes)``, as they are served.
    uncalibrated
        The same before calibration; a second line where given.
    """
    drawn = [("as served", probabilities)]
    if uncalibrated is not None:
        drawn.append(("before calibration", uncalibrated))
    series, told = [], []
    for name, values in drawn:
        table = reliability(values, targets, bins)
        full = [b for b in table if b.n]
        x, y = tuple(b.confidence for b in full), tuple(b.accuracy for b in full)
        series.append(Series(name, x, y, tuple(b.n for b in full)))
        told.append(f"{name} {mean_gap(table):.3f}")
    note = (
        "Dots on the dashed line mean what they say; below it, the model is surer than it should be. Larger dots hold "
        f"more rows. Mean distance from the line ({bins} bins): {', '.join(told)}."
    )
    return CurvePanel("Do confidences mean what they say?", "confidence", "share right", tuple(series), True, note)


def _num(is_number: bool) -> str:
    return ' class="num"' if is_number else ""


def _turned(name: str) -> str:
    return ' class="turned"' if name.isascii() else ' class="stacked"'  # Chinese stands upright in a column


def _figure(title: str, body: str, note: str) -> str:
    below = f'<p class="note">{clean(note)}</p>' if note else ""
    return f'<figure class="panel"><figcaption>{clean(title)}</figcaption>{body}{below}</figure>'


def _shaded(count: int, share: float, right: bool) -> str:
    if not count:
        return '<td class="none">0</td>'
    color = "var(--accent, #1459c7)" if right else "var(--second, #b4541a)"
    strength = 12 + 58 * share if right else 12 + 68 * share
    return f'<td style="background:color-mix(in srgb, {color} {strength:.0f}%, transparent)">{count:,}</td>'
