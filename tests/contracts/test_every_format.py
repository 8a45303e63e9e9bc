"""What holds for every format, tested the moment its file exists."""

from __future__ import annotations

import inspect
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from weitiao import plugins
from weitiao.data.read import ReadOptions, read
from weitiao.errors import DataError

FORMATS = plugins.names("formats")


def lay(folder: Path, files: dict[str, str | bytes], name: str) -> Path:
    """Write files into a folder and return the path that is opened."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


def tiny(name: str) -> dict[str, Any]:
    return plugins.find("formats", name).tiny()


def plain(value: Any) -> Any:
    """Return what a value says, JSON text opened."""
    try:
        return json.loads(value) if isinstance(value, str) and value[:1] in ("[", "{") else value
    except ValueError:
        return value


@pytest.mark.parametrize("name", FORMATS)
def test_says_what_it_is(name: str) -> None:
    format_ = plugins.find("formats", name)
    assert format_.name == name
    assert plugins.summary("formats", name)
    assert inspect.getdoc(format_)
    for setting in format_.Settings.model_fields.values():
        assert setting.description


@pytest.mark.parametrize("name", FORMATS)
def test_settings_are_valid_and_closed(name: str) -> None:
    format_ = plugins.find("formats", name)
    format_.Settings()
    with pytest.raises(ValidationError, match="no_such_setting"):
        format_.Settings(no_such_setting=1)


@pytest.mark.parametrize("name", FORMATS)
def test_reads_its_own_file(name: str, tmp_path: Path) -> None:
    case = tiny(name)
    table = read(lay(tmp_path / "a", case["files"], case["open"]), formats=[name])
    assert table.sources[0].format == name
    rows = [{key: plain(value) for key, value in row.items() if value is not None} for row in table]
    assert rows == case["rows"]
    assert not table.set_aside
    for place in table.places:
        assert place.line >= 1


@pytest.mark.parametrize("name", FORMATS)
def test_reads_other_encodings_and_line_ends(name: str, tmp_path: Path) -> None:
    case = tiny(name)
    # In a folder of texts with offsets, line ends are part of the text: other ones would be another file.
    end = "\n" if case["open"] == "." else "\r\n"
    files = {k: v.replace("\r\n", "\n").replace("\n", end).encode("utf-16") for k, v in case["files"].items()}
    table = read(lay(tmp_path / "a", files, case["open"]), formats=[name])
    assert [{key: plain(value) for key, value in row.items() if value is not None} for row in table] == case["rows"]
    assert table.sources[0].encoding == "utf-16"


@pytest.mark.parametrize("name", FORMATS)
def test_what_cannot_be_read_is_set_aside_with_its_reason(name: str, tmp_path: Path) -> None:
    case, faulty = tiny(name), tiny(name)["faulty"]
    table = read(lay(tmp_path / "a", faulty["files"], case["open"]), ReadOptions(format=name))
    assert len(table) == faulty["rows"]
    assert sorted(row.reason for row in table.set_aside) == sorted(faulty["reasons"])
    assert table.sources[0].rows_in == len(table) + len(table.set_aside)


@pytest.mark.parametrize("name", FORMATS)
def test_is_found_in_whatever_order_formats_are_tried(name: str, tmp_path: Path) -> None:
    case = tiny(name)
    path = lay(tmp_path / "a", case["files"], case["open"])
    for order in (FORMATS, FORMATS[::-1]):
        assert read(path, formats=order).sources[0].format == name


@pytest.mark.parametrize("name", FORMATS)
def test_does_not_recognize_what_is_another_format(name: str, tmp_path: Path) -> None:
    member = plugins.find("formats", name)()
    for other in FORMATS:
        case = tiny(other)
        path = lay(tmp_path / other, case["files"], case["open"])
        start = path.read_bytes().decode() if path.is_file() else ""
        assert member.recognizes(path, start) == (other == name), other
    tables = [
        "text,label\n房间很干净,好\n早餐太差,差\n",
        "text\tlabel\nO\tO\nx\ty\n",
        '{"text": "a", "label": "b"}\n' * 2,
    ]
    tables += [
        '[{"text": "a", "label": "b"}]',
        '{"a": ["x", "y"]}',
        "一行\n又一行\n",
        "x@positive\n",
        "[",
        "{",
        '"',
        "\n",
        "",
    ]
    for i, content in enumerate([*tables, *tiny(name)["others"]]):
        path = lay(tmp_path / f"table{i}", {"table.txt": content}, "table.txt")
        assert not member.recognizes(path, content), content


@pytest.mark.parametrize("name", FORMATS)
def test_a_start_may_end_anywhere(name: str, tmp_path: Path) -> None:
    case = tiny(name)
    path = lay(tmp_path / "a", case["files"], case["open"])
    start = path.read_bytes().decode() if path.is_file() else ""
    member = plugins.find("formats", name)()
    for end in range(len(start)):
        assert member.recognizes(path, start[:end]) in (True, False)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damage_ends_in_words(name: str, data: st.DataObject) -> None:
    """Whatever bytes a file holds: rows, rows set aside, or a `DataError`."""
    case = tiny(name)
    victim = data.draw(st.sampled_from(sorted(case["files"])))
    content = case["files"][victim].encode()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 30)))
    middle = data.draw(st.binary(max_size=12) | st.sampled_from([b"\n", b"\t", b"{", b"[]", b"null", b"-1", b'"', b""]))
    damaged = content[:start] + middle + content[end:]
    with tempfile.TemporaryDirectory() as folder:
        path = lay(Path(folder), {**case["files"], victim: damaged}, case["open"])
        for options, formats in ((ReadOptions(format=name), []), (None, FORMATS)):
            try:
                table = read(path, options, formats)
            except DataError:
                continue
            assert sum(source.rows_in for source in table.sources) == len(table) + len(table.set_aside)
            assert all(row.reason for row in table.set_aside)
