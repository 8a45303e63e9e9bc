"""What holds for every check, tested the moment its file exists."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import pytest
from pydantic import ValidationError

from weitiao import plugins
from weitiao.data.check import run_checks
from weitiao.data.checks.base import CheckInput
from weitiao.data.table import Table
from weitiao.findings import SEVERITIES

CHECKS = plugins.names("checks")


def tiny(name: str, kind: str) -> CheckInput:
    """Return the check's own smallest input of a kind; a fresh one each time, as inputs keep a cache."""
    given: Any = plugins.find("checks", name).tiny()[kind]
    if isinstance(given, CheckInput):
        return given
    tables = {split: Table.from_rows(rows, file=f"{split}.csv") for split, rows in given.items()}
    columns = next(iter(tables.values())).column_names
    fields = tuple(field for field in ("text", "text_pair") if field in columns)
    return CheckInput(tables, fields, "label" if "label" in columns else None)


@pytest.mark.parametrize("name", CHECKS)
def test_says_what_it_is(name: str) -> None:
    check = plugins.find("checks", name)
    assert check.name == name
    assert plugins.summary("checks", name)
    assert inspect.getdoc(check)
    for setting in check.Settings.model_fields.values():
        assert setting.description


@pytest.mark.parametrize("name", CHECKS)
def test_settings_are_valid_and_closed(name: str) -> None:
    check = plugins.find("checks", name)
    check.Settings()
    with pytest.raises(ValidationError, match="no_such_setting"):
        check.Settings(no_such_setting=1)


@pytest.mark.parametrize("name", CHECKS)
def test_finds_its_fault(name: str) -> None:
    report = run_checks(tiny(name, "faulty"), [name])
    assert report.findings
    for finding in report.findings:
        assert finding.check == name
        assert finding.severity in SEVERITIES
        assert finding.message.endswith(".")
        assert finding.remedy.endswith(".")
        assert finding.count >= 1
        for place in finding.places:
            assert re.fullmatch(r".+:\d+", place)
    assert json.loads(json.dumps(report.to_json(), allow_nan=False)) == json.loads(json.dumps(report.to_json()))


@pytest.mark.parametrize("name", CHECKS)
def test_calls_nothing_faultless_an_error(name: str) -> None:
    assert not [f for f in run_checks(tiny(name, "clean"), [name]).findings if f.severity == "error"]


@pytest.mark.parametrize("name", CHECKS)
def test_says_the_same_twice(name: str) -> None:
    assert run_checks(tiny(name, "faulty"), [name]).findings == run_checks(tiny(name, "faulty"), [name]).findings


@pytest.mark.parametrize("name", CHECKS)
def test_bears_an_empty_table_and_rows_without_label(name: str) -> None:
    whole = Table.from_rows([{"text": "房间很干净", "label": "a"}])
    run_checks(CheckInput({"train": whole, "test": whole.take([])}, ("text",), "label"), [name])
    run_checks(CheckInput({"all": Table.from_rows([{"text": None}, {"text": ""}])}, ("text",), None), [name])
