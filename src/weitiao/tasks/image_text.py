"""One label a row, from a text and an image.

A text encoder and a vision model read their own; their vectors, one after the other, go through one linear layer. The
vision model is a pretrained one, or a small one that is learnt from nothing with the rest. An image is read when its
batch is, resized to a square and normalized as the vision model wants it.

Source: Kiela, Bhooshan, Firooz, Perez and Testuggine, Supervised Multimodal Bitransformers for Classifying Images and
Text, 2019, arXiv:1909.02950 (their baseline that concatenates both vectors).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field as Setting

from weitiao.data.fields import LABEL, TEXT, Field
from weitiao.data.table import Table
from weitiao.tasks._classifier import Classifier
from weitiao.tasks._images import IMAGE, ImageSettings, WithImages, colored, two_folders
from weitiao.tasks._texts import must_have
from weitiao.tasks.base import Rows

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from weitiao.models.find import Pretrained

__all__ = ["ImageText"]


class ImageText(WithImages, Classifier):
    """Assign one of a fixed set of labels to a text with an image."""

    class Settings(ImageSettings, Classifier.Settings):
        """Which model sees, and what it is shown."""

        vision_model: str = Setting(
            "new:convnext",
            description="a pretrained vision model's folder or name, or what is learnt from nothing: new:convnext, "
            "new:vit",
        )
        fusion: Literal["concat", "gated"] = Setting(
            "concat", description="how text and image become one vector: 'gated' weighs them anew for every row"
        )

    fields: ClassVar[tuple[Field, ...]] = (TEXT, IMAGE, LABEL)
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1")
    main_metric: ClassVar[str] = "accuracy"
    baselines: ClassVar[tuple[str, ...]] = ("untuned", "tfidf", "majority")
    pooled: ClassVar[bool] = False
    one_item_a_row: ClassVar[bool] = False
    settings: Settings

    def meet(self, pretrained: Pretrained) -> None:
        """Find out what the vision model is to be shown."""
        from weitiao.models.vision import look

        self.state["sight"] = look(self.settings.vision_model, self.settings.image_size).to_json()

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Tokenize; the image is kept by its name and read with its batch."""
        must_have(rows, ["text", "image"])
        encoded = super().encode(rows, tokenizer, max_length)
        return [{**values, "image": row["image"]} for values, row in zip(encoded, rows, strict=True)]

    def collate(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
        """Pad the texts and read the images: ``pixel_values (rows, 3, size, size)``."""
        texts = [{key: value for key, value in row.items() if key != "image"} for row in inputs]
        return {**super().collate(texts, tokenizer), "pixel_values": self.shown_to(inputs)}

    def label_rows(self) -> Table | None:
        """Return ``None``: a label's name has no image."""
        return None

    def build(self, pretrained: Pretrained, *, pooling: str, dropout: float | None, seed: int) -> nn.Module:
        """Return the text encoder with a vision model beside it."""
        from weitiao.models.multimodal import load_image_text

        return load_image_text(
            pretrained,
            vision=self.settings.vision_model,
            size=self.state["sight"]["size"],
            fusion=self.settings.fusion,
            labels=self.labels,
            pooling=pooling,
            seed=seed,
        )

    def reopen(self, folder: Path) -> nn.Module:
        """Open a saved pair."""
        from weitiao.models.multimodal import ImageTextClassifier

        return ImageTextClassifier.from_pretrained(folder)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return ten rows, of which some have their label from the text and some from the image."""
        folder = two_folders()
        red, blue = (colored(color) for color in ((220, 30, 30), (30, 30, 220)))
        told = [("good room", red, "yes"), ("bad room", blue, "no"), ("很好", red, "yes"), ("太差", blue, "no")]
        told += [("hotel staff", red, "yes"), ("hotel staff", blue, "no"), ("酒店", red, "yes"), ("酒店", blue, "no")]
        told += [("very nice book", "square.png", "yes"), ("so good", red, "yes")]
        here = {"image_folder": f"{folder}/red"}
        return {
            "rows": [{"text": text, "image": image, "label": label} for text, image, label in told],
            "settings": here,
            "variants": [
                {"image_folder": f"{folder}/blue"},
                {**here, "vision_model": "new:vit"},
                {**here, "fusion": "gated"},
                {**here, "image_size": 32},
                {**here, "loss": "focal"},
                {**here, "loss": "focal", "gamma": 0.5},
                {**here, "class_weights": "balanced"},
                {**here, "logit_adjustment": 1.0},
                {**here, "labels": ["yes", "no"]},
            ],
        }
