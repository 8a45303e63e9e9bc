"""An image and the text that belongs to it, each found by the other among many.

Both are turned into vectors of length 1 in one space, t_i and v_j; the score of a text with an image is
z_ij = exp(s) * t_i v_j + b. For a batch of pairs the loss is, by ``softmax`` (no b), that of two classifiers, one that
has to tell each text's own image from those of the other rows and one that has to tell each image's own text,

    - 1/2 sum_i [ log softmax_j(z_ij)_i + log softmax_j(z_ji)_i ]

and by ``sigmoid`` that of one which says of every pair by itself whether it belongs together:

    - sum_i [ log sigmoid(z_ii) + sum_{j != i} log sigmoid(-z_ij) ]

Equal texts or equal images in a batch are no wrong answers. As the other rows of the batch are the wrong answers, a
step can neither be cut nor shared, and a larger batch_size is a harder task.

Measured on all different images (or texts) of the rows that are measured.

Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021, arXiv:2103.00020
(softmax); Zhai et al., Sigmoid Loss for Language Image Pre-Training, 2023, arXiv:2303.15343 (sigmoid).
Differs: equal texts and images in a batch are left out of the sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Setting

from weitiao.data.fields import TEXT, Field
from weitiao.data.table import Table
from weitiao.errors import RecipeError
from weitiao.tasks._images import IMAGE, ImageSettings, WithImages, colored, two_folders
from weitiao.tasks._ranks import RELEVANT, candidates, ranks, unrelated
from weitiao.tasks._texts import must_have, pad, tokenize
from weitiao.tasks.base import Prediction, Rows, objects

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from weitiao.models.find import Pretrained

__all__ = ["ImageTextRetrieval"]

_OWN = "own"


class ImageTextRetrieval(WithImages):
    """Find the image that belongs to a text, or the text that belongs to an image, among many."""

    class Settings(ImageSettings):
        """Which model sees, how pairs are learnt, and which side asks."""

        vision_model: str = Setting(
            "new:convnext",
            description="own: the model reads and sees (CLIP, Chinese-CLIP, SigLIP); else a pretrained vision model's "
            "folder or name beside it, or what is learnt from nothing: new:convnext, new:vit",
        )
        loss: Literal["auto", "softmax", "sigmoid"] = Setting(
            "auto",
            description="what pairs are learnt by; auto: what a model that reads and sees was pretrained with, else "
            "softmax",
        )
        query: Literal["text", "image"] = Setting(
            "text", description="which side asks when it is measured: text finds images, image finds texts"
        )

    settings: Settings
    fields: ClassVar[tuple[Field, ...]] = (TEXT, IMAGE, RELEVANT)
    metrics: ClassVar[tuple[str, ...]] = ("mrr", "recall_at_1", "recall_at_10", "ndcg_at_10")
    main_metric: ClassVar[str] = "mrr"
    gives: ClassVar[tuple[str, ...]] = ("ranks",)
    classes_are_targets: ClassVar[bool] = False
    one_sequence: bool = False
    couples_rows: ClassVar[bool] = True

    def __init__(self, settings: Any = None, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings, state)
        self.has_new_head = self.settings.vision_model != _OWN

    # --- rows ---

    def meet(self, pretrained: Pretrained) -> None:
        """Find out what the vision model is to be shown, and what pairs are learnt by."""
        from weitiao.models.dual_encoder import own_loss
        from weitiao.models.vision import look

        asked = self.settings.loss
        if self.has_new_head:
            self.state["loss"] = "softmax" if asked == "auto" else asked
        else:
            self.state["loss"] = own_loss(pretrained)
            if asked not in ("auto", self.state["loss"]):
                fix = "Leave task.loss out."
                raise RecipeError(
                    f"{pretrained.name} was made for the loss {self.state['loss']}, not {asked}.", fix=fix
                )
        seer = self.settings.vision_model if self.has_new_head else pretrained.name
        self.state["sight"] = look(seer, self.settings.image_size).to_json()

    def accepts(self, table: Table) -> Mapping[int, str]:
        """Refuse rows whose image is missing or broken, and pairs that are labeled as not belonging together."""
        return {**super().accepts(table), **unrelated(table)}

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Tokenize; the image is kept by its name and read with its batch. Rows may all lack one of the two."""
        sides = [side for side in ("text", "image") if any(side in row for row in rows)] or ["text"]
        must_have(rows, sides)
        encoded: list[dict[str, Any]] = [{"input_ids": [], "tokens_lost": 0} for _ in rows]
        if "text" in sides:
            encoded = tokenize(rows, ("text",), tokenizer, max_length)
        if "image" in sides:
            encoded = [{**values, "image": row["image"]} for values, row in zip(encoded, rows, strict=True)]
        return encoded

    def collate(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
        """Pad the texts and read the images: ``pixel_values (rows, 3, size, size)``.

        ``labels (rows, 2)`` numbers texts and images; equal ones have one number.
        """
        batch = self.ask(inputs, tokenizer)
        if "input_ids" not in batch or "pixel_values" not in batch:
            return batch
        import torch

        numbers: tuple[dict[Any, int], dict[Any, int]] = ({}, {})
        own = [(tuple(row["input_ids"]), row["image"]) for row in inputs]
        told = [[known.setdefault(one, len(known)) for known, one in zip(numbers, both, strict=True)] for both in own]
        return {**batch, "labels": torch.tensor(told)}

    def ask(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
        """Pad the texts and read the images, of what there is."""
        batch: dict[str, torch.Tensor] = {}
        if inputs[0]["input_ids"]:
            batch = pad([{key: value for key, value in row.items() if key != "image"} for row in inputs], tokenizer)
        return {**batch, "pixel_values": self.shown_to(inputs)} if "image" in inputs[0] else batch

    # --- model and loss ---

    def build(self, pretrained: Pretrained, *, pooling: str, dropout: float | None, seed: int) -> nn.Module:
        """Return the model that reads and sees, or a text encoder with a vision model beside it."""
        from weitiao.models.dual_encoder import load_dual, load_own
        from weitiao.models.vision import Sight

        sight = Sight(**self.state["sight"])
        if not self.has_new_head:
            return load_own(pretrained, sight)
        vision, loss = self.settings.vision_model, self.state["loss"]
        return load_dual(pretrained, vision=vision, size=sight.size, loss=loss, pooling=pooling, seed=seed)

    def reopen(self, folder: Path) -> nn.Module:
        """Open a saved model."""
        from weitiao.models.dual_encoder import open_dual
        from weitiao.models.vision import Sight

        return open_dual(folder, Sight(**self.state["sight"]))

    def logits(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return each text's score with each image, ``(rows, rows)``; of copies of its own pair, -inf."""
        scores = outputs.logits.float() if outputs.logits.itemsize < 4 else outputs.logits
        return scores.masked_fill(self._copies(batch), float("-inf"))

    def targets(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the place of each row's own image in the batch, ``(rows,)``."""
        import torch

        return torch.arange(len(batch["labels"]), device=batch["labels"].device)

    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the sum over pairs of what they are learnt by."""
        from torch.nn.functional import logsigmoid

        scores = self.logits(outputs, batch)
        if self.state["loss"] == "softmax":
            own = scores.log_softmax(1).diagonal() + scores.log_softmax(0).diagonal()
            return -own.sum() / 2
        own = logsigmoid(scores.diagonal()).sum()
        others = scores.masked_fill(self._own(batch), float("-inf"))
        return -own - logsigmoid(-others.masked_fill(others.isinf(), -1e4)).sum()

    def _own(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        import torch

        return torch.eye(len(batch["labels"]), dtype=torch.bool, device=batch["labels"].device)

    def _copies(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        numbers = batch["labels"]
        return (numbers[:, None] == numbers[None]).any(-1) & ~self._own(batch)

    # --- answers ---

    def say(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> Sequence[Any]:
        """Return the vectors of each row, ``(sides, width)``: of its text, then of its image."""
        outputs = model(**self.model_inputs(batch))
        sides = [one.float().cpu().numpy() for one in (outputs.text, outputs.image) if one is not None]
        return list(np.stack(sides, axis=1))

    def truth(self, rows: Rows) -> np.ndarray:
        """Return what a perfect search gives for each row, ``(rows,)``: all that belongs to it, before all else."""
        return objects((1.0,) * len(own) for own in candidates(self._measured(rows))[1])

    def answer(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> dict[str, np.ndarray]:
        """Return the relevances of the best candidates of each row, best first."""
        pairs = self._measured(rows)
        documents, relevant = candidates(pairs)
        places = {row["text_pair"]: i for i, row in enumerate(pairs)}
        asks = int(self.settings.query == "image")
        queries = np.array([one[asks] for one in said])
        found = np.array([said[places[document]][1 - asks] for document in documents])
        return {"ranks": ranks(lambda some: queries[some] @ found.T, relevant, len(documents))}

    def decode(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> list[Prediction]:
        """Return the cosine of each row's text and image, -1 to 1."""
        return [Prediction(round(float(one[0] @ one[-1]), 3)) for one in said]

    def right(self, targets: np.ndarray, answers: Any) -> np.ndarray:
        """Return whether what is found first belongs to the query."""
        return np.array([bool(found and found[0]) for found in answers["ranks"]], dtype=bool)

    def shown(self, value: Any) -> str:
        """Return at what rank the first stands that belongs to the query."""
        return f"rank {value.index(1.0) + 1}" if 1.0 in value else "not found"

    def _measured(self, rows: Rows) -> list[dict[str, str]]:
        """Return of each row what asks, as ``text``, and what belongs to it, as ``text_pair``."""
        asks, found = ("text", "image") if self.settings.query == "text" else ("image", "text")
        return [{"text": row[asks], "text_pair": row[found]} for row in rows]

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return eight squares of one color, each with what is said of it."""
        colors = {
            "good room": (220, 30, 30), "bad hotel": (30, 30, 220), "很好": (30, 220, 30), "太差": (240, 240, 240),
            "the book": (10, 10, 10), "film": (220, 220, 30), "电影": (220, 30, 220), "card": "square.png",
        }  # fmt: skip
        told = {text: color if isinstance(color, str) else colored(color) for text, color in colors.items()}
        folder = two_folders()
        here = {"image_folder": f"{folder}/red", "vision_model": "new:vit"}
        return {
            "rows": [{"text": text, "image": image} for text, image in told.items()],
            "settings": here,
            "variants": [
                {**here, "image_folder": f"{folder}/blue"},
                {**here, "vision_model": "new:convnext"},
                {**here, "image_size": 32},
                {**here, "loss": "sigmoid"},
                {**here, "query": "image"},
            ],
            "epochs": 80,
            "learning_rate": 3e-3,
        }
