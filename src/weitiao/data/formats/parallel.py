"""Line-aligned files of two languages: `train.en` finds `train.de` beside it; `train.src` and `train.tgt` likewise.

Each may be gzipped. Where several languages lie side by side, both are named: `train.en+train.de`.

Source: Koehn et al., Moses: Open Source Toolkit for Statistical Machine Translation, 2007.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from weitiao.data.delimited import Raw
from weitiao.data.formats.base import Format
from weitiao.errors import DataError

# ISO 639-1, alone or with a region or script (zh-CN, zh_Hans), or three letters with a script (zho_Hans)
_CODES = frozenset(
    re.findall(
        "[a-z]{2}",
        "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz "
        "ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik "
        "io is it iu ja jp jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk "
        "ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc "
        "sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve "
        "vi vo wa wo xh yi yo za zh zu ",
    )
)
_LOCALE = re.compile(r"([a-z]{2})[-_]([A-Za-z]{2}|[A-Z][a-z]{3})|[a-z]{3}_[A-Z][a-z]{3}")
_SIDES = {"src": 0, "source": 0, "tgt": 1, "trg": 1, "target": 1}


class Parallel(Format):
    """Two files, of which line n of one translates line n of the other."""

    joins = True

    def recognizes(self, path: Path, start: str) -> bool:
        """Whether the name ends in a language, and the same name with another language lies beside it."""
        return bool(_siblings(path)) if path.exists() else "+" in str(path)

    def rows(self, path: Path, lines: Iterable[str], note: Callable[[str], None]) -> Iterator[Raw]:
        """Yield a row a pair of lines; a pair with an empty side is set aside."""
        first, second = _both(path)
        sides = [(first, lines), (second, self.open_lines(second))]
        if _SIDES.get(_suffix(first)) == 1 and _SIDES.get(_suffix(second)) == 0:
            sides.reverse()  # the name says which side is which, whichever was opened
        (one, source), (two, target) = sides
        counts = [sum(1 for _ in _whole(side)) for side in (source, target)]
        if counts[0] != counts[1]:
            raise DataError(
                f"{one.name} has {counts[0]:,} lines and {two.name} has {counts[1]:,}: they are not aligned.",
                where=one.name,
                fix="Give files of which line n of one translates line n of the other.",
            )
        note(f"read together with {second.name}")
        languages = {"source_language": _suffix(one), "target_language": _suffix(two)}
        for number, (left, right) in enumerate(zip(_whole(source), _whole(target), strict=True), 1):
            empty = [side for side, text in (("source", left), ("target", right)) if not text.strip()]
            if empty:
                yield Raw(number, None, f"no {' and no '.join(empty)}", left or right)
            else:
                yield Raw(number, {"source": left, "target": right, **languages}, "", left)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return two lines in English and in Chinese."""
        languages = {"source_language": "en", "target_language": "zh"}
        return {
            "files": {"a.en": "good morning\nthank you\n", "a.zh": "早上好\n谢谢\n"},
            "open": "a.en",
            "rows": [
                {"source": "good morning", "target": "早上好", **languages},
                {"source": "thank you", "target": "谢谢", **languages},
            ],
            "faulty": {
                "files": {"a.en": "good\n\n\nend", "a.zh": "好\n 谢谢\n\n \n"},
                "rows": 1,
                "reasons": ["no source", "no source and no target", "no target"],
            },
            "others": [],
        }


def _suffix(path: Path) -> str:
    return path.name.removesuffix(".gz").rpartition(".")[2]


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rpartition(".")[0]


def _is_language(suffix: str) -> bool:
    found = _LOCALE.fullmatch(suffix)
    return suffix in _CODES or (found is not None and (found[1] is None or found[1] in _CODES))


def _siblings(path: Path) -> list[Path]:
    """Return the files beside one that can be its other language, in order."""
    stem, suffix = _stem(path), _suffix(path)
    if path.is_dir() or not stem or not (suffix in _SIDES or _is_language(suffix)):
        return []
    near = [f for f in path.parent.iterdir() if _stem(f) == stem and _suffix(f) != suffix and f.is_file()]
    if suffix in _SIDES:
        return sorted(f for f in near if _SIDES.get(_suffix(f), _SIDES[suffix]) != _SIDES[suffix])
    return sorted(f for f in near if _is_language(_suffix(f)))


def _both(path: Path) -> tuple[Path, Path]:
    named = [Path(part) for part in str(path).split("+")] if not path.exists() else [path]
    if len(named) == 2:
        return named[0], named[1]
    found = _siblings(path) if path.exists() else []
    if len(named) == 1 and len(found) == 1:
        return path, found[0]
    if found:
        raise DataError(
            f"several files can be the other side: {', '.join(f.name for f in found)}.",
            where=path.name,
            fix=f"Name both: {path}+{found[0].name}.",
        )
    raise DataError(
        "a file of the other language was not found beside it."
        if len(named) == 1
        else f"two files are one source, and these are {len(named)}.",
        where=path.name,
        fix="Name both: train.en+train.de.",
    )


def _whole(lines: Iterable[str]) -> Iterator[str]:
    r"""Yield the lines without their ends; a ``\r`` within a line, as crawled text has it, does not end it."""
    left, is_old = "", None
    for line in lines:
        if is_old is None:
            is_old = line.endswith("\r")  # a file of which already the first line ends so has no other ends
        if line.endswith("\r") and not is_old:
            left += f"{line[:-1]} "
            continue
        yield left + line.rstrip("\r\n")
        left = ""
    if left:
        yield left
