"""Classes of very different size: accuracy flatters, and the small classes are learnt badly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pydantic import Field

from weitiao.data.checks.base import Check, CheckInput, of, share
from weitiao.findings import Finding
from weitiao.plugins import Options


class Imbalance(Check):
    """The largest class beside the smallest, and what guessing the largest would score."""

    class Settings(Options):
        """How uneven classes may be."""

        warning_ratio: float = Field(10.0, gt=1, description="largest to smallest class above which it is a warning")
        info_ratio: float = Field(3.0, gt=1, description="largest to smallest class above which it is mentioned")

    settings: Settings

    def run(self, data: CheckInput) -> Iterator[Finding]:
        """Yield one finding on the split that is learnt from."""
        learning = data.learning
        if learning is None:
            return
        counts = Counter(label for label in data.labels(learning) if label is not None)
        if len(counts) < 2:
            return
        ranked, rows = counts.most_common(), sum(counts.values())
        (largest, most), (smallest, least) = ranked[0], ranked[-1]
        ratio = most / least
        if ratio <= min(self.settings.info_ratio, self.settings.warning_ratio):
            return
        yield Finding(
            self.name,
            "warning" if ratio > self.settings.warning_ratio else "info",
            f"the largest class{of(learning)}, {largest!r}, has {most:,} rows ({share(most, rows)}), the smallest, "
            f"{smallest!r}, {least:,}: {ratio:,.0f} to 1. Always answering {largest!r} is right {share(most, rows)} "
            "of the time.",
            "Judge by macro-F1 beside accuracy, and try class weights or more rows of the small classes.",
            count=len(counts),
            evidence={"ratio": round(ratio, 2), "majority_share": round(most / rows, 4), "labels": dict(ranked[:50])},
        )

    @classmethod
    def tiny(cls) -> dict[str, object]:
        """Return twelve rows against one, and against twelve."""
        many = [{"text": f"text {i}", "label": "a"} for i in range(12)]
        few = [{"text": f"more {i}", "label": "b"} for i in range(12)]
        return {"faulty": {"all": many + few[:1]}, "clean": {"all": many + few}}
