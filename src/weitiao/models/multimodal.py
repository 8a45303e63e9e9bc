"""A text encoder and a vision model side by side: their pooled vectors, put together, go through one linear layer.

Put together means one after the other or, gated, z * tanh(A t) + (1 - z) * tanh(B v) with z = sigmoid(C [t, v]) for the
text's vector t and the image's v: how much each counts is decided anew for every row and number.

On disk it is a folder with the parts as plain transformers folders, ``text/`` and ``vision/``, which open by
themselves, and the linear layer in ``head.safetensors``.

Source: Kiela, Bhooshan, Firooz, Perez and Testuggine, Supervised Multimodal Bitransformers for Classifying Images and
Text, 2019, arXiv:1909.02950 (the baseline ConcatBert); Arevalo, Solorio, Montes-y-Gomez and Gonzalez, Gated Multimodal
Units for Information Fusion, 2017, arXiv:1702.01992 (gated); the vision model from scratch: Liu et al., A ConvNet for
the 2020s, 2022, arXiv:2201.03545, and Dosovitskiy et al., An Image is Worth 16x16 Words, 2020, arXiv:2010.11929, both
much smaller than there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from weitiao.errors import ModelError
from weitiao.models.find import Pretrained, find
from weitiao.models.gguf import plain_folder
from weitiao.models.parts import pool
from weitiao.models.quiet import quiet
from weitiao.randomness import torch_seed

__all__ = ["NEW", "Fusion", "GatedFusion", "ImageTextClassifier", "Sight", "load_image_text", "look"]

Fusion = Literal["concat", "gated"]

NEW = ("new:convnext", "new:vit")
_WEIGHTS: dict[str, Any] = {"trust_remote_code": False, "dtype": torch.float32, "use_safetensors": True}
_CONFIG, _HEAD = "config.json", "head.safetensors"


@dataclass(frozen=True)
class Sight:
    """What a vision model wants to be shown: squares of `size` pixels, each color less its mean, by its deviation."""

    size: int = 64
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    deviation: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return json.loads(json.dumps(asdict(self)))


def look(name: str, size: int | None = None) -> Sight:
    """Return what a vision model is to be shown.

    Parameters
    ----------
    name
        One of `NEW`, or a folder or name that `weitiao.models.find.find` knows.
    size
        Asked for; ``None`` takes the model's own, 64 where it starts from nothing.
    """
    if name in NEW:
        return Sight(size or 64)
    folder = find(name).folder
    config = _vision_config(folder)
    processor = folder / "preprocessor_config.json"
    told = json.loads(processor.read_text(encoding="utf-8")) if processor.is_file() else {}
    mean, deviation = (tuple(told.get(key, (0.5, 0.5, 0.5))) for key in ("image_mean", "image_std"))
    return Sight(size or int(getattr(config, "image_size", 224)), mean, deviation)  # type: ignore[arg-type]


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


class ImageTextClassifier(nn.Module):
    """Text encoder, vision model, and a linear layer over both their vectors.

    Parameters
    ----------
    encoder, vision
        Stock transformers models without head; label names are in the encoder's config.
    pooling
        How the text's vector is made: one of `weitiao.models.parts.POOLINGS`.
    size
        Pixels of an image's side.
    fusion
        How the two vectors are put together.
    """

    base_model_prefix = "encoder"
    how_to_open = """`model/text` and `model/vision` each open with `AutoModel.from_pretrained`;
`weitiao.Bundle(".").model` puts them together with the head."""

    def __init__(self, encoder: Any, vision: Any, *, pooling: str, size: int, fusion: Fusion = "concat") -> None:
        super().__init__()
        self.config = encoder.config
        self.pooling, self.size = pooling, size
        self.encoder = encoder
        # No gradient reaches the pooler of BERT and its kin, for it is not read; it is put back when saving.
        self._aside: list[nn.Module] = []
        if isinstance(getattr(encoder, "pooler", None), nn.Module):
            self._aside = [encoder.pooler]
            encoder.pooler = None
        self.vision = vision
        told, seen = encoder.config.get_text_config().hidden_size, self._width()
        self.fusion = GatedFusion(told, seen) if fusion == "gated" else None
        self.classifier = nn.Linear(told if self.fusion else told + seen, int(encoder.config.num_labels))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.classifier.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are stored as."""
        return self.classifier.weight.dtype

    def forward(
        self, input_ids: Tensor, pixel_values: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> SequenceClassifierOutput:
        """Return logits (rows, labels) of texts (rows, length) and images (rows, 3, size, size)."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        kwargs.pop("labels", None)  # the task computes the loss
        read = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        text = pool(read.last_hidden_state, attention_mask, self.pooling)  # (rows, hidden)
        image = self._see(pixel_values).to(text.dtype)
        both = torch.cat([text, image], dim=-1) if self.fusion is None else self.fusion(text, image)
        return SequenceClassifierOutput(logits=self.classifier(both))

    def get_input_embeddings(self) -> nn.Module:
        """Return the encoder's table of token vectors."""
        return self.encoder.get_input_embeddings()

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """Trade time for memory in the encoder."""
        self.encoder.gradient_checkpointing_enable(*args, **kwargs)

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Write the parts as plain transformers folders, and the linear layer."""
        from safetensors.torch import save_file

        root = Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        if self._aside:
            self.encoder.pooler = self._aside[0]
        try:
            self.encoder.save_pretrained(root / "text")
        finally:
            if self._aside:
                self.encoder.pooler = None
        self.vision.save_pretrained(root / "vision")
        weights = dict(self.classifier.named_parameters())
        if self.fusion is not None:
            weights |= self.fusion.state_dict(prefix="fusion.")
        tensors = {name: p.detach().cpu().contiguous() for name, p in weights.items()}
        save_file(tensors, root / _HEAD, metadata={"format": "pt"})
        names = {str(i): label for i, label in self.config.id2label.items()}
        told: dict[str, Any] = {"pooling": self.pooling, "image_size": self.size, "id2label": names}
        told["fusion"] = "concat" if self.fusion is None else "gated"
        (root / _CONFIG).write_text(json.dumps(told, ensure_ascii=False, indent=2), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> ImageTextClassifier:
        """Open a folder that `save_pretrained` wrote; the model is in eval mode.

        Raises
        ------
        ModelError
            It cannot be opened.
        """
        from safetensors.torch import load_file
        from transformers import AutoModel

        root = Path(folder)
        try:
            told = json.loads((root / _CONFIG).read_text(encoding="utf-8"))
            with quiet(), torch_seed(0):
                text, vision = (AutoModel.from_pretrained(root / part, **_WEIGHTS) for part in ("text", "vision"))
                model = cls(
                    text, vision, pooling=told["pooling"], size=told["image_size"], fusion=told.get("fusion", "concat")
                )
            weights = load_file(root / _HEAD)
            own = {name: weights.pop(name) for name in list(weights) if name.startswith("fusion.")}
            model.classifier.load_state_dict(weights)
            if model.fusion is not None:
                model.fusion.load_state_dict({name.removeprefix("fusion."): value for name, value in own.items()})
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelError(f"the saved model cannot be opened: {error}", where=root) from error
        return model.eval()

    def _see(self, pixels: Tensor) -> Tensor:
        """Return one vector an image, ``(rows, width)``."""
        seen = self.vision(pixels.to(next(self.vision.parameters()).dtype))
        pooled = getattr(seen, "pooler_output", None)
        return seen.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)

    def _width(self) -> int:
        like = next(self.vision.parameters())
        blank = torch.zeros(1, 3, self.size, self.size, device=like.device, dtype=like.dtype)
        was = self.vision.training
        try:
            with torch.no_grad():
                return self._see_in_eval(blank)
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                f"the vision model does not take images of {self.size} x {self.size} pixels: {error}",
                fix="Leave task.image_size out.",
            ) from error
        finally:
            self.vision.train(was)

    def _see_in_eval(self, blank: Tensor) -> int:
        self.vision.eval()
        return int(self._see(blank).shape[-1])


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
    pretrained
        The text encoder, from `weitiao.models.find.find`.
    vision
        One of `NEW`, to be learnt from nothing, or a folder or name of a pretrained model (ViT, ConvNeXt, CLIP, ...).
    size
        Pixels of an image's side.
    fusion
        How the two vectors are put together.
    seed
        Decides all new weights.

    Returns
    -------
    A model in eval mode whose ``new_parameters`` are the names that no checkpoint gave.

    Raises
    ------
    ModelError
        A model cannot be opened, is no encoder, or does not take images of this size.
    """
    from transformers import AutoConfig, AutoModel

    folder = plain_folder(pretrained)
    with quiet():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if config.is_encoder_decoder:
        raise ModelError(f"{pretrained.name} is an encoder-decoder; a text beside an image needs an encoder.")
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    config.use_cache = False
    with quiet(), torch_seed(seed, "weights"):
        encoder, info = AutoModel.from_pretrained(folder, config=config, output_loading_info=True, **_WEIGHTS)
    with torch_seed(seed, "vision"):
        seer, fresh = _vision(vision, size)
    with torch_seed(seed, "new head"):
        model = ImageTextClassifier(encoder, seer, pooling=pooling, size=size, fusion=fusion)
        nn.init.normal_(model.classifier.weight, std=getattr(config, "initializer_range", 0.02))
    nn.init.zeros_(model.classifier.bias)
    new = {f"encoder.{name}" for name in info["missing_keys"]} | {f"vision.{name}" for name in fresh}
    new |= {name for name, _ in model.named_parameters() if name.startswith(("classifier.", "fusion."))}
    model.new_parameters = frozenset(new & {name for name, _ in model.named_parameters()})  # type: ignore[assignment]
    return model.eval()


def _vision(name: str, size: int) -> tuple[Any, set[str]]:
    """Return a vision model and the names of its weights that no checkpoint gave."""
    from transformers import AutoModel, ConvNextConfig, ViTConfig

    if name not in NEW:
        folder = find(name).folder
        try:
            with quiet():
                model, info = AutoModel.from_pretrained(
                    folder, config=_vision_config(folder), output_loading_info=True, **_WEIGHTS
                )
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{name} cannot be opened as a vision model: {error}") from error
        return model, set(info["missing_keys"])
    if name == "new:vit":
        sizes = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 192}
        config: Any = ViTConfig(image_size=size, patch_size=8, **sizes)  # type: ignore[arg-type]
    else:  # without the scale of layers, which starts a deep network gently and this one too slowly
        config = ConvNextConfig(
            num_stages=3, hidden_sizes=[32, 64, 128], depths=[1, 1, 1], patch_size=4, layer_scale_init_value=0.0
        )
    model = AutoModel.from_config(config)
    return model, {key for key, _ in model.named_parameters()}


def _vision_config(folder: Path) -> Any:
    """Return the config of a vision model, or of the half of a vision-language model that sees."""
    from transformers import AutoConfig

    with quiet():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    return getattr(config, "vision_config", config)
