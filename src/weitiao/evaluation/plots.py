"""Plots as inline SVG that follows the page: its fonts, its light and dark colors, its width.

Written by hand and not by a plotting library: the text stays text (so Chinese comes from the reader's fonts and
is never a missing glyph), colors are the page's CSS variables, equal numbers give equal bytes, and a report needs
no heavy import.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

__all__ = ["Bar", "Dot", "Series", "bars_svg", "cells_svg", "clean", "curves_svg", "number", "scatter_svg", "shorten"]

# page variable, and the value where a page has not set it
_INK, _MUTED, _LINE = "var(--ink, #1a2230)", "var(--muted, #5b6675)", "var(--line, #dfe4ea)"
_COLORS = ("var(--accent, #1459c7)", "var(--second, #b4541a)", "var(--third, #2d7d46)", "var(--fourth, #7a4bb0)")
_FONT = 13


@dataclass(frozen=True)
class Bar:
    """One value with a name and, where known, its interval; `strong` is drawn in the accent color."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    strong: bool = False


@dataclass(frozen=True)
class Series:
    """A line through points; `sizes` (rows behind each point) make the dots larger or smaller."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    sizes: tuple[int, ...] = field(default=())


@dataclass(frozen=True)
class Dot:
    """A named value at a place on a logarithmic axis, with its interval; `strong` is drawn in the accent color."""

    name: str
    x: float
    value: float
    low: float
    high: float
    strong: bool = False


def clean(text: object) -> str:
    """Return text that any browser can show, escaped: control characters and lone surrogates become U+FFFD."""
    shown = "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs") and c not in "\t\n" else c for c in str(text))
    return escape(shown, quote=True)


def number(value: object) -> str:
    """Return a table cell as people read it: 3 decimals, thousands with commas, no value as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def shorten(text: str, width: int) -> str:
    """Cut text to `width` columns (wide characters take two), with an ellipsis where something went."""
    text, taken = " ".join(text.split()), 0
    for i, char in enumerate(text):
        taken += _columns(char)
        if taken > width:
            return text[: max(i - 1, 0)].rstrip() + "…"
    return text


def bars_svg(bars: Sequence[Bar], *, title: str, domain: tuple[float, float] | None = None) -> str:
    """Draw one dot with its interval a line (a forest plot), the axis below; `domain` fixes the axis."""
    names = [shorten(bar.name, 34) for bar in bars]
    left = min(290.0, 24 + max((_width(n) for n in names), default=0))
    width, right, row = 820, 190, 34
    low, high = domain or _domain([v for b in bars for v in (b.value, b.low, b.high) if v is not None])
    ticks = _ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    height = row * len(bars) + 36

    def at(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - right)

    parts = [_line(at(t), 4, at(t), height - 30, _LINE) for t in ticks]
    parts += [_text(at(t), height - 12, f"{t:g}", _MUTED, "middle") for t in ticks]
    for i, (bar, name) in enumerate(zip(bars, names, strict=True)):
        y = row * i + 20
        color, weight = (_COLORS[0], "600") if bar.strong else (_MUTED, "400")
        parts.append(_text(left - 14, y + 4.5, name, _INK, "end", weight))
        said = f"{bar.value:.3f}"
        if bar.low is not None and bar.high is not None:
            parts.append(_line(at(bar.low), y, at(bar.high), y, color, 3))
            parts += [_line(at(end), y - 5, at(end), y + 5, color, 2) for end in (bar.low, bar.high)]
            said += f"  [{bar.low:.3f}, {bar.high:.3f}]"
        parts.append(f'<circle cx="{at(bar.value):.1f}" cy="{y}" r="5.5" style="fill:{color}"/>')
        parts.append(_text(width - right + 14, y + 4.5, said, _INK if bar.strong else _MUTED, "start", weight))
    return _svg(width, height, title, parts)


def curves_svg(
    series: Sequence[Series],
    *,
    title: str,
    axes: tuple[str, str],
    diagonal: bool = False,
    domains: tuple[tuple[float, float] | None, tuple[float, float] | None] = (None, None),
) -> str:
    """Draw lines with dots over two axes named in `axes`; `diagonal` adds the line where y equals x."""
    width, height, left, top, bottom = 560, 340, 64, 34, 52
    (x0, x1), x_ticks = _axis([v for s in series for v in s.x], domains[0])
    (y0, y1), y_ticks = _axis([v for s in series for v in s.y], domains[1])

    def px(x: float) -> float:
        return left + (x - x0) / (x1 - x0) * (width - left - 20)

    def py(y: float) -> float:
        return height - bottom - (y - y0) / (y1 - y0) * (height - top - bottom)

    parts = [_line(left, py(t), width - 20, py(t), _LINE) for t in y_ticks]
    parts += [_text(left - 10, py(t) + 4.5, f"{t:g}", _MUTED, "end") for t in y_ticks]
    parts += [_text(px(t), height - bottom + 20, f"{t:g}", _MUTED, "middle") for t in x_ticks]
    parts.append(_text((left + width - 20) / 2, height - 8, axes[0], _MUTED, "middle"))
    parts.append(_text(4, 16, axes[1], _MUTED))
    if diagonal:
        parts.append(_line(px(x0), py(y0), px(x1), py(y1), _MUTED, 1.5, dash="5 5"))
    legend = width - 20.0 - sum(_width(one.name) + 34 for one in series)
    for i, one in enumerate(series):
        color = _COLORS[i % len(_COLORS)]
        points = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in zip(one.x, one.y, strict=True))
        parts.append(f'<polyline points="{points}" style="fill:none;stroke:{color};stroke-width:2"/>')
        most = max(one.sizes, default=1) or 1
        for j, (x, y) in enumerate(zip(one.x, one.y, strict=True)):
            radius = 2.5 + 5 * math.sqrt(one.sizes[j] / most) if one.sizes else 3.5
            told = f"{x:.3f}, {y:.3f}" + (f" (n={one.sizes[j]:,})" if one.sizes else "")
            parts.append(
                f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="{radius:.1f}" style="fill:{color};fill-opacity:.85">'
                f"<title>{clean(told)}</title></circle>"
            )
        if len(series) > 1:
            parts.append(f'<circle cx="{legend:.1f}" cy="11.5" r="4.5" style="fill:{color}"/>')
            parts.append(_text(legend + 10, 16, one.name, _INK))
            legend += _width(one.name) + 34
    return _svg(width, height, title, parts)


def scatter_svg(dots: Sequence[Dot], *, title: str, axes: tuple[str, str]) -> str:
    """Draw each dot with its interval over two axes named in `axes`, of which the first is logarithmic."""
    width, height, left, top, bottom = 820, 420, 64, 34, 52
    x_ticks = _log_ticks(min(dot.x for dot in dots), max(dot.x for dot in dots))
    x0, x1 = math.log(x_ticks[0]), math.log(x_ticks[-1])
    (y0, y1), y_ticks = _axis([v for dot in dots for v in (dot.low, dot.high)], None)

    def px(x: float) -> float:
        return left + 16 + (math.log(x) - x0) / (x1 - x0) * (width - left - 120)  # names need room on the right

    def py(y: float) -> float:
        return height - bottom - (y - y0) / (y1 - y0) * (height - top - bottom)

    parts = [_line(left, py(t), width - 20, py(t), _LINE) for t in y_ticks]
    parts += [_text(left - 10, py(t) + 4.5, f"{t:g}", _MUTED, "end") for t in y_ticks]
    parts += [_text(px(t), height - bottom + 20, f"{t:,g}", _MUTED, "middle") for t in x_ticks]
    parts.append(_text((left + width - 20) / 2, height - 8, axes[0], _MUTED, "middle"))
    parts.append(_text(4, 16, axes[1], _MUTED))
    taken: list[tuple[float, float, float]] = []
    for dot in sorted(dots, key=lambda dot: (not dot.strong, dot.x)):  # the strong one has the first choice of places
        x, y = px(dot.x), py(dot.value)
        color, weight = (_COLORS[0], "600") if dot.strong else (_MUTED, "400")
        parts.append(_line(x, py(dot.low), x, py(dot.high), color, 2))
        told = f"{dot.name}: {dot.value:.3f} [{dot.low:.3f}, {dot.high:.3f}], {dot.x:,.1f}"
        circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" style="fill:{color}"><title>{clean(told)}</title></circle>'
        name = shorten(dot.name, 24)
        at = _free_place(x + 9, y - 5, _width(name), taken)
        parts += [circle, _text(x + 9, at, name, _INK, "start", weight)]
    return _svg(width, height, title, parts)


def _free_place(x: float, y: float, width: float, taken: list[tuple[float, float, float]]) -> float:
    """Return the height nearest to `y` at which a name covers none of those that stand already, and take it."""
    for step in range(2 * len(taken) + 1):
        at = y + (step + 1) // 2 * 15 * (-1) ** step
        if all(abs(at - other) >= 14 or x >= end or x + width <= start for start, end, other in taken):
            break
    else:
        at = y
    taken.append((x, x + width, at))
    return at


def _log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten from just below `low` to just above `high`, at least two."""
    low = max(low, 1e-9)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(max(high, low))) + 2)
    ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    first = max(i for i, tick in enumerate(ticks) if tick <= low * (1 + 1e-9))
    last = min(i for i, tick in enumerate(ticks) if tick >= high * (1 - 1e-9))
    return ticks[first : max(last, first + 1) + 1]


def cells_svg(size: int, cells: Sequence[tuple[int, int, int]], labels: Sequence[str], *, title: str) -> str:
    """Draw a square matrix too large for numbers: one square a nonzero (row, column, count), named when pointed at.

    The diagonal is in the muted color, so that what is off it stands out.
    """
    side = 480
    unit = side / size
    most = max((n for t, p, n in cells if t != p), default=1)
    parts = [f'<rect width="{side}" height="{side}" style="fill:none;stroke:{_LINE}"/>']
    for true, predicted, n in cells:
        right = true == predicted
        strength = 0.45 if right else 0.3 + 0.7 * math.log1p(n) / math.log1p(most)
        parts.append(
            f'<rect x="{predicted * unit:.2f}" y="{true * unit:.2f}" width="{unit:.2f}" height="{unit:.2f}" '
            f'style="fill:{_MUTED if right else _COLORS[1]};fill-opacity:{strength:.2f}">'
            f"<title>{clean(labels[true])} → {clean(labels[predicted])}: {n:,}</title></rect>"
        )
    return _svg(side, side, title, parts)


def _svg(width: int, height: int, title: str, parts: list[str]) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" style="max-width:{width}px" '
        f'font-size="{_FONT}"><title>{clean(title)}</title>{"".join(parts)}</svg>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, color: str, width: float = 1, dash: str = "") -> str:
    dashed = f";stroke-dasharray:{dash}" if dash else ""
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} style="stroke:{color};stroke-width:{width}{dashed}"/>'


def _text(x: float, y: float, text: str, color: str, anchor: str = "start", weight: str = "400") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} style="fill:{color};font-weight:{weight}">{clean(text)}</text>'


def _columns(char: str) -> int:
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _width(text: str) -> float:
    return sum(_FONT if _columns(c) == 2 else 0.58 * _FONT for c in text)


def _axis(values: list[float], fixed: tuple[float, float] | None) -> tuple[tuple[float, float], list[float]]:
    low, high = fixed or _domain(values)
    ticks = _ticks(low, high)
    return (min(low, ticks[0]), max(high, ticks[-1])), ticks


def _domain(values: list[float]) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    return (low - 0.5, high + 0.5) if high - low < 1e-9 else (low, high)


def _ticks(low: float, high: float) -> list[float]:
    """Return 3 to 7 round numbers from just below `low` to just above `high`."""
    raw = (high - low) / 4
    power = 10 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]
