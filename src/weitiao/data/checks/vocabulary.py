"""Whether the chosen model knows the characters of these texts.

A WordPiece vocabulary made for English keeps a few hundred Chinese characters; all others become
the one unknown token, and texts that differ only in them become equal. Byte-level and byte-fallback
tokenizers have no unknown token, and pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pydantic import Field

from weitiao.data.checks.base import Check, CheckInput, of, places, share
from weitiao.findings import Finding
from weitiao.plugins import Options


class Vocabulary(Check):
    """The share of unknown tokens, and what stood in their place."""

    class Settings(Options):
        """How many unknown tokens a model can bear."""

        warning_share: float = Field(
            0.05, ge=0, le=1, description="share of unknown tokens above which it is a warning"
        )
        error_share: float = Field(0.2, ge=0, le=1, description="share of unknown tokens above which it is an error")

    settings: Settings

    def run(self, data: CheckInput) -> Iterator[Finding]:
        """Yield one finding a split with too many unknown tokens."""
        unknown = getattr(data.tokenizer, "unk_token_id", None)
        if data.tokenizer is None or unknown is None:
            return
        special = set(data.tokenizer.all_special_ids) - {unknown}
        for split, table in data.tables.items():
            counts = [ids.count(unknown) for ids in data.tokens(split)]
            total = sum(sum(i not in special for i in ids) for ids in data.tokens(split))
            if not total or (part := sum(counts) / total) <= min(
                self.settings.warning_share, self.settings.error_share
            ):
                continue
            rows = sorted((i for i, n in enumerate(counts) if n), key=lambda i: -counts[i])
            lost = _what_is_unknown(data, split, rows[:500], unknown)
            seen = f", such as {' '.join(list(lost)[:8])}" if lost else ""
            yield Finding(
                self.name,
                "error" if part > self.settings.error_share else "warning",
                f"{share(sum(counts), total)} of the tokens{of(split)} are unknown to this model{seen}.",
                _remedy(lost),
                places=places(table, rows),
                count=len(rows),
                evidence={"share": round(part, 4), "tokens": total, "unknown": dict(list(lost.items())[:20])},
            )

    @classmethod
    def tiny(cls) -> dict[str, object]:
        """Return Chinese for a vocabulary that knows English, and English."""
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        words = {"[UNK]": 0, "where": 1, "is": 2, "my": 3, "card": 4}
        core = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
        core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]")
        from weitiao.data.table import Table

        inputs = {}
        for kind, text in (("faulty", "我的卡在哪里"), ("clean", "where is my card")):
            table = Table.from_rows([{"text": text, "label": "a"}, {"text": text[:-1], "label": "b"}])
            inputs[kind] = CheckInput({"all": table}, ("text",), "label", tokenizer=tokenizer, max_length=16)
        inputs["clean"] = CheckInput(
            {"all": Table.from_rows([{"text": "where is my card", "label": "a"}])}, ("text",), "label", tokenizer, 16
        )
        return dict(inputs)


def _what_is_unknown(data: CheckInput, split: str, rows: list[int], unknown: int) -> dict[str, int]:
    """Count the pieces of text that became unknown in the worst rows, the most frequent first."""
    tokenizer = data.tokenizer
    if tokenizer is None or not tokenizer.is_fast or not rows:
        return {}
    seen: Counter[str] = Counter()
    for i in rows:
        text = data.texts(split)[i]
        encoded = tokenizer(text, return_offsets_mapping=True, truncation=False, verbose=False)
        for id_, (begin, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            if id_ == unknown and end > begin:
                seen[text[begin:end]] += 1
    return dict(seen.most_common(20))


def _remedy(lost: dict[str, int]) -> str:
    if sum(n for piece, n in lost.items() if "\u2e80" <= piece[0] <= "\u9fff") > 0.5 * sum(lost.values()):
        return "Choose a model made for Chinese or for many languages (bert-base-chinese, xlm-roberta-base)."
    return "Choose a model whose vocabulary covers this language, such as one for many languages."
