"""Template and words, chosen by what the untuned model says of training rows.

A template is worth the mean log-probability of the rows' labels. A word of a label is worth how much likelier the model
finds it for rows of the label than for others: with p the probability of the word in the gap, the mean of
log p / (1 - p) over the rows of the label, less its mean over all other rows. Words are single tokens that make a whole
word in that place, of the commonest there are; each stands for one label. Where both are asked for, words are found for
each template.

Source: Gao, Fisch and Chen, Making Pre-trained Language Models Better Few-shot Learners, 2021, arXiv:2012.15723
(templates); Schick, Schmid and Schuetze, Automatically Identifying Words That Can Serve as Labels for Few-Shot Text
Classification, 2020, arXiv:2010.13641 (words, by the likelihood ratio).
Differs: templates come from a list, and are tried on training rows, by which no weight has moved yet, so that dev stays
as it is; rows of a label and all others count the same however many they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from weitiao.errors import RecipeError
from weitiao.tasks._prompt_tokens import ids_of, tokens_of
from weitiao.tasks._templates import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from weitiao.models.find import Pretrained
    from weitiao.tasks._prompted import Prompted

__all__ = ["best_words", "search"]

_CANDIDATES = 10_000  # single-token words, the commonest first: vocabularies are ordered so
_WORDS = 3  # of a label
_BATCH = 16


def search(
    prompted: Prompted,
    pretrained: Pretrained,
    tokenizer: PreTrainedTokenizerBase,
    templates: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the facts that were chosen: ``template``, ``words``, and ``tried``, what each template was worth.

    Parameters
    ----------
    rows
        Training rows, with their labels.

    Raises
    ------
    RecipeError
        A template that the recipe names does not suit the model, or there are too few words for the labels.
    """
    base: Any = None
    found: list[tuple[float, str, list[list[str]]]] = []
    own = len(prompted.settings.templates) > 0
    for template in templates:
        asked = prompted.twin(template=template)
        try:
            asked.settle(pretrained, tokenizer)
        except RecipeError:
            if own:
                raise
            continue  # of those supplied, some have text behind the gap, where a decoder cannot look
        base = base or _load(asked, pretrained)
        if prompted.settings.verbalizer == "auto":
            asked = prompted.twin(template=template, words=_words(asked, base, pretrained, tokenizer, rows))
            asked.settle(pretrained, tokenizer)
        found.append((_worth(asked, base, pretrained, tokenizer, rows), template, asked.facts["words"]))
    _, template, words = max(found, key=lambda one: one[0])  # the first of equals
    return {"template": template, "words": words, "tried": {one: worth for worth, one, _ in found}}


def best_words(log_p: np.ndarray, classes: np.ndarray, labels: int, count: int) -> list[list[int]]:
    """Return `count` words of each label, the best first, no word for two labels.

    Parameters
    ----------
    log_p
        Log-probability of each word in the gap of each row, ``(rows, words)``.
    classes
        Of the rows, ``(rows,)``.
    """
    odds = log_p - np.log1p(-np.exp(np.minimum(log_p, -1e-6)))
    worth = np.stack([odds[classes == i].mean(0) - odds[classes != i].mean(0) for i in range(labels)])
    chosen: list[list[int]] = [[] for _ in range(labels)]
    taken: set[int] = set()
    for place in np.argsort(-worth, axis=None, kind="stable"):
        label, word = divmod(int(place), worth.shape[1])
        if word not in taken and len(chosen[label]) < count:
            chosen[label].append(word)
            taken.add(word)
        if all(len(own) == count for own in chosen):
            break
    return chosen


def _load(asked: Prompted, pretrained: Pretrained) -> Any:
    """Return the language model alone."""
    from weitiao.models.prompted import load_prompted

    return load_prompted(pretrained, asked.label_words(asked.facts["labels"])).model


def _ask(
    asked: Prompted,
    base: Any,
    pretrained: Pretrained,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str],
) -> np.ndarray:
    """Return what the model says of rows, ``(rows, names)``; of several orders of examples, their mean."""
    import torch

    from weitiao.models.prompted import PromptedClassifier

    model = PromptedClassifier(base, asked.label_words(names)).eval()
    limit = pretrained.max_length
    if asked.settings.calibrate:
        model.log_prior = torch.tensor(asked.prior(model, tokenizer, limit))
    inputs = asked.encode(list(rows), tokenizer, limit)
    said = []
    with torch.inference_mode():
        for start in range(0, len(inputs), _BATCH):
            said.append(model(**asked.collate(inputs[start : start + _BATCH])).logits)
    logits = torch.cat(said).double().numpy()
    owners = np.array([one.get("row", i) for i, one in enumerate(inputs)])
    return np.stack([logits[owners == i].mean(0) for i in range(len(rows))])


def _worth(asked: Prompted, base: Any, pretrained: Pretrained, tokenizer: Any, rows: Sequence[Any]) -> float:
    labels = asked.facts["labels"]
    logits = _ask(asked, base, pretrained, tokenizer, rows, labels)
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return float(log_p[np.arange(len(rows)), _classes(rows, labels)].mean())


def _classes(rows: Sequence[Any], labels: Sequence[str]) -> np.ndarray:
    return np.array([labels.index(row["label"]) for row in rows])


def _words(asked: Prompted, base: Any, pretrained: Pretrained, tokenizer: Any, rows: Sequence[Any]) -> list[list[str]]:
    """Return words of each label for the template that is asked."""
    labels = asked.facts["labels"]
    names = _candidates(asked, tokenizer)
    if len(names) < _WORDS * len(labels):
        raise RecipeError(
            f"{pretrained.name} has {len(names):,} words of a single token, too few for {len(labels):,} labels.",
            where="task.prompt.verbalizer",
            fix="Name the words of each label.",
        )
    wide = asked.twin(words=[[name] for name in names], calibrate=False, soft_verbalizer=False, examples=None)
    wide.settle(pretrained, tokenizer)
    log_p = _ask(wide, base, pretrained, tokenizer, rows, names)
    chosen = best_words(log_p, _classes(rows, labels), len(labels), _WORDS)
    return [[names[i] for i in own] for own in chosen]


def _candidates(asked: Prompted, tokenizer: Any) -> list[str]:
    """Return words that are one token in the template's gap, each token once."""
    template = Template(asked.facts["template"])
    tail, gap = ("", "") if asked.facts["kind"] == "seq2seq" else (template.tail, template.gap)
    found: dict[tuple[int, ...], str] = {}
    special = set(tokenizer.all_special_ids)
    for token in range(len(tokenizer)):
        if token in special:
            continue
        word = tokenizer.decode([token]).strip()
        if not word.isalpha() or (word.isascii() and len(word) < 3):
            continue
        ids = tuple(ids_of(f"{gap}{word}", tokenizer)) if not tail else tuple(tokens_of(word, tail, gap, tokenizer))
        if ids == (token,):
            found[ids] = word
        if len(found) == _CANDIDATES:
            break
    return list(found.values())
