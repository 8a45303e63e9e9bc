"""The same text under different labels: one of them is wrong, or the question has no one answer."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from weitiao.data.checks.base import Check, CheckInput, excerpt
from weitiao.findings import Finding
from weitiao.plugins import Options


class Conflicts(Check):
    """Equal texts whose labels differ, within and across splits."""

    class Settings(Options):
        """When two texts are the same."""

        verbatim: bool = Field(False, description="compare texts as they are written, case and punctuation too")

    settings: Settings

    def run(self, data: CheckInput) -> Iterator[Finding]:
        """Yield one finding over all splits."""
        where: dict[str, list[tuple[str, int, str]]] = {}
        for split in data.tables:
            texts = data.texts(split) if self.settings.verbatim else data.normalised(split)
            for i, (text, label) in enumerate(zip(texts, data.labels(split), strict=True)):
                if label is not None:
                    where.setdefault(text, []).append((split, i, label))
        torn = [rows for rows in where.values() if len({label for _, _, label in rows}) > 1]
        if not torn:
            return
        rows = [row for group in torn for row in group]
        several = sum(len(group) for group in torn)
        texts_say = "1 text has" if len(torn) == 1 else f"{len(torn):,} texts have"
        yield Finding(
            self.name,
            "warning",
            f"{texts_say} more than one label ({several:,} rows).",
            "Decide for one label each. If a text may have several labels, this is not a task with one label a row.",
            places=tuple(str(data.tables[split].places[i]) for split, i, _ in rows[:20]),
            count=several,
            evidence={
                "texts": len(torn),
                "examples": [
                    {
                        "text": excerpt(data.texts(group[0][0])[group[0][1]]),
                        "labels": {str(data.tables[split].places[i]): label for split, i, label in group[:6]},
                    }
                    for group in torn[:5]
                ],
            },
        )

    @classmethod
    def tiny(cls) -> dict[str, object]:
        """Return one text with two labels, and with one."""
        return {
            "faulty": {"all": [{"text": "房间很干净。", "label": "好"}, {"text": "房间很干净", "label": "差"}]},
            "clean": {"all": [{"text": "房间很干净", "label": "好"}, {"text": "房间不干净", "label": "差"}]},
        }
