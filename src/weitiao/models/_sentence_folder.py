"""What models share that read one vector of all tokens: the encoder without its idle pooler, and the folder on disk.

The folder is that of a sentence-transformers model: ``modules.json``, and a folder for each module, the encoder and its
pooling first.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from weitiao.errors import ModelError
from weitiao.models.find import read_pooling
from weitiao.models.parts import POOLINGS, pool

__all__ = ["DENSE", "NORMALIZE", "POOLING", "TRANSFORMER", "SentenceModel", "module_paths", "open_encoder"]

TRANSFORMER, POOLING, NORMALIZE, DENSE = "0_Transformer", "1_Pooling", "2_Normalize", "2_Dense"
_KINDS = {TRANSFORMER: "Transformer", POOLING: "Pooling", NORMALIZE: "Normalize", DENSE: "Dense"}
# The legacy keys: every version of sentence-transformers reads them.
_POOLING_KEYS = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "last": "pooling_mode_lasttoken"}


class SentenceModel(nn.Module):
    """Encoder and pooling; what comes after is in the classes that derive from it.

    Parameters
    ----------
    encoder
        A stock transformers model without head.
    pooling
        One of `weitiao.models.parts.POOLINGS`.
    """

    base_model_prefix = "encoder"

    def __init__(self, encoder: PreTrainedModel, *, pooling: str = "mean") -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ModelError(f"pooling={pooling!r} is not known.", fix=f"Take one of {', '.join(POOLINGS)}.")
        self.config, self.pooling, self.encoder = encoder.config, pooling, encoder
        # BERT's own pooler would be trained by nobody (no gradient reaches it, which DDP refuses), yet a
        # saved folder without it makes other tools warn: it is set aside, and put back when saving.
        self._aside: list[nn.Module] = []
        if "add_pooling_layer" in inspect.signature(type(encoder).__init__).parameters:
            aside = getattr(encoder, "pooler", None)
            if isinstance(aside, nn.Module):
                self._aside = [aside]
                encoder.pooler = None  # type: ignore[assignment]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def read(self, input_ids: Tensor | None, attention_mask: Tensor | None, kwargs: dict[str, Any]) -> Any:
        """Return the encoder's outputs and the pooled vector of each row, ``(rows, hidden)``."""
        if attention_mask is None:
            like = input_ids if input_ids is not None else kwargs["inputs_embeds"]
            attention_mask = torch.ones(like.shape[:2], dtype=torch.long, device=like.device)
        if input_ids is not None:
            kwargs["input_ids"] = input_ids
        outputs = self.encoder(attention_mask=attention_mask, **kwargs)
        return outputs, pool(outputs.last_hidden_state, attention_mask, self.pooling)

    def get_input_embeddings(self) -> nn.Module:
        """Return the encoder's table of token vectors."""
        return self.encoder.get_input_embeddings()

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """Trade time for memory in the encoder."""
        self.encoder.gradient_checkpointing_enable(*args, **kwargs)

    def save_modules(self, folder: str | Path, after: Mapping[str, Mapping[str, Any]]) -> None:
        """Write encoder and pooling, and the configs of the modules that come after them, by their paths."""
        root, paths = Path(folder), [TRANSFORMER, POOLING, *after]
        for path in paths:
            (root / path).mkdir(parents=True, exist_ok=True)
        encoder: Any = self.encoder
        if self._aside:
            encoder.pooler = self._aside[0]
        try:
            encoder.save_pretrained(root / TRANSFORMER)
        finally:
            if self._aside:
                encoder.pooler = None
        width = self.config.get_text_config().hidden_size
        modes = {key: name == self.pooling for name, key in _POOLING_KEYS.items()}
        for path, config in {POOLING: {"word_embedding_dimension": width, **modes}, **after}.items():
            _write(root / path / "config.json", config)
        modules = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{_KINDS[path]}"}
            for i, path in enumerate(paths)
        ]
        _write(root / "modules.json", modules)


def module_paths(folder: Path) -> list[str]:
    """Return the paths of the modules of a saved model, in their order."""
    return [module["path"] for module in json.loads((folder / "modules.json").read_text(encoding="utf-8"))]


def open_encoder(folder: Path) -> tuple[Any, str]:
    """Return the encoder of a saved model, and its pooling."""
    encoder = AutoModel.from_pretrained(
        folder / TRANSFORMER, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    return encoder, read_pooling(folder / POOLING) or "mean"


def _write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=2), encoding="utf-8")
