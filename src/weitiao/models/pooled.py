"""A sentence encoder with a linear head: for the poolings no stock class has (mean-pooled BERT and kin).

On disk it is a plain sentence-transformers model whose "embedding" is our logits:
``SentenceTransformer(folder).encode(text)`` gives exactly what this class gives.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from weitiao.errors import ModelError
from weitiao.models.find import read_pooling
from weitiao.models.parts import POOLINGS, pool

__all__ = ["SentenceClassifier"]

_TRANSFORMER, _POOLING, _DENSE = "0_Transformer", "1_Pooling", "2_Dense"
# The legacy keys: every version of sentence-transformers reads them.
_POOLING_KEYS = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "last": "pooling_mode_lasttoken"}


class SentenceClassifier(nn.Module):
    """Encoder, pooling, dropout, linear layer.

    Parameters
    ----------
    encoder
        A stock transformers model without head; label names are in its config.
    pooling
        One of `weitiao.models.parts.POOLINGS`.
    dropout
        Share of the pooled vector set to zero in training, 0 to 1.
    """

    base_model_prefix = "encoder"
    how_to_open = """The model reads a vector made of all tokens, so it is a sentence-transformers model whose output
is the logits:

```python
from sentence_transformers import SentenceTransformer

logits = SentenceTransformer("model").encode(["..."])
```"""

    def __init__(self, encoder: PreTrainedModel, *, pooling: str = "mean", dropout: float = 0.0) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ModelError(f"pooling={pooling!r} is not known.", fix=f"Take one of {', '.join(POOLINGS)}.")
        self.config = encoder.config
        self.pooling = pooling
        self.encoder = encoder
        # BERT's own pooler would be trained by nobody (no gradient reaches it, which DDP refuses), yet a
        # saved folder without it makes other tools warn: it is set aside, and put back when saving.
        self._aside: list[nn.Module] = []
        if "add_pooling_layer" in inspect.signature(type(encoder).__init__).parameters:
            aside = getattr(encoder, "pooler", None)
            if isinstance(aside, nn.Module):
                self._aside = [aside]
                encoder.pooler = None  # type: ignore[assignment]
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(encoder.config.get_text_config().hidden_size, int(encoder.config.num_labels or 0))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.classifier.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are stored as."""
        return self.classifier.weight.dtype

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Return logits (rows, labels); `kwargs` (``inputs_embeds``, ``output_attentions``, ...) go to the encoder."""
        if attention_mask is None:
            like = input_ids if input_ids is not None else kwargs["inputs_embeds"]
            attention_mask = torch.ones(like.shape[:2], dtype=torch.long, device=like.device)
        if token_type_ids is not None:
            kwargs["token_type_ids"] = token_type_ids
        if input_ids is not None:
            kwargs["input_ids"] = input_ids
        kwargs.pop("labels", None)  # the task computes the loss
        outputs = self.encoder(attention_mask=attention_mask, **kwargs)
        pooled = pool(outputs.last_hidden_state, attention_mask, self.pooling)  # (rows, hidden)
        return SequenceClassifierOutput(
            logits=self.classifier(self.dropout(pooled)),
            hidden_states=getattr(outputs, "hidden_states", None),
            attentions=getattr(outputs, "attentions", None),
        )

    def get_input_embeddings(self) -> nn.Module:
        """Return the encoder's table of token vectors."""
        return self.encoder.get_input_embeddings()

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """Trade time for memory in the encoder."""
        self.encoder.gradient_checkpointing_enable(*args, **kwargs)

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Write a sentence-transformers folder: modules.json and three modules."""
        from safetensors.torch import save_file

        root = Path(folder)
        for name in (_POOLING, _DENSE):
            (root / name).mkdir(parents=True, exist_ok=True)
        encoder: Any = self.encoder
        if self._aside:
            encoder.pooler = self._aside[0]
        try:
            encoder.save_pretrained(root / _TRANSFORMER)
        finally:
            if self._aside:
                encoder.pooler = None
        hidden, labels = self.classifier.in_features, self.classifier.out_features
        modes = {key: name == self.pooling for name, key in _POOLING_KEYS.items()}
        _write(root / _POOLING / "config.json", {"word_embedding_dimension": hidden, **modes})
        weights = {f"linear.{n}": p.detach().cpu().contiguous() for n, p in self.classifier.named_parameters()}
        save_file(weights, root / _DENSE / "model.safetensors", metadata={"format": "pt"})
        dense = {"in_features": hidden, "out_features": labels, "bias": True}
        dense["activation_function"] = "torch.nn.modules.linear.Identity"
        _write(root / _DENSE / "config.json", dense)
        kinds = {_TRANSFORMER: "Transformer", _POOLING: "Pooling", _DENSE: "Dense"}
        _write(
            root / "modules.json",
            [
                {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
                for i, (path, kind) in enumerate(kinds.items())
            ],
        )

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> SentenceClassifier:
        """Open a folder that `save_pretrained` wrote; the model is in eval mode.

        Raises
        ------
        ModelError
            The folder has other modules than encoder, pooling and one linear layer.
        """
        from safetensors.torch import load_file

        root = Path(folder)
        paths = [module["path"] for module in json.loads((root / "modules.json").read_text(encoding="utf-8"))]
        if paths != [_TRANSFORMER, _POOLING, _DENSE]:
            raise ModelError(
                f"its modules are {paths}, not {[_TRANSFORMER, _POOLING, _DENSE]}.",
                where=root,
                fix="It was not written by weitiao as a classifier; name it as a base model instead.",
            )
        encoder = AutoModel.from_pretrained(
            root / _TRANSFORMER, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
        model = cls(encoder, pooling=read_pooling(root / _POOLING) or "mean", dropout=head_dropout(encoder.config))
        weights = load_file(root / _DENSE / "model.safetensors")
        model.classifier.load_state_dict({n.removeprefix("linear."): w for n, w in weights.items()})
        return model.eval()


def head_dropout(config: Any, names: Sequence[str] = ("classifier_dropout", "seq_classif_dropout")) -> float:
    """Return the dropout before the head that a config asks for: its own key, else the hidden layers'."""
    for name in (*names, "hidden_dropout_prob", "dropout", "resid_pdrop"):
        value = getattr(config, name, None)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return 0.0


def _write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=2), encoding="utf-8")
