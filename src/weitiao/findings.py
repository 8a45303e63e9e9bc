"""A finding: one thing a check noticed in the data or the model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["SEVERITIES", "Finding", "Severity"]

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """What was noticed, where, how sure we are, and what to do about it.

    Parameters
    ----------
    check
        Name of the check that found it (its file name).
    severity
        ``error``: a number from this data would be wrong or the run would fail;
        ``warning``: the model will probably be worse for it; ``info``: worth knowing.
    message
        One sentence for people, with the counts in it.
    remedy
        What to do, a sentence.
    places
        Where, as ``file:line``; the first few when there are many.
    count
        How many rows (or pairs of rows, or labels) are concerned in all.
    evidence
        What was seen: text excerpts, numbers. JSON values only.
    """

    check: str
    severity: Severity
    message: str
    remedy: str
    places: tuple[str, ...] = ()
    count: int = 1
    evidence: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return asdict(self)
