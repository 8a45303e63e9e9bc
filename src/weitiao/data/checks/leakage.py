"""Rows of one split that also stand in another: a test on them measures memory, not learning."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from weitiao.data.checks.base import Check, CheckInput, excerpt, how_equal, share
from weitiao.data.near import THRESHOLD, near_pairs_between
from weitiao.findings import Finding
from weitiao.plugins import Options

_ORDER = {"train": 0, "dev": 1, "test": 2}


class Leakage(Check):
    """Exact and near duplicates between train, dev and test."""

    class Settings(Options):
        """What counts as near, and how much is shown."""

        threshold: float = Field(THRESHOLD, gt=0, le=1, description="Jaccard index from which two texts are near")
        examples: int = Field(5, ge=1, description="pairs of rows shown as evidence")

    settings: Settings

    def run(self, data: CheckInput) -> Iterator[Finding]:
        """Yield the leaks of each pair of splits, exact ones first."""
        splits = sorted((s for s in data.tables if s in _ORDER), key=_ORDER.__getitem__)
        findings = []
        for at, here in enumerate(splits[:-1]):
            later = splits[at + 1 :]
            texts = [text for there in later for text in data.texts(there)]
            pairs = near_pairs_between(data.texts(here), texts, threshold=self.settings.threshold)
            begin = 0
            for there in later:
                end = begin + len(data.tables[there])
                own = [(i, j - begin, s) for i, j, s in pairs if begin <= j < end]
                findings += self._between(data, here, there, own)
                begin = end
        yield from sorted(findings, key=lambda finding: finding.severity != "error")

    def _between(self, data: CheckInput, here: str, there: str, pairs: list[tuple[int, int, float]]) -> list[Finding]:
        """Return the findings on one pair of splits, given the pairs of rows that are near or equal."""
        verbatim_of = {text: i for i, text in reversed(list(enumerate(data.texts(here))))}
        verbatim = {j: verbatim_of[text] for j, text in enumerate(data.texts(there)) if text in verbatim_of}
        left, right = data.normalised(here), data.normalised(there)
        exact, near = dict(verbatim), {}
        for i, j, similarity in pairs:
            if left[i] == right[j]:
                exact.setdefault(j, i)
            elif j not in exact and j not in near:
                near[j] = (i, similarity)
        total = len(data.tables[there])
        findings = []
        if exact:
            other = sum(data.labels(here)[i] != data.labels(there)[j] for j, i in exact.items())
            # repeats inside a split make rows and texts differ; published figures count either
            distinct = len({data.texts(there)[j] for j in verbatim})
            equal = how_equal(len(verbatim), len(exact) - len(verbatim), texts=distinct)
            labels = f"; {other:,} of them with another label" if other else ""
            findings.append(
                Finding(
                    self.name,
                    "error",
                    f"{len(verbatim) or len(exact):,} of {total:,} {there} rows also stand in {here} {equal}{labels} "
                    f"({share(len(exact), total)}).",
                    f"Take them out of {here}, or split the data again: what was seen in training tests no model.",
                    places=self._places(data, here, there, list(exact.items())),
                    count=len(exact),
                    evidence={
                        "verbatim": len(verbatim),
                        "verbatim_texts": distinct,
                        "examples": self._examples(data, here, there, exact),
                    },
                )
            )
        if near:
            findings.append(
                Finding(
                    self.name,
                    "warning",
                    f"{len(near):,} of {total:,} {there} rows nearly stand in {here} ({share(len(near), total)}).",
                    f"Look at a few; if they are copies with small changes, take them out of {here}.",
                    places=self._places(data, here, there, [(j, i) for j, (i, _) in near.items()]),
                    count=len(near),
                    evidence={
                        "threshold": self.settings.threshold,
                        "similarities": [s for _, s in near.values()][: self.settings.examples],
                        "examples": self._examples(data, here, there, {j: i for j, (i, _) in near.items()}),
                    },
                )
            )
        return findings

    def _places(self, data: CheckInput, here: str, there: str, rows: list[tuple[int, int]]) -> tuple[str, ...]:
        return tuple(str(p) for j, i in rows[:10] for p in (data.tables[there].places[j], data.tables[here].places[i]))

    def _examples(self, data: CheckInput, here: str, there: str, rows: dict[int, int]) -> list[dict[str, str]]:
        return [
            {
                there: str(data.tables[there].places[j]),
                here: str(data.tables[here].places[i]),
                "text": excerpt(data.texts(there)[j]),
            }
            for j, i in list(rows.items())[: self.settings.examples]
        ]

    @classmethod
    def tiny(cls) -> dict[str, object]:
        """Return a test that shares a row with train, and one that does not."""
        train = [{"text": "where is my card", "label": "a"}, {"text": "我的卡在哪里", "label": "b"}]
        return {
            "faulty": {"train": train, "test": [{"text": "我的卡在哪里", "label": "b"}]},
            "clean": {"train": train, "test": [{"text": "我想退货", "label": "b"}]},
        }
