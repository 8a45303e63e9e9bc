"""Learn to scale keys, values and what enters the end of each feed-forward part, one factor a coordinate.

The factors start at one, so that the model starts where it was, and are multiplied into the weights when merged: they
then cost nothing. Where queries, keys and values are made by one layer, its whole output is scaled.

Source: Liu et al., Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning, 2022,
arXiv:2205.05638.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from weitiao.methods._peft import LastLayers, PeftMethod
from weitiao.models import parts

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Ia3"]

# What the layers are called that make keys and values; the first names that a model has in full are taken.
_KEY_VALUE = (
    ("key", "value"),  # BERT, RoBERTa, ELECTRA, ALBERT
    ("key_proj", "value_proj"),  # DeBERTa
    ("k_proj", "v_proj"),  # Llama, Qwen, Gemma, Mistral, OPT, BART, Marian
    ("k_lin", "v_lin"),  # DistilBERT, XLM
    ("k", "v"),  # MPNet, T5
    ("Wqkv",),  # ModernBERT, MPT
    ("c_attn",),  # GPT-2
    ("query_key_value",),  # BLOOM, Falcon, GPT-NeoX
    ("qkv_proj",),  # Phi-3
)


class Ia3(PeftMethod):
    """Factors of keys, values and feed-forward activations, and the head."""

    class Settings(LastLayers):
        """Place of the factors."""

    what: ClassVar[str] = "IA3"
    learning_rate: ClassVar[float] = 3e-2
    head_learning_rate: ClassVar[float | None] = None
    settings: Settings

    def suits(self, model: nn.Module) -> str | None:
        """Refuse also a model whose keys and values are not known by name."""
        if not _key_value_names(model):
            return f"it is not known which layers of {type(parts.backbone(model)).__name__} make keys and values"
        return super().suits(model)

    def names(self, model: nn.Module) -> list[str]:
        """Return the layers that make keys and values by name, and those that end a feed-forward part by path."""
        return [*_key_value_names(model), *_feed_forward_ends(model)]

    def config(self, model: nn.Module, targets: list[str], *, seed: int) -> Any:
        """Return PEFT's configuration of IA3."""
        from peft import IA3Config

        ends = [path for path in _feed_forward_ends(model) if path in self._layers(model)]
        return IA3Config(target_modules=list(self._layers(model)), feedforward_modules=ends)

    def apply(self, model: nn.Module, *, seed: int) -> nn.Module:
        """Insert the factors; 1 leaves the model as it was, so that decay towards 0 would not."""
        applied: Any = super().apply(model, seed=seed)
        applied.without_decay = frozenset(name for name, _ in applied.named_parameters() if ".ia3_l" in name)
        return applied

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, and one variant a setting."""
        return {"settings": {}, "variants": [{"last_layers": 1}, {"merge": True}]}


def _key_value_names(model: nn.Module) -> list[str]:
    """Return what the layers are called that make keys and values; none where no name is known."""
    ends = {path.rpartition(".")[2] for path in parts.linear_names(model, "all")}
    return next((list(names) for names in _KEY_VALUE if ends >= set(names)), [])


def _feed_forward_ends(model: nn.Module) -> list[str]:
    """Return the paths of the layers that end the feed-forward part of each block: its last outside attention."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    last = set()
    for block in parts.layers(model):
        dense = [(path, module) for path, module in block.named_modules() if isinstance(module, nn.Linear | Conv1D)]
        last.update([module for path, module in dense if "att" not in path.lower()][-1:])
    return [path for path, module in model.named_modules() if module in last]
