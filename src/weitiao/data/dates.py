"""Points in time as people write them, in English or Chinese notation, as a number to sort by."""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import UTC, date, datetime
from typing import Any

__all__ = ["instant"]

_DATE = re.compile(
    r"(?P<year>\d{4})\s*[-/.年]\s*(?P<month>\d{1,2})(?:\s*[-/.月]\s*(?P<day>\d{1,2}))?\s*[日号月]?"
    r"(?:\s*(?:[T ]|上午|下午)?\s*(?P<hour>\d{1,2})\s*[:时点]\s*(?P<minute>\d{1,2})?"
    r"\s*(?:[:分]\s*(?P<second>\d{1,2})?)?\s*秒?)?"
)


def instant(value: Any) -> float | None:
    """Return seconds since 1970 (UTC where no zone is written) or the number itself; ``None`` if neither.

    Examples
    --------
    >>> instant("2024年3月1日") == instant("2024-03-01") == instant("2024/3/1")
    True
    """
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else None
    text = unicodedata.normalize("NFKC", str(value)).strip() if value is not None else ""
    try:
        return instant(datetime.fromisoformat(text)) if not text.isdigit() or len(text) == 8 else float(text)
    except ValueError:
        pass
    try:
        return instant(float(text))
    except ValueError:
        pass
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    parts = {name: int(part) for name, part in match.groupdict().items() if part is not None}
    if "下午" in text and parts.get("hour", 12) < 12:
        parts["hour"] += 12
    clock = (parts.get("hour", 0), parts.get("minute", 0), parts.get("second", 0))
    try:
        return instant(datetime(parts["year"], parts["month"], parts.get("day", 1), *clock))
    except ValueError:
        return None
