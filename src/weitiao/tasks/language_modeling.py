"""Continued pretraining: raw texts of a domain teach a model its words before anything else does.

Masked, each token sees all others: of a block, 15% of the tokens are to be guessed, of which 80% are masked, 10%
replaced by any token and 10% left. Causal, each token is guessed from those before it. The loss is

    - sum over guessed tokens t of log p(x_t | what is seen)

A long text is cut into blocks, so that nothing is lost; causal, a block begins with the last token of the one before,
and every token is guessed once.

Source: Gururangan et al., Don't Stop Pretraining: Adapt Language Models to Domains and Tasks, 2020, arXiv:2004.10964;
masks: Devlin et al., BERT, 2019, arXiv:1810.04805, section 3.1. Differs: the masks of a block are a function of its
tokens, not drawn anew each epoch; with `masks` above 1 it is read with several, which take other tokens in turn. So dev
and test always have the same, and what frozen layers say of a block stays true.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Setting
from pydantic import model_validator

from weitiao.data.fields import TEXT, Field
from weitiao.data.table import Table
from weitiao.errors import ModelError, RecipeError
from weitiao.findings import Finding
from weitiao.models.writing import TARGET_PLACES, scores
from weitiao.plugins import Options
from weitiao.randomness import generator
from weitiao.tasks._conversation import marked
from weitiao.tasks._texts import must_have, pad
from weitiao.tasks.base import Prediction, Rows, Task, objects

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from weitiao.models.find import Pretrained

__all__ = ["LanguageModeling"]

_IGNORED = -100
_MASKED, _REPLACED = 0.8, 0.9  # shares of the guessed tokens: below the first masked, then up to the second replaced
_COUNTED = 2000  # texts whose tokens are counted with new words and without


class LanguageModeling(Task):
    """Go on with pretraining on texts of a domain."""

    class Settings(Options):
        """What is guessed, and with which words."""

        objective: Literal["auto", "masked", "causal"] = Setting(
            "auto", description="masked: guess tokens from all around; causal: from those before; auto: as the model is"
        )
        masked_share: float = Setting(0.15, gt=0, le=0.9, description="share of a block's tokens to guess; masked only")
        masks: int = Setting(1, ge=1, description="times a block is read, each time with other masks; masked only")
        vocabulary: Literal["keep", "extend"] = Setting(
            "keep", description="extend: frequent words that the tokenizer takes apart become tokens"
        )
        new_words: int = Setting(1000, ge=1, description="words added at most, those that save most tokens")

        @model_validator(mode="after")
        def _no_idle_setting(self) -> LanguageModeling.Settings:
            plain = {name: field.default for name, field in type(self).model_fields.items()}
            if self.vocabulary == "keep" and self.new_words != plain["new_words"]:
                raise ValueError("new_words has no effect unless vocabulary is extend")
            idle = [name for name in ("masked_share", "masks") if getattr(self, name) != plain[name]]
            if idle and self.objective == "causal":
                raise ValueError(f"{idle[0]} has no effect on a causal objective")
            return self

    settings: Settings
    fields: ClassVar[tuple[Field, ...]] = (TEXT,)
    formats: ClassVar[tuple[str, ...]] = ("plain_text",)
    metrics: ClassVar[tuple[str, ...]] = ("perplexity",)
    main_metric: ClassVar[str] = "perplexity"
    gives: ClassVar[tuple[str, ...]] = ("likelihood",)
    selects_by: ClassVar[Literal["metric", "loss"]] = "loss"
    has_new_head: ClassVar[bool] = False
    cuts_by_itself: ClassVar[bool] = True
    augments: ClassVar[bool] = False

    def __init__(self, settings: Options | None = None, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings, state)
        self._counts: Counter[str] = Counter()  # words of the training texts, until `meet`
        self._some: list[str] = []
        self._tokens: tuple[int, int] | None = None  # of these texts, without new words and with them

    # --- rows ---

    def learn(self, train: Table) -> None:
        """Count the words, if some are to be added."""
        if self.settings.vocabulary == "extend":
            from weitiao.models.vocabulary import count_words

            self._counts = count_words(train.column("text"))
            self._some = list(train.column("text")[:_COUNTED])

    def meet(self, pretrained: Pretrained) -> None:
        """Keep what is guessed and how, what a text begins with, and which words are new."""
        from weitiao.models.heads import is_encoder_decoder
        from weitiao.models.load import load_tokenizer

        tokenizer: Any = load_tokenizer(pretrained)
        if is_encoder_decoder(pretrained):
            raise ModelError(
                f"{pretrained.name} reads with one half and writes with another: it guesses no tokens it reads.",
                fix="Name an encoder or a decoder.",
            )
        if not tokenizer.is_fast:
            raise ModelError(
                f"the tokenizer of {pretrained.name} cannot cut a text into blocks.",
                fix="Choose a model with a fast tokenizer (tokenizer.json).",
            )
        objective = self.settings.objective
        if objective == "auto":
            objective = "causal" if pretrained.is_decoder else "masked"
        if objective == "masked" and tokenizer.mask_token_id is None:
            raise ModelError(
                f"the tokenizer of {pretrained.name} has no mask token.", fix="Set task.objective: causal."
            )
        for name in ("masked_share", "masks"):
            if objective == "causal" and getattr(self.settings, name) != type(self.settings).model_fields[name].default:
                raise RecipeError(f"task.{name} has no effect: {pretrained.name} guesses from what stands before.")
        self.state |= {"objective": objective, "start": _start(tokenizer), "new_words": self._find_words(tokenizer)}

    def _find_words(self, tokenizer: Any) -> list[str]:
        if self.settings.vocabulary == "keep":
            return []
        from weitiao.models.vocabulary import add_words, new_words

        found = new_words(self._counts, tokenizer, self.settings.new_words)
        before = _count(tokenizer, self._some)
        self._tokens = before, _count(add_words(tokenizer, found), self._some)
        return found

    def extend(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
        """Put the new words into the tokenizer."""
        from weitiao.models.vocabulary import add_words

        return add_words(tokenizer, self.state["new_words"]) if self.state["new_words"] else tokenizer

    def why_not_augment(self) -> str:
        """Say that edited texts are not how people write."""
        return "it would learn texts that nobody wrote"

    def findings(
        self, tables: Mapping[str, Table], tokenizer: PreTrainedTokenizerBase | None = None
    ) -> Iterator[Finding]:
        """Say what new words save."""
        if self._tokens is not None:
            (before, after), words = self._tokens, self.state["new_words"]
            yield Finding(
                "new_words",
                "info",
                f"{len(words):,} words were added to the vocabulary: training texts of {before:,} tokens now have "
                f"{after:,}.",
                "Nothing to do; task.new_words says how many are added at most.",
                count=len(words),
                evidence={"words": words[:20]},
            )

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Cut texts into blocks, each with what is to be guessed in it."""
        must_have(rows, ["text"])
        if self.state["objective"] == "causal":
            return [
                {"row": i} | block for i, row in enumerate(rows) for block in self._causal(row, tokenizer, max_length)
            ]
        others = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
        return [
            {"row": i} | block
            for i, row in enumerate(rows)
            for block in self._masked(row, tokenizer, max_length, others)
        ]

    def _causal(self, row: Mapping[str, Any], tokenizer: Any, max_length: int) -> Iterator[dict[str, Any]]:
        ids = [self.state["start"], *tokenizer(row["text"], add_special_tokens=False, verbose=False)["input_ids"]]
        step = max(1, max_length - 1)
        for first in range(0, max(1, len(ids) - 1), step):
            block = ids[first : first + step + 1]
            labels = [_IGNORED, *block[1:]]
            yield {"input_ids": block, "attention_mask": [1] * len(block), "labels": labels, "tokens_lost": 0}

    def _masked(
        self, row: Mapping[str, Any], tokenizer: Any, max_length: int, others: np.ndarray
    ) -> Iterator[dict[str, Any]]:
        cut = tokenizer(
            row["text"],
            truncation=True,
            max_length=max_length,
            return_overflowing_tokens=True,
            return_special_tokens_mask=True,
        )
        names = [name for name in ("input_ids", "token_type_ids", "attention_mask") if name in cut]
        for i in range(len(cut["input_ids"])):
            block = {name: list(cut[name][i]) for name in names}
            own = np.flatnonzero(np.array(cut["special_tokens_mask"][i]) == 0)
            for number in range(self.settings.masks):
                ids, labels = self._mask(np.array(block["input_ids"]), own, number, tokenizer.mask_token_id, others)
                yield block | {"input_ids": ids, "labels": labels, "tokens_lost": 0}

    def _mask(
        self, ids: np.ndarray, own: np.ndarray, number: int, mask: int, others: np.ndarray
    ) -> tuple[list[int], list[int]]:
        """Return what is read of a block and what is guessed; the tokens alone decide which."""
        labels = np.full(len(ids), _IGNORED)
        if not len(own):
            return ids.tolist(), labels.tolist()
        content = hashlib.sha256(ids.tobytes()).hexdigest()
        count = max(1, round(self.settings.masked_share * len(own)))
        order = generator(0, "masks", content).permutation(own)
        chosen = np.unique(order.take(range(number * count, (number + 1) * count), mode="wrap"))
        labels[chosen] = ids[chosen]
        draw = generator(0, "masks", content, number)
        fate, other = draw.random(len(chosen)), draw.choice(others, len(chosen))
        ids = ids.copy()
        ids[chosen] = np.select([fate < _MASKED, fate < _REPLACED], [np.full(len(chosen), mask), other], ids[chosen])
        return ids.tolist(), labels.tolist()

    def collate(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
        """Pad on the right."""
        import torch

        batch = pad(inputs, tokenizer)
        length = batch["input_ids"].shape[1]
        labels = [[*row["labels"], *[_IGNORED] * (length - len(row["labels"]))] for row in inputs]
        return batch | {"labels": torch.tensor(labels, dtype=torch.long)}

    def learned(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> list[list[tuple[str, bool]]]:
        """Return the tokens of each input as text, each with whether it is guessed."""
        return [marked(row["input_ids"], row["labels"], tokenizer) for row in inputs]

    # --- model and loss ---

    def build(self, pretrained: Pretrained, *, pooling: str, dropout: float | None, seed: int) -> nn.Module:
        """Return the stock model with a head over its vocabulary."""
        from weitiao.models.heads import load_language_model

        words = self.state["new_words"]
        return load_language_model(pretrained, self.state["objective"], seed=seed, new_words=words)

    def reopen(self, folder: Path) -> nn.Module:
        """Open a saved language model."""
        from weitiao.models.heads import open_language_model

        return open_language_model(folder, self.state["objective"])

    def model_inputs(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return what the model reads, and at which places its head is wanted."""
        return super().model_inputs(batch) | {TARGET_PLACES: self._places(batch)}

    def _places(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return where the model says what a guessed token is, bool ``(rows, length)``."""
        guessed = batch["labels"] != _IGNORED
        # causal, the token before says it; the first label of a row is never one to guess
        return guessed.roll(-1, dims=1) if self.state["objective"] == "causal" else guessed

    def logits(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return ``(guessed tokens, vocabulary)``."""
        return outputs.logits if outputs.logits.dim() == 2 else outputs.logits[self._places(batch)]

    def targets(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return ``(guessed tokens,)``."""
        return batch["labels"][batch["labels"] != _IGNORED]

    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the sum over guessed tokens of their cross-entropy."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(self.logits(outputs, batch), self.targets(batch), reduction="sum")

    # --- answers ---

    def say(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> Sequence[Any]:
        """Return the log-probability of each guessed token of each block."""
        targets = [row[row != _IGNORED] for row in batch["labels"]]
        return [one.double().numpy() for one in scores(model, self.model_inputs(batch), targets)]

    def join(self, said: Sequence[Any], inputs: Rows) -> Any:
        """Put the blocks of a text one after another."""
        return np.concatenate(list(said))

    def truth(self, rows: Rows) -> np.ndarray:
        """Return the texts: they are what is guessed."""
        return objects(row["text"] for row in rows)

    def answer(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> Any:
        """Return the likelihood of the guessed tokens of each text, ``(rows, 2)``."""
        return {"likelihood": np.array([[one.sum(), len(one)] for one in said], dtype=np.float64)}

    def decode(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> list[Prediction]:
        """Return the perplexity of each text: how strange it is to the model."""
        return [Prediction(_perplexity(one.sum(), len(one))) for one in said]

    def right(self, targets: np.ndarray, answers: Any) -> np.ndarray:
        """Return whether a guessed token is, on (geometric) average, likelier than all others together."""
        sums = answers["likelihood"]
        return sums[:, 0] >= sums[:, 1] * math.log(0.5)

    def shown(self, value: Any) -> str:
        """Return a text, or a perplexity."""
        return value if isinstance(value, str) else f"perplexity {_perplexity(*value) or 0:.1f}"

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return eight texts in two languages."""
        texts = [
            "the room is clean and the staff are lovely", "the hotel xylophone is broken again", "房间很干净服务很好",
            "the service is very slow but the food is great", "my card and my money are lost", "电影很糟糕不喜欢",
            "a xylophone is not a phone, vip", "where is the vip bank please help",
        ]  # fmt: skip
        variants = [
            {"objective": "causal"},
            {"masked_share": 0.5},
            {"masks": 2},
            {"vocabulary": "extend"},
            {"vocabulary": "extend", "new_words": 1},
        ]
        return {"rows": [{"text": text} for text in texts], "settings": {}, "variants": variants}


def _perplexity(likelihood: float, tokens: float) -> float | None:
    """Return the perplexity of so many tokens; ``None`` of a text that has none."""
    return math.exp(min(700.0, -likelihood / tokens)) if tokens else None


def _start(tokenizer: Any) -> int:
    """Return the token that a text begins with: the tokenizer's own, or that which ends the text before."""
    first = tokenizer("a")["input_ids"][0]
    named = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return first if first in tokenizer.all_special_ids else next(token for token in named if token is not None)


def _count(tokenizer: Any, texts: Sequence[str]) -> int:
    return sum(len(ids) for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"])
