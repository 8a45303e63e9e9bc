"""The page of what works with what says what is so."""

from __future__ import annotations

from pathlib import Path

import pytest

import support
from weitiao import plugins


@pytest.mark.parametrize("task", plugins.names("tasks"))
def test_the_page_says_what_is_so(task: str, tmp_path: Path) -> None:
    told = support.PAGE.read_text(encoding="utf-8")
    row = next(line for line in told.splitlines() if line.startswith(f"| `{task}` |"))
    reasons = dict(line.split(". ", 1) for line in told.splitlines() if line[:1].isdigit() and ". " in line)
    found = support.rows(task, support.maker(tmp_path))
    for family, text in zip(support.FAMILIES, row.split("|")[2:-1], strict=True):
        for method, part in zip(support.METHODS, text.split(","), strict=True):
            number = part.partition("[")[2].rstrip("] ")
            assert found[family, method] == (reasons[number] if number else "works"), (family, method)
