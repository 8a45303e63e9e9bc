"""E-mail addresses, telephone, identity and bank card numbers in the texts.

What a model learns from it can come out again, and in many places the law has a say. Identity
numbers and cards are told from other long numbers by their check digits. Evidence is masked: no
value is printed whole.

Source: GB 11643-1999 (identity number), ISO/IEC 7812-1 (the Luhn digit of a card).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, get_args

from pydantic import Field

from weitiao.data.checks.base import Check, CheckInput, num_rows, share
from weitiao.findings import Finding
from weitiao.plugins import Options


def _is_identity(value: str) -> bool:
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    rest = sum(w * int(d) for w, d in zip(weights, value[:17], strict=True)) % 11
    return "10X98765432"[rest] == value[17].upper()


def _is_card(value: str) -> bool:
    digits = [int(c) for c in value if c.isdigit()]
    doubled = [d if i % 2 == 0 else (2 * d - 9 if d > 4 else 2 * d) for i, d in enumerate(reversed(digits))]
    return 15 <= len(digits) <= 19 and len(set(digits)) > 2 and sum(doubled) % 10 == 0


def _is_phone(value: str) -> bool:
    return 8 <= sum(c.isdigit() for c in value) <= 15


def _always(value: str) -> bool:
    return True


class _Kind(NamedTuple):
    placeholder: str
    pattern: re.Pattern[str]
    is_valid: Callable[[str], bool]


# In order: what an earlier pattern took is not looked at by a later one.
_KINDS: dict[str, _Kind] = {
    "e-mail address": _Kind(
        "[EMAIL]", re.compile(r"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}"), _always
    ),
    "Chinese identity number": _Kind(
        "[ID]",
        re.compile(r"(?<!\d)[1-8]\d{5}(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx](?![\dA-Za-z])"),
        _is_identity,
    ),
    "bank card number": _Kind(
        "[CARD]",
        re.compile(r"(?<![\d.])[3-6]\d{3}[ -]?\d{4}[ -]?\d{4}[ -]?\d{3,4}(?:[ -]?\d{1,3})?(?!\d)"),
        _is_card,
    ),
    "mobile number": _Kind(
        "[PHONE]", re.compile(r"(?<![\d.])(?:\+?86[ -]?)?1[3-9]\d(?:[ -]?)\d{4}(?:[ -]?)\d{4}(?!\d)"), _always
    ),
    "telephone number": _Kind(
        "[PHONE]",
        re.compile(
            r"(?<![\d\w+])\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,4}(?!\d)"  # +44 20 7946 0018
            r"|(?<![\d-])(?:\(0\d{2,3}\) ?|0\d{2,3}[- ])[2-9]\d{6,7}(?![\d-])"  # 010-62345678
            r"|(?<![\d.-])(?:\([2-9]\d\d\) ?|(?![48]00)[2-9]\d\d[-.])\d{3}[-.]\d{4}(?![\d-])"  # (212) 555-0142
        ),
        _is_phone,
    ),
}
_WORTH_A_LOOK = re.compile(r"@|\d{4}")


Kind = Literal["e-mail address", "Chinese identity number", "bank card number", "mobile number", "telephone number"]


class PersonalData(Check):
    """Rows that hold personal data, by kind."""

    class Settings(Options):
        """What to look for."""

        kinds: tuple[Kind, ...] = Field(get_args(Kind), min_length=1, description="kinds to look for")
        examples: int = Field(3, ge=0, description="masked values shown as evidence")

    settings: Settings

    def run(self, data: CheckInput) -> Iterator[Finding]:
        """Yield one finding a kind, over all splits."""
        rows: dict[str, dict[tuple[str, int], None]] = {}
        seen: dict[str, dict[str, None]] = {}
        for split in data.tables:
            for i, text in enumerate(data.texts(split)):
                for kind, value in _find(unicodedata.normalize("NFKC", text)) if _WORTH_A_LOOK.search(text) else ():
                    if kind in self.settings.kinds:
                        rows.setdefault(kind, {})[split, i] = None
                        seen.setdefault(kind, {})[_masked(value)] = None
        total = sum(map(len, data.tables.values()))
        for kind, found in sorted(rows.items(), key=lambda item: -len(item[1])):
            by_split = Counter(split for split, _ in found)
            where = f" ({', '.join(f'{n:,} of {s}' for s, n in by_split.items())})" if len(data.tables) > 1 else ""
            yield Finding(
                self.name,
                "warning",
                f"{num_rows(len(found), 'all')} with {'an' if kind[0] in 'aeiou' else 'a'} {kind}{where}, "
                f"{share(len(found), total)} of all.",
                f"Replace it by a placeholder such as {_KINDS[kind].placeholder} unless you may train on it.",
                places=tuple(str(data.tables[split].places[i]) for split, i in list(found)[:20]),
                count=len(found),
                evidence={"kind": kind, "masked": list(seen[kind])[: self.settings.examples]},
            )

    @classmethod
    def tiny(cls) -> dict[str, object]:
        """Return a row with an address, and rows with numbers that are not personal."""
        clean = [{"text": "order 20240131, 3999 元", "label": "a"}, {"text": "at 10:30, room 1402", "label": "b"}]
        return {
            "faulty": {"all": [*clean, {"text": "写信给 li.lei@example.com", "label": "a"}]},
            "clean": {"all": clean},
        }


def _find(text: str) -> Iterator[tuple[str, str]]:
    for kind, (_, pattern, is_valid) in _KINDS.items():
        taken = []
        for found in pattern.finditer(text):
            if is_valid(found[0]):
                yield kind, found[0]
                taken.append(found.span())
        for begin, end in taken:
            text = text[:begin] + "\n" * (end - begin) + text[end:]


def _masked(value: str) -> str:
    """Keep the shape of a value and at most two of its characters at either end."""
    if "@" in value:
        name, _, domain = value.partition("@")
        return f"{name[0]}***@***.{domain.rpartition('.')[2]}"
    keep = 2 if value[0] != "+" else 3
    return value[:keep] + re.sub(r"\w", "*", value[keep:-2]) + value[-2:]
