"""Classes with too few rows to learn or to measure, and labels that training never meets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pydantic import Field

from weitiao.data.checks.base import Check, CheckInput, of, places, share
from weitiao.findings import Finding
from weitiao.plugins import Options


class RareLabels(Check):
    """Whether every class can be learnt and measured."""

    class Settings(Options):
        """How many rows a class needs."""

        train: int = Field(8, ge=1, description="rows a class needs to be learnt")
        test: int = Field(5, ge=1, description="rows a class needs in test for a figure of its own")

    settings: Settings

    def run(self, data: CheckInput) -> Iterator[Finding]:
        """Yield what makes a run fail first, then the small classes."""
        counts = {split: Counter(label for label in data.labels(split) if label is not None) for split in data.tables}
        learning = data.learning
        if learning is None or not counts[learning]:
            return
        train, rows = counts[learning], sum(counts[learning].values())
        if len(train) == 1:
            yield Finding(
                self.name,
                "error",
                f"all {rows:,} rows{of(learning)} have one label, {next(iter(train))!r}: there is nothing to learn.",
                "Check that the right column was taken for the label, and that rows of the other classes are there.",
                places=places(data.tables[learning], [0]),
                count=1,
                evidence={"labels": dict(train)},
            )
        elif len(train) >= 20 and len(train) > 0.5 * rows:
            yield Finding(
                self.name,
                "error",
                f"{learning} has {len(train):,} different labels in {rows:,} rows: this does not look like a class.",
                "Check that the right column was taken for the label (not an id, a score or a text).",
                places=places(data.tables[learning], [0]),
                count=len(train),
                evidence={"labels": list(train)[:10]},
            )
            return
        yield from self._unseen(data, learning, counts)
        yield from self._small(data, learning, train, self.settings.train, "be learnt", "warning")
        if "test" in counts and learning != "test":
            yield from self._small(data, "test", counts["test"], self.settings.test, "be measured one by one", "info")

    def _unseen(self, data: CheckInput, learning: str, counts: dict[str, Counter[str]]) -> Iterator[Finding]:
        for split, here in counts.items():
            unseen = {label: n for label, n in here.most_common() if label not in counts[learning]}
            if not unseen:
                continue
            rows = [i for i, label in enumerate(data.labels(split)) if label in unseen]
            yield Finding(
                self.name,
                "error",
                f"{_names(list(unseen))} in {split} ({len(rows):,} rows, {share(len(rows), sum(here.values()))}) "
                f"{'does' if len(unseen) == 1 else 'do'} not occur in {learning}: they cannot be answered right.",
                f"Correct the label if it is a slip, put rows of this class into {learning}, or leave these rows out.",
                places=places(data.tables[split], rows),
                count=len(rows),
                evidence={"labels": dict(list(unseen.items())[:50])},
            )

    def _small(
        self, data: CheckInput, split: str, counts: Counter[str], least: int, purpose: str, severity: str
    ) -> Iterator[Finding]:
        small = {label: n for label, n in reversed(counts.most_common()) if n < least}
        if not small or len(counts) == 1:
            return
        rows = [i for i, label in enumerate(data.labels(split)) if label in small]
        classes = f"{len(small):,} of {len(counts):,} classes{of(split)}"
        yield Finding(
            self.name,
            "warning" if severity == "warning" else "info",
            f"{classes} have fewer than {least} rows, too few to {purpose}: "
            f"{', '.join(f'{label} ({n})' for label, n in list(small.items())[:8])}{', …' if len(small) > 8 else ''}.",
            "Collect more rows of these classes, or merge them with a class that is like them.",
            places=places(data.tables[split], rows),
            count=len(small),
            evidence={"labels": dict(list(small.items())[:50])},
        )

    @classmethod
    def tiny(cls) -> dict[str, object]:
        """Return a split with a class of one row, and one with enough of each."""
        rows = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(16)]
        return {"faulty": {"all": [*rows, {"text": "alone", "label": "c"}]}, "clean": {"all": rows}}


def _names(labels: list[str]) -> str:
    shown = ", ".join(repr(label) for label in labels[:5])
    return (
        f"label {shown}" if len(labels) == 1 else f"{len(labels):,} labels ({shown}{', …' if len(labels) > 5 else ''})"
    )
