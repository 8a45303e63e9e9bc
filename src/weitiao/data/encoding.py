"""The encoding of a text file: found by reading the bytes, not assumed.

A file is scanned once, in pieces: for its hash, whether it is UTF-8, and where its bytes above 127
are. Byte order marks and UTF-8 decide by themselves. What is left is a choice between the double-byte
encodings of Chinese and the single-byte ones of western Europe, and that one is made on the shape of
the high bytes: Chinese comes in pairs that fall on everyday characters, an accent stands alone.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from weitiao.errors import DataError

__all__ = ["BAD", "Lines", "Scan", "open_bytes", "scan"]

BAD = "\udcff"  # stands where bytes could not be decoded; no file can hold it
_HALVES = re.compile(rb"\xed[\xa0-\xaf][\x80-\xbf]\xed[\xb0-\xbf][\x80-\xbf]")


def _mark(error: UnicodeError) -> tuple[str, int]:
    """Stand in for bytes that are not in the encoding; a character in two halves (CESU-8) is joined."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    if error.encoding == "utf-8" and _HALVES.match(error.object, error.start):
        halves = error.object[error.start : error.start + 6].decode("utf-8", "surrogatepass")
        return halves.encode("utf-16", "surrogatepass").decode("utf-16"), error.start + 6
    return BAD, error.end


codecs.register_error("weitiao.mark", _mark)

_PIECE = 1 << 20
_SAMPLE = 1 << 18
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HIGH = re.compile(rb"[\x80-\xff]+")
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_OTHERS = ("big5", "shift_jis", "euc_jp", "euc_kr", "cp949", "cp1251", "koi8_r", "cp1253", "cp1256")


@dataclass(frozen=True)
class Scan:
    """What one pass over a text file's bytes found.

    Parameters
    ----------
    encoding
        A name `codecs` knows.
    sha256
        Of the bytes on the disk.
    notes
        Whatever is worth telling.
    """

    encoding: str
    sha256: str
    notes: tuple[str, ...] = ()


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading bytes, unpacked if it is gzip (by its first bytes, whatever its name)."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path, "rb") if packed else path.open("rb"))


def scan(path: Path, given: str | None = None) -> Scan:
    """Read a file once and find its encoding.

    Parameters
    ----------
    path
        A text file, possibly gzipped.
    given
        The encoding the user named; then it is only tested.

    Raises
    ------
    DataError
        The file is empty or a broken gzip, or is not in the encoding that was given (with line and byte).
    """
    if given is not None:
        try:
            codecs.lookup(given)
        except LookupError as error:
            raise DataError(
                f"{given!r} is not an encoding.", where=path.name, fix="Try utf-8, gb18030, utf-16 or cp1252."
            ) from error
    evidence = _Evidence()
    strict = codecs.getincrementaldecoder(given)("strict") if given else None
    with open_bytes(path) as file:
        for piece in pieces(file, path):
            if strict is not None:
                _test(strict, piece, evidence, path, given)
            evidence.add(piece)
    if strict is not None:
        _test(strict, b"", evidence, path, given, final=True)
    if not evidence.size:
        raise DataError("the file is empty.", where=path.name, fix="Name a file that holds rows.")
    encoding, notes = (given, ()) if given else evidence.decide()
    return Scan(str(encoding), sha256(path), notes)


def pieces(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """Yield a file's bytes in pieces; a broken gzip is a `DataError`."""
    try:
        while piece := file.read(_PIECE):
            yield piece
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"the gzip file is broken ({error}).", where=path.name, fix="Copy or download it again."
        ) from error


def sha256(path: Path) -> str:
    """Hash the bytes on the disk."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Lines:
    r"""The lines of a text file, cleaned, with what was cleaned counted.

    Lines end at ``\n``, ``\r\n`` or ``\r`` and keep their end. Byte order marks and NUL bytes inside
    are taken out. Bytes that are not in the encoding become `BAD`.
    """

    def __init__(self, path: Path, encoding: str) -> None:
        self.path, self.encoding = path, encoding
        self._found: dict[str, tuple[int, int]] = {}  # what -> (how many lines, first line)

    def __iter__(self) -> Iterator[str]:
        self._found = {}
        try:
            with (
                open_bytes(self.path) as binary,
                io.TextIOWrapper(binary, encoding=self.encoding, errors="weitiao.mark", newline="") as text,
            ):
                for number, line in enumerate(text, 1):
                    yield self._clean(line, number)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"the gzip file is broken ({error}).", where=self.path.name, fix="Copy or download it again."
            ) from error

    @property
    def notes(self) -> tuple[str, ...]:
        """What was taken out so far, a sentence each."""
        return tuple(
            f"{what} at line {first}" + (f" and {n - 1} more lines" if n > 1 else "")
            for what, (n, first) in self._found.items()
        )

    def _clean(self, line: str, number: int) -> str:
        if "\ufeff" in line:
            if line.startswith("\ufeff") and number == 1:
                line = line[1:]  # the mark at the start is as it should be
            if "\ufeff" in line:
                line = line.replace("\ufeff", "")
                self._note("stray BOM removed", number)
        if "\0" in line:
            line = line.replace("\0", "")
            self._note("NUL bytes removed", number)
        return line

    def _note(self, what: str, number: int) -> None:
        n, first = self._found.get(what, (0, number))
        self._found[what] = (n + 1, first)


@dataclass
class _Evidence:
    """Counts over the pieces of a file, from which the encoding is decided."""

    size: int = 0
    start: bytes = b""
    nuls: list[int] = field(default_factory=lambda: [0, 0])  # at even and odd offsets
    valid: int = 0  # multi-byte UTF-8 characters
    high: int = 0  # bytes above 127
    lines: int = 0
    is_utf8: bool = True
    sample: bytearray = field(default_factory=bytearray)  # runs of high bytes with their surroundings
    western: set[int] = field(default_factory=set)  # bytes 0x80-0x9f that occur
    _utf8: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("strict"))

    def add(self, piece: bytes) -> None:
        if not self.size:
            self.start = piece[:_SAMPLE]
        if self.is_utf8:
            try:
                self._utf8.decode(piece)
            except UnicodeDecodeError:
                self.is_utf8 = False
        if b"\0" in piece:
            even = piece[self.size % 2 :: 2].count(0)
            self.nuls[0] += even
            self.nuls[1] += piece.count(0) - even
        ascii_only = piece.isascii()
        if not ascii_only:
            multibyte = _MULTIBYTE.findall(piece)
            self.valid += len(multibyte)
            self.high += len(piece.translate(None, bytes(range(128))))
            self.western |= {b for b in set(piece) if 0x80 <= b <= 0x9F}
            for line in piece.splitlines(keepends=True):
                if len(self.sample) >= _SAMPLE:
                    break
                if not line.isascii():
                    self.sample += line[:4096]
        self.size += len(piece)
        self.lines += piece.count(b"\n")

    def decide(self) -> tuple[str, tuple[str, ...]]:
        for mark, name in _BOMS:
            if self.start.startswith(mark):
                return name, (() if name == "utf-8" else (f"not UTF-8: read as {name}",))
        if found := self._utf16():
            return found, (f"not UTF-8: read as {found} (no byte order mark)",)
        if self.is_utf8 and not self._utf8.getstate()[0]:
            return "utf-8", ()
        # Mostly well-formed characters and a few broken ones: UTF-8 with damage, not another encoding.
        if self.valid >= 5 and 3 * self.valid >= 0.5 * self.high and _share_of_runs_valid(bytes(self.sample)) > 0.9:
            return "utf-8", (
                "not UTF-8 throughout: characters in two halves were joined, rows with other broken bytes set aside",
            )
        name = self._double_or_single()
        return name, (f"not UTF-8: read as {name}",)

    def _utf16(self) -> str | None:
        total = sum(self.nuls)
        if not total or self.size % 2 or (self.is_utf8 and total < 0.2 * self.size):
            return None
        name = "utf-16-le" if self.nuls[1] >= self.nuls[0] else "utf-16-be"
        if max(self.nuls) < 0.9 * total:
            return None
        try:
            text = self.start[: len(self.start) // 2 * 2].decode(name, "strict")
        except UnicodeDecodeError as error:
            if error.start < len(self.start) - 4:
                return None
            text = self.start[: error.start].decode(name)
        return name if sum(c.isprintable() or c.isspace() for c in text) > 0.9 * len(text) else None

    def _double_or_single(self) -> str:
        sample = bytes(self.sample)
        text = sample.decode("gb18030", "replace")
        beyond = [c for c in text if ord(c) > 127]
        broken = text.count("\ufffd")
        everyday = sum(_is_everyday(c) for c in beyond)
        runs = _HIGH.findall(sample)
        # A lone accent swallows the letter behind it: in Chinese, runs of high bytes are even and paired.
        paired = sum(len(r) for r in runs if len(r) % 2 == 0) / max(1, sum(map(len, runs)))
        if beyond and broken <= 0.01 * len(beyond) and everyday >= 0.7 * len(beyond) and paired >= 0.7:
            return "gb18030"
        # Other scripts write whole words above 127; western languages a letter here and there.
        if len(runs) and sum(map(len, runs)) >= 2 * len(runs) and (name := _guess(sample)):
            return name
        if self.western and not self.western & {0x81, 0x8D, 0x8F, 0x90, 0x9D}:
            return "cp1252"
        return "latin-1"


def _share_of_runs_valid(sample: bytes) -> float:
    runs = _HIGH.findall(sample)
    good = sum(_MULTIBYTE.sub(b"", run) == b"" for run in runs)
    return good / max(1, len(runs))


def _is_everyday(character: str) -> bool:
    """Whether GB 2312 has it among its first-level characters or its punctuation."""
    code = character.encode("gb18030", "replace")
    return len(code) == 2 and code[1] >= 0xA1 and (0xB0 <= code[0] <= 0xD7 or 0xA1 <= code[0] <= 0xA3)


def _guess(sample: bytes) -> str | None:
    from charset_normalizer import from_bytes

    best = from_bytes(sample, cp_isolation=list(_OTHERS)).best()
    return best.encoding if best is not None else None


def _test(
    strict: codecs.IncrementalDecoder,
    piece: bytes,
    evidence: _Evidence,
    path: Path,
    given: str | None,
    *,
    final: bool = False,
) -> None:
    pending = len(strict.getstate()[0])
    try:
        strict.decode(piece, final)
    except UnicodeDecodeError as error:
        at = evidence.size - pending + error.start
        line = evidence.lines + 1 + piece[: max(0, error.start - pending)].count(b"\n")
        raise DataError(
            f"byte {at + 1} is not {given}.",
            where=f"{path.name}:{line}",
            fix="Leave the encoding out to have it found, or name another one.",
        ) from error
