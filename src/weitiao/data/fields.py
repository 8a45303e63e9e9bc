"""Which column is the text and which the label: by name, by content, or as given."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from weitiao.data.table import Table
from weitiao.errors import DataError, did_you_mean

__all__ = ["LABEL", "TEXT", "TEXT_PAIR", "Field", "find_columns", "is_known_name", "label_text", "map_fields"]


@dataclass(frozen=True)
class Field:
    """A column that a task needs.

    Parameters
    ----------
    name
        The standard name it gets (``text``, ``text_pair``, ``label``).
    kind
        What its values are: a ``text`` the model reads, ``json`` it reads (messages, say) or the path of an ``image``;
        or what it learns: a ``label``, a ``number``, or a ``target`` (a text to write, or JSON: spans, answers).
    required
        Whether the task can do without.
    synonyms
        Names that users give such a column, the likeliest first; case, spaces and ``_`` do not count.
    """

    name: str
    kind: Literal["text", "json", "image", "label", "number", "target"]
    required: bool = True
    synonyms: tuple[str, ...] = ()

    @property
    def is_input(self) -> bool:
        """Whether a request has it: the model reads it."""
        return self.kind in ("text", "json", "image")


# Pairs are named in step: the first text's name at some place, the second's at the same place.
_PAIRS = (
    ("sentence1", "sentence2"), ("sentence_a", "sentence_b"), ("text1", "text2"), ("text_a", "text_b"),
    ("question1", "question2"), ("query1", "query2"), ("#1 string", "#2 string"), ("premise", "hypothesis"),
    ("text", "text_pair"), ("句子1", "句子2"), ("文本1", "文本2"),
    ("问题1", "问题2"), ("s1", "s2"), ("q1", "q2"), ("sent1", "sent2"), ("sentence_1", "sentence_2"),
)  # fmt: skip

TEXT = Field(
    "text", "text", True,
    ("text", "sentence", "content", "review", "comment", "utterance", "question", "query", "tweet", "message", "body",
     "document", "description", "news_title", "title", "headline", "text_a", "sentence1", "内容", "文本", "评论",
     "句子", "正文", "问题", "标题", "留言", "评价", "反馈", "对话", "话语", "描述"),
)  # fmt: skip
TEXT_PAIR = Field("text_pair", "text", False, tuple(second for _, second in _PAIRS))
LABEL = Field(
    "label", "label", True,
    ("label", "labels", "category", "class", "intent", "sentiment", "target", "label_desc", "topic", "tag", "polarity",
     "emotion", "quality", "entailment_judgment", "gold_label", "is_counterfactual", "subtask_a", "subject", "cat",
     "标签", "类别", "分类", "情感", "正负面", "意图", "情绪", "主题", "类型", "标注"),
)  # fmt: skip
_OTHER_NAMES = (
    "id",
    "index",
    "split",
    "date",
    "time",
    "timestamp",
    "name",
    "score",
    "日期",
    "时间",
    "编号",
    "序号",
    "key",
)


def _plain(name: str) -> str:
    """Reduce a name to what counts: full-width forms folded, lower case, no spaces, ``_`` or ``-``."""
    return re.sub(r"[\s_\-/]+", "", unicodedata.normalize("NFKC", name).casefold())


_NAMELESS = re.compile(r"column_\d+")  # what a column without a name is called
_KNOWN = {_plain(n) for f in (TEXT, LABEL) for n in f.synonyms} | {_plain(n) for p in _PAIRS for n in p}
_KNOWN |= {_plain(n) for n in _OTHER_NAMES}
_SECOND = {_plain(first): _plain(second) for first, second in _PAIRS}


def is_known_name(name: str) -> bool:
    """Whether a cell is one of the names that columns usually have."""
    return _plain(name) in _KNOWN


def find_columns(table: Table, fields: Sequence[Field], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Find the column of each field: as given, else by name, else by content.

    Parameters
    ----------
    table
        The rows as they were read.
    fields
        What is looked for. An optional field that is not named by any column is left out.
    given
        Field to column, from the user.

    Returns
    -------
    Field name to column name.

    Raises
    ------
    DataError
        A given column does not exist, or a required field has no column or several that fit equally.
        The message names the columns with an example of each.
    """
    given = {k: v for k, v in (given or {}).items() if v}
    _check_given(table, fields, given)
    found = dict(given)
    plain = {_plain(name): name for name in reversed(table.column_names)}
    pair = next((f for f in fields if f.name == TEXT_PAIR.name), None)
    main = next((f for f in fields if f.kind == "text" and f.required), None)
    if main and pair and main.name not in found and pair.name not in found:
        # Only a whole pair of names makes a pair of texts: "question" alone is not half of one.
        for first, second in _SECOND.items():
            if first in plain and second in plain:
                found[main.name], found[pair.name] = plain[first], plain[second]
                break
    for field in fields:
        if field.name not in found and (name := _by_name(field, plain, found, pair)):
            found[field.name] = name
    wanted = [field for field in fields if field.required and field.name not in found]
    nameless = all(_NAMELESS.fullmatch(name) for name in plain.values())
    by_values = any(field.kind == "label" for field in wanted)  # a label is known by its values
    if nameless and not by_values and 1 < len(wanted) == len(table.column_names):
        found |= {field.name: column for field, column in zip(wanted, table.column_names, strict=True)}
    for field in wanted:
        if field.name not in found:
            found[field.name] = _by_content(table, field, set(found.values()))
    return {field.name: found[field.name] for field in fields if field.name in found}


def map_fields(
    table: Table,
    fields: Sequence[Field],
    given: Mapping[str, str] | None = None,
    *,
    labels_required: bool = True,
) -> Table:
    """Give the fields' columns their standard names and put rows aside that lack one.

    Labels become text without surrounding whitespace (``1.0`` becomes ``"1"``); texts stay as they are.
    Other columns are kept; one that stands in the way of a standard name becomes ``<name>_original``.

    Parameters
    ----------
    table, fields, given
        As for `find_columns`.
    labels_required
        ``False`` for prediction: no label column is looked for by content, and rows without one stay.

    Raises
    ------
    DataError
        As `find_columns`; or no row is left.
    """
    if not labels_required:
        fields = [replace(f, required=f.required and f.is_input) for f in fields]
    found = find_columns(table, fields, given)
    standard = {column: name for name, column in found.items()}
    taken = set(table.column_names) | set(found)
    renames = dict(standard)
    for column in table.column_names:
        if column in found and column not in standard:
            renames[column] = _free(f"{column}_original", taken)
            taken.add(renames[column])
    mapped = table.rename(renames)
    reasons: dict[int, str] = {}
    columns: dict[str, list[Any]] = {}
    for field in fields:
        if field.name not in found:
            continue
        values = mapped.column(field.name)
        if field.kind == "label":
            columns[field.name] = values = [label_text(v) for v in values]
        else:
            columns[field.name] = values = [_as_text(v) for v in values]
        if (field.is_input and (field.required or field.kind == "text")) or (labels_required and field.required):
            missing = "no label" if field.kind == "label" else f"empty {field.name}"
            reasons |= {i: missing for i, v in enumerate(values) if (not v or not v.strip()) and i not in reasons}
        if field.kind == "number":
            wrong = {i: f"{field.name} is no number: {v!r}" for i, v in enumerate(values) if v and _number(v) is None}
            reasons |= {i: why for i, why in wrong.items() if i not in reasons}
            columns[field.name] = [None if v is None else _number(v) for v in values]
    mapped = mapped.with_columns(columns).put_aside(reasons)
    if not len(mapped) and table.rows_in:
        raise DataError(
            f"no row is left: {', '.join(sorted(set(reasons.values())))}.",
            where=_files(table),
            fix=f"The columns were taken as {_listed(found)}; name others if these are wrong.",
        )
    return mapped


def label_text(value: Any) -> str | None:
    """Write a label as text: whole numbers without ``.0``, surrounding whitespace off, empty as ``None``."""
    if value is None:
        return None
    if isinstance(value, float):
        if value != value:  # NaN is how tables say "nothing here"
            return None
        if value.is_integer():
            value = int(value)
    return str(value).strip() or None


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _check_given(table: Table, fields: Sequence[Field], given: Mapping[str, str]) -> None:
    known = [f.name for f in fields]
    for name, column in given.items():
        if name not in known:
            raise DataError(
                f"the task has no field {name!r}.{did_you_mean(name, known)}", fix=f"Its fields: {', '.join(known)}."
            )
        if column not in table.column_names:
            raise DataError(
                f"there is no column {column!r} (given for {name}).{did_you_mean(column, table.column_names)}",
                where=_files(table),
                fix=f"Columns: {_examples(table)}.",
            )
    if len(set(given.values())) < len(given):
        raise DataError(f"one column is given for two fields: {_listed(given)}.", where=_files(table))


def _by_name(field: Field, plain: Mapping[str, str], found: Mapping[str, str], pair: Field | None) -> str | None:
    if pair is not None and field.name == pair.name:
        if _plain(field.name) in plain and plain[_plain(field.name)] not in found.values():
            return plain[_plain(field.name)]
        return None
    for synonym in (field.name, *field.synonyms):
        column = plain.get(_plain(synonym))
        if column is not None and column not in found.values():
            return column
    return None


def _by_content(table: Table, field: Field, taken: set[str]) -> str:
    beside = {_plain(n) for n in _OTHER_NAMES if n != "key"}  # a date or a split is never what is looked for
    rest = [name for name in table.column_names if name not in taken and _plain(name) not in beside]
    values = {name: [str(v) for v in table.column(name)[:5000] if v is not None] for name in rest}
    candidates = _labels(values) if field.kind == "label" else _texts(values) if field.kind == "text" else []
    if len(candidates) == 1:
        return candidates[0]
    why = f"several could be: {', '.join(map(repr, candidates))}" if candidates else "none looks like one"
    raise DataError(
        f"which column is the {field.name}? No column has a usual name for it, and by content {why}.",
        where=_files(table),
        fix=f"Columns: {_examples(table)}. Write {field.name}: COLUMN under data.fields, or --field "
        f"{field.name}=COLUMN for check.",
    )


def _labels(values: Mapping[str, list[str]]) -> list[str]:
    """Return the columns of few, short, repeated values."""
    found = []
    for name, column in values.items():
        kinds = set(column)
        is_few = 2 <= len(kinds) <= max(2, min(200, len(column) // 2))
        if column and is_few and max(map(len, kinds)) <= 40:
            found.append(name)
    return found


def _texts(values: Mapping[str, list[str]]) -> list[str]:
    """Return the column of the longest values, and all that come within half of it."""
    lengths = {
        name: sum(map(len, column)) / len(column)
        for name, column in values.items()
        if column and not all(re.fullmatch(r"\s*[+-]?\d+(\.\d+)?\s*", v) for v in column) and len(set(column)) > 1
    }
    if not lengths and len(values) == 1 and all(values.values()):
        return list(values)
    longest = max(lengths.values(), default=0)
    return [name for name, length in lengths.items() if length >= 0.5 * longest]


def _examples(table: Table) -> str:
    shown = []
    for name in table.column_names[:12]:
        value = next((str(v) for v in table.column(name)[:50] if v not in (None, "")), "")
        shown.append(f"{name} (such as {value[:30] + '…' if len(value) > 30 else value!r})")
    return ", ".join(shown)


def _files(table: Table) -> str | None:
    return ", ".join(dict.fromkeys(s.file for s in table.sources)) or None


def _listed(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} = {column!r}" for name, column in found.items())


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
