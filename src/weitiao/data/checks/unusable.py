"""Rows that were read but cannot be used: ragged, undecodable, without text or label."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import Field

from weitiao.data.checks.base import Check, CheckInput, excerpt, num_rows, share
from weitiao.data.table import Place, SetAside, Table
from weitiao.findings import Finding
from weitiao.plugins import Options

_SPECIFIC = re.compile(r"\d+|'[^']*'|\"[^\"]*\"")  # what tells two rows with one fault apart


class Unusable(Check):
    """Group the rows set aside by their reason; each keeps its place."""

    class Settings(Options):
        """When set-aside rows stop being a nuisance."""

        error_share: float = Field(0.01, ge=0, le=1, description="share of rows set aside above which it is an error")

    settings: Settings

    def run(self, data: CheckInput) -> Iterator[Finding]:
        """Yield one finding a split and reason."""
        for split, table in data.tables.items():
            reasons: dict[str, list[SetAside]] = {}
            for row in table.set_aside:
                reasons.setdefault(_SPECIFIC.sub("#", row.reason), []).append(row)
            too_many = len(table.set_aside) > self.settings.error_share * table.rows_in
            for rows in sorted(reasons.values(), key=len, reverse=True):
                yield Finding(
                    self.name,
                    "error" if too_many else "warning",
                    f"{num_rows(len(rows), split, among=table.rows_in)} cannot be used "
                    f"({share(len(rows), table.rows_in)}): {rows[0].reason.rstrip('.')}.",
                    "Correct these rows in the file; they are left out of training and measuring until then.",
                    places=tuple(str(row.place) for row in rows[:20]),
                    count=len(rows),
                    evidence={"rows": [{"place": str(r.place), "content": excerpt(r.content)} for r in rows[:3]]},
                )

    @classmethod
    def tiny(cls) -> dict[str, object]:
        """Return a table with a row set aside, and one without."""
        rows = [{"text": f"question number {i}", "label": "ab"[i % 2]} for i in range(10)]
        whole = Table.from_rows(rows)
        torn = Table(whole.columns, whole.places, (SetAside(Place("memory", 11), "no text", '{"text": ""}'),))
        return {"faulty": CheckInput({"all": torn}, ("text",), "label"), "clean": {"all": rows}}
