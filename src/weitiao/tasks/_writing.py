"""What every task shares that writes a text: how rows are encoded, what is learnt, and how the model is asked.

An encoded row has ``input_ids``; ``labels``, where its target is known; ``tokens_lost``. Of a decoder, the
``input_ids`` are the prompt and, if it is known, the target after it; ``labels`` are as long, with -100 on what is not
learnt; and ``prompt`` says how many of the first tokens the model is given when it is asked. Of an encoder-decoder,
``input_ids`` are the source alone, and ``labels`` the target alone. A target ends with a token that ends it.

The loss is the cross-entropy of a target token given all before it, summed over the target tokens:

    - sum_t log p(y_t | y_<t, x)

Source: Sutskever et al., Sequence to Sequence Learning with Neural Networks, 2014, arXiv:1409.3215; of decoders:
Radford et al., Improving Language Understanding by Generative Pre-Training, 2018 (section 3.3).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Setting
from pydantic import model_validator

from weitiao.data.table import Table
from weitiao.errors import ModelError
from weitiao.models import STATES
from weitiao.models.writing import TARGET_PLACES, as_writer, ends_of, must_pack, packed, scores, start_of, write
from weitiao.plugins import Options
from weitiao.tasks._prompts import Prompt, joined_han, splits_han
from weitiao.tasks._texts import must_have
from weitiao.tasks.base import Prediction, Rows, Task, objects

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from weitiao.models.find import Pretrained

__all__ = ["KNOWN", "SLACK", "SearchSettings", "Writing", "WritingSettings", "Written", "first_reference", "references"]

_IGNORED = -100
KNOWN = "known_"  # what the names of a batch to answer begin with that hold the targets
SLACK = 1.5  # a text may become so many times as long as the longest to learn from


class SearchSettings(Options):
    """How a text is searched for. The search draws nothing: it says the same every time."""

    max_new_tokens: int | None = Setting(
        None, ge=1, description="tokens written at most, and learnt of a target; null: 1.5 x the longest to learn from"
    )
    min_new_tokens: int = Setting(0, ge=0, description="tokens written at least")
    num_beams: int = Setting(1, ge=1, description="texts followed at once in search; 1: the likeliest next token")
    length_penalty: float = Setting(
        1.0, description="beams: the score of a text is divided by its length to this power; above 0 prefers long ones"
    )
    no_repeat_ngram_size: int = Setting(0, ge=0, description="runs of so many tokens are written once at most; 0: any")
    packing: bool = Setting(
        False, description="decoders: rows stand one after another in the place of one, so that less is padded"
    )

    @model_validator(mode="after")
    def _no_idle_setting(self) -> SearchSettings:
        if self.num_beams == 1 and self.length_penalty != 1.0:
            raise ValueError("length_penalty has no effect unless num_beams is above 1")
        if self.max_new_tokens is not None and self.min_new_tokens > self.max_new_tokens:
            raise ValueError("min_new_tokens is above max_new_tokens")
        return self


class WritingSettings(SearchSettings):
    """How a text is asked for, and searched for."""

    prompt: str | None = Setting(
        None, description="what the model is told, with names of fields in braces; null: words in the data's language"
    )
    chat: Literal["auto", True, False] = Setting(
        "auto", description="whether the prompt is a user's turn of the tokenizer's chat template; auto: if it has one"
    )


@dataclass(frozen=True)
class Written:
    """What a model wrote for one row.

    Attributes
    ----------
    text
        For people.
    ids
        Its tokens, with the one that ended it.
    scores
        Log-probability of each of `ids` in nats, float64.
    likelihood, tokens
        Summed log-likelihood of the true target's tokens, and how many they are; ``None`` and 0 if it is not known.
    """

    text: str
    ids: tuple[int, ...]
    scores: np.ndarray
    likelihood: float | None = None
    tokens: int = 0


class Writing(Task):
    """Write a text. A task of this kind says what its prompts are; all else is here."""

    class Settings(WritingSettings):
        """How a text is asked for, and searched for."""

    settings: WritingSettings

    target: ClassVar[str] = "target"  # the field that is written
    gives: ClassVar[tuple[str, ...]] = ("texts", "likelihood")
    baselines: ClassVar[tuple[str, ...]] = ("untuned",)
    selects_by: ClassVar[Literal["metric", "loss"]] = "loss"
    has_new_head: ClassVar[bool] = False
    cuts_by_itself: ClassVar[bool] = True
    augments: ClassVar[bool] = False

    def __init__(self, settings: Options | None = None, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings, state)
        self._tokenizer: Any = None  # of the model that is asked, to read what it writes
        self._longest: list[str] = []  # targets, until their tokens can be counted
        self.one_sequence = not self.settings.packing

    # --- what a task of this kind says ---

    @property
    def long(self) -> str:
        """The field that loses its end where a row is too long."""
        return "source"

    def template(self) -> str:
        """Return what a decoder is told where the recipe names no prompt; fields in braces."""
        raise NotImplementedError

    def prefixed(self) -> str:
        """Return what an encoder-decoder is told that was pretrained with instructions (T5)."""
        return f"{{{self.long}}}"

    def words(self) -> Mapping[str, str]:
        """Return what else may stand in braces: names of languages, say."""
        return {}

    # --- rows ---

    def learn(self, train: Table) -> None:
        """Keep which fields there are and the language of what is read; the longest targets until `meet`."""
        from weitiao.data.words import is_chinese

        self.state["read"] = list(self.text_fields(train.column_names))
        chinese = sum(is_chinese(str(text)) for text in train.column(self.long)[:1000])
        targets = (first_reference(value) for value in train.column(self.target) if value)
        self._longest = sorted(targets, key=len)[-64:]
        self.state["chinese"] = 2 * chinese > min(len(train), 1000)

    def meet(self, pretrained: Pretrained) -> None:
        """Keep how the model begins and ends a text, whether it is told in a chat, and how much it may write."""
        from weitiao.models.load import load_tokenizer

        tokenizer = load_tokenizer(pretrained)
        start, prefixed = start_of(pretrained, tokenizer)
        if self.settings.packing:
            must_pack(pretrained)
        has_template = bool(getattr(tokenizer, "chat_template", None)) and start is None
        if self.settings.chat is True and not has_template:
            raise ModelError(f"task.chat is true, but {pretrained.name} has no chat template.", fix="Leave it out.")
        chat = has_template and self.settings.chat is not False
        ends = ends_of(pretrained, tokenizer)
        if not chat and tokenizer.eos_token_id in ends:
            ends.sort(key=lambda token: token != tokenizer.eos_token_id)
        most = self.settings.max_new_tokens
        if most is None:
            most = int(SLACK * max(self.count_tokens(tokenizer, self._longest), default=64)) + 2
        if start is None or pretrained.max_length < most:  # a decoder has room for the prompt, too
            most = min(most, max(1, pretrained.max_length // 2))
        self.state |= {
            "start": start,
            "prefixed": prefixed,
            "chat": chat,
            "ends": ends,
            "pad": tokenizer.pad_token_id,
            "max_new_tokens": most,
            "splits_han": splits_han(tokenizer),
        }

    @staticmethod
    def count_tokens(tokenizer: Any, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text is, without those that begin or end it."""
        return [len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) for text in texts]

    @property
    def has_encoder(self) -> bool:
        """Whether the model reads with one half and writes with another; `meet` found out."""
        return self.state["start"] is not None

    def accepts(self, table: Table) -> Mapping[int, str]:
        """Refuse rows whose target is no text, and no list of texts."""
        if self.target not in table.column_names:
            return {}
        values = enumerate(table.column(self.target))
        return {i: f"{self.target} says nothing" for i, v in values if v is not None and not any(references(v))}

    def prompt(self, tokenizer: PreTrainedTokenizerBase) -> Prompt:
        """Return what turns a row into tokens to read."""
        told = self.settings.prompt
        if told is None and self.has_encoder:
            told = self.prefixed() if self.state["prefixed"] else self.bare()
        known = self.state["read"]
        return Prompt(told or self.template(), self.long, known, self.words(), tokenizer, chat=self.state["chat"])

    def bare(self) -> str:
        """Return what an encoder-decoder reads that was pretrained without instructions (BART, Marian)."""
        return " ".join(f"{{{name}}}" for name in self.state["read"])

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Turn rows into prompts and targets; what is too long loses the end of its longest field."""
        must_have(rows, self.state["read"])
        written = min(self.state["max_new_tokens"], max_length if self.has_encoder else max(1, max_length // 2))
        room = max_length if self.has_encoder else max_length - written
        prompts = self.prompt(tokenizer).encode(rows, room)
        encoded = []
        for row, (ids, lost) in zip(rows, prompts, strict=True):
            target = None if not row.get(self.target) else self._target(row[self.target], tokenizer)
            if target is not None and len(target) > written:
                lost, target = lost + len(target) - written, target[:written]  # without an end: it goes on
            encoded.append(self.sequence(ids, target, lost))
        return encoded

    def _target(self, value: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        text, ends = first_reference(value), self.state["ends"]
        if not self.has_encoder:
            return [*tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], ends[0]]
        ids = list(tokenizer(text_target=text, verbose=False)["input_ids"])
        ids = ids[1:] if ids and ids[0] == self.state["start"] else ids  # the decoder is given it
        return ids if ids and ids[-1] in ends else [*ids, ends[0]]

    def sequence(self, prompt: list[int], target: list[int] | None, lost: int) -> dict[str, Any]:
        """Return the encoded row of a prompt and a target, which ends with its end; without a target, of a request."""
        if self.has_encoder:
            known = {} if target is None else {"labels": target}
            return {"input_ids": prompt, **known, "tokens_lost": lost}
        row: dict[str, Any] = {"input_ids": prompt + (target or []), "prompt": len(prompt), "tokens_lost": lost}
        return row if target is None else row | {"labels": [_IGNORED] * len(prompt) + target}

    def collate(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
        """Pad on the right: ``input_ids`` and, of an encoder-decoder, ``decoder_input_ids`` with their masks."""
        if self.settings.packing and "labels" in inputs[0]:
            return packed(inputs, self.state["pad"], _IGNORED)
        return self._apart(inputs)

    def _apart(self, inputs: Rows) -> dict[str, torch.Tensor]:
        pad = self.state["pad"]
        batch = _padded([row["input_ids"] for row in inputs], pad)
        if "labels" not in inputs[0]:
            return batch
        labels = _stacked([row["labels"] for row in inputs], _IGNORED)
        if self.has_encoder:
            shifted = [[self.state["start"], *row["labels"][:-1]] for row in inputs]
            return batch | {"decoder_input_ids": _stacked(shifted, pad), "labels": labels}
        return batch | {"labels": labels}

    def ask(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
        """Pad prompts, on the left for a decoder; targets that are known come under names of their own."""
        self._tokenizer = tokenizer
        pad = self.state["pad"]
        known = self._apart(inputs) if "labels" in inputs[0] else {}
        if self.has_encoder:
            batch = _padded([row["input_ids"] for row in inputs], pad)
        else:
            batch = _padded([row["input_ids"][: row["prompt"]] for row in inputs], pad, left=True)
        return batch | {f"{KNOWN}{name}": value for name, value in known.items()}

    # --- model and loss ---

    def build(self, pretrained: Pretrained, *, pooling: str, dropout: float | None, seed: int) -> nn.Module:
        """Return the stock model with the head it was pretrained to write with."""
        from weitiao.models.heads import load_writer

        return as_writer(load_writer(pretrained, seed=seed), self._search())

    def reopen(self, folder: Path) -> nn.Module:
        """Open a saved writer."""
        from weitiao.models.heads import open_writer

        return as_writer(open_writer(folder), self._search())

    def _search(self) -> dict[str, Any]:
        how, state = self.settings, self.state
        chosen = {"length_penalty": how.length_penalty} if how.num_beams > 1 else {}
        start = {"decoder_start_token_id": state["start"]} if self.has_encoder else {}
        return start | {
            "max_new_tokens": state["max_new_tokens"],
            "min_new_tokens": min(how.min_new_tokens, state["max_new_tokens"]) or None,
            "num_beams": how.num_beams,
            "no_repeat_ngram_size": how.no_repeat_ngram_size or None,
            "do_sample": False,
            "eos_token_id": state["ends"],
            "pad_token_id": state["pad"],
            **chosen,
        }

    def model_inputs(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return what the model reads, and at which places its head is wanted."""
        names = ("input_ids", "attention_mask", "position_ids", "decoder_input_ids", STATES)
        inputs = {name: batch[name] for name in names if name in batch}
        return inputs | ({TARGET_PLACES: self._places(batch)} if "labels" in batch else {})

    def _places(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return where the next token is one to learn, bool ``(rows, length)``."""
        learnt = batch["labels"] != _IGNORED
        if self.has_encoder:
            return learnt
        return learnt.roll(-1, dims=1) & (learnt.new_ones(learnt.shape).cumsum(1) < learnt.shape[1])

    def logits(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return ``(target tokens, vocabulary)``."""
        return outputs.logits if outputs.logits.dim() == 2 else outputs.logits[self._places(batch)]

    def targets(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return ``(target tokens,)``."""
        labels = batch["labels"] if self.has_encoder else batch["labels"][:, 1:]
        return labels[labels != _IGNORED]

    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the sum over target tokens of their cross-entropy."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(self.logits(outputs, batch), self.targets(batch), reduction="sum")

    # --- answers ---

    def say(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> Sequence[Any]:
        """Write a text a row, then read it, and the target if it is known, to see how likely each token was."""
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        ids = write(model, inputs, self.state["ends"])
        prompts = [row[mask.bool()].tolist() for row, mask in zip(*inputs.values(), strict=True)]
        again = [self.sequence(prompt, own, 0) for prompt, own in zip(prompts, ids, strict=True)]
        device = inputs["input_ids"].device
        own = {name: value.to(device) for name, value in self._apart(again).items()}
        said = [each.double().numpy() for each in self._scores(model, own)]
        known = {name.removeprefix(KNOWN): value for name, value in batch.items() if name.startswith(KNOWN)}
        true = self._scores(model, known) if known else [None] * len(ids)
        texts = self.texts(ids)
        return [
            Written(text, tuple(row), score, *((None, 0) if one is None else (float(one.double().sum()), len(one))))
            for text, row, score, one in zip(texts, ids, said, true, strict=True)
        ]

    def _scores(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        labels = batch["labels"] if self.has_encoder else batch["labels"][:, 1:]
        return scores(model, self.model_inputs(batch), [row[row != _IGNORED] for row in labels])

    def texts(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Return written tokens as texts."""
        found = self._tokenizer.batch_decode([list(row) for row in ids], skip_special_tokens=True)
        return [(joined_han(text) if self.state["splits_han"] else text).strip() for text in found]

    def numbers(self, said: Any) -> np.ndarray:
        """Return the log-probability of each token that was written."""
        return said.scores

    def truth(self, rows: Rows) -> np.ndarray:
        """Return the references of each row, ``(rows,)``."""
        return objects(references(row[self.target]) for row in rows)

    def answer(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> Any:
        """Return the texts and, where targets are known, their likelihood ``(rows, 2)``."""
        answers: dict[str, np.ndarray] = {"texts": objects(one.text for one in said)}
        if all(one.likelihood is not None for one in said):
            answers["likelihood"] = np.array([[one.likelihood, one.tokens] for one in said], dtype=np.float64)
        return answers

    def decode(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> list[Prediction]:
        """Return what was written."""
        return [Prediction(one.text) for one in said]

    def right(self, targets: np.ndarray, answers: Any) -> np.ndarray:
        """Return whether a text is one of its references."""
        return np.array([a in t for t, a in zip(targets, answers["texts"], strict=True)], dtype=bool)

    def shown(self, value: Any) -> str:
        """Return a text, or the first of its references."""
        return value if isinstance(value, str) else next(iter(value), "")

    @classmethod
    def tiny_variants(cls, long: str) -> list[dict[str, Any]]:
        """Return settings under which another thing is written, for `tiny`."""
        return [
            {"prompt": f"say {{{long}}}"},
            {"chat": False},
            {"max_new_tokens": 3},
            {"min_new_tokens": 5, "max_new_tokens": 5},
            {"num_beams": 3},
            {"num_beams": 40, "length_penalty": -8.0},  # so many that one ends early even before training
            {"no_repeat_ngram_size": 1},
            {"packing": True},
        ]


def references(value: Any) -> tuple[str, ...]:
    """Return the references of a target: a text, or several as a JSON list of texts or of ``{"text": ...}``."""
    text = str(value or "")
    if text.lstrip().startswith("["):
        try:
            several = json.loads(text)
        except ValueError:
            return (text,)
        texts = [one.get("text") if isinstance(one, dict) else one for one in several]
        good = [one for one in texts if isinstance(one, str)]
        if len(good) == len(texts):
            return tuple(dict.fromkeys(good))
    return (text,)


def first_reference(value: Any) -> str:
    """Return the reference that is learnt: the first that says something."""
    return next((text for text in references(value) if text.strip()), "")


def _padded(rows: Sequence[Sequence[int]], pad: int, *, left: bool = False) -> dict[str, torch.Tensor]:
    ones = [[1] * len(row) for row in rows]
    return {"input_ids": _stacked(rows, pad, left=left), "attention_mask": _stacked(ones, 0, left=left)}


def _stacked(rows: Sequence[Sequence[int]], fill: int, *, left: bool = False) -> torch.Tensor:
    import torch

    longest = max(len(row) for row in rows)
    filled = [[fill] * (longest - len(row)) for row in rows]
    both = zip(rows, filled, strict=True)
    return torch.tensor([[*gap, *row] if left else [*row, *gap] for row, gap in both], dtype=torch.long)
