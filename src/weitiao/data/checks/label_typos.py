"""Labels that look like a misspelling of a more frequent one, or like it written another way.

Two labels that differ only in case, spaces, hyphens or full-width forms are one label. Otherwise
they must differ in one word, by one edit (two in words of eight letters or more; an edit inserts,
removes or replaces a character, or swaps two neighbours), and the rare one must be much rarer. Not
taken for typos: labels that differ in a digit (``1-star``, ``2-star``), that begin differently
(``valid``, ``invalid``; ``满意``, ``不满意``), or in a Chinese character that turns the meaning.

Source: Damerau, A Technique for Computer Detection and Correction of Spelling Errors, 1964.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

from pydantic import Field

from weitiao.data.checks.base import Check, CheckInput, places
from weitiao.findings import Finding
from weitiao.plugins import Options

_BREAK = re.compile(r"(?:[\s_:/]|[.\-](?!\d))+")  # a minus or a point before a digit says something
_NUMBER = re.compile(r"[+-]?\d+\.0+")
_CJK = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]")
# Half of such a word is changed by one edit (文学, 工学): taken for a slip only on a row or two.
_TWO_CJK = re.compile(f"{_CJK.pattern}{{2}}")
_TELLING = frozenset(
    "不没未无非勿莫很太较正负反好坏优差高低大小多少男女老少上下左右前后新旧中内外东西南北春夏秋冬是否有真假买卖进出开关"
)
_NUMERALS = frozenset("零一二三四五六七八九十百千万甲乙丙丁")


class LabelTypos(Check):
    """Misspelt labels and second spellings of a label."""

    class Settings(Options):
        """How much rarer a typo is than what was meant."""

        ratio: float = Field(10.0, ge=1, description="a misspelling is at least this many times rarer than the label")
        max_labels: int = Field(1000, ge=2, description="with more different labels, misspellings are not looked for")

    settings: Settings

    def run(self, data: CheckInput) -> Iterator[Finding]:
        """Yield one finding a suspicious label, over all splits."""
        rows: dict[str, list[tuple[str, int]]] = {}
        for split in data.tables:
            for i, label in enumerate(data.labels(split)):
                if label is not None:
                    rows.setdefault(label, []).append((split, i))
        counts = Counter({label: len(where) for label, where in rows.items()})
        ranked = [label for label, _ in counts.most_common()]
        forms: dict[str, str] = {}
        for label in ranked:
            meant = forms.setdefault(_form(label), label)
            why = "is written another way"
            if meant == label and len(ranked) <= self.settings.max_labels:
                meant, why = self._meant(label, ranked, counts), "looks misspelt"
            if meant is None or meant == label:
                continue
            times = "once" if counts[label] == 1 else f"{counts[label]:,} times"
            where = rows[label]
            splits = {split: [i for s, i in where if s == split] for split, _ in where}
            yield Finding(
                self.name,
                "warning",
                f"label {label!r} {why}: it stands {times}, {meant!r} {counts[meant]:,} times.",
                f"If {meant!r} was meant, correct these rows; else the two are learnt as different classes.",
                places=tuple(p for split, found in splits.items() for p in places(data.tables[split], found))[:20],
                count=counts[label],
                evidence={"label": label, "meant": meant, "rows": counts[label], "rows_meant": counts[meant]},
            )

    def _meant(self, label: str, ranked: list[str], counts: Counter[str]) -> str | None:
        for other in ranked:  # the most frequent first
            if counts[other] < self.settings.ratio * counts[label]:
                return None
            if _is_slip(_form(label), _form(other)) and (counts[label] <= 2 or not _TWO_CJK.fullmatch(label)):
                return other
        return None

    @classmethod
    def tiny(cls) -> dict[str, object]:
        """Return a label set with a typo, and one of labels that are rightly alike."""
        clean = [{"text": f"text {i}", "label": ("1-star", "2-star")[i % 20 == 0]} for i in range(40)]
        rows = [{"text": f"text {i}", "label": "positive"} for i in range(20)]
        return {"faulty": {"all": [*rows, {"text": "a text", "label": "postive"}]}, "clean": {"all": clean}}


def _form(label: str) -> str:
    folded = _BREAK.sub(" ", unicodedata.normalize("NFKC", label).casefold()).strip()
    # "1.0" beside "1" is one class written by two programs
    plain = unicodedata.normalize("NFKC", label).strip()
    return str(int(float(plain))) if _NUMBER.fullmatch(plain) else folded


def _is_slip(rare: str, frequent: str) -> bool:
    """Whether the first form can be the second one mistyped."""
    a, b = rare.split(), frequent.split()
    if len(a) != len(b):
        return rare.replace(" ", "") == frequent.replace(" ", "")
    different = [(x, y) for x, y in zip(a, b, strict=True) if x != y]
    return len(different) == 1 and _is_slip_of_word(*different[0])


def _is_slip_of_word(rare: str, frequent: str) -> bool:
    longer, shorter = max(rare, frequent, key=len), min(rare, frequent, key=len)
    changed = (Counter(rare) - Counter(frequent)) + (Counter(frequent) - Counter(rare))
    if any(c.isdigit() for c in changed) or (len(longer) > len(shorter) and longer.endswith(shorter)):
        return False
    if _CJK.search(rare + frequent):
        return len(shorter) >= 2 and not (changed.keys() & (_TELLING | _NUMERALS)) and _edits(rare, frequent) == 1
    return len(shorter) >= 4 and _edits(rare, frequent) <= (2 if len(shorter) >= 8 else 1)


def _edits(a: str, b: str) -> int:
    """Count the insertions, deletions, replacements and swaps of neighbours between two words."""
    if abs(len(a) - len(b)) > 2:
        return 3
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]
