"""Files that are there whole or not at all."""

from __future__ import annotations

import pytest

from weitiao import files


def left_overs(folder):
    return [p.name for p in folder.rglob("*") if "aside" in p.name]


def test_a_folder_takes_the_place_of_another_whole(tmp_path):
    target = tmp_path / "deep" / "a [1]"
    for text in ("old", "新"):
        with files.whole_folder(target) as aside:
            (aside / "sub").mkdir()
            (aside / "sub" / "x.txt").write_text(text, encoding="utf-8")
    assert (target / "sub" / "x.txt").read_text(encoding="utf-8") == "新"
    assert not left_overs(tmp_path)


def test_a_folder_that_fails_leaves_what_was_there(tmp_path):
    target = tmp_path / "a"
    with files.whole_folder(target) as aside:
        (aside / "x").write_text("old")

    def fill() -> None:
        with files.whole_folder(target) as aside:
            (aside / "x").write_text("new")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fill()
    assert (target / "x").read_text() == "old"
    assert not left_overs(tmp_path)


def test_a_killed_writers_left_overs_are_cleared(tmp_path):
    killed = tmp_path / ".a.999.aside"
    killed.mkdir()
    (killed / "half").write_text("")
    other = tmp_path / ".ab.999.aside"  # of another folder
    other.mkdir()
    with files.whole_folder(tmp_path / "a"):
        pass
    assert left_overs(tmp_path) == [other.name]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.txt"
    files.write_text(path, "一\r\n二\n")
    assert path.read_bytes() == "一\r\n二\n".encode()

    def fail() -> None:
        with files.whole_file(path) as file:
            file.write("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == "一\r\n二\n".encode()
    assert not left_overs(tmp_path)


def test_json_keeps_chinese(tmp_path):
    files.write_json(tmp_path / "a.json", {"标签": 1})
    assert "标签" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_hashes_and_lists(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_bytes(b"abc")
    (tmp_path / "a").write_bytes(b"")
    assert files.list_files(tmp_path) == ["a", "b/x"]
    assert files.sha256(tmp_path / "b" / "x").startswith("ba7816bf")
