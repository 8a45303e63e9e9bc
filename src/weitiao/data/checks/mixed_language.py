"""Rows in another script than the rest: a language the model may not know, or a slip in the export.

Scripts are told apart by their characters. A row counts as different only if hardly any of it is in
the script of the majority, so Chinese text with English product names does not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from pydantic import Field

from weitiao.data.checks.base import Check, CheckInput, excerpt, num_rows, places, share
from weitiao.findings import Finding
from weitiao.plugins import Options

_SCRIPTS = {
    "Latin": "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff\uff21-\uff3a\uff41-\uff5a",
    "Han": "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    "Kana": "\u3041-\u3096\u30a1-\u30fa\uff66-\uff9d",
    "Hangul": "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3",
    "Cyrillic": "\u0400-\u052f",
    "Greek": "\u0370-\u03ff",
    "Arabic": "\u0620-\u065f\u066e-\u06ef\u0750-\u077f",
    "Hebrew": "\u05d0-\u05ea",
    "Devanagari": "\u0900-\u097f",
    "Thai": "\u0e01-\u0e4e",
}
_RUNS = re.compile("|".join(f"(?P<{name}>[{ranges}]+)" for name, ranges in _SCRIPTS.items()))


class MixedLanguage(Check):
    """Rows whose script is not that of the majority."""

    class Settings(Options):
        """When a row is of another script."""

        min_letters: int = Field(4, ge=1, description="rows with fewer letters are too short to tell")
        remnant: float = Field(0.1, ge=0, lt=0.5, description="share of the majority's script a different row may hold")
        warning_share: float = Field(0.05, gt=0, le=1, description="share of such rows from which it is a warning")

    settings: Settings

    def run(self, data: CheckInput) -> Iterator[Finding]:
        """Yield one finding a split."""
        rows = {split: [_letters(text) for text in data.texts(split)] for split in data.tables}
        scripts = Counter(max(c, key=c.__getitem__) for found in rows.values() for c in found if c)
        if len(scripts) < 2:
            return
        majority = scripts.most_common(1)[0][0]
        for split, found in rows.items():
            other = {i: script for i, counts in enumerate(found) if (script := self._other(counts, majority))}
            if not other:
                continue
            named = Counter(other.values()).most_common()
            indices, texts = list(other), data.texts(split)
            many = len(indices) >= self.settings.warning_share * len(texts)
            yield Finding(
                self.name,
                "warning" if many else "info",
                f"{num_rows(len(indices), split, among=len(texts))} ({share(len(indices), len(texts))}) are not in "
                f"{majority} script like the rest: {', '.join(f'{n:,} {script}' for script, n in named)}.",
                "Choose a model for several languages and measure each by itself, or keep one language.",
                places=places(data.tables[split], indices),
                count=len(indices),
                evidence={
                    "majority": majority,
                    "scripts": dict(named),
                    "examples": [{"script": other[i], "text": excerpt(texts[i])} for i in indices[:5]],
                },
            )

    def _other(self, counts: Counter[str], majority: str) -> str | None:
        total = sum(counts.values())
        if total < self.settings.min_letters or counts[majority] > self.settings.remnant * total:
            return None
        return max(counts, key=counts.__getitem__)

    @classmethod
    def tiny(cls) -> dict[str, object]:
        """Return an English row among Chinese ones, and Chinese ones with an English name in one."""
        rows = [{"text": t, "label": "a"} for t in ("房间很干净整洁", "早餐品种太少了", "iPhone 15 的屏幕碎了")]
        return {"faulty": {"all": [*rows, {"text": "The room was very clean", "label": "b"}]}, "clean": {"all": rows}}


def _letters(text: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for run in _RUNS.finditer(text):
        counts[str(run.lastgroup)] += run.end() - run.start()
    if counts["Kana"] > 0.2 * counts["Han"]:  # Japanese writes both
        counts["Kana"] += counts.pop("Han", 0)
    return +counts
