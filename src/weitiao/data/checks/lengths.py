"""How long texts are, and with a model: how much of them it will not see."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from weitiao.data.checks.base import Check, CheckInput, excerpt, num_rows, places, share
from weitiao.findings import Finding
from weitiao.plugins import Options

_QUANTILES = (50, 90, 95, 99)


class Lengths(Check):
    """Truncation at the model's length; without a model, the distribution and its outliers."""

    class Settings(Options):
        """When truncation and odd lengths are worth a word."""

        warning_share: float = Field(0.05, ge=0, le=1, description="share of truncated rows from which it is a warning")
        short: int = Field(1, ge=0, description="texts of at most this many characters are very short")
        long_factor: float = Field(20.0, gt=1, description="texts this many times the median are very long")

    settings: Settings

    def run(self, data: CheckInput) -> Iterator[Finding]:
        """Yield truncation, or the distribution of characters; then very short and very long texts."""
        splits = [split for split, table in data.tables.items() if len(table)]
        if data.tokenizer is not None:
            for split in splits:
                yield from self._truncation(data, split)
        elif splits:
            yield self._distribution(data, splits)
        for split in splits:
            yield from self._outliers(data, split)

    def _truncation(self, data: CheckInput, split: str) -> Iterator[Finding]:
        limit = data.max_length or getattr(data.tokenizer, "model_max_length", 0)
        sizes = np.array([len(ids) for ids in data.tokens(split)])
        if not len(sizes) or not 0 < limit < 10**6:  # tokenizers without a limit say 10**30
            return
        lost = np.maximum(sizes - limit, 0)
        cut = np.flatnonzero(lost)
        if not len(cut):
            return
        worst = cut[np.argsort(-lost[cut], kind="stable")]
        yield Finding(
            self.name,
            "warning" if len(cut) >= self.settings.warning_share * len(sizes) else "info",
            f"{num_rows(len(cut), split, among=len(sizes))} ({share(len(cut), len(sizes))}) are longer than {limit} "
            f"tokens and will be cut; {share(int(lost.sum()), int(sizes.sum()))} of all tokens are lost.",
            "Raise the maximum length if the model allows it, or shorten these texts so that what matters comes first.",
            places=places(data.tables[split], worst.tolist()),
            count=len(cut),
            evidence={
                "max_length_tokens": limit,
                "quantiles_tokens": _quantiles(sizes),
                "worst": [{"place": str(data.tables[split].places[i]), "tokens": int(sizes[i])} for i in worst[:5]],
            },
        )

    def _distribution(self, data: CheckInput, splits: list[str]) -> Finding:
        sizes = {split: np.array([len(text) for text in data.texts(split)], dtype=np.int64) for split in splits}
        together = np.concatenate(list(sizes.values()))
        whole = _quantiles(together)
        return Finding(
            self.name,
            "info",
            f"half of the texts have at most {whole['50']:,} characters, 95% at most {whole['95']:,}, the longest "
            f"{whole['100']:,}.",
            "Name a model to see how much of them it would cut off.",
            count=len(together),
            evidence={"quantiles_characters": {split: _quantiles(own) for split, own in sizes.items()}},
        )

    def _outliers(self, data: CheckInput, split: str) -> Iterator[Finding]:
        texts = data.texts(split)
        sizes = np.array([len(text.strip()) for text in texts])
        middle = max(float(np.median(sizes)), 20.0)
        short = np.flatnonzero(sizes <= self.settings.short)
        long = np.flatnonzero(sizes > self.settings.long_factor * middle)
        for rows, what, remedy in (
            (short, f"at most {self.settings.short} characters long", "Check that nothing was lost in them."),
            (
                long,
                f"over {self.settings.long_factor:g} times as long as usual",
                "Check that a quotation mark left open did not swallow the rows that follow.",
            ),
        ):
            if not len(rows):
                continue
            ordered = rows[np.argsort(-sizes[rows], kind="stable")].tolist()
            yield Finding(
                self.name,
                "info",
                f"{num_rows(len(ordered), split)} with a text {what}.",
                remedy,
                places=places(data.tables[split], ordered),
                count=len(ordered),
                evidence={
                    "examples": [{"text": excerpt(texts[i], 60), "characters": int(sizes[i])} for i in ordered[:5]]
                },
            )

    @classmethod
    def tiny(cls) -> dict[str, object]:
        """Return a text that swallowed a file among short ones, and only short ones."""
        rows = [{"text": f"question number {i}", "label": "ab"[i % 2]} for i in range(10)]
        return {"faulty": {"all": [*rows, {"text": "and then " * 100, "label": "a"}]}, "clean": {"all": rows}}


def _quantiles(sizes: np.ndarray) -> dict[str, int]:
    return {str(q): int(np.percentile(sizes, q, method="inverted_cdf")) for q in (*_QUANTILES, 100)}
