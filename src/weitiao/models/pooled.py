"""A sentence encoder with a linear head: for the poolings no stock class has (mean-pooled BERT and kin).

On disk it is a plain sentence-transformers model whose "embedding" is our logits:
``SentenceTransformer(folder).encode(text)`` gives exactly what this class gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize as to_length_1
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from weitiao.errors import ModelError
from weitiao.models._sentence_folder import (
    DENSE,
    NORMALIZE,
    POOLING,
    TRANSFORMER,
    SentenceModel,
    module_paths,
    open_encoder,
)

__all__ = ["HEAD", "SentenceClassifier"]

HEAD = f"{DENSE}/model.safetensors"  # inside the folder of a saved model
_PATHS = [TRANSFORMER, POOLING, DENSE]


class SentenceClassifier(SentenceModel):
    """Encoder, pooling, length 1 if asked for, dropout, linear layer.

    Parameters
    ----------
    encoder
        A stock transformers model without head; label names are in its config.
    pooling
        One of `weitiao.models.parts.POOLINGS`.
    dropout
        Share of the pooled vector set to zero in training, 0 to 1.
    normalize
        The pooled vector is brought to length 1.
    """

    how_to_open = """The model reads a vector made of all tokens, so it is a sentence-transformers model whose output
is the logits:

```python
from sentence_transformers import SentenceTransformer

logits = SentenceTransformer("model").encode(["..."])
```"""

    def __init__(
        self, encoder: PreTrainedModel, *, pooling: str = "mean", dropout: float = 0.0, normalize: bool = False
    ) -> None:
        super().__init__(encoder, pooling=pooling)
        self.normalize = normalize
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
        if token_type_ids is not None:
            kwargs["token_type_ids"] = token_type_ids
        kwargs.pop("labels", None)  # the task computes the loss
        outputs, pooled = self.read(input_ids, attention_mask, kwargs)  # (rows, hidden)
        if self.normalize:
            pooled = to_length_1(pooled, dim=-1)
        return SequenceClassifierOutput(
            logits=self.classifier(self.dropout(pooled)),
            hidden_states=getattr(outputs, "hidden_states", None),
            attentions=getattr(outputs, "attentions", None),
        )

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Write a sentence-transformers folder: modules.json and three modules, or four with the normalization."""
        from safetensors.torch import save_file

        hidden, labels = self.classifier.in_features, self.classifier.out_features
        dense = {"in_features": hidden, "out_features": labels, "bias": True}
        dense["activation_function"] = "torch.nn.modules.linear.Identity"
        self.save_modules(folder, {**({NORMALIZE: {}} if self.normalize else {}), DENSE: dense})
        weights = {f"linear.{n}": p.detach().cpu().contiguous() for n, p in self.classifier.named_parameters()}
        save_file(weights, Path(folder) / HEAD, metadata={"format": "pt"})

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> SentenceClassifier:
        """Open a folder that `save_pretrained` wrote; the model is in eval mode.

        Raises
        ------
        ModelError
            The folder has other modules than encoder, pooling, normalization and one linear layer.
        """
        root = Path(folder)
        paths = module_paths(root)
        if [path for path in paths if path != NORMALIZE] != _PATHS:
            raise ModelError(
                f"its modules are {paths}, not {_PATHS}.",
                where=root,
                fix="It was not written by weitiao as a classifier; name it as a base model instead.",
            )
        encoder, pooling = open_encoder(root)
        model = cls(encoder, pooling=pooling, dropout=head_dropout(encoder.config))
        if not model.take_head(root):
            raise ModelError("the saved model lacks its head.", where=root, fix="It was not saved whole.")
        return model.eval()

    def take_head(self, folder: Path) -> bool:
        """Take over the head of a model that `save_pretrained` wrote; whether there is one."""
        from safetensors.torch import load_file

        file = folder / HEAD
        if file.is_file():
            weights = load_file(file)
            self.classifier.load_state_dict({n.removeprefix("linear."): w for n, w in weights.items()})
            self.normalize = NORMALIZE in module_paths(folder)  # what the head was made to read
        return file.is_file()


def head_dropout(config: Any, names: Sequence[str] = ("classifier_dropout", "seq_classif_dropout")) -> float:
    """Return the dropout before the head that a config asks for: its own key, else the hidden layers'."""
    for name in (*names, "hidden_dropout_prob", "dropout", "resid_pdrop"):
        value = getattr(config, name, None)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return 0.0
