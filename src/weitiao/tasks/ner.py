"""Find the entities in a text: names, places, whatever types the training rows mark, exact to the character.

Every token gets a tag (BIOES); only sequences of tags that entities can have are ever answered. With softmax the loss
is the cross-entropy, a sum over tokens,

    -sum_i log p(t_i)

and the answer the allowed sequence with the largest sum of logits (Viterbi). With crf, steps from tag to tag have
weights of their own and the loss is minus the log-likelihood of the sequence. A text that is too long is read in
windows that overlap; each token is learnt and answered in the window where it is farthest from an edge, and the
sequence is found over the whole text, so that no entity is lost at a border. Entities that overlap are not learnt.

Confidence of an entity: the smallest probability of the tag of one of its tokens (softmax at a temperature found on
dev; for crf the marginal of the sequence). Confidence of a row: the smallest over all its tokens, in entities or not.

Source: Ratinov and Roth, Design Challenges and Misconceptions in Named Entity Recognition, 2009; Lample et al., Neural
Architectures for Named Entity Recognition, 2016, arXiv:1603.01360; Devlin et al., BERT, 2018, arXiv:1810.04805,
section 5.3.
Differs: every sub-word token is tagged, not the first of a word: the tags alone then say where an entity ends. What
crf learns of a text in several windows is the likelihood of each window's own tokens.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Setting

from weitiao.data.fields import TEXT, Field
from weitiao.data.table import Table
from weitiao.errors import DataError
from weitiao.findings import Finding
from weitiao.plugins import Options
from weitiao.probability import fit_temperature, softmax
from weitiao.tasks import _spans as spans
from weitiao.tasks._entity_findings import look
from weitiao.tasks._spans import Entity
from weitiao.tasks._texts import must_have, pad
from weitiao.tasks._tokens import BEGINS, ENDS, GLUED, TOKEN, Read
from weitiao.tasks.base import Prediction, Rows, Task, objects

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from weitiao.models.find import Pretrained

__all__ = ["Ner", "Said"]

_ENTITIES = Field("entities", "target", True, ("entities", "spans", "ner", "annotations", "实体", "实体标注"))
_OURS = frozenset({"labels", "reads", "spans"})


@dataclass(frozen=True)
class Said:
    """What a model says of a text: of each token that is not white space, in order.

    Parameters
    ----------
    logits
        ``(tokens, tags)``.
    places
        Where each token stands in the text.
    transitions
        ``(1 + tags, 1 + tags)``, weights of the steps; ``None``: all 0.
    """

    logits: np.ndarray
    places: list[spans.Span]
    transitions: np.ndarray | None = None


class Ner(Task):
    """Mark the entities of a text, each with its type."""

    class Settings(Options):
        """How tags are chosen, and how long texts are read."""

        decoding: Literal["softmax", "crf"] = Setting(
            "softmax", description="'softmax': each token by itself, the best allowed sequence; 'crf': learnt steps"
        )
        overlap: float = Setting(
            0.25, ge=0, le=0.5, description="share of a window of a long text that its neighbor reads too"
        )

    fields: ClassVar[tuple[Field, ...]] = (TEXT, _ENTITIES)
    metrics: ClassVar[tuple[str, ...]] = ("entity_f1", "entity_precision", "entity_recall")
    cuts_by_itself: ClassVar[bool] = True
    main_metric: ClassVar[str] = "entity_f1"
    gives: ClassVar[tuple[str, ...]] = ("entities",)
    baselines: ClassVar[tuple[str, ...]] = ("untuned", "dictionary")
    formats: ClassVar[tuple[str, ...]] = ("conll", "brat", "doccano", "label_studio")
    augments: ClassVar[bool] = False
    settings: Settings

    @property
    def types(self) -> list[str]:
        """The types of entities, in the order of their tags."""
        return [name.partition("-")[2] for name in self.labels[1::4]]

    # --- rows ---

    def learn(self, train: Table) -> None:
        """Keep the tags of the types that training rows have."""
        types = sorted({entity.type for value in train.column("entities") for entity in spans.parse(value)})
        if not types:
            raise DataError(
                f"none of the {len(train):,} training rows has an entity.",
                fix="Check that the right column was taken for the entities.",
            )
        self.state = {"labels": spans.tag_names(types)}

    def accepts(self, table: Table) -> Mapping[int, str]:
        """Refuse rows whose entities are no spans of the text, or overlap, and texts of nothing that is seen."""
        reasons = {}
        for i, row in enumerate(table):
            if (reason := _why_not(row["text"], row["entities"])) is not None:
                reasons[i] = reason
        return reasons

    def findings(
        self, tables: Mapping[str, Table], tokenizer: PreTrainedTokenizerBase | None = None
    ) -> Iterator[Finding]:
        """Say which rows cannot be used, which spans look shifted, which tags were broken, which types are rare.

        Parameters
        ----------
        tokenizer
            Of the model: then also which entities begin or end inside a token, and cannot be found exactly.
        """
        refused = {split: self.accepts(table) for split, table in tables.items()}
        yield from look(tables, refused, tokenizer)

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Tokenize whole texts; a text that is too long gives several inputs. A token of unknown type has no target."""
        must_have(rows, ("text",))
        place = {kind: i for i, kind in enumerate(self.types)}
        found = []
        for i, row in enumerate(rows):
            entities = None
            if row.get("entities") is not None:
                if (reason := _why_not(row["text"], row["entities"])) is not None:
                    raise DataError(f"{reason}.", where=f"row {i + 1}", fix="Correct it, or leave the row out.")
                entities = spans.parse(row["entities"])
            read = Read.of(row["text"], tokenizer)
            inputs = read.inputs(max_length, self.settings.overlap, entities, place)
            found += [one | {"row": i} for one in inputs]
        return found

    def collate(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
        """Pad to the longest input; beside what the model reads ``reads`` and ``labels``, ``(inputs, length)``."""
        import torch

        tensors = pad([{key: value for key, value in row.items() if key not in _OURS} for row in inputs], tokenizer)
        width = tensors["input_ids"].shape[1]
        for name, nothing in (("reads", 0), ("labels", -1)):
            if name in inputs[0]:
                padded = [[*row[name], *[nothing] * (width - len(row[name]))] for row in inputs]
                tensors[name] = torch.tensor(padded, dtype=torch.long)
        return tensors

    # --- model and loss ---

    def build(self, pretrained: Pretrained, *, pooling: str, dropout: float | None, seed: int) -> nn.Module:
        """Return the stock token classifier of this architecture."""
        if self.settings.decoding == "crf":
            from weitiao.models.crf import load_with_crf

            return load_with_crf(pretrained, labels=self.labels, seed=seed)
        from weitiao.models.heads import load_with_head

        return load_with_head(pretrained, "tokens", labels=self.labels, seed=seed)

    def reopen(self, folder: Path) -> nn.Module:
        """Open a saved token classifier."""
        if self.settings.decoding == "crf":
            from weitiao.models.crf import open_with_crf

            return open_with_crf(folder)
        from weitiao.models.heads import open_with_head

        return open_with_head(folder, "tokens")

    def model_inputs(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return what the model is called with."""
        return {key: value for key, value in batch.items() if key not in _OURS}

    def logits(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return ``(tokens, tags)`` of the tokens that have a target."""
        return outputs.logits[batch["labels"] >= 0]

    def targets(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return ``(tokens,)``."""
        return batch["labels"][batch["labels"] >= 0]

    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the sum over tokens of the cross-entropy, or over inputs of minus the log-likelihood."""
        if self.settings.decoding == "crf":
            return self._crf_loss(outputs, batch)
        log_p = self.logits(outputs, batch).log_softmax(-1)
        return -log_p.gather(1, self.targets(batch)[:, None]).sum()

    def _crf_loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch
        from torch.nn.utils.rnn import pad_sequence

        from weitiao.models.crf import Segments, negative_log_likelihood

        logits, labels, reads = outputs.logits, batch["labels"], batch["reads"]
        has = labels >= 0
        rows = has.any(1).nonzero()[:, 0].tolist()
        if not rows:
            return logits.sum() * 0

        def run(of: torch.Tensor) -> torch.Tensor:
            return pad_sequence([of[i][has[i]] for i in rows], batch_first=True)

        facts = run(reads)
        segments = Segments(
            scores=run(logits),
            targets=run(labels),
            real=(facts & TOKEN) > 0,
            glued=(facts & GLUED) > 0,
            begins=((facts & BEGINS) > 0).any(1),
            ends=((facts & ENDS) > 0).any(1),
        )
        may = torch.from_numpy(spans.allowed(len(self.types))).to(logits.device)
        return negative_log_likelihood(segments, outputs.transitions, may)

    # --- answers ---

    def say(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> Sequence[Any]:
        """Return, for each input, the logits of the tokens it answers for, and the weights of the steps."""
        outputs: Any = model(**self.model_inputs(batch))
        steps = outputs.transitions.float().cpu().numpy() if self.settings.decoding == "crf" else None
        every, read = outputs.logits.float().cpu().numpy(), batch["reads"].cpu().numpy() > 0
        return [(one[which], steps) for one, which in zip(every, read, strict=True)]

    def join(self, said: Sequence[Any], inputs: Rows) -> Said:
        """Put the windows of a text together: each token was answered for in one of them."""
        places = [(start, end) for one in inputs for start, end in one["spans"]]
        return Said(np.concatenate([logits for logits, _ in said]), places, said[0][1])

    def numbers(self, said: Any) -> np.ndarray:
        """Return the logits of a text, and the weights of the steps."""
        parts = [said.logits] if said.transitions is None else [said.logits, said.transitions]
        return np.concatenate([np.ravel(part) for part in parts]).astype(np.float64)

    def truth(self, rows: Rows) -> np.ndarray:
        """Return the entities of each row, ``(rows,)``, those that no tokens can say too."""
        return objects(frozenset(e.key for e in spans.parse(row["entities"])) for row in rows)

    def calibrate(self, said: Sequence[Any], rows: Rows) -> dict[str, float]:
        """Return the temperature of the tags' probabilities; a crf's marginals are taken as they are."""
        if self.settings.decoding == "crf":
            return {}
        place = {kind: i for i, kind in enumerate(self.types)}
        tags = [
            spans.tags_of(one.places, spans.parse(row["entities"]), place).tags
            for one, row in zip(said, rows, strict=True)
        ]
        targets = np.array([tag for row in tags for tag in row], dtype=np.int64)
        logits = np.concatenate([one.logits for one in said])[targets >= 0]
        return {"tag_temperature": fit_temperature(logits, targets[targets >= 0])}

    def answer(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> dict[str, np.ndarray]:
        """Return the entities of each row, ``(rows,)``."""
        return {"entities": objects(frozenset(e.key for e, _ in self._found(one)[1]) for one in said)}

    def decode(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> list[Prediction]:
        """Return the entities of each row by their place, with text and confidence."""
        predictions = []
        for one, row in zip(said, rows, strict=True):
            path, found = self._found(one)
            sure = self._probabilities(one, calibration)[np.arange(len(path)), path]  # (tokens,)
            answer = [
                {"start": e.start, "end": e.end, "type": e.type, "text": row["text"][e.start : e.end]}
                | {"confidence": round(float(sure[first:stop].min()), 4)}
                for e, (first, stop) in found
            ]
            predictions.append(Prediction(answer, float(sure.min(initial=1.0))))
        return predictions

    def _found(self, said: Said) -> tuple[np.ndarray, list[tuple[Entity, spans.Span]]]:
        path = spans.best_path(said.logits.astype(np.float64), self._steps(said), spans.glued(said.places))
        return path, spans.entities_of(path.tolist(), said.places, self.types)

    def _steps(self, said: Said) -> np.ndarray:
        weights = 0.0 if said.transitions is None else said.transitions.astype(np.float64)
        return np.where(spans.allowed(len(self.types)), weights, -np.inf)

    def _probabilities(self, said: Said, calibration: Mapping[str, float]) -> np.ndarray:
        if self.settings.decoding == "crf":
            return spans.marginals(said.logits.astype(np.float64), self._steps(said), spans.glued(said.places))
        return softmax(said.logits, calibration.get("tag_temperature", 1.0))

    def right(self, targets: np.ndarray, answers: Any) -> np.ndarray:
        """Return whether all entities of a row are found, and no others."""
        pairs = zip(targets, answers["entities"], strict=True)
        return np.array([true == said for true, said in pairs], dtype=bool)

    def shown(self, value: Any) -> str:
        """Write entities as ``PER 0-3, LOC 7-13``."""
        return ", ".join(f"{kind} {start}-{end}" for start, end, kind in sorted(value)) or "no entity"

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return rows with hotels, films and people, of which one is read in several windows."""
        marked = [
            "[FILM the movie] is good",
            "i love [FILM the book] and [PLACE the hotel]",
            "our [PLACE room] was dirty",
            "[PLACE 酒店]的[PLACE 房间]很干净",
            "我喜欢[FILM 电影]",
            "[WHO 员]很好，[PLACE 餐店]差",
            "nothing is lost here",
            "服务太慢了",
            "the food " * 27 + "[PLACE hotel room] " + "很好 " * 26 + "[FILM film]",
        ]
        rows = [_unmarked(text) for text in marked]
        return {"rows": rows, "settings": {}, "variants": [{"decoding": "crf"}, {"overlap": 0.5}]}


def _why_not(text: str, entities: Any) -> str | None:
    """Return why a row cannot be used, or ``None``."""
    if not any(unicodedata.category(c)[0] not in "CZ" for c in text):
        return "a text of nothing that can be seen"
    try:
        return spans.fault(text, spans.parse(entities))
    except ValueError as error:
        return str(error)


def _unmarked(marked: str) -> dict[str, Any]:
    """Return a row of a text with ``[TYPE entity]`` in it."""
    import json
    import re

    text, entities, at = "", [], 0
    for found in re.finditer(r"\[(\w+) ([^]]+)\]", marked):
        text += marked[at : found.start()]
        entities.append({"start": len(text), "end": len(text) + len(found[2]), "type": found[1]})
        text, at = text + found[2], found.end()
    return {"text": text + marked[at:], "entities": json.dumps(entities)}
