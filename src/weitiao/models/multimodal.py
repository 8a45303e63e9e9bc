"""A text encoder and a vision model side by side: their pooled vectors, put together, go through one linear layer.

Put together means one after the other or, gated, z * tanh(A t) + (1 - z) * tanh(B v) with z = sigmoid(C [t, v]) for the
text's vector t and the image's v: how much each counts is decided anew for every row and number.

Source: Kiela, Bhooshan, Firooz, Perez and Testuggine, Supervised Multimodal Bitransformers for Classifying Images and
Text, 2019, arXiv:1909.02950 (the baseline ConcatBert); Arevalo, Solorio, Montes-y-Gomez and Gonzalez, Gated Multimodal
Units for Information Fusion, 2017, arXiv:1702.01992 (gated).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from weitiao.models.find import Pretrained
from weitiao.models.vision import TextAndImage, load_parts
from weitiao.randomness import torch_seed

__all__ = ["Fusion", "GatedFusion", "ImageTextClassifier", "load_image_text"]

Fusion = Literal["concat", "gated"]


class GatedFusion(nn.Module):
    """A text's and an image's vector as one, as wide as the text's; how much each counts depends on both.

    Parameters
    ----------
    text, image
        Widths of the two vectors.
    """

    def __init__(self, text: int, image: int) -> None:
        super().__init__()
        self.text, self.image = nn.Linear(text, text), nn.Linear(image, text)
        self.gate = nn.Linear(text + image, text)

    def forward(self, text: Tensor, image: Tensor) -> Tensor:
        """Return one vector a row, ``(rows, text)``, of ``(rows, text)`` and ``(rows, image)``."""
        share = self.gate(torch.cat([text, image], dim=-1)).sigmoid()
        return share * self.text(text).tanh() + (1 - share) * self.image(image).tanh()


class ImageTextClassifier(TextAndImage):
    """Text encoder, vision model, and a linear layer over both their vectors.

    Parameters
    ----------
    encoder, vision, pooling, size
        As `TextAndImage` takes them; label names are in the encoder's config.
    fusion
        How the two vectors are put together.
    """

    def __init__(self, encoder: Any, vision: Any, *, pooling: str, size: int, fusion: Fusion = "concat") -> None:
        super().__init__(encoder, vision, pooling=pooling, size=size)
        told, seen = self.widths
        self.fusion = GatedFusion(told, seen) if fusion == "gated" else None
        self.classifier = nn.Linear(told if self.fusion else told + seen, int(encoder.config.num_labels))

    def forward(
        self, input_ids: Tensor, pixel_values: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> SequenceClassifierOutput:
        """Return logits (rows, labels) of texts (rows, length) and images (rows, 3, size, size)."""
        kwargs.pop("labels", None)  # the task computes the loss
        text = self.read(input_ids, attention_mask, kwargs)  # (rows, hidden)
        image = self.see(pixel_values).to(text.dtype)
        both = torch.cat([text, image], dim=-1) if self.fusion is None else self.fusion(text, image)
        return SequenceClassifierOutput(logits=self.classifier(both))

    def told(self) -> dict[str, Any]:
        """Return what `from_pretrained` has to know beside the weights, JSON values."""
        names = {str(i): label for i, label in self.config.id2label.items()}
        return {**super().told(), "id2label": names, "fusion": "concat" if self.fusion is None else "gated"}

    @classmethod
    def asked_of(cls, told: dict[str, Any]) -> dict[str, Any]:
        """Return what the model is made with, of what `told` wrote."""
        return {**super().asked_of(told), "fusion": told.get("fusion", "concat")}


def load_image_text(
    pretrained: Pretrained,
    *,
    vision: str,
    size: int,
    fusion: Fusion = "concat",
    labels: Sequence[str],
    pooling: str,
    seed: int,
) -> ImageTextClassifier:
    """Return a text encoder with a vision model beside it, and a head for `labels`.

    Parameters
    ----------
    pretrained, vision, size, seed
        As `weitiao.models.vision.load_parts` takes them.
    fusion
        How the two vectors are put together.

    Returns
    -------
    A model in eval mode whose ``new_parameters`` are the names that no checkpoint gave.

    Raises
    ------
    ModelError
        A model cannot be opened, is no encoder, or does not take images of this size.
    """
    encoder, seer, new = load_parts(pretrained, vision=vision, size=size, seed=seed)
    encoder.config.id2label = dict(enumerate(labels))
    encoder.config.label2id = {label: i for i, label in enumerate(labels)}
    with torch_seed(seed, "new head"):
        model = ImageTextClassifier(encoder, seer, pooling=pooling, size=size, fusion=fusion)
        nn.init.normal_(model.classifier.weight, std=getattr(encoder.config, "initializer_range", 0.02))
    nn.init.zeros_(model.classifier.bias)
    new |= {name for name, _ in model.named_parameters() if name.startswith(("classifier.", "fusion."))}
    model.new_parameters = frozenset(new & {name for name, _ in model.named_parameters()})  # type: ignore[assignment]
    return model.eval()
