"""Content hashes of model files, remembered so that a large file is read once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from weitiao.models.packaged import cache_folder

__all__ = ["content_hash", "file_hash"]

# File systems keep times to at most 2 seconds (FAT); a file younger than that can change again unseen.
_SETTLED_S = 3.0


def content_hash(files: Iterable[Path]) -> str:
    """Return the sha256 over names and bytes of `files`, in the order of their names.

    The folder they lie in and their times do not enter, so a copy has the same hash.
    """
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda path: path.name):
        digest.update(f"{file.name}\0{file_hash(file)}\n".encode())
    return digest.hexdigest()


def file_hash(file: Path, *, remember: bool = True) -> str:
    """Return the sha256 of one file.

    Parameters
    ----------
    file
        The file; links are followed.
    remember
        Trust, and keep, a hash for the same path, size, inode and times. False reads every byte.
    """
    path = file.resolve()
    facts = path.stat()
    key = f"{path}|{facts.st_size}|{facts.st_ino}|{facts.st_mtime_ns}|{facts.st_ctime_ns}"
    note = cache_folder() / "hashes" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    if remember:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(note.read_text(encoding="utf-8"))
            if known["file"] == key:
                return str(known["sha256"])
    with path.open("rb") as stream:
        value = hashlib.file_digest(stream, "sha256").hexdigest()
    if remember and facts.st_size >= 1 << 20 and time.time() - facts.st_mtime > _SETTLED_S:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
            note.parent.mkdir(parents=True, exist_ok=True)
            handle, aside = tempfile.mkstemp(dir=note.parent)
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                json.dump({"file": key, "sha256": value}, out)
            os.replace(aside, note)
    return value
