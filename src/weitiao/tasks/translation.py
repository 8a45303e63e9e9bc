"""A text in another language.

Decoders are asked in words (or in a chat); T5 with its prefix; BART and Marian read the text alone. A model that wants
a tag for the direction in front of the text (``>>deu<<``) is given it by `prompt`.

Source: Sutskever et al., Sequence to Sequence Learning with Neural Networks, 2014, arXiv:1409.3215; the prefix: Raffel
et al., Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer, 2019, arXiv:1910.10683.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field as Setting

from weitiao.data.fields import Field
from weitiao.data.table import Table
from weitiao.findings import Finding
from weitiao.tasks._sides import copies, odd_lengths, usual_script, wrong_side
from weitiao.tasks._writing import Writing, WritingSettings, first_reference

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Translation"]

_NAMES = {
    "en": ("English", "英语"), "zh": ("Chinese", "中文"), "de": ("German", "德语"), "fr": ("French", "法语"),
    "es": ("Spanish", "西班牙语"), "it": ("Italian", "意大利语"), "pt": ("Portuguese", "葡萄牙语"),
    "nl": ("Dutch", "荷兰语"), "ru": ("Russian", "俄语"), "ja": ("Japanese", "日语"), "ko": ("Korean", "韩语"),
    "ar": ("Arabic", "阿拉伯语"), "cs": ("Czech", "捷克语"), "pl": ("Polish", "波兰语"), "tr": ("Turkish", "土耳其语"),
    "vi": ("Vietnamese", "越南语"), "th": ("Thai", "泰语"), "ro": ("Romanian", "罗马尼亚语"),
    "uk": ("Ukrainian", "乌克兰语"),
}  # fmt: skip
# scripts that one language alone is commonly written in
_OF_SCRIPT = {"Han": "zh", "Kana": "ja", "Hangul": "ko", "Thai": "th"}
_SIDES = ("source", "target")


class Translation(Writing):
    """Write in one language what a text says in another."""

    class Settings(WritingSettings):
        """How a translation is asked for, and searched for."""

        source_language: str | None = Setting(
            None, description="what the prompt calls it: a name, or a code such as en; null: as the data says"
        )
        target_language: str | None = Setting(
            None, description="what the prompt calls it: a name, or a code such as zh; null: as the data says"
        )

    settings: Settings
    fields: ClassVar[tuple[Field, ...]] = (
        Field("source", "text", True, ("source", "src", "source_text", "original", "text", "原文", "源文", "源语言")),
        Field("target", "target", True, ("target", "tgt", "trg", "target_text", "translation", "译文", "目标语言")),
    )
    formats: ClassVar[tuple[str, ...]] = ("parallel",)
    metrics: ClassVar[tuple[str, ...]] = ("bleu", "chrf", "perplexity")
    main_metric: ClassVar[str] = "bleu"
    baselines: ClassVar[tuple[str, ...]] = ("untuned", "copy")

    def learn(self, train: Table) -> None:
        """Keep what the languages are called."""
        super().learn(train)
        columns = {"source": train.column("source"), "target": [first_reference(v) for v in train.column("target")]}
        for side, texts in columns.items():
            told = getattr(self.settings, f"{side}_language")
            self.state[f"{side}_language"] = told or _said(train, f"{side}_language") or _seen(texts)

    def words(self) -> Mapping[str, str]:
        """Return the names of the languages that are known."""
        found = {f"{side}_language": self.state[f"{side}_language"] for side in _SIDES}
        return {name: self._called(language) for name, language in found.items() if language}

    def _called(self, language: str) -> str:
        names = _NAMES.get(language.lower().replace("_", "-").partition("-")[0])
        return names[1 if self.state["chinese"] else 0] if names else language

    def template(self) -> str:
        """Return a sentence that says the direction, as far as it is known."""
        source, target = (f"{side}_language" in self.words() for side in _SIDES)
        if self.state["chinese"]:
            return f"翻译{'成{target_language}' if target else ''}：\n{{source}}\n译文："
        said = " from {source_language}" * source + " to {target_language}" * target
        return f"Translate{said}:\n{{source}}\nTranslation:"

    def prefixed(self) -> str:
        """Return the prefix that T5 was pretrained with, where both languages are known."""
        both = len(self.words()) == 2
        return "translate {source_language} to {target_language}: {source}" if both else "translate: {source}"

    def findings(
        self, tables: Mapping[str, Table], tokenizer: PreTrainedTokenizerBase | None = None
    ) -> Iterator[Finding]:
        """Find sides in the wrong script, copies, and lengths that do not fit."""
        for split, table in tables.items():
            if "target" not in table.column_names or not len(table):
                continue
            sides = (
                [str(v or "") for v in table.column("source")],
                [first_reference(v) for v in table.column("target")],
            )
            for find in (wrong_side, copies, odd_lengths):
                yield from find(table, split, _SIDES, sides)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return eight sentences and what they are in Chinese."""
        pairs = {
            "the room is good": "房间很好", "the food is bad": "食很差", "i like it": "我喜欢", "not good": "不好",
            "very cheap": "非常便宜", "the hotel is clean": "酒店干净", "slow service": "服务慢", "i hate it": "我讨厌",
        }  # fmt: skip
        rows = [{"source": source, "target": target} for source, target in pairs.items()]
        variants = [{"source_language": "en"}, {"target_language": "Wu"}, *cls.tiny_variants("source")]
        return {"rows": rows, "settings": {}, "variants": variants, "family": "gpt2", "epochs": 60}


def _said(train: Table, column: str) -> str | None:
    """Return what a column says that names the language of a side, if it says one thing only."""
    values = set(train.column(column)) if column in train.column_names else set()
    one = next(iter(values)) if len(values) == 1 else None
    return str(one) if one and str(one) not in ("src", "tgt", "trg", "source", "target") else None


def _seen(texts: Sequence[Any]) -> str | None:
    """Return the language of texts whose script gives it away."""
    return _OF_SCRIPT.get(usual_script([str(text) for text in texts[:1000]]) or "")
