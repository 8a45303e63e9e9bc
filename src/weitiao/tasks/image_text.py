"""One label a row, from a text and an image.

A text encoder and a vision model read their own; their vectors, one after the other, go through one linear layer. The
vision model is a pretrained one, or a small one that is learnt from nothing with the rest. An image is read when its
batch is, resized to a square and normalized as the vision model wants it.

Source: Kiela, Bhooshan, Firooz, Perez and Testuggine, Supervised Multimodal Bitransformers for Classifying Images and
Text, 2019, arXiv:1909.02950 (their baseline that concatenates both vectors).
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Setting

from weitiao.data.fields import LABEL, TEXT, Field
from weitiao.data.table import Table
from weitiao.findings import Finding
from weitiao.plugins import Options
from weitiao.tasks._classifier import Classifier
from weitiao.tasks._images import data_uri, open_image, pixels, why_not
from weitiao.tasks._texts import must_have
from weitiao.tasks.base import Rows

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from weitiao.models.find import Pretrained

__all__ = ["ImageText"]

_IMAGE = Field(
    "image", "image", True, ("image_path", "img", "picture", "photo", "filename", "file_name", "图片", "图像", "照片")
)


class ImageText(Classifier):
    """Assign one of a fixed set of labels to a text with an image."""

    class Settings(Classifier.Settings):
        """Which model sees, and what it is shown."""

        vision_model: str = Setting(
            "new:convnext",
            description="a pretrained vision model's folder or name, or what is learnt from nothing: new:convnext, "
            "new:vit",
        )
        fusion: Literal["concat", "gated"] = Setting(
            "concat", description="how text and image become one vector: 'gated' weighs them anew for every row"
        )
        image_size: int | None = Setting(
            None, ge=16, le=1024, description="pixels of a side; null: the vision model's own, 64 for a new one"
        )
        image_folder: str | None = Setting(
            None, description="folder that the paths of images are relative to; null: the working folder"
        )

    fields: ClassVar[tuple[Field, ...]] = (TEXT, _IMAGE, LABEL)
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1")
    main_metric: ClassVar[str] = "accuracy"
    baselines: ClassVar[tuple[str, ...]] = ("untuned", "tfidf", "majority")
    pooled: ClassVar[bool] = False
    one_item_a_row: ClassVar[bool] = False
    settings: Settings

    def __init__(self, settings: Options | None = None, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings, state)
        self._seen: dict[str, str | None] = {}  # image to what is wrong with it

    def meet(self, pretrained: Pretrained) -> None:
        """Find out what the vision model is to be shown."""
        from weitiao.models.multimodal import look

        self.state["sight"] = look(self.settings.vision_model, self.settings.image_size).to_json()

    def accepts(self, table: Table) -> Mapping[int, str]:
        """Refuse rows whose image is missing or broken, or whose label is not known."""
        found = {i: why for i, image in enumerate(table.column("image")) if (why := self._why_not(image))}
        return {**super().accepts(table), **found}

    def findings(
        self, tables: Mapping[str, Table], tokenizer: PreTrainedTokenizerBase | None = None
    ) -> Iterator[Finding]:
        """Say how many images are missing or broken, those of rows that were set aside too."""
        here = [(table.places[i], image) for table in tables.values() for i, image in enumerate(table.column("image"))]
        places = [str(place) for place, image in here if self._why_not(image)]
        places += [str(one.place) for table in tables.values() for one in table.set_aside if "image" in one.reason]
        wrong = {image: why for image, why in self._seen.items() if why}
        if wrong:
            kinds = Counter(why.partition(": ")[0] for why in wrong.values())
            yield Finding(
                self.name,
                "warning",
                f"{len(wrong):,} of {len(self._seen):,} images cannot be used: "
                + "; ".join(f"{kind} ({n:,})" for kind, n in kinds.most_common())
                + ".",
                "Bring the files back, or set task.image_folder to where they are; their rows are set aside.",
                places=tuple(dict.fromkeys(places))[:5],
                count=len(wrong),
                evidence={"examples": list(wrong.values())[:5]},
            )

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Tokenize; the image is kept by its name and read with its batch."""
        must_have(rows, ["text", "image"])
        encoded = super().encode(rows, tokenizer, max_length)
        return [{**values, "image": row["image"]} for values, row in zip(encoded, rows, strict=True)]

    def collate(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
        """Pad the texts and read the images: ``pixel_values (rows, 3, size, size)``."""
        import torch

        texts = [{key: value for key, value in row.items() if key != "image"} for row in inputs]
        sight = self.state["sight"]
        shown = [pixels(self._open(row["image"]), sight["size"], sight["mean"], sight["deviation"]) for row in inputs]
        return {**super().collate(texts, tokenizer), "pixel_values": torch.from_numpy(np.stack(shown))}

    def portable(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row that needs no file: its image written into it, at the size that the model is shown."""
        return {**row, "image": data_uri(self._open(row["image"]), self.state["sight"]["size"])}

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

    def _open(self, value: str) -> Any:
        return open_image(value, self.settings.image_folder)

    def _why_not(self, value: Any) -> str | None:
        key = str(value)
        if key not in self._seen:
            self._seen[key] = why_not(value, self.settings.image_folder)
        return self._seen[key]

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return ten rows, of which some have their label from the text and some from the image."""
        folder = _two_folders()
        red, blue = (_of_color(color) for color in ((220, 30, 30), (30, 30, 220)))
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


def _of_color(color: Sequence[int]) -> str:
    from PIL import Image

    return data_uri(Image.new("RGB", (16, 16), tuple(color)), 16)


@cache
def _two_folders() -> Path:
    """Make two folders with a square of another color each, for as long as the process lives."""
    folder = Path(tempfile.mkdtemp(prefix="weitiao-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, color in (("red", (220, 30, 30)), ("blue", (30, 30, 220))):
        (folder / name).mkdir()
        open_image(_of_color(color)).save(folder / name / "square.png")
    return folder
