"""A conversation's next turn: what an assistant says, learnt from its turns alone.

A conversation is written by the chat template that the model was pretrained with. The loss is the cross-entropy of the
tokens of the assistant's turns, each with the token that ends it; what others say is read, and never learnt:

    - sum over tokens t of the assistant's turns of log p(y_t | y_<t)

The model is asked with all that stands before the last turn of the assistant, or with all there is, if another spoke
last. Of a conversation that is too long, the oldest turns after the system's are left out.

Source: Ouyang et al., Training language models to follow instructions with human feedback, 2022, arXiv:2203.02155,
section 3.5 (supervised fine-tuning); the loss on one side's turns: Zhang et al., DialoGPT, 2019, arXiv:1911.00536.
Differs: all turns of the assistant count, not the last alone, unless `learn` is ``last``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Setting

from weitiao.data.fields import Field
from weitiao.data.table import Table
from weitiao.errors import DataError, ModelError
from weitiao.findings import Finding
from weitiao.models.writing import ends_of, must_pack, start_of
from weitiao.plugins import Options
from weitiao.tasks import _dialogue_findings as faults
from weitiao.tasks._conversation import Script, Unusable, conversation, marked, replies, tools_of
from weitiao.tasks._prompts import splits_han
from weitiao.tasks._texts import must_have
from weitiao.tasks._writing import KNOWN, SLACK, SearchSettings, Writing
from weitiao.tasks.base import Rows, objects

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from weitiao.models.find import Pretrained

__all__ = ["Dialogue"]

_IGNORED = -100


class Dialogue(Writing):
    """Say what an assistant says next."""

    class Settings(SearchSettings):
        """What is learnt of a conversation, how it is written, and how a reply is searched for."""

        learn: Literal["all", "last"] = Setting(
            "all", description="which turns of the assistant are learnt: all of a conversation, or the last alone"
        )
        template: Literal["auto", "plain", "plain_zh"] = Setting(
            "auto",
            description="auto: the tokenizer's chat template, or a plain one in the data's language if it has none; "
            "plain: User: and Assistant:; plain_zh: 用户： and 助手：",
        )

    settings: Settings
    fields: ClassVar[tuple[Field, ...]] = (
        Field("messages", "json", True, ("messages", "conversations", "conversation", "dialogue", "turns", "对话")),
        Field("tools", "json", False, ("tools", "functions")),
    )
    formats: ClassVar[tuple[str, ...]] = ("messages",)
    metrics: ClassVar[tuple[str, ...]] = ("perplexity", "bleu", "distinct1", "distinct2")
    main_metric: ClassVar[str] = "perplexity"

    def __init__(self, settings: Options | None = None, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings, state)
        self._learnt_from = ""  # fingerprint of the training rows
        self._met: tuple[Any, Pretrained] | None = None

    # --- rows ---

    @classmethod
    def text_fields(cls, there: Sequence[str]) -> tuple[str, ...]:
        """Return the conversation, for the checks to look at as a text."""
        return ("messages",) if "messages" in there else ()

    def learn(self, train: Table) -> None:
        """Keep the language; the longest replies until `meet`."""
        from weitiao.data.words import is_chinese

        talks = [conversation(value) for value in train.column("messages")]
        said = [talk[i]["content"] for talk in talks for i in replies(talk)]
        self._longest = sorted(said, key=len)[-64:]
        self.state["chinese"] = 2 * sum(map(is_chinese, said[:1000])) > len(said[:1000])
        self._learnt_from = train.fingerprint

    def meet(self, pretrained: Pretrained) -> None:
        """Keep which template writes conversations, what ends a turn, and how much may be written."""
        from weitiao.models.load import load_tokenizer

        tokenizer: Any = load_tokenizer(pretrained)
        if self.settings.packing:
            must_pack(pretrained)
        if start_of(pretrained, tokenizer)[0] is not None:
            fix = "Name a decoder, or learn pairs of texts with another task that writes."
            raise ModelError(f"{pretrained.name} reads with one half and writes with another.", fix=fix)
        if not tokenizer.is_fast:
            raise ModelError(f"the tokenizer of {pretrained.name} does not say where its tokens stand in a text.")
        plain = None if self.settings.template == "auto" else self.settings.template
        if plain is None and not getattr(tokenizer, "chat_template", None):
            plain = "plain_zh" if self.state["chinese"] else "plain"
        ends = ends_of(pretrained, tokenizer)
        if plain is not None:
            ends.sort(key=lambda token: token != tokenizer.eos_token_id)
        most = self.settings.max_new_tokens
        if most is None:
            most = int(SLACK * max(self.count_tokens(tokenizer, self._longest), default=64)) + 2
        self.state |= {
            "start": None,
            "template": plain,
            "ends": ends,
            "pad": tokenizer.pad_token_id,
            "max_new_tokens": min(most, max(1, pretrained.max_length // 2)),
            "splits_han": splits_han(tokenizer),
        }
        self._met = tokenizer, pretrained

    def accepts(self, table: Table) -> Mapping[int, str]:
        """Refuse what is no conversation, or has no reply; to be compared with, it has to end with one."""
        reasons = {}
        compared = bool(self._learnt_from) and table.fingerprint != self._learnt_from
        for i, row in enumerate(table):
            try:
                talk = conversation(row["messages"] or "")
                tools_of(row.get("tools"))
            except Unusable as error:
                reasons[i] = str(error)
                continue
            found = replies(talk)
            if not found:
                reasons[i] = "no turn of the assistant that answers anything"
            elif compared and found[-1] < len(talk) - 1:
                reasons[i] = "it does not end with a reply, so there is nothing to compare with"
        return reasons

    def findings(
        self, tables: Mapping[str, Table], tokenizer: PreTrainedTokenizerBase | None = None
    ) -> Iterator[Finding]:
        """Say what is learnt, and find turns that no reply can be learnt from, or that break off."""
        for split, table in tables.items():
            yield from faults.of_turns(split, table)
            yield from faults.broken_off(split, table)
        if self._met is not None and "train" in tables:
            met, pretrained = self._met
            script = self._script(met)
            yield from faults.of_template(script, self.state["template"], tables["train"])
            rows = [dict(tables["train"][i]) for i in range(min(3, len(tables["train"])))]
            shown = self.learned(self.encode(rows, met, pretrained.max_length), met)
            yield faults.what_is_learnt(shown, tables["train"])

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Turn conversations into tokens; labels are -100 outside of the turns to learn.

        ``prompt`` is how many of the first tokens the model is given when it is asked, or ``asked`` are the tokens it
        is given, where these are others; ``reply`` is where the last reply begins. A row of several inputs is asked
        with its last one.
        """
        must_have(rows, ["messages"])
        script, encoded = self._script(tokenizer), []
        for i, row in enumerate(rows):
            try:
                talk, tools = conversation(row["messages"]), tools_of(row.get("tools"))
                for one in self._inputs(script, script.taken(talk, tools), tools, max_length):
                    encoded.append({**one, "row": i})
            except Unusable as error:
                fix = "Mend the row, or try another task.template."
                raise DataError(f"messages cannot be read: {error}.", where=f"row {i + 1}", fix=fix) from error
        return encoded

    def _script(self, tokenizer: Any) -> Script:
        return Script(tokenizer, self.state["template"])

    def _inputs(self, script: Script, talk: list[dict], tools: Any, max_length: int) -> list[dict[str, Any]]:
        """Return the inputs of one conversation, the one to be asked with at the end."""
        known = replies(talk)
        has_reply = bool(known) and known[-1] == len(talk) - 1
        room = max_length - min(self.state["max_new_tokens"], max(1, max_length // 2))
        kept, lost = script.shortened(talk[: len(talk) - has_reply], tools, room, answering=True)
        asked = script.ids(script.text(kept, tools, answering=True))
        if len(asked) > room:
            raise Unusable(f"it does not fit into {room} tokens, even with its last question left out")
        found = self._learnt(script, talk[: known[-1] + 1], tools, max_length) if known else []
        if not found:
            return [{"input_ids": asked, "prompt": len(asked), "tokens_lost": lost}]
        last = found[-1]
        begins = last["input_ids"][: len(asked)] == asked
        last |= {"prompt": len(asked)} if begins else {"asked": asked}
        last["tokens_lost"] = max(lost, last["tokens_lost"])
        if not has_reply:
            del last["reply"]
        return found

    def _learnt(self, script: Script, talk: list[dict], tools: Any, max_length: int) -> list[dict[str, Any]]:
        """Return what is learnt of a conversation that ends with a reply."""
        kept, lost = script.shortened(talk, tools, max_length, answering=False)
        learnt = replies(kept)
        if self.settings.learn == "last":
            learnt = learnt[-1:]
        found = []
        for piece in script.pieces(kept, tools, learnt):
            ids, labels = script.tokens(piece, self.state["ends"])
            over = max(0, len(ids) - max_length)  # the last reply alone is too long
            ids, labels = ids[:max_length], labels[:max_length]
            if all(label == _IGNORED for label in labels):
                raise Unusable(f"no reply fits into {max_length} tokens, however much of the rest is left out")
            found.append({"input_ids": ids, "labels": labels, "tokens_lost": over})
        found[-1]["tokens_lost"] += lost
        learns = [label != _IGNORED for label in found[-1]["labels"]]
        found[-1]["reply"] = max(i for i, one in enumerate(learns) if one and not (i and learns[i - 1]))
        return found

    def learned(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> list[list[tuple[str, bool]]]:
        """Return the tokens of each input as text, each with whether it is learnt."""
        found = ((row["input_ids"], row.get("labels", [_IGNORED] * len(row["input_ids"]))) for row in inputs)
        return [marked(*both, tokenizer) for both in found]

    # --- answers ---

    def ask(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
        """Pad what the model is asked with; the last reply, if all have one, comes under names of its own."""
        import torch

        final = [row for row in inputs if "asked" in row or "prompt" in row]
        batch: dict[str, Any] = {"final": torch.tensor(["asked" in row or "prompt" in row for row in inputs])}
        if not final:
            return batch
        asked = [row.get("asked") or row["input_ids"][: row["prompt"]] for row in final]
        batch |= super().ask([{"input_ids": ids, "prompt": len(ids)} for ids in asked], tokenizer)
        if all("reply" in row for row in final):
            masked = [[_IGNORED] * row["reply"] + row["labels"][row["reply"] :] for row in final]
            known = [row | {"labels": labels} for row, labels in zip(map(dict, final), masked, strict=True)]
            batch |= {f"{KNOWN}{name}": value for name, value in self._apart(known).items()}
        return batch

    def say(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> Sequence[Any]:
        """Write a reply to each conversation; inputs that are only learnt from get ``None``."""
        final = batch["final"].tolist()
        said = iter(super().say(model, batch) if any(final) else ())
        return [next(said) if one else None for one in final]

    def join(self, said: Sequence[Any], inputs: Rows) -> Any:
        """Return what was said of the last input of a row."""
        return said[-1]

    def truth(self, rows: Rows) -> np.ndarray:
        """Return the last turn of the assistant of each row, ``(rows,)``."""
        talks = [conversation(row["messages"]) for row in rows]
        return objects((talk[replies(talk)[-1]]["content"],) for talk in talks)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return eight short conversations in two languages."""
        pairs = {
            "good room": "yes", "how is it": "not good", "is it cheap": "no", "房间好": "是", "酒店": "很好",
            "hotel": "nice", "早餐好吃": "不", "the bank": "where",
        }  # fmt: skip
        talks = [[("user", asked), ("assistant", said)] for asked, said in pairs.items()]
        talks[0] += [("user", "why"), ("assistant", "nice"), ("user", "how"), ("assistant", "very clean")]
        talks[1].insert(0, ("system", "be nice"))
        rows = [
            {"messages": json.dumps([{"role": role, "content": text} for role, text in talk], ensure_ascii=False)}
            for talk in talks
        ]
        variants = [
            {"learn": "last"},
            {"template": "plain_zh"},
            {"max_new_tokens": 3},
            {"min_new_tokens": 20, "max_new_tokens": 20},
            {"num_beams": 3},
            {"num_beams": 40, "length_penalty": -8.0},  # so many that one ends early even before training
            {"no_repeat_ngram_size": 1},
            {"packing": True},
        ]
        return {"rows": rows, "settings": {}, "variants": variants, "family": "gpt2", "epochs": 60}
