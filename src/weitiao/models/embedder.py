"""A sentence encoder: one vector of length 1 a text.

On disk it is a plain sentence-transformers model: ``SentenceTransformer(folder).encode(text)`` gives exactly what this
class gives.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from weitiao.errors import ModelError
from weitiao.models.find import Pretrained, read_pooling
from weitiao.models.load import load_encoder
from weitiao.models.parts import POOLINGS, pool
from weitiao.models.quiet import quiet

__all__ = ["Embedder", "load_embedder", "open_embedder"]

_TRANSFORMER, _POOLING, _NORMALIZE = "0_Transformer", "1_Pooling", "2_Normalize"
# The legacy keys: every version of sentence-transformers reads them.
_POOLING_KEYS = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "last": "pooling_mode_lasttoken"}


class Embedder(nn.Module):
    """Encoder, pooling, length 1.

    Parameters
    ----------
    encoder
        A stock transformers model without head.
    pooling
        One of `weitiao.models.parts.POOLINGS`.
    """

    base_model_prefix = "encoder"
    how_to_open = """It is a sentence-transformers model:

```python
from sentence_transformers import SentenceTransformer

vectors = SentenceTransformer("model").encode(["..."])
```"""

    def __init__(self, encoder: PreTrainedModel, *, pooling: str = "mean") -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ModelError(f"pooling={pooling!r} is not known.", fix=f"Take one of {', '.join(POOLINGS)}.")
        self.config, self.pooling, self.encoder = encoder.config, pooling, encoder
        self.new_parameters: frozenset[str] = frozenset()
        # BERT's own pooler would be trained by nobody; it is set aside, and put back when saving.
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

    def forward(self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **kwargs: Any) -> Any:
        """Return the vector of each text as ``pooler_output (texts, hidden)``."""
        if attention_mask is None:
            like = input_ids if input_ids is not None else kwargs["inputs_embeds"]
            attention_mask = torch.ones(like.shape[:2], dtype=torch.long, device=like.device)
        if input_ids is not None:
            kwargs["input_ids"] = input_ids
        outputs = self.encoder(attention_mask=attention_mask, **kwargs)
        vectors = normalize(pool(outputs.last_hidden_state, attention_mask, self.pooling), dim=-1)
        return BaseModelOutputWithPooling(last_hidden_state=outputs.last_hidden_state, pooler_output=vectors)

    def get_input_embeddings(self) -> nn.Module:
        """Return the encoder's table of token vectors."""
        return self.encoder.get_input_embeddings()

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """Trade time for memory in the encoder."""
        self.encoder.gradient_checkpointing_enable(*args, **kwargs)

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Write a sentence-transformers folder: modules.json and three modules."""
        root = Path(folder)
        for name in (_POOLING, _NORMALIZE):
            (root / name).mkdir(parents=True, exist_ok=True)
        encoder: Any = self.encoder
        if self._aside:
            encoder.pooler = self._aside[0]
        try:
            encoder.save_pretrained(root / _TRANSFORMER)
        finally:
            if self._aside:
                encoder.pooler = None
        width = self.config.get_text_config().hidden_size
        modes = {key: name == self.pooling for name, key in _POOLING_KEYS.items()}
        _write(root / _POOLING / "config.json", {"word_embedding_dimension": width, **modes})
        _write(root / _NORMALIZE / "config.json", {})
        kinds = {_TRANSFORMER: "Transformer", _POOLING: "Pooling", _NORMALIZE: "Normalize"}
        modules = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(kinds.items())
        ]
        _write(root / "modules.json", modules)


def load_embedder(pretrained: Pretrained, *, pooling: str, seed: int) -> Embedder:
    """Return a pretrained encoder as one that gives a vector a text, in eval mode; `seed` is for weights it lacks."""
    encoder: Any = load_encoder(pretrained, seed=seed)
    if encoder.config.is_encoder_decoder:
        raise ModelError(f"{pretrained.name} is an encoder-decoder, made to write.", fix="Name an encoder.")
    model = Embedder(encoder, pooling=pooling)
    names = {name for name, _ in model.named_parameters()}
    model.new_parameters = frozenset(names & {f"encoder.{name}" for name in encoder.new_parameters})
    return model.eval()


def open_embedder(folder: str | Path) -> Embedder:
    """Open a folder that `Embedder.save_pretrained` wrote; the model is in eval mode.

    Raises
    ------
    ModelError
        It cannot be opened.
    """
    root = Path(folder)
    try:
        with quiet():
            encoder = AutoModel.from_pretrained(
                root / _TRANSFORMER, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"the saved model cannot be opened: {error}", where=root) from error
    return Embedder(encoder, pooling=read_pooling(root / _POOLING) or "mean").eval()


def _write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=2), encoding="utf-8")
