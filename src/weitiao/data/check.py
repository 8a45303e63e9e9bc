"""Run the checks over data and account for what they found: console, JSON and a page for people."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from weitiao import plugins
from weitiao.data.checks.base import CheckInput
from weitiao.data.table import Source
from weitiao.errors import RecipeError, did_you_mean
from weitiao.findings import SEVERITIES, Finding

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["CheckReport", "run_checks"]

_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}
_NUM_BINS = 24


@dataclass(frozen=True)
class CheckReport:
    """What the checks found, and the sums of rows.

    Parameters
    ----------
    findings
        The gravest first; in the order of the checks' names otherwise.
    counts
        Split to ``rows_in``, ``used`` and ``set_aside``, where the first is the sum of the other two.
    labels
        Split to the rows of each label, the most frequent first.
    lengths
        Split to the histogram of characters a text: ``edges`` (one more than ``rows``), ``rows``; the
        last bin takes in all longer texts.
    sources
        The files, and how they were read.
    seconds
        What each check that ran took.
    language
        What the texts are mostly written in, as HTML names it; for fonts.
    """

    findings: tuple[Finding, ...]
    counts: Mapping[str, Mapping[str, int]]
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    lengths: Mapping[str, Mapping[str, list[int]]] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    language: str = "en"

    @property
    def num_by_severity(self) -> dict[str, int]:
        """How many findings there are of each severity."""
        counts = Counter(finding.severity for finding in self.findings)
        return {severity: counts[severity] for severity in SEVERITIES}

    def sums(self, split: str) -> str:
        """Return the account of one split's rows: ``12,000 rows in = 11,987 used + 13 set aside``."""
        count = self.counts[split]
        return f"{count['rows_in']:,} rows in = {count['used']:,} used + {count['set_aside']:,} set aside"

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "num_by_severity": self.num_by_severity,
            "findings": [finding.to_json() for finding in self.findings],
            "counts": {split: dict(count) for split, count in self.counts.items()},
            "labels": {split: dict(labels) for split, labels in self.labels.items()},
            "lengths_characters": {split: dict(bins) for split, bins in self.lengths.items()},
            "sources": [asdict(source) for source in self.sources],
            "seconds": dict(self.seconds),
        }

    def print(self, console: Console) -> None:
        """Print every finding with its first places, what was seen and the remedy, then the sums."""
        from rich.text import Text

        for finding in self.findings:
            head = Text(f"{finding.severity:<8}", style=_STYLES[finding.severity])
            console.print(head + Text(f"{finding.check}: {finding.message}", style="default"))
            more = "" if finding.count <= 3 or len(finding.places) <= 3 else ", …"
            if finding.places:
                console.print(Text(f"         at {', '.join(finding.places[:3])}{more}", style="dim"))
            for line in _seen(finding)[:2]:
                console.print(Text(f"         {line}", style="dim"), no_wrap=True, overflow="ellipsis")
            console.print(Text(f"         → {finding.remedy}"))
        number = self.num_by_severity
        words = {"error": "error", "warning": "warning", "info": "note"}
        total = ", ".join(f"{n} {words[s]}{'' if n == 1 else 's'}" for s, n in number.items())
        console.print(Text(total, style="bold"))
        for split in self.counts:
            console.print(Text(f"{split}: {self.sums(split)}"))

    def write_html(self, path: str | Path) -> None:
        """Write the report as one page that needs no other file and no network.

        Charts are drawn as SVG and CSS with the text left as text, so that the reader's own fonts
        show Chinese.
        """
        from jinja2 import Environment, StrictUndefined

        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        template = environment.from_string(Path(__file__).with_name("check.html").read_text(encoding="utf-8"))
        title = ", ".join(dict.fromkeys(source.file for source in self.sources)) or "data"
        page = template.render(report=self, title=title, most=lambda counts: max(counts, default=1) or 1)
        Path(path).write_text(page, encoding="utf-8", errors="replace")


def run_checks(
    data: CheckInput,
    names: Sequence[str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    found: Iterable[Finding] = (),
) -> CheckReport:
    """Look at the data with every check, or with those named.

    Parameters
    ----------
    data
        The splits, and the model's tokenizer if there is one.
    names
        Checks to run; all when left out. A path to a ``.py`` file with a check of your own works too.
    settings
        Check to its settings, where they differ from the defaults.
    found
        What the task found by itself.

    Raises
    ------
    UnknownName
        There is no check of that name.
    RecipeError
        A setting is wrong, or belongs to a check that does not run.
    """
    chosen = list(dict.fromkeys(plugins.names("checks") if names is None else names))
    given = dict(settings or {})
    for name in given:
        if name not in chosen:
            raise RecipeError(
                f"there are settings for {name!r}, a check that does not run.{did_you_mean(name, chosen)}",
                fix=f"These run: {', '.join(chosen)}.",
            )
    findings = list(found)
    seconds = {}
    checks = [_make(name, given.get(name, {})) for name in chosen]  # all made first: mistakes show at once
    for check in checks:
        start = time.perf_counter()
        findings += check.run(data)
        seconds[check.name] = round(time.perf_counter() - start, 3)
    return CheckReport(
        tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))),
        counts={
            split: {"rows_in": table.rows_in, "used": len(table), "set_aside": len(table.set_aside)}
            for split, table in data.tables.items()
        },
        labels={
            split: dict(counted.most_common())
            for split in data.tables
            if (counted := Counter(label for label in data.labels(split) if label is not None))
        },
        lengths=_histograms(data),
        sources=tuple(dict.fromkeys(source for table in data.tables.values() for source in table.sources)),
        seconds=seconds,
        language=_language(data),
    )


def _make(name: str, values: Mapping[str, Any]) -> Any:
    cls = plugins.find("checks", name)
    try:
        return cls(cls.Settings(**values))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg'].lower()}" for e in error.errors())
        known = ", ".join(cls.Settings.model_fields) or "none"
        raise RecipeError(f"{wrong}.", where=f"settings of check {name}", fix=f"Its settings: {known}.") from error


def _histograms(data: CheckInput) -> dict[str, dict[str, list[int]]]:
    sizes = {split: np.array([len(text) for text in data.texts(split)], dtype=np.int64) for split in data.tables}
    together = np.concatenate([*sizes.values(), np.zeros(0, int)])
    if not len(together):
        return {}
    width = max(1, int(np.ceil((np.percentile(together, 98) + 1) / _NUM_BINS)))
    edges = np.arange(_NUM_BINS + 1) * width
    return {
        split: {
            "edges": edges.tolist(),
            "rows": np.bincount(np.minimum(own // width, _NUM_BINS - 1), minlength=_NUM_BINS).tolist(),
        }
        for split, own in sizes.items()
    }


def _language(data: CheckInput) -> str:
    sample = "".join("".join(data.texts(split)[:200]) for split in data.tables)[:20_000]
    if sum("\u3041" <= c <= "\u30fa" for c in sample) > 0.1 * len(sample):
        return "ja"
    if sum("\uac00" <= c <= "\ud7a3" for c in sample) > 0.2 * len(sample):
        return "ko"
    return "zh-Hans" if sum("\u4e00" <= c <= "\u9fff" for c in sample) > 0.1 * len(sample) else "en"


def _seen(finding: Finding) -> list[str]:
    """Return the evidence of a finding as short lines."""
    examples = finding.evidence.get("examples") or finding.evidence.get("rows")
    if isinstance(examples, list):
        return [_line(example) for example in examples]
    return [_line({k: v}) for k, v in finding.evidence.items() if isinstance(v, dict | list) and v]


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{k}: {v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)}" for k, v in value.items()
        )
    return str(value)
