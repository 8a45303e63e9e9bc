"""Files that are there whole or not at all, and how they are told apart."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from safetensors import SafetensorError

__all__ = [
    "flush",
    "list_files",
    "safetensors_errors",
    "sha256",
    "whole_file",
    "whole_folder",
    "write_json",
    "write_text",
]


@contextmanager
def safetensors_errors() -> Iterator[None]:
    """Turn what safetensors says of a full disk into the `OSError` that it is."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(str(error).removeprefix("Error while serializing: ")) from error


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to write into; when the block ends it takes the place of `folder`, flushed to the disk.

    When the block raises, or the process is killed in it, what was at `folder` before is untouched.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left_over in folder.parent.glob(f".{glob.escape(folder.name)}.*.aside"):
        if left_over.name.endswith(".old.aside") and not folder.exists():
            left_over.rename(folder)  # killed between the two renames below
        else:
            shutil.rmtree(left_over, ignore_errors=True)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.aside")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old.aside")
    aside.mkdir()
    try:
        with safetensors_errors():
            yield aside
        for path in (*aside.rglob("*"), aside):
            flush(path)
        if folder.exists():  # a folder cannot be renamed onto a full one: two renames, and no more between them
            folder.rename(old)
        aside.rename(folder)
        flush(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


@contextmanager
def whole_file(path: Path, *, encoding: str = "utf-8") -> Iterator[TextIO]:
    """Give a text file to write into; when the block ends it takes the place of `path`, flushed to the disk.

    When the block raises, or the process is killed, what was at `path` before is untouched. Line ends are
    written as they are given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.aside")
    try:
        with aside.open("w", encoding=encoding, newline="") as file:
            yield file
        flush(aside)
        aside.rename(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Replace a file's text, whole or not at all."""
    with whole_file(path) as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    """Replace a file by JSON text, whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def sha256(path: Path) -> str:
    """Return the hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_files(folder: Path) -> list[str]:
    """List the files below a folder, as sorted relative names."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
