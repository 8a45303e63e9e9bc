"""Rows that stand more than once in one split, word for word or nearly so."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from weitiao.data.checks.base import Check, CheckInput, excerpt, how_equal, num_rows, places, share
from weitiao.data.near import THRESHOLD, near_pairs
from weitiao.findings import Finding, Severity
from weitiao.plugins import Options


class Duplicates(Check):
    """Exact and near duplicates inside each split."""

    class Settings(Options):
        """What counts as near, and when repeats matter."""

        threshold: float = Field(THRESHOLD, gt=0, le=1, description="Jaccard index from which two texts are near")
        warning_share: float = Field(0.01, ge=0, le=1, description="share of repeated rows from which it is a warning")

    settings: Settings

    def run(self, data: CheckInput) -> Iterator[Finding]:
        """Yield one finding on exact repeats and one on near ones, a split."""
        for split, table in data.tables.items():
            texts = data.texts(split)
            first: dict[str, int] = {}
            verbatim = [i for i, text in enumerate(texts) if first.setdefault(text, i) != i]
            pairs = near_pairs(texts, threshold=self.settings.threshold)
            exact = {j: i for i, j, similarity in pairs if _is_equal(data, split, i, j, similarity)}
            if exact:
                rows = sorted(exact)
                yield Finding(
                    self.name,
                    self._severity(len(rows), len(table)),
                    f"{num_rows(len(verbatim) or len(rows), split, among=len(table))} repeat an earlier one "
                    f"{how_equal(len(verbatim), len(rows) - len(verbatim))} ({share(len(rows), len(table))}).",
                    "Keep one of each: in training, repeats weigh more than other rows; in a test, they count twice.",
                    places=places(table, rows),
                    count=len(rows),
                    evidence={
                        "verbatim": len(verbatim),
                        "examples": [
                            {
                                "place": str(table.places[j]),
                                "first": str(table.places[exact[j]]),
                                "text": excerpt(texts[j]),
                            }
                            for j in rows[:5]
                        ],
                    },
                )
            near = [(i, j, s) for i, j, s in pairs if exact.get(j) != i]
            if near:
                rows = sorted({j for _, j, _ in near})
                yield Finding(
                    self.name,
                    self._severity(len(rows), len(table)),
                    f"{num_rows(len(rows), split, among=len(table))} nearly repeat an earlier one "
                    f"({share(len(rows), len(table))}).",
                    "Look at a few; if they are copies with small changes, keep one of each.",
                    places=places(table, rows),
                    count=len(rows),
                    evidence={
                        "threshold": self.settings.threshold,
                        "examples": [
                            {
                                "places": [str(table.places[i]), str(table.places[j])],
                                "similarity": s,
                                "texts": [excerpt(texts[i]), excerpt(texts[j])],
                            }
                            for i, j, s in near[:5]
                        ],
                    },
                )

    def _severity(self, rows: int, total: int) -> Severity:
        return "warning" if rows >= self.settings.warning_share * total else "info"

    @classmethod
    def tiny(cls) -> dict[str, object]:
        """Return a split with one repeat, and one without."""
        rows = [{"text": "房间很干净", "label": "a"}, {"text": "早餐太差了", "label": "b"}]
        return {"faulty": {"all": [*rows, rows[0]]}, "clean": {"all": rows}}


def _is_equal(data: CheckInput, split: str, i: int, j: int, similarity: float) -> bool:
    # Two different texts can have equal shingle sets ("ha ha ha ..."), so the similarity does not decide.
    return similarity == 1.0 and data.normalised(split)[i] == data.normalised(split)[j]
