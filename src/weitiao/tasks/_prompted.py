"""What a prompted classifier reads: its settings, and how rows become prompts.

The formulas and their sources stand in ``models/prompted.py``, the choice of examples in ``_examples.py``.

With `calibrate`, the model answers texts that say nothing ("N/A", an empty text, a mask); the log of the mean of its
probabilities is taken off the logits of every row, so that a word's mere frequency counts for nothing.

Source: Schick and Schuetze, Exploiting Cloze Questions for Few Shot Text Classification and Natural Language
Inference, 2020, arXiv:2001.07676 (templates and verbalizers); Zhao et al., Calibrate Before Use, 2021,
arXiv:2102.09690 (`calibrate`).
Differs: of examples that depend on the text, the prior is what is said with those for texts that say nothing; it is
subtracted from log-probabilities, which is the diagonal matrix of Zhao et al. before the softmax.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field as Setting
from pydantic import field_validator, model_validator

from weitiao.data.table import Table
from weitiao.data.words import is_chinese
from weitiao.errors import DataError, ModelError, RecipeError, did_you_mean
from weitiao.plugins import Options
from weitiao.tasks._examples import Examples, ExampleSettings, orders, pool_of
from weitiao.tasks._prompt_tokens import ends_of, ids_of, sentences, start_and_gap, tokens_of
from weitiao.tasks._templates import Template, supplied, usual
from weitiao.tasks._texts import must_have
from weitiao.tasks.base import Rows

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from weitiao.models.find import Pretrained
    from weitiao.models.prompted import LabelWords

__all__ = ["PromptSettings", "Prompted"]

_Word = Annotated[str, Setting(min_length=1, pattern=r"\S")]
_SEARCH = "search"
_TRIED_ON = 128  # rows that templates and words are tried on; more where there are more than 64 labels
_APART = "\n\n"  # between examples


class PromptSettings(Options):
    """How a language model is asked for a label."""

    kind: Literal["auto", "entailment"] = Setting(
        "auto",
        description="'auto': the model fills the gap, as it was pretrained to; 'entailment': a model of natural "
        "language inference says whether the sentence with the label follows from the text",
    )
    template: str | Annotated[tuple[str, ...], Setting(min_length=2)] | None = Setting(
        None,
        description="'{text} It was {mask}.'; of entailment the sentence alone, 'This is about {mask}.'; a list: the "
        "one under which the untuned model finds the labels of training rows likeliest; 'search': of those supplied; "
        "null: words in the data's language",
    )
    verbalizer: Literal["auto"] | dict[str, _Word | Annotated[tuple[_Word, ...], Setting(min_length=1)]] = Setting(
        {},
        description="label to the word, or words, that stand for it; others are called by their names. 'auto': words "
        "that the untuned model finds likelier for training rows of a label than for others",
    )
    soft_verbalizer: bool = Setting(
        False, description="labels are vectors to learn, which start as the output vectors of their words"
    )
    calibrate: bool = Setting(False, description="take off what the model answers to a text that says nothing")
    examples: ExampleSettings | None = Setting(None, description="solved training rows before each text; null: none")

    @field_validator("template")
    @classmethod
    def _readable(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for written in [value] if isinstance(value, str) else value or ():
            if written != _SEARCH or isinstance(value, tuple):
                Template(written)
        if isinstance(value, tuple) and len(set(value)) < len(value):
            raise ValueError("a template stands twice in the list")
        return value

    @property
    def templates(self) -> tuple[str, ...]:
        """Those that the recipe names."""
        if self.template is None or self.template == _SEARCH:
            return ()
        return (self.template,) if isinstance(self.template, str) else self.template

    @property
    def searches(self) -> bool:
        """Whether training rows decide on template or words."""
        return self.verbalizer == "auto" or self.template == _SEARCH or len(self.templates) > 1

    def word(self, label: str) -> str | tuple[str, ...] | None:
        """Return what was named for a label."""
        return None if isinstance(self.verbalizer, str) else self.verbalizer.get(label)

    @model_validator(mode="after")
    def _no_idle_setting(self) -> PromptSettings:
        if self.kind == "entailment":
            if any(Template(one).fields for one in self.templates):
                raise ValueError("the template of entailment is the sentence with {mask} alone; the text is read first")
            for name in ("soft_verbalizer", "examples"):
                if getattr(self, name):
                    raise ValueError(f"{name} has no sense with kind: entailment, which reads one text and a sentence")
            if self.verbalizer == "auto":
                raise ValueError("verbalizer: auto has no sense with kind: entailment, whose model writes no words")
        elif any("text" not in Template(one).fields for one in self.templates):
            raise ValueError("template has no place for the text: put {text} into it")
        return self


class Prompted:
    """Turns rows into prompts.

    Parameters
    ----------
    settings
        Of the recipe.
    facts
        What `learn`, `meet` and `build` found out, JSON values; filled by them, kept by the task.
    """

    def __init__(self, settings: PromptSettings, facts: dict[str, Any]) -> None:
        self.settings, self.facts = settings, facts
        self._examples: Examples | None = None
        self._solved: list[list[int]] = []  # tokens of each row of the pool, with what stands after it
        self._max_length: int | None = None

    def learn(self, train: Table, labels: Sequence[str], *, pair: bool) -> dict[str, Any]:
        """Return the language, the labels' words, and the rows to take examples from."""
        for label in () if isinstance(self.settings.verbalizer, str) else self.settings.verbalizer:
            if label not in labels:
                raise RecipeError(
                    f"there is no label {label!r}.{did_you_mean(label, labels)}",
                    where="task.prompt.verbalizer",
                    fix=f"Labels: {', '.join(labels[:20])}.",
                )
        told = {label: self.settings.word(label) or label.replace("_", " ") for label in labels}
        texts = train.column("text")[:1000]
        entails = self.settings.kind == "entailment"
        chinese = 2 * sum(is_chinese(str(text)) for text in texts) > len(texts)
        fields = ["text", "text_pair"] if pair else ["text"]
        which: dict[str, Any] = {"pair": pair, "chinese": chinese, "entailment": entails}
        candidates = supplied(**which) if self.settings.template == _SEARCH else self.settings.templates
        candidates = candidates or (usual(**which),)
        if not entails:
            for one in candidates:
                _refuse_other_fields(one, fields)
        self.facts = {
            "fields": fields,
            "labels": list(labels),
            "template": candidates[0],
            "words": [[word] if isinstance(word, str) else list(word) for word in told.values()],
        }
        if self.settings.searches:
            tried_on = pool_of(list(train), fields, max(_TRIED_ON, 2 * len(labels)))
            if missing := sorted(set(labels) - {row["label"] for row in tried_on}):
                raise DataError(
                    f"no training row has the label {missing[0]!r}, so that templates or words cannot be tried for it.",
                    fix="Name template and words in task.prompt, or add rows of every label.",
                )
            self.facts |= {"candidates": list(candidates), "tried_on": tried_on}
        if self.settings.examples is not None:
            shown = self.settings.examples
            self.facts["pool"] = pool_of(list(train), fields, shown.kept, seed=shown.seed)
        self._examples, self._solved = None, []
        return self.facts

    @property
    def _template(self) -> Template:
        return Template(self.facts["template"])

    @property
    def one_sequence(self) -> bool:
        """Whether the model reads an input once, as one sequence."""
        return self.facts["kind"] == "masked"

    # --- the model ---

    def meet(self, pretrained: Pretrained) -> None:
        """Choose template and words, where rows were kept to choose by, and find out how the model answers."""
        from weitiao.models.load import load_tokenizer

        tokenizer, rows = load_tokenizer(pretrained), self.facts.pop("tried_on", None)
        if rows is not None:
            from weitiao.tasks._prompt_search import search

            self.facts |= search(self, pretrained, tokenizer, self.facts.pop("candidates"), rows)
        self.settle(pretrained, tokenizer)

    def twin(self, **changed: Any) -> Prompted:
        """Return another with the same rows to show and with other settings, template or words."""
        facts = {name: changed.pop(name) for name in ("template", "words") if name in changed}
        return Prompted(self.settings.model_copy(update=changed), self.facts | facts)

    def settle(self, pretrained: Pretrained, tokenizer: PreTrainedTokenizerBase) -> None:
        """Find out how the model answers, and the tokens of words, gap and what begins and ends an input."""
        from weitiao.models.prompted import kind_of

        template = self._template
        self._examples, self._solved = None, []
        kind = "entailment" if self.settings.kind == "entailment" else kind_of(pretrained)
        full, bare = (tokenizer("a", add_special_tokens=add)["input_ids"] for add in (True, False))
        begin = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)
        found: dict[str, Any] = {"kind": kind, "pad": tokenizer.pad_token_id, "gap": [], "start": [], "segment": None}
        found |= {"left": full[:begin], "right": [] if kind == "causal" else full[begin + len(bare) :]}
        if kind == "seq2seq":
            found["start"], found["gap"] = start_and_gap(pretrained, tokenizer)
        if kind == "entailment":
            found["tokens"], found["segment"] = sentences(self.facts["words"], template, tokenizer)
        else:
            tail, gap = ("", "") if kind == "seq2seq" else (template.tail, template.gap)
            found["tokens"] = [[tokens_of(word, tail, gap, tokenizer) for word in own] for own in self._words]
        self._refuse_twins(found["tokens"], tokenizer)
        longest = max(len(word) for own in found["tokens"] for word in own)
        if kind == "masked":
            if tokenizer.mask_token_id is None:
                raise ModelError(f"{pretrained.name} has no mask token, so it cannot fill a gap.")
            found["gap"] = [tokenizer.mask_token_id] * (1 if self.settings.soft_verbalizer else longest)
        elif kind != "entailment" and not found["gap"] and (rest := template.says_after):
            raise RecipeError(
                f"{pretrained.name} writes a label after the text, and the template goes on with {rest} after "
                "{mask}.",
                where="task.prompt.template",
                fix="Put {mask} at the end.",
            )
        found["reserved"] = 0 if kind in ("masked", "seq2seq") else longest
        self.facts |= found

    @property
    def _words(self) -> list[list[str]]:
        return self.facts["words"]

    def _refuse_twins(self, tokens: Sequence[Sequence[Sequence[int]]], tokenizer: PreTrainedTokenizerBase) -> None:
        """Refuse words that the model cannot read, or that stand for two labels."""
        seen: dict[tuple[int, ...], str] = {}
        for words, own in zip(self._words, tokens, strict=True):
            for word, ids in zip(words, own, strict=True):
                wrong = "says nothing to the model" if not ids or tokenizer.unk_token_id in ids else None
                if wrong is None and tuple(ids) in seen:
                    wrong = f"reads the same as {seen[tuple(ids)]!r}"
                if wrong:
                    raise RecipeError(
                        f"the word {word!r} {wrong}.",
                        where="task.prompt.verbalizer",
                        fix="Name another word for its label.",
                    )
                seen[tuple(ids)] = word

    def build(self, pretrained: Pretrained, labels: Sequence[str]) -> nn.Module:
        """Return the pretrained model, with the words of the labels."""
        from weitiao.models.load import load_tokenizer
        from weitiao.models.prompted import load_prompted

        facts = self.facts
        model = load_prompted(pretrained, self.label_words(labels), facts.get("log_prior"))
        if self.settings.calibrate and "log_prior" not in facts:
            limit = self._max_length or pretrained.max_length
            facts["log_prior"] = self.prior(model, load_tokenizer(pretrained), limit)
            model.log_prior = model.owners.new_tensor(facts["log_prior"], dtype=model.dtype)
        return model

    def label_words(self, labels: Sequence[str]) -> LabelWords:
        """Return what a model reads or writes for each label."""
        from weitiao.models.prompted import LabelWords

        facts, examples = self.facts, self.settings.examples
        return LabelWords(
            kind=facts["kind"],
            labels=tuple(labels),
            words=tuple(tuple(map(tuple, own)) for own in facts["tokens"]),
            start=tuple(facts["start"]),
            pad=facts["pad"],
            segment=facts["segment"],
            soft=self.settings.soft_verbalizer,
            examples=0 if examples is None else examples.count,
        )

    def reopen(self, folder: Path) -> nn.Module:
        """Open a model that `build` made and somebody saved."""
        from weitiao.models.prompted import open_prompted

        return open_prompted(folder)

    def prior(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[float]:
        """Return the log of the mean probabilities of texts that say nothing."""
        import torch

        texts = ["N/A", "", tokenizer.mask_token or "[MASK]"]
        rows = [dict.fromkeys(self.facts["fields"], text) for text in texts]
        with torch.inference_mode():
            batch = self.collate(list(self._inputs(rows, tokenizer, max_length)))
            return model(**batch).logits.softmax(-1).mean(0).log().tolist()

    # --- rows ---

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Turn rows into prompts, several of a row where examples stand in several orders.

        A text that is too long loses its end, of two the longer one first, and `tokens_lost` says how much; the
        template stays whole. Examples take the room that is left, the nearest first; ``examples_lost`` counts those
        that found none.

        Raises
        ------
        DataError
            A text is missing, or there is no room for any of it.
        """
        must_have(rows, self.facts["fields"])
        self._max_length = max_length
        return list(self._inputs(rows, tokenizer, max_length))

    def _inputs(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Iterable[dict[str, Any]]:
        facts, told = self.facts, self.settings.examples
        around = len(facts["left"]) + len(facts["right"]) + len(facts["gap"])
        room, template = max_length - around - facts["reserved"], self._asked
        for i, row in enumerate(rows):
            before, after, lost = self._fitted(row, i, template, tokenizer, room)
            query = [*before, *facts["gap"], *after]
            extra: dict[str, Any] = {}
            shown: list[list[int]] = [[]]
            if told is not None:
                chosen = self._choose(row, tokenizer)
                taken = self._that_fit(chosen, room - len(before) - len(after))
                shown = orders(taken, told.orders, seed=told.seed)
                extra = {"examples_lost": len(chosen) - len(taken)} | ({"row": i} if told.orders > 1 else {})
            for order in shown:
                lead = [*facts["left"], *(token for j in order for token in self._solved[j])]
                one: dict[str, Any] = {"input_ids": [*lead, *query, *facts["right"]]}
                one["attention_mask"] = [1] * len(one["input_ids"])
                if facts["kind"] == "masked":
                    at = len(lead) + len(before)
                    one["mask_places"] = list(range(at, at + len(facts["gap"])))
                yield one | {"tokens_lost": lost} | extra

    @property
    def _asked(self) -> Template:
        """The template of what the model reads of a row."""
        if self.facts["kind"] == "entailment":
            return Template("\n".join(f"{{{name}}}" for name in self.facts["fields"]) + "{mask}")
        return self._template

    def _fitted(
        self, row: Mapping[str, Any], number: int, template: Template, tokenizer: PreTrainedTokenizerBase, room: int
    ) -> tuple[list[int], list[int], int]:
        """Return tokens before and after the gap, and how many more they would be if there were room."""

        def both(keep: int | None) -> tuple[list[int], list[int]]:
            after = template.after(row, keep) if self.facts["gap"] else ""
            return ids_of(template.before(row, keep), tokenizer), ids_of(after, tokenizer) if after else []

        whole = both(None)
        size = sum(map(len, whole))
        if size <= room:
            return *whole, 0
        ends = sorted({end for name in self.facts["fields"] for end in ends_of(row[name].strip(), tokenizer)})
        low, high, best = 0, len(ends) - 1, None
        while low <= high:  # the most of each text with which all fits, by halving
            middle = (low + high) // 2
            tried = both(ends[middle])
            if sum(map(len, tried)) <= room:
                best, low = tried, middle + 1
            else:
                high = middle - 1
        if best is None:
            raise DataError(
                f"the prompt does not fit into {max(room, 0)} tokens, even with nothing of its text.",
                where=f"row {number + 1}",
                fix="Raise model.max_length, or shorten task.prompt.template and the words of the labels.",
            )
        return *best, size - sum(map(len, best))

    def _choose(self, row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the examples for a row, places in the pool; the first time, read the pool."""
        told, pool = self.settings.examples, self.facts["pool"]
        if self._examples is None and told is not None:
            self._examples = Examples(pool, self.facts["fields"], told)
        if not self._solved:
            apart: list[int] = ids_of(_APART, tokenizer)
            if not apart and tokenizer.sep_token_id is not None:  # encoders read no line breaks
                apart = [int(tokenizer.sep_token_id)]  # type: ignore[arg-type]
            words = dict(zip(self.facts["labels"], self._words, strict=True))
            solved = (self._template.solved(one, words[one["label"]][0]) for one in pool)
            self._solved = [ids_of(text, tokenizer) + apart for text in solved]
        return [] if self._examples is None else self._examples.choose(row)

    def _that_fit(self, chosen: Sequence[int], room: int) -> list[int]:
        taken = []
        for i in chosen:
            if len(self._solved[i]) <= room:
                taken.append(i)
                room -= len(self._solved[i])
        return taken

    def collate(self, inputs: Rows) -> dict[str, torch.Tensor]:
        """Pad to the longest input on its right: ``input_ids (rows, length)``, ``mask_places (rows, masks)``."""
        import torch

        longest = max(len(one["input_ids"]) for one in inputs)
        filled = {"input_ids": self.facts["pad"], "attention_mask": 0}
        batch = {
            name: torch.tensor([[*one[name], *[fill] * (longest - len(one[name]))] for one in inputs])
            for name, fill in filled.items()
        }
        if "mask_places" in inputs[0]:
            batch["mask_places"] = torch.tensor([one["mask_places"] for one in inputs])
        return batch


def _refuse_other_fields(template: str, fields: Sequence[str]) -> None:
    """Refuse a template that names other fields than the rows have."""
    named = Template(template).fields
    if named != set(fields):
        odd = sorted(named ^ set(fields))[0]
        raise RecipeError(
            f"the template {template!r} {'names' if odd in named else 'does not name'} {{{odd}}}.",
            where="task.prompt.template",
            fix=f"The rows have {' and '.join(f'{{{name}}}' for name in fields)}.",
        )
