"""Models that see: a pretrained one, or a small one learnt from nothing, and what they share beside a text encoder.

Source: the vision models from scratch: Liu et al., A ConvNet for the 2020s, 2022, arXiv:2201.03545, and Dosovitskiy et
al., An Image is Worth 16x16 Words, 2020, arXiv:2010.11929, both much smaller than there.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from weitiao.errors import ModelError
from weitiao.models.find import Pretrained, find
from weitiao.models.gguf import plain_folder
from weitiao.models.parts import pool
from weitiao.models.quiet import quiet
from weitiao.randomness import torch_seed

__all__ = ["NEW", "WEIGHTS", "Sight", "TextAndImage", "load_parts", "look"]

NEW = ("new:convnext", "new:vit")
WEIGHTS: dict[str, Any] = {"trust_remote_code": False, "dtype": torch.float32, "use_safetensors": True}
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


class TextAndImage(nn.Module):
    """A text encoder and a vision model; what is made of their vectors is in the classes that derive from it.

    On disk it is a folder with both as plain transformers folders, ``text/`` and ``vision/``, which open by themselves,
    and what else there is in ``head.safetensors``.

    Parameters
    ----------
    encoder, vision
        Stock transformers models without head.
    pooling
        How the text's vector is made: one of `weitiao.models.parts.POOLINGS`.
    size
        Pixels of an image's side.
    """

    base_model_prefix = "encoder"
    how_to_open = """`model/text` and `model/vision` each open with `AutoModel.from_pretrained`;
`weitiao.Bundle(".").model` puts them together with the head."""

    def __init__(self, encoder: Any, vision: Any, *, pooling: str, size: int) -> None:
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
        self.widths = encoder.config.get_text_config().hidden_size, self._width()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are stored as."""
        return next(self.parameters()).dtype

    def read(self, input_ids: Tensor, attention_mask: Tensor | None, kwargs: dict[str, Any]) -> Tensor:
        """Return one vector a text, ``(rows, width)``."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        outputs = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        return pool(outputs.last_hidden_state, attention_mask, self.pooling)

    def see(self, pixels: Tensor) -> Tensor:
        """Return one vector an image, ``(rows, width)``, of ``(rows, 3, size, size)``."""
        seen = self.vision(pixels.to(next(self.vision.parameters()).dtype))
        pooled = getattr(seen, "pooler_output", None)
        return seen.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)

    def get_input_embeddings(self) -> nn.Module:
        """Return the encoder's table of token vectors."""
        return self.encoder.get_input_embeddings()

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """Trade time for memory in the encoder."""
        self.encoder.gradient_checkpointing_enable(*args, **kwargs)

    def told(self) -> dict[str, Any]:
        """Return what `from_pretrained` has to know beside the weights, JSON values."""
        return {"pooling": self.pooling, "image_size": self.size}

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Write both models as plain transformers folders, and the weights beside them."""
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
        weights = {name: p.detach().cpu().contiguous() for name, p in self._head().items()}
        save_file(weights, root / _HEAD, metadata={"format": "pt"})
        (root / _CONFIG).write_text(json.dumps(self.told(), ensure_ascii=False, indent=2), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Any:
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
                text, vision = (AutoModel.from_pretrained(root / part, **WEIGHTS) for part in ("text", "vision"))
                model = cls(text, vision, **cls.asked_of(told))
            weights, own = load_file(root / _HEAD), model._head()
            if set(weights) != set(own):
                raise ValueError(f"{_HEAD} lacks or has too much: {', '.join(sorted(set(weights) ^ set(own)))}")
            with torch.no_grad():
                for name, parameter in own.items():
                    parameter.copy_(weights[name])
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelError(f"the saved model cannot be opened: {error}", where=root) from error
        return model.eval()

    @classmethod
    def asked_of(cls, told: dict[str, Any]) -> dict[str, Any]:
        """Return what the model is made with, of what `told` wrote."""
        return {"pooling": told["pooling"], "size": told["image_size"]}

    def _head(self) -> dict[str, nn.Parameter]:
        """Return the parameters beside the two models."""
        return {name: p for name, p in self.named_parameters() if not name.startswith(("encoder.", "vision."))}

    def _width(self) -> int:
        like = next(self.vision.parameters())
        blank = torch.zeros(1, 3, self.size, self.size, device=like.device, dtype=like.dtype)
        was = self.vision.training
        self.vision.eval()
        try:
            with torch.no_grad():
                return int(self.see(blank).shape[-1])
        except (ValueError, RuntimeError) as error:
            raise wrong_size(self.size, error) from error
        finally:
            self.vision.train(was)


def wrong_size(size: int, error: Exception) -> ModelError:
    """Return what to say of a vision model that does not take images of this size."""
    return ModelError(
        f"the vision model does not take images of {size} x {size} pixels: {error}", fix="Leave task.image_size out."
    )


def load_parts(pretrained: Pretrained, *, vision: str, size: int, seed: int) -> tuple[Any, Any, set[str]]:
    """Return a text encoder, a vision model, and the names of weights that no checkpoint gave.

    Parameters
    ----------
    pretrained
        The text encoder, from `weitiao.models.find.find`.
    vision
        One of `NEW`, to be learnt from nothing, or a folder or name of a pretrained model (ViT, ConvNeXt, CLIP, ...).
    size
        Pixels of an image's side.
    seed
        Decides all new weights.

    Raises
    ------
    ModelError
        A model cannot be opened, or is no encoder.
    """
    from transformers import AutoConfig, AutoModel

    folder = plain_folder(pretrained)
    with quiet():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if config.is_encoder_decoder:
        raise ModelError(f"{pretrained.name} is an encoder-decoder; a text beside an image needs an encoder.")
    if hasattr(config, "vision_config"):
        raise ModelError(
            f"{pretrained.name} reads and sees by itself; beside a vision model only a text encoder is needed.",
            fix="Name a text encoder as the model; where the task has it, task.vision_model: own takes this one whole.",
        )
    config.use_cache = False
    with quiet(), torch_seed(seed, "weights"):
        encoder, info = AutoModel.from_pretrained(folder, config=config, output_loading_info=True, **WEIGHTS)
    with torch_seed(seed, "vision"):
        seer, fresh = _vision(vision, size)
    return encoder, seer, {f"encoder.{name}" for name in info["missing_keys"]} | {f"vision.{name}" for name in fresh}


def _vision(name: str, size: int) -> tuple[Any, set[str]]:
    """Return a vision model and the names of its weights that no checkpoint gave."""
    from transformers import AutoModel, ConvNextConfig, ViTConfig

    if name not in NEW:
        folder = find(name).folder
        try:
            with quiet():
                model, info = AutoModel.from_pretrained(
                    folder, config=_vision_config(folder), output_loading_info=True, **WEIGHTS
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
