"""A text in another language.

Decoders are asked in words (or in a chat); T5 with its prefix; BART and Marian read the text alone. A model that wants
a tag for the direction in front of the text (``>>deu<<``) is given it by `prompt`; one that has a token for each of its
languages (NLLB, mBART, M2M100) is told both, by their codes or names.

Source: Sutskever et al., Sequence to Sequence Learning with Neural Networks, 2014, arXiv:1409.3215; the prefix: Raffel
et al., Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer, 2019, arXiv:1910.10683.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field as Setting

from weitiao.data.fields import Field
from weitiao.data.table import Table
from weitiao.errors import RecipeError
from weitiao.findings import Finding
from weitiao.tasks._languages import OF_SCRIPT, called, code_of, language_codes
from weitiao.tasks._sides import copies, odd_lengths, usual_script, wrong_side
from weitiao.tasks._writing import Writing, WritingSettings, first_reference
from weitiao.tasks.base import Rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from weitiao.models.find import Pretrained

__all__ = ["Translation"]

_SIDES = ("source", "target")


class Translation(Writing):
    """Write in one language what a text says in another."""

    class Settings(WritingSettings):
        """How a translation is asked for, and searched for."""

        source_language: str | None = Setting(
            None, description="a name, or a code such as en or eng_Latn; null: as the data says"
        )
        target_language: str | None = Setting(
            None, description="a name, or a code such as zh or zho_Hans; null: as the data says"
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
        chinese = self.state["chinese"]
        return {name: called(language, chinese=chinese) for name, language in found.items() if language}

    def meet(self, pretrained: Pretrained) -> None:
        """Find out how the model writes, and the codes of both languages, if it has a token for each it knows.

        Raises
        ------
        RecipeError
            It has, and a language is not named or not among them.
        """
        from weitiao.models.load import load_tokenizer

        super().meet(pretrained)
        tokenizer: Any = load_tokenizer(pretrained)
        known = language_codes(tokenizer) if self.has_encoder else []
        self.state["codes"] = {side: self._code(side, known, pretrained.name) for side in _SIDES} if known else {}
        if known:
            self._tell(tokenizer)
            own = tokenizer.convert_tokens_to_ids(self._token(tokenizer, "target"))
            ids = tokenizer(text_target="a")["input_ids"]
            self.state["tag"] = own
            if ids[-1] == own:  # the token that comes last is what writing begins with
                self.state["start"] = own

    def _code(self, side: str, known: list[str], model: str) -> str:
        language = self.state[f"{side}_language"]
        if language is not None and (code := code_of(language, known)):
            return code
        what = "it is not known which" if language is None else f"{language!r} is none of them"
        raise RecipeError(
            f"{model} has a token for each of its {len(known)} languages, and {what} the {side} is in.",
            where=f"task.{side}_language",
            fix=f"Name one: {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}.",
        )

    @staticmethod
    def _token(tokenizer: Any, side: str) -> str:
        code = tokenizer.src_lang if side == "source" else tokenizer.tgt_lang
        return (getattr(tokenizer, "lang_code_to_token", None) or {}).get(code, code)

    def _tell(self, tokenizer: Any) -> Any:
        """Tell a tokenizer of many languages which these are."""
        if codes := self.state.get("codes"):
            tokenizer.src_lang, tokenizer.tgt_lang = codes["source"], codes["target"]
            tokenizer.init_kwargs |= {"src_lang": codes["source"], "tgt_lang": codes["target"]}  # it is saved with them
        return tokenizer

    def extend(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
        """Return the tokenizer, told the languages, if its model has tokens for them."""
        return self._tell(tokenizer)

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Turn rows into prompts and targets; what is too long loses its end."""
        return super().encode(rows, self._tell(tokenizer), max_length)

    def _target(self, value: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        tag = self.state.get("tag")
        if tag is None:
            return super()._target(value, tokenizer)
        ids = list(tokenizer(text_target=first_reference(value), verbose=False)["input_ids"])
        return ids[:-1] if ids[-1] == tag else ids

    def _search(self) -> dict[str, Any]:
        tag, search = self.state.get("tag"), super()._search()
        return search if tag is None else search | {"forced_bos_token_id": None if tag == self.state["start"] else tag}

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
    return OF_SCRIPT.get(usual_script([str(text) for text in texts[:1000]]) or "")
