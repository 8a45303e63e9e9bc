"""States of rows on the disk, found again by what they were computed from.

An entry is a folder named after the hash of all that decides its content: the model's weights, the tokens of the
rows in their order, the layer, the precision, the batch size and the versions of the libraries. It is written aside
and renamed when it is whole, so that a killed run leaves none that is torn. The tokens' states lie row after row in
one plain file, of which only the rows of a batch are read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
import weakref
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from weitiao.files import flush, safetensors_errors, write_json
from weitiao.models.packaged import cache_folder
from weitiao.training.settings import CacheSettings

__all__ = ["TOKENS", "Store", "TokenStates", "Writer"]

_FACTS, _ROWS = "facts.json", "rows.safetensors"
TOKENS = "tokens.bin"  # the file of an entry that holds its tokens' states
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_GIB = 1 << 30
_ABANDONED_S = 86_400  # an entry is written in less


class TokenStates:
    """The states of the tokens of all rows, ``(tokens, hidden)``, in a file.

    Parameters
    ----------
    path, dtype, hidden
        Where they are, and of what shape.
    lengths
        Tokens a row, ``(rows,)``.
    """

    def __init__(self, path: Path, dtype: torch.dtype, hidden: int, lengths: np.ndarray) -> None:
        self.dtype, self.hidden = dtype, hidden
        self.starts = np.concatenate([[0], np.cumsum(lengths)])
        self._row_bytes = hidden * dtype.itemsize
        self._file = os.open(path, os.O_RDONLY)  # stays readable should another run clear the cache meanwhile
        weakref.finalize(self, os.close, self._file)

    def __call__(self, rows: Sequence[int], attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the states of some rows, float32, ``(rows, length, hidden)``, zero where there is padding."""
        pieces = bytearray()
        for row in rows:
            start, end = (int(self.starts[i]) for i in (row, row + 1))
            pieces += os.pread(self._file, (end - start) * self._row_bytes, start * self._row_bytes)
        tokens = torch.frombuffer(pieces, dtype=self.dtype).view(-1, self.hidden)
        states = torch.zeros(*attention_mask.shape, self.hidden)
        states[attention_mask.bool()] = tokens.float()
        return states


class Writer:
    """Takes the states of rows in any order."""

    def __init__(self, path: Path, dtype: torch.dtype, lengths: np.ndarray) -> None:
        self._file, self._dtype = path.open("wb"), dtype
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        self.hidden = 0

    def write(self, rows: np.ndarray, states: torch.Tensor, attention_mask: torch.Tensor) -> None:
        """Write what was said of some rows, ``(rows, length, hidden)``."""
        self.hidden = states.shape[-1]
        size = self.hidden * self._dtype.itemsize
        for i, row in enumerate(rows):
            tokens = states[i, attention_mask[i].bool()].to("cpu", self._dtype).contiguous()
            data, place = tokens.view(torch.uint8).numpy().data.cast("B"), int(self._starts[row]) * size
            while data:  # a full disk may take a part, and say so at the next
                written = os.pwrite(self._file.fileno(), data, place)
                data, place = data[written:], place + written

    def close(self) -> None:
        """End the file."""
        self._file.close()


class Store:
    """The entries there are, in a folder.

    Parameters
    ----------
    settings
        How much they may fill.
    folder
        The cache's own when left out.
    """

    def __init__(self, settings: CacheSettings, folder: Path | None = None) -> None:
        self.settings, self.folder = settings, folder or cache_folder() / "states"
        self._used: set[str] = set()  # keys of this run, which it does not remove

    @property
    def dtype(self) -> torch.dtype:
        """What tokens' states are kept in."""
        return _DTYPES[self.settings.frozen_states]

    def why_no_room(self, tokens: int, hidden: int) -> str | None:
        """Return ``None`` if the states of so many tokens may be kept, or a sentence.

        What the cache holds counts as free: it would make room, or is what is asked for.
        """
        if self.settings.frozen_states == "off":
            return "cache.frozen_states is off"
        need = tokens * hidden * self.dtype.itemsize
        if need > self.settings.limit_gib * _GIB:
            return f"the states would fill {need / _GIB:.2g} GiB, more than cache.limit_gib {self.settings.limit_gib:g}"
        if reason := self.why_not_written():
            return reason
        free = shutil.disk_usage(self.folder).free + sum(self._sizes().values())
        if need > 0.9 * free:
            return f"the states would fill {need / _GIB:.2g} GiB of the {free / _GIB:.2g} GiB that the disk has free"
        return None

    def why_not_written(self) -> str | None:
        """Return ``None`` if the folder can be written to, or a sentence."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                return None
        except OSError as error:
            return f"the cache folder {self.folder} cannot be written to ({error.strerror or error})"

    @staticmethod
    def key(**facts: Any) -> str:
        """Return the name of the entry that these facts decide; arrays count by their bytes."""
        digest = hashlib.sha256()
        for name, value in sorted(facts.items()):
            plain = value.tobytes() if isinstance(value, np.ndarray) else json.dumps(value, sort_keys=True).encode()
            digest.update(name.encode() + b"\0" + hashlib.sha256(plain).digest())
        return digest.hexdigest()[:40]

    def open(self, key: str, lengths: np.ndarray) -> tuple[dict[str, torch.Tensor], TokenStates | None] | None:
        """Return an entry's tensors, and its tokens' states if it has some; ``None`` if there is none that is whole.

        Parameters
        ----------
        lengths
            Tokens a row.
        """
        folder = self.folder / key
        self._used.add(key)
        try:
            facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
            if any(_checksum(folder / name) != value for name, value in facts["files"].items()):
                raise ValueError("damaged")
            tensors, hidden = load_file(folder / _ROWS), facts.get("hidden")
            tokens = TokenStates(folder / TOKENS, self.dtype, hidden, lengths) if hidden else None
            os.utime(folder)  # the longest unused go first
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, SafetensorError):
            shutil.rmtree(folder, ignore_errors=True)  # it would be in the way of a whole one
            return None
        return tensors, tokens

    @contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        """Give a folder to write an entry into; it is there when the block ends, and not before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".", dir=self.folder))
        try:
            with safetensors_errors():
                yield aside
            for file in aside.iterdir():
                flush(file)
            with contextlib.suppress(OSError):  # another run wrote the same meanwhile
                aside.rename(self.folder / key)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        self.make_room()

    @staticmethod
    def finish(folder: Path, tensors: Mapping[str, torch.Tensor], *, hidden: int = 0) -> None:
        """Write what belongs to an entry beside the tokens' states, which are `hidden` wide; 0: it has none."""
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / _ROWS)
        files = {file.name: _checksum(file) for file in folder.iterdir()}
        write_json(folder / _FACTS, {"hidden": hidden, "files": files})

    def make_room(self, size: int = 0) -> None:
        """Remove what killed runs left, then the longest unused entries, until there is room for `size` bytes more."""
        with contextlib.suppress(OSError):
            for entry in self.folder.glob(".*"):
                if _age(entry) > _ABANDONED_S:
                    shutil.rmtree(entry, ignore_errors=True)
        sizes = self._sizes()
        for entry in sorted(sizes, key=_age, reverse=True):
            within = sum(sizes.values()) + size <= self.settings.limit_gib * _GIB
            if within and shutil.disk_usage(self.folder).free > 1.1 * size:
                return
            if entry.name not in self._used:
                shutil.rmtree(entry, ignore_errors=True)
                sizes.pop(entry)

    def _sizes(self) -> dict[Path, int]:
        sizes: dict[Path, int] = {}
        with contextlib.suppress(OSError):
            for entry in self.folder.iterdir():
                with contextlib.suppress(OSError):  # another run removes it at this moment
                    if not entry.name.startswith("."):
                        sizes[entry] = sum(file.stat().st_size for file in entry.iterdir())
        return sizes


def _checksum(path: Path) -> str:
    """Return a checksum that finds damage; whoever can write here could write the states themselves."""
    value = 0
    with path.open("rb") as file:
        while part := file.read(1 << 22):
            value = zlib.crc32(part, value)
    return f"{path.stat().st_size}-{value:08x}"


def _age(entry: Path) -> float:
    try:
        return time.time() - entry.stat().st_mtime
    except OSError:
        return 0.0
