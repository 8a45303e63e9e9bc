"""Splits whose labels are mixed differently from train, and files sorted by label.

    distance = 1/2 * sum over labels of |share in train - share here|    (total variation)

A difference counts when it is large and when chance would hardly make it (chi-square test).

Source: Pearson, On the Criterion that a Given System of Deviations ... , 1900.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pydantic import Field

from weitiao.data.checks.base import Check, CheckInput, places, share
from weitiao.findings import Finding
from weitiao.plugins import Options


class SplitDrift(Check):
    """Whether dev and test ask about the same mixture that train teaches."""

    class Settings(Options):
        """When a difference counts."""

        distance: float = Field(0.1, ge=0, le=1, description="total variation from which a difference is large")
        p_value: float = Field(0.001, gt=0, lt=1, description="chance below which a difference is not one of the draw")
        min_rows: int = Field(20, ge=2, description="rows a file needs before its order is judged")

    settings: Settings

    def run(self, data: CheckInput) -> Iterator[Finding]:
        """Yield drift of dev and test against train; before splitting, whether the file is sorted."""
        if "train" in data.tables:
            for split in data.tables:
                if split != "train":
                    yield from self._drift(data, split)
        elif "all" in data.tables:
            yield from self._order(data)

    def _drift(self, data: CheckInput, split: str) -> Iterator[Finding]:
        train = Counter(label for label in data.labels("train") if label is not None)
        here = Counter(label for label in data.labels(split) if label is not None)
        if len(train) < 2 or not here:
            return
        rows, size = train.total(), here.total()
        gaps = {label: here[label] / size - train[label] / rows for label in train | here}
        distance = sum(map(abs, gaps.values())) / 2
        if distance < self.settings.distance or (p_value := _chance(train, here)) >= self.settings.p_value:
            return
        label = max(gaps, key=lambda name: abs(gaps[name]))
        yield Finding(
            self.name,
            "warning",
            f"{split} mixes its labels differently from train: {label!r} is {share(here[label], size)} of {split} and "
            f"{share(train[label], rows)} of train.",
            "If this is how the model will be used, say so in the report; else split again, stratified by label.",
            count=sum(abs(gap) > 0.02 for gap in gaps.values()),
            evidence={
                "total_variation": round(distance, 4),
                "p_value": p_value,
                "shares": {
                    name: {"train": round(train[name] / rows, 4), split: round(here[name] / size, 4)}
                    for name in sorted(gaps, key=lambda name: -abs(gaps[name]))[:20]
                },
            },
        )

    def _order(self, data: CheckInput) -> Iterator[Finding]:
        labels = [label for label in data.labels("all") if label is not None]
        counts = Counter(labels)
        if len(labels) < self.settings.min_rows or len(counts) < 2:
            return
        starts = [0] + [i for i in range(1, len(labels)) if labels[i] != labels[i - 1]]
        # In shuffled rows two neighbours differ with the chance that two drawn rows do.
        expected = 1 + (len(labels) - 1) * (1 - sum(n * n for n in counts.values()) / len(labels) ** 2)
        if len(starts) > max(len(counts), 0.1 * expected):
            return
        first = starts[1]
        yield Finding(
            self.name,
            "info",
            f"the file is sorted by label: its first {first:,} rows are all {labels[0]!r}.",
            "Nothing to do when weitiao splits it, which shuffles; do not cut the test off the end yourself.",
            places=places(data.tables["all"], starts[:20]),
            count=len(starts),
            evidence={"runs": len(starts), "runs_expected_if_shuffled": round(expected)},
        )

    @classmethod
    def tiny(cls) -> dict[str, object]:
        """Return a sorted file, and the same one mixed."""
        mixed = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(40)]
        return {"faulty": {"all": sorted(mixed, key=lambda row: row["label"])}, "clean": {"all": mixed}}


def _chance(train: Counter[str], here: Counter[str]) -> float:
    """Return the p-value of the chi-square test of homogeneity; labels too rare for it are put together."""
    from scipy.special import chdtrc

    least = 5 * (train.total() + here.total()) / min(train.total(), here.total())
    table: list[list[int]] = []
    rest = [0, 0]
    for label in train | here:
        pair = [train[label], here[label]]
        if sum(pair) >= least:
            table.append(pair)
        else:
            rest = [rest[0] + pair[0], rest[1] + pair[1]]
    if sum(rest):
        table.append(rest)
    total, size = sum(map(sum, table)), sum(b for _, b in table)
    statistic = 0.0
    for pair in table:
        for seen, part in zip(pair, (total - size, size), strict=True):
            expected = sum(pair) * part / total
            statistic += (seen - expected) ** 2 / expected
    return float(chdtrc(len(table) - 1, statistic)) if len(table) > 1 else 1.0
