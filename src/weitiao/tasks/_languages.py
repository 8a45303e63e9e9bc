"""Languages: what they are called, and the tokens that translation models of many languages know them by.

Such a model (NLLB, mBART, M2M100) reads its language beside the text, and begins to write with the language it writes
in. Its tokenizer puts the token there once it is told which.

Source: Liu et al., Multilingual Denoising Pre-training for Neural Machine Translation, 2020, arXiv:2001.08210 (mBART,
whose token comes after the text); Tang et al., Multilingual Translation with Extensible Multilingual Pretraining and
Finetuning, 2020, arXiv:2008.00401 (mBART-50, before it); NLLB Team, No Language Left Behind, 2022, arXiv:2207.04672.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["OF_SCRIPT", "called", "code_of", "language_codes"]

# ISO 639-1 -> in English, in Chinese, ISO 639-3
_NAMES = {
    "en": ("English", "英语", "eng"), "zh": ("Chinese", "中文", "zho"), "de": ("German", "德语", "deu"),
    "fr": ("French", "法语", "fra"), "es": ("Spanish", "西班牙语", "spa"), "it": ("Italian", "意大利语", "ita"),
    "pt": ("Portuguese", "葡萄牙语", "por"), "nl": ("Dutch", "荷兰语", "nld"), "ru": ("Russian", "俄语", "rus"),
    "ja": ("Japanese", "日语", "jpn"), "ko": ("Korean", "韩语", "kor"), "ar": ("Arabic", "阿拉伯语", "arb"),
    "cs": ("Czech", "捷克语", "ces"), "pl": ("Polish", "波兰语", "pol"), "tr": ("Turkish", "土耳其语", "tur"),
    "vi": ("Vietnamese", "越南语", "vie"), "th": ("Thai", "泰语", "tha"), "ro": ("Romanian", "罗马尼亚语", "ron"),
    "uk": ("Ukrainian", "乌克兰语", "ukr"),
}  # fmt: skip
# scripts that one language alone is commonly written in
OF_SCRIPT = {"Han": "zh", "Kana": "ja", "Hangul": "ko", "Thai": "th"}
_CODE = re.compile(r"[a-z]{2,3}_[A-Z][A-Za-z]+")  # en_XX, zh_CN, eng_Latn


def called(language: str, *, chinese: bool) -> str:
    """Return what a language is called in English or Chinese, or as it was named, where it is not known."""
    names = _NAMES.get(_short(language))
    return names[1 if chinese else 0] if names else language


def language_codes(tokenizer: Any) -> list[str]:
    """Return the codes of the languages that a tokenizer tells its model; none, if the model is not told any."""
    if not hasattr(tokenizer, "src_lang"):
        return []
    told = getattr(tokenizer, "lang_code_to_token", None) or {}
    special = [str(token) for token in tokenizer.added_tokens_decoder.values()]
    return sorted(told) or sorted({token for token in special if _CODE.fullmatch(token)})


def code_of(language: str, codes: list[str]) -> str | None:
    """Return the code of a language: as it is written, or that of its name; of several, the first by the alphabet."""
    plain = language.strip().lower().replace("-", "_")
    if exact := [code for code in codes if code.lower() == plain]:
        return exact[0]
    short = _short(language)
    wanted = {short, *_NAMES.get(short, ())[2:]}
    return next((code for code in codes if code.partition("_")[0] in wanted), None)


def _short(language: str) -> str:
    """Return the ISO 639-1 code of a name or a code, or what stands before its region."""
    plain = language.strip().lower()
    first = re.split("[-_]", plain)[0]
    by_name = {name.lower(): short for short, names in _NAMES.items() for name in names}
    return by_name.get(plain) or by_name.get(first) or first
