"""Words are replaced by words of like meaning, from a list of yours or from the model's own token vectors.

Of n words that have another, max(1, round(share * n)) are replaced, each by one drawn at random. With `file`, the
words are those of the file, phrases too, the longest first. Without it, they are the words, and in Chinese the
characters or longer pieces, that are one whole token of the recipe's model, and the others are the tokens
with the most similar vectors (cosine, after their mean is taken away); words that only hold a sentence together
are left alone then. Vectors know what stands in the same places, which is not always what means the same: good
and bad do. Where labels hang on such words, give a file.

Source: Wei and Zou, EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification Tasks,
2019, arXiv:1901.11196, synonym replacement; vectors: Wang and Yang, That's So Annoying!!!: A Lexical and
Frame-Semantic Embedding Based Data Augmentation Approach, 2015.
Differs: a file or the model's vectors in the place of WordNet; numbers, negations, addresses and placeholders
are left alone; Chinese.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from weitiao.data.augment import Augmentation, Context, Rows
from weitiao.data.words import HAN, STOP_WORDS, Span, replace_spans, spans
from weitiao.errors import DataError

__all__ = ["Synonym"]

_SEPARATORS = re.compile(r"[\t,;，；、]")
_IS_HAN = re.compile(f"[{HAN}]+")
_CHUNK = 512  # words whose neighbors are looked up at once


class Synonym(Augmentation):
    """Rows in which words are replaced by words of like meaning."""

    class Settings(Augmentation.Settings):
        """Where the words come from, and how many are replaced."""

        share: float = Field(default=0.1, gt=0, le=1, description="words replaced, of those that have another")
        file: str | None = Field(
            default=None,
            description="words of one meaning on a line, between commas, tabs or spaces, UTF-8; null: token vectors",
        )
        neighbors: int = Field(default=5, ge=1, description="token vectors: how many of the nearest may take a place")
        similarity: float = Field(default=0.5, gt=0, lt=1, description="token vectors: least cosine of one that may")

        @model_validator(mode="after")
        def _no_idle_setting(self) -> Synonym.Settings:
            if self.file is not None and (self.neighbors, self.similarity) != (5, 0.5):
                raise ValueError("neighbors and similarity have no effect with a file")
            return self

    settings: Settings
    others: Mapping[str, Sequence[str]]  # word in small letters -> what may take its place

    def suits(self, context: Context) -> str | None:
        """Refuse to go without both file and vectors."""
        if self.settings.file is None and (context.tokenizer is None or context.vectors is None):
            return "there is no model whose token vectors it could use; give it a file"
        return None

    def begin(self, rows: Rows, context: Context) -> None:
        """Read the file, or find the neighbors of all words in the rows."""
        if self.settings.file is not None:
            self._know(_read(Path(self.settings.file)))
            return
        whole = _whole_words(context.tokenizer)
        self._know(whole)
        used = {word for texts in rows.texts for text in texts for _, word in self._found(text)}
        self._know(self._neighbors(sorted(used - STOP_WORDS), whole, context))

    def edit(self, text: str, rng: np.random.Generator) -> str:
        """Return the text with words replaced."""
        found = list(self._found(text))
        if not found:
            return text
        chosen = rng.choice(len(found), max(1, round(self.settings.share * len(found))), replace=False)
        changes = []
        for i in chosen.tolist():
            span, word = found[i]
            new = self.others[word][int(rng.integers(len(self.others[word])))]
            changes.append((span.start, span.end, _cased(new, text[span.start : span.end])))
        return replace_spans(text, changes)

    def _know(self, others: Mapping[str, Any]) -> None:
        self.others = others
        self._words = max((len(word.split()) for word in others), default=1)  # of the longest phrase
        self._characters = max((len(word) for word in others if _IS_HAN.match(word)), default=0)

    def _found(self, text: str) -> Iterator[tuple[Span, str]]:
        """Yield where words that are known stand, the longest first where several begin at one place."""
        pieces, i = spans(text), 0
        while i < len(pieces):
            if pieces[i].is_han:
                yield from self._in_run(text, pieces[i])
                i += 1
                continue
            for j in range(min(i + self._words, len(pieces)), i, -1):
                said = text[pieces[i].start : pieces[j - 1].end]
                if (word := " ".join(said.lower().split())) in self.others:
                    yield Span(pieces[i].start, pieces[j - 1].end, False), word
                    i = j - 1
                    break
            i += 1

    def _in_run(self, text: str, run: Span) -> Iterator[tuple[Span, str]]:
        at = run.start
        while at < run.end:
            for end in range(min(at + self._characters, run.end), at, -1):
                if text[at:end] in self.others:
                    yield Span(at, end, True), text[at:end]
                    at = end - 1
                    break
            at += 1

    def _neighbors(self, words: Sequence[str], whole: Mapping[str, int], context: Context) -> dict[str, list[str]]:
        """Return for each word those with the most similar token vectors, in the same script."""
        if context.vectors is None or not words:
            return {}
        every = np.asarray(context.vectors(), dtype=np.float32)  # (vocabulary, width)
        whole = {word: i for word, i in whole.items() if i < len(every)}  # a tokenizer may know more than the model
        words = [word for word in words if word in whole]
        vectors = every[list(whole.values())]  # (words, width)
        vectors = vectors - vectors.mean(axis=0)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        names = list(whole)
        row = {word: i for i, word in enumerate(names)}
        fit = np.array([word not in STOP_WORDS and bool(spans(word)) for word in names])  # that may take a place
        han = np.array([_IS_HAN.match(word) is not None for word in names])
        near: dict[str, list[str]] = {}
        for start in range(0, len(words), _CHUNK):
            own = np.array([row[word] for word in words[start : start + _CHUNK]])
            cosines = vectors[own] @ vectors.T  # (chunk, words)
            cosines[~fit[None, :] | (han[own][:, None] != han[None, :])] = -1.0
            cosines[np.arange(len(own)), own] = -1.0
            best = np.argsort(-cosines, axis=1, kind="stable")[:, : self.settings.neighbors]
            for i, places in enumerate(best):
                enough = [names[p] for p in places if cosines[i, p] >= self.settings.similarity]
                if enough:
                    near[words[start + i]] = enough
        return near

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return token vectors as a tiny random model has them, and a file."""
        lines = "# words of one meaning\ngood, great, really nice\nroom suite\n干净、整洁\n房间 客房\nbad, poor\n"
        base = {"similarity": 0.05}
        return {
            "settings": base,
            "variants": [
                base | {"share": 1.0},
                base | {"neighbors": 1},
                {"similarity": 0.3},
                {"file": "synonyms.txt"},
                base | {"copies": 2},
            ],
            "idle": [{"share": 0.0}, {"file": "synonyms.txt", "neighbors": 3}, {"neighbors": 0}, {"copies": 0}],
            "files": {"synonyms.txt": lines},
        }


def _read(path: Path) -> dict[str, list[str]]:
    """Return for every word of a file the others of its lines."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}.", where=path, fix="It is the file of synonyms.") from error
    except UnicodeDecodeError as error:
        raise DataError("is not UTF-8.", where=path, fix="Save the list of synonyms as UTF-8.") from error
    others: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        pieces = _SEPARATORS.split(line) if _SEPARATORS.search(line) else line.split()
        group = list(dict.fromkeys(" ".join(word.split()) for word in pieces if word.strip()))
        if len(group) < 2:
            raise DataError(
                f"{line.strip()!r} is one word alone.", where=f"{path}:{number}", fix="Write words of one meaning."
            )
        for word in group:
            known = others.setdefault(word.lower(), [])
            known += [other for other in group if other != word and other not in known]
    if not others:
        raise DataError("holds no words.", where=path, fix="Write words of one meaning on each line.")
    return others


def _whole_words(tokenizer: Any) -> dict[str, int]:
    """Return the words, in small letters, that are one token of the model by themselves, with their ids."""
    special = set(tokenizer.all_special_ids)
    ids = [i for i in range(len(tokenizer)) if i not in special]
    said = {i: text.strip() for i, text in zip(ids, tokenizer.batch_decode([[i] for i in ids]), strict=True)}
    said = {i: word for i, word in said.items() if _is_word(word)}
    whole: dict[str, int] = {}
    # tokenizers that mark the beginning of a word know most words only after a space
    for before in (" ", ""):
        encoded = tokenizer([before + word for word in said.values()], add_special_tokens=False)["input_ids"]
        for (i, word), own in zip(said.items(), encoded, strict=True):
            if own[-1:] == [i] and (len(own) == 1 or not tokenizer.decode(own[:-1]).strip()):
                whole.setdefault(word.lower(), i)
    return whole


def _is_word(word: str) -> bool:
    """Tell whether a token is a word that may be changed: one Chinese run, or three letters and more."""
    found = spans(word)
    return len(found) == 1 and (found[0].is_han or len(word) >= 3) and found[0].end - found[0].start == len(word)


def _cased(new: str, old: str) -> str:
    """Return a word with the capitals of the one it replaces."""
    if old.isupper() and len(old) > 1:
        return new.upper()
    return new[:1].upper() + new[1:] if old[:1].isupper() else new
