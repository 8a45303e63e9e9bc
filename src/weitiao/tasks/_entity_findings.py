"""What is wrong with rows of entities, in sentences for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from weitiao.data.checks.base import excerpt, of, places, share
from weitiao.data.table import Table
from weitiao.findings import Finding
from weitiao.tasks._spans import Entity, parse, tags_of
from weitiao.tasks._tokens import Read

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["look"]

_REACH = 20  # characters around a span where its text is looked for
_EXAMPLES = 8


class _Part(NamedTuple):
    """The rows of a split that can be read: their numbers, texts and entities."""

    split: str
    table: Table
    rows: list[tuple[int, str, list[Entity]]]

    @property
    def entities(self) -> Iterator[tuple[int, str, Entity]]:
        """Each entity with the number and the text of its row."""
        return ((i, text, entity) for i, text, found in self.rows for entity in found)


def look(
    tables: Mapping[str, Table], refused: Mapping[str, Mapping[int, str]], tokenizer: PreTrainedTokenizerBase | None
) -> Iterator[Finding]:
    """Yield what was noticed, split by split."""
    parts = []
    for split, table in tables.items():
        if refused[split]:
            yield _refused(split, table, refused[split])
        columns = zip(table.column("text"), table.column("entities"), strict=True)
        rows = [(i, text, parse(value)) for i, (text, value) in enumerate(columns) if i not in refused[split]]
        parts.append(_Part(split, table, rows))
    for part in parts:
        yield from _broken_tags(part)
        yield from _shifted(part)
        yield from _white_space(part)
        if tokenizer is not None:
            yield from _inside_tokens(part, tokenizer)
    yield from _types(parts)


def _finding(
    name: str, part: _Part, message: str, remedy: str, *, rows: Sequence[int], count: int, **evidence: Any
) -> Finding:
    where = places(part.table, list(dict.fromkeys(rows)))
    return Finding(name, "warning", message, remedy, where, count, evidence)


def _refused(split: str, table: Table, reasons: Mapping[int, str]) -> Finding:
    kinds = Counter(reason.partition(": ")[0] for reason in reasons.values()).most_common()
    return Finding(
        "unusable_entities",
        "warning",
        f"{len(reasons):,} rows{of(split)} are set aside: {'; '.join(f'{kind} ({n:,})' for kind, n in kinds)}.",
        "Correct the spans. Of entities that overlap or lie in each other, keep one.",
        places(table, list(reasons)),
        len(reasons),
        {"examples": list(reasons.values())[:_EXAMPLES]},
    )


def _broken_tags(part: _Part) -> Iterator[Finding]:
    """Tell what the reader of the file had to repair."""
    if "faults" not in part.table.column_names:
        return
    faults = {i: str(value) for i, value in enumerate(part.table.column("faults")) if value and str(value).strip()}
    if faults:
        examples = [excerpt(fault) for fault in list(faults.values())[:_EXAMPLES]]
        yield _finding(
            "broken_entities",
            part,
            f"{len(faults):,} rows{of(part.split)} had tags or spans that cannot stand as they do: {examples[0]}.",
            "Look at these lines: an entity was begun where a tag follows nothing, and left out where it has no place.",
            rows=list(faults),
            count=len(faults),
            examples=examples,
        )


def _shifted(part: _Part) -> Iterator[Finding]:
    """Compare spans with the text that the file says is there."""
    found = []
    for i, text, entity in part.entities:
        there = text[entity.start : entity.end]
        if entity.said is not None and " ".join(entity.said.split()) != " ".join(there.split()):
            shift = _shift(text, entity)
            found.append((i, {"said": entity.said, "there": there, "type": entity.type, "shift": shift}))
    if found:
        near = [example for _, example in found if example["shift"] is not None]
        first = (near or [found[0][1]])[0]
        by = (
            ""
            if first["shift"] is None
            else f", {abs(first['shift'])} to the {'right' if first['shift'] > 0 else 'left'}"
        )
        count = sum(len(entities) for _, _, entities in part.rows)
        yield _finding(
            "shifted_spans",
            part,
            f"{len(found):,} entities{of(part.split)} ({share(len(found), count)}) stand where the text is another; "
            f"{len(near):,} of them are near by: {first['there']!r} is marked where {first['said']!r} is meant{by}.",
            "Offsets count characters from 0, with the end exclusive; look whether a tool counted bytes, or from 1.",
            rows=[i for i, _ in found],
            count=len(found),
            examples=[example for _, example in found[:_EXAMPLES]],
        )


def _shift(text: str, entity: Entity) -> int | None:
    """Return how far from its span the text of an entity begins, ``None`` if it is not near."""
    said, low = entity.said or "", max(0, entity.start - _REACH)
    window = text[low : entity.end + _REACH]
    at = [low + i - entity.start for i in range(len(window)) if said and window.startswith(said, i)]
    return min(at, key=abs, default=None)


def _white_space(part: _Part) -> Iterator[Finding]:
    found = []
    for i, text, entity in part.entities:
        there = text[entity.start : entity.end]
        if there != there.strip():
            found.append((i, {"there": there, "meant": there.strip(), "type": entity.type}))
    if found:
        first = found[0][1]
        yield _finding(
            "spans_with_space",
            part,
            f"{len(found):,} entities{of(part.split)} begin or end with white space, such as {first['there']!r} where "
            f"{first['meant']!r} is meant: no answer can equal them.",
            "Move the offsets to the first and behind the last character.",
            rows=[i for i, _ in found],
            count=len(found),
            examples=[example for _, example in found[:_EXAMPLES]],
        )


def _inside_tokens(part: _Part, tokenizer: PreTrainedTokenizerBase) -> Iterator[Finding]:
    found = []
    for i, text, entities in part.rows:
        if not entities:
            continue
        found += [(i, text, entity) for entity in tags_of(Read.of(text, tokenizer).places, entities, {}).lost]
    if found:
        count = sum(len(entities) for _, _, entities in part.rows)
        around = [excerpt(text[max(0, e.start - 5) : e.end + 5]) for _, text, e in found[:_EXAMPLES]]
        marked = [text[e.start : e.end] for _, text, e in found[:_EXAMPLES]]
        yield _finding(
            "entities_inside_tokens",
            part,
            f"{len(found):,} of {count:,} entities{of(part.split)} begin or end inside a token of this model and "
            f"cannot be found exactly, such as {marked[0]!r} in {around[0]!r}; they count as missed.",
            "Another model has other tokens: one that reads characters finds every span.",
            rows=[i for i, _, _ in found],
            count=len(found),
            examples=[{"entity": one, "around": other} for one, other in zip(marked, around, strict=True)],
        )


def _types(parts: Sequence[_Part]) -> Iterator[Finding]:
    """Tell of types that are learnt from one entity, and of those that are learnt from none."""
    counts = {part.split: Counter(entity.type for _, _, entity in part.entities) for part in parts}
    learning = next((part for part in parts if part.split in ("train", "all")), None)
    if learning is None or not counts[learning.split]:
        return
    known = counts[learning.split]
    once = sorted(kind for kind, n in known.items() if n == 1)
    if once:
        yield _finding(
            "rare_entities",
            learning,
            f"{len(once):,} of {len(known):,} types{of(learning.split)} occur once: {', '.join(once[:_EXAMPLES])}.",
            "Mark more of them, merge the type with one that is like it, or correct the name if it is a slip.",
            rows=[i for i, _, entity in learning.entities if entity.type in once],
            count=len(once),
            types=once[:50],
        )
    for part in parts:
        unseen = {kind: n for kind, n in counts[part.split].most_common() if kind not in known}
        if unseen:
            yield _finding(
                "unseen_entities",
                part,
                f"{sum(unseen.values()):,} entities{of(part.split)} are of types that {learning.split} does not have "
                f"({', '.join(list(unseen)[:_EXAMPLES])}): they cannot be found, and count as missed.",
                "Correct the name if it is a slip, or put rows with this type into the training rows.",
                rows=[i for i, _, entity in part.entities if entity.type in unseen],
                count=sum(unseen.values()),
                types=unseen,
            )
