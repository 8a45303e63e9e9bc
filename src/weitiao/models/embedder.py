"""A sentence encoder: one vector of length 1 a text.

On disk it is a plain sentence-transformers model: ``SentenceTransformer(folder).encode(text)`` gives exactly what this
class gives.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.functional import normalize
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from weitiao.errors import ModelError
from weitiao.models._sentence_folder import NORMALIZE, SentenceModel, open_encoder
from weitiao.models.find import Pretrained
from weitiao.models.load import load_encoder
from weitiao.models.quiet import quiet

__all__ = ["Embedder", "load_embedder", "open_embedder"]


class Embedder(SentenceModel):
    """Encoder, pooling, length 1.

    Parameters
    ----------
    encoder
        A stock transformers model without head.
    pooling
        One of `weitiao.models.parts.POOLINGS`.
    """

    how_to_open = """It is a sentence-transformers model:

```python
from sentence_transformers import SentenceTransformer

vectors = SentenceTransformer("model").encode(["..."])
```"""

    def __init__(self, encoder: PreTrainedModel, *, pooling: str = "mean") -> None:
        super().__init__(encoder, pooling=pooling)
        self.new_parameters: frozenset[str] = frozenset()

    def forward(self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **kwargs: Any) -> Any:
        """Return the vector of each text as ``pooler_output (texts, hidden)``."""
        outputs, pooled = self.read(input_ids, attention_mask, kwargs)
        vectors = normalize(pooled, dim=-1)
        return BaseModelOutputWithPooling(last_hidden_state=outputs.last_hidden_state, pooler_output=vectors)

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Write a sentence-transformers folder: modules.json and three modules."""
        self.save_modules(folder, {NORMALIZE: {}})


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
            encoder, pooling = open_encoder(root)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"the saved model cannot be opened: {error}", where=root) from error
    return Embedder(encoder, pooling=pooling).eval()
