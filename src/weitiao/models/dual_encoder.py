"""Texts and images as vectors in one space, near where they belong together.

Either a vision-language model as it is (CLIP, Chinese-CLIP, SigLIP), or a text encoder and a vision model with a linear
layer that brings the image's vector into the space of the text's. A score is exp(s) * cosine + b with a trained s, and
a trained b where the loss judges every pair by itself.

Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021, arXiv:2103.00020
(CLIP; the trained s, at most ln 100); Zhai et al., Sigmoid Loss for Language Image Pre-Training, 2023, arXiv:2303.15343
(SigLIP; b); Zhai et al., LiT: Zero-Shot Transfer with Locked-image text Tuning, 2021, arXiv:2111.07991 (two models that
were pretrained apart).
Differs: the text's vector goes into the common space as it is, so that what a sentence encoder knows is kept.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad
from transformers.utils.generic import ModelOutput

from weitiao.errors import ModelError
from weitiao.models.find import Pretrained
from weitiao.models.gguf import plain_folder
from weitiao.models.quiet import quiet
from weitiao.models.vision import WEIGHTS, Sight, TextAndImage, load_parts, wrong_size
from weitiao.randomness import torch_seed

__all__ = ["DualEncoder", "PairLoss", "Vectors", "VisionLanguage", "load_dual", "load_own", "open_dual", "own_loss"]

PairLoss = Literal["softmax", "sigmoid"]
_MOST = math.log(100)  # the scale grows no further
_STARTS: dict[PairLoss, tuple[float, float]] = {"softmax": (math.log(1 / 0.07), 0.0), "sigmoid": (math.log(10), -10.0)}
_KINDS: dict[str, PairLoss] = {"clip": "softmax", "chinese_clip": "softmax", "siglip": "sigmoid"}


@dataclass
class Vectors(ModelOutput):
    """What was read and seen: ``(rows, width)`` of length 1 each, and how cosines become scores."""

    text: Tensor | None = None
    image: Tensor | None = None
    scale: Tensor | None = None
    bias: Tensor | None = None

    @property
    def logits(self) -> Tensor:
        """The score of each text with each image, ``(rows, rows)``."""
        if self.text is None or self.image is None or self.scale is None:
            raise ValueError("scores need texts and images")
        scores = self.scale * self.text @ self.image.T
        return scores if self.bias is None else scores + self.bias


class DualEncoder(TextAndImage):
    """Text encoder and vision model, and a linear layer from the image's vector to the width of the text's.

    Parameters
    ----------
    encoder, vision, pooling, size
        As `TextAndImage` takes them.
    loss
        What scores are made for: it decides where scale and bias start.
    """

    def __init__(self, encoder: Any, vision: Any, *, pooling: str, size: int, loss: PairLoss = "softmax") -> None:
        super().__init__(encoder, vision, pooling=pooling, size=size)
        told, seen = self.widths
        scale, bias = _STARTS[loss]
        self.pair_loss: PairLoss = loss
        self.visual_projection = nn.Linear(seen, told, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(scale))
        self.logit_bias = nn.Parameter(torch.tensor(bias)) if loss == "sigmoid" else None

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Vectors:
        """Return the vectors of texts (rows, length), of images (rows, 3, size, size), or of both."""
        text = None if input_ids is None else normalize(self.read(input_ids, attention_mask, kwargs), dim=-1)
        image = None if pixel_values is None else self.visual_projection(self.see(pixel_values).to(self.dtype))
        image = None if image is None else normalize(image, dim=-1)
        return Vectors(text, image, self.logit_scale.clamp(max=_MOST).exp(), self.logit_bias)

    def told(self) -> dict[str, Any]:
        """Return what `from_pretrained` has to know beside the weights, JSON values."""
        return {**super().told(), "loss": self.pair_loss}

    @classmethod
    def asked_of(cls, told: dict[str, Any]) -> dict[str, Any]:
        """Return what the model is made with, of what `told` wrote."""
        return {**super().asked_of(told), "loss": told["loss"]}


class VisionLanguage(nn.Module):
    """A stock vision-language model of two encoders.

    On disk it is the stock model's own folder, which plain transformers opens.

    Parameters
    ----------
    model
        ``CLIPModel``, ``ChineseCLIPModel`` or ``SiglipModel``.
    sight
        What it is shown; kept beside the weights.
    """

    base_model_prefix = "model"
    head_is_pretrained = True
    how_to_open = '`AutoModel.from_pretrained("model")` opens it.'

    def __init__(self, model: Any, sight: Sight) -> None:
        super().__init__()
        self.config, self.sight, self.model = model.config, sight, model
        self.new_parameters: frozenset[str] = frozenset()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **_: Any,
    ) -> Vectors:
        """Return the vectors of texts (rows, length), of images (rows, 3, size, size), or of both."""
        model, text, image = self.model, None, None
        if input_ids is not None:
            text = model.get_text_features(**self._as_pretrained(input_ids, attention_mask)).pooler_output
        if pixel_values is not None:
            image = model.get_image_features(pixel_values=pixel_values.to(model.dtype)).pooler_output
        text, image = (None if one is None else normalize(one, dim=-1) for one in (text, image))
        return Vectors(text, image, model.logit_scale.clamp(max=_MOST).exp(), getattr(model, "logit_bias", None))

    def get_input_embeddings(self) -> nn.Module:
        """Return the table of token vectors."""
        return self.model.text_model.get_input_embeddings()

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """Trade time for memory in both encoders."""
        self.model.gradient_checkpointing_enable(*args, **kwargs)

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Write the stock model's folder."""
        self.model.save_pretrained(folder)
        seen = {"image_mean": self.sight.mean, "image_std": self.sight.deviation}
        told = json.dumps({**seen, "size": {"height": self.sight.size, "width": self.sight.size}}, indent=2)
        (Path(folder) / "preprocessor_config.json").write_text(told, encoding="utf-8")

    def _as_pretrained(self, input_ids: Tensor, attention_mask: Tensor | None) -> dict[str, Tensor | None]:
        """SigLIP reads the last place of a text that is filled up to its full length, and nothing says what is text."""
        if self.config.model_type != "siglip":
            return {"input_ids": input_ids, "attention_mask": attention_mask}
        text = self.config.text_config
        if attention_mask is not None:
            input_ids = input_ids.masked_fill(attention_mask == 0, text.pad_token_id)
        room = text.max_position_embeddings - input_ids.shape[1]
        return {"input_ids": pad(input_ids, (0, room), value=text.pad_token_id), "attention_mask": None}


def own_loss(pretrained: Pretrained) -> PairLoss:
    """Return the loss that a vision-language model was pretrained with.

    Raises
    ------
    ModelError
        It is none of two encoders that is known here.
    """
    kind = _config(pretrained).model_type
    if kind not in _KINDS:
        raise ModelError(
            f"{pretrained.name} is no model of two encoders, one that reads and one that sees: its kind is {kind}.",
            fix=f"Name a model of one of these kinds: {', '.join(_KINDS)}; or set task.vision_model.",
        )
    return _KINDS[kind]


def load_own(pretrained: Pretrained, sight: Sight) -> VisionLanguage:
    """Return a vision-language model with nothing new in it, in eval mode.

    Raises
    ------
    ModelError
        It cannot be opened, lacks weights, or does not take images of this size.
    """
    from transformers import AutoModel

    own_loss(pretrained)
    with quiet(), torch_seed(0):
        model, info = AutoModel.from_pretrained(pretrained.folder, output_loading_info=True, **WEIGHTS)
    if info["missing_keys"]:
        raise ModelError(f"{pretrained.name} lacks weights: {', '.join(sorted(info['missing_keys'])[:5])}.")
    try:
        with torch.no_grad():
            model.eval().get_image_features(pixel_values=torch.zeros(1, 3, sight.size, sight.size))
    except (ValueError, RuntimeError) as error:
        raise wrong_size(sight.size, error) from error
    return VisionLanguage(model, sight).eval()


def load_dual(
    pretrained: Pretrained, *, vision: str, size: int, loss: PairLoss, pooling: str, seed: int
) -> DualEncoder:
    """Return a text encoder and a vision model with vectors in one space, in eval mode.

    Parameters are those of `weitiao.models.vision.load_parts` and `DualEncoder`; ``new_parameters`` are the names that
    no checkpoint gave.
    """
    encoder, seer, new = load_parts(pretrained, vision=vision, size=size, seed=seed)
    with torch_seed(seed, "new head"):
        model = DualEncoder(encoder, seer, pooling=pooling, size=size, loss=loss)
    names = {name for name, _ in model.named_parameters()}
    new |= {name for name in names if name.startswith(("visual_projection.", "logit_"))}
    model.new_parameters = frozenset(new & names)  # type: ignore[assignment]
    return model.eval()


def open_dual(folder: str | Path, sight: Sight) -> DualEncoder | VisionLanguage:
    """Open a folder that either class wrote; the model is in eval mode.

    Raises
    ------
    ModelError
        It cannot be opened.
    """
    from transformers import AutoModel

    root = Path(folder)
    try:
        if "model_type" not in json.loads((root / "config.json").read_text(encoding="utf-8")):
            return DualEncoder.from_pretrained(root)
        with quiet():
            return VisionLanguage(AutoModel.from_pretrained(root, **WEIGHTS), sight).eval()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"the saved model cannot be opened: {error}", where=root) from error


def _config(pretrained: Pretrained) -> Any:
    from transformers import AutoConfig

    with quiet():
        return AutoConfig.from_pretrained(plain_folder(pretrained), trust_remote_code=False)
