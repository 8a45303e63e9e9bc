"""The page of what works with what says what is so."""

from __future__ import annotations

from pathlib import Path

import pytest

import support


def said(name: str) -> list[str]:
    """Return the cells of a row of the page, in order, numbers replaced by what they say."""
    told = support.PAGE.read_text(encoding="utf-8")
    row = next(line for line in told.splitlines() if line.startswith(f"| `{name}` |"))
    reasons = dict(line.split(". ", 1) for line in told.splitlines() if line[:1].isdigit() and ". " in line)
    cells = [part.strip() for part in row.split("|")[2:-1]]
    return [reasons[part.strip("[]")] if part.startswith("[") else part for part in cells]


@pytest.mark.parametrize("task", support.TASKS)
def test_the_page_says_what_is_so_of_a_task(task: str, tmp_path: Path) -> None:
    assert list(support.task_cells(task, support.maker(tmp_path)).values()) == said(task)


@pytest.mark.parametrize("method", support.METHODS)
def test_the_page_says_what_is_so_of_a_method(method: str, tmp_path: Path) -> None:
    assert list(support.method_cells(method, support.maker(tmp_path)).values()) == said(method)
