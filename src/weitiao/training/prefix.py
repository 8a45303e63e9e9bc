"""What the frozen part of a model says of each row, computed once and kept.

Two kinds of states. The *pooled* ones are what a head reads of the untuned backbone: the hidden state at the pooled
position, and the pooler's output where the architecture has one; a `StoredBackbone` in the backbone's place gives
them back, so that the stock model's own code, whatever its head is, runs on them. The *tokens'* states are what the
last frozen layer says of each token; a batch that has them lets the model skip the frozen layers. One pass over the
rows gives both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

from weitiao import __version__
from weitiao.data.batch import longest_first
from weitiao.errors import TrainingError
from weitiao.memory import in_memory
from weitiao.models import parts
from weitiao.models.frozen import FrozenLayers, call
from weitiao.tasks.base import Features, Task
from weitiao.training.hook import Hook
from weitiao.training.store import TOKENS, Store, TokenStates, Writer

__all__ = ["Reader", "States", "StoredBackbone", "plan", "probe", "probe_rows"]


@dataclass(frozen=True)
class States:
    """Frozen features of rows, in their order.

    Parameters
    ----------
    hidden
        ``(rows, hidden)``, float32: the pooled last hidden state; ``None`` if nothing reads it.
    pooler
        ``(rows, hidden)`` or ``None``: the output of the architecture's own pooler.
    tokens
        What the last frozen layer says of each token, on the disk; ``None`` if there is none, or no room.
    """

    hidden: torch.Tensor | None
    pooler: torch.Tensor | None
    tokens: TokenStates | None = None

    def output(self, rows: slice, dtype: torch.dtype) -> BaseModelOutputWithPoolingAndCrossAttentions:
        """Return some rows as the backbone would, with one position each."""
        pooler = None if self.pooler is None else self.pooler[rows].to(dtype)
        if self.hidden is None:
            raise TrainingError("the pooled states of these rows were not kept.")
        hidden = self.hidden[rows, None].to(dtype)  # (rows, 1, hidden)
        return BaseModelOutputWithPoolingAndCrossAttentions(
            last_hidden_state=hidden,  # type: ignore[arg-type]
            pooler_output=pooler,  # type: ignore[arg-type]
        )  # of all such outputs the one with every entry that a stock head passes on


class StoredBackbone(nn.Module):
    """Stands where the backbone was and returns `current`, whatever it is called with."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.current: Any = None

    def forward(self, *_: Any, **__: Any) -> Any:
        """Return `current`."""
        return self.current


def plan(
    model: nn.Module, task: Task, features: Mapping[str, Features], hooks: Sequence[Hook], store: Store
) -> tuple[int, str | None]:
    """Return how many first layers of `model` are frozen, and ``None`` or why their states will not be kept.

    Parameters
    ----------
    model
        With what trains marked.
    features
        All rows whose states would be kept.
    hooks
        Of the training.
    """
    inputs = probe(task, features["train"])
    frozen = FrozenLayers.of(model, inputs)
    tokens = sum(int(rows.lengths.sum()) for rows in features.values())
    below = [hook.name for hook in hooks if hook.changes_frozen]
    why = f"the regularizer {below[0]} works below them" if below and frozen.depth else None
    if not task.one_sequence:
        why = "an input of this task is several sequences"
    why = why or frozen.why_not(inputs)
    config: Any = parts.backbone(model).config
    return frozen.depth, why or store.why_no_room(tokens, config.get_text_config().hidden_size)


def probe(task: Task, features: Features) -> dict[str, torch.Tensor]:
    """Return model inputs of `probe_rows`: what is watched to know a model."""
    return task.model_inputs(features.batch(probe_rows(features)))


def probe_rows(features: Features) -> list[int]:
    """Return the shortest row and the longest."""
    lengths = features.lengths
    return [int(lengths.argmin()), int(lengths.argmax())]


class Reader:
    """Reads rows with the model as it was before tuning.

    Parameters
    ----------
    model, task
        The untuned model, and what it reads rows for.
    pooling
        Which position the head reads: ``cls``, ``mean`` or ``last``; ``None``: no single one, and no pooled states.
    depth
        How many first layers no training moves; what the last of them says of each token is kept. 0: of none.
    batch_size
        Rows a forward pass.
    base
        Content hash of the pretrained weights: what kept states are found by. None keeps nothing.
    store
        Where states are kept.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        pooling: str | None,
        *,
        depth: int = 0,
        batch_size: int = 64,
        base: str | None = None,
        store: Store | None = None,
    ) -> None:
        self.model, self.task, self.pooling, self.batch_size = model, task, pooling, batch_size
        self.frozen = FrozenLayers(model, depth) if depth else None
        self.store = store if base is not None and store and store.settings.frozen_states != "off" else None
        device = next(model.parameters()).device.type
        self.facts = {"base": base, "batch_size": batch_size, "device": device, **_versions()}
        self.computed = 0  # rows that the model had to read
        self.trouble: str | None = None  # why something was not kept, in a sentence

    def read(
        self, features: Features, *, tokens: bool = True, progress: Callable[[int], None] = lambda rows: None
    ) -> States:
        """Return what the model says of the rows, from the disk where it was said before.

        Parameters
        ----------
        tokens
            With the tokens' states, if there are frozen layers.
        progress
            Called now and then with a number of rows that are done.
        """
        nothing = States(None, None) if self.pooling is None else None  # then the layers above say nothing we keep
        if self.store is None:
            return nothing or self._pass(features, progress)
        contents = _contents(self.task, features)
        pooled_at, tokens_at = self.store.key(kind="pooled", pooling=self.pooling, **self.facts, **contents), ""
        pooled, kept = nothing or self._kept(pooled_at, features), None
        if tokens and self.frozen is not None:
            depth, dtype = self.frozen.depth, str(self.store.dtype)
            tokens_at = self.store.key(kind="tokens", depth=depth, dtype=dtype, **self.facts, **contents)
            entry = self.store.open(tokens_at, features.lengths)
            kept = entry[1] if entry else None
        said = pooled
        try:
            if tokens_at and kept is None:
                said = self._write_tokens(tokens_at, features, progress, pooled)
                entry = self.store.open(tokens_at, features.lengths)
                kept = entry[1] if entry else None
            said = said or self._pass(features, progress)
            if pooled is None:
                with self.store.writing(pooled_at) as folder:
                    both = {"hidden": said.hidden, "pooler": said.pooler}
                    self.store.finish(folder, {name: value for name, value in both.items() if value is not None})
        except OSError as error:  # a cache that cannot be written costs time, nothing else
            self.trouble = f"what frozen layers say was not kept: {error.strerror or error}"
            said = said or self._pass(features, progress)
        if pooled is not None:
            progress(len(features))
        return States(said.hidden, said.pooler, kept)

    def _kept(self, key: str, features: Features) -> States | None:
        entry = self.store.open(key, features.lengths) if self.store else None
        return States(entry[0]["hidden"], entry[0].get("pooler")) if entry else None

    def _write_tokens(
        self, key: str, features: Features, progress: Callable[[int], None], pooled: States | None
    ) -> States | None:
        """Write the tokens' states; return the pooled ones that came along."""
        if self.store is None or self.frozen is None:
            return pooled
        config: Any = parts.backbone(self.model).config
        hidden = config.get_text_config().hidden_size
        self.store.make_room(int(features.lengths.sum()) * hidden * self.store.dtype.itemsize)
        with self.store.writing(key) as folder:
            writer = Writer(folder / TOKENS, self.store.dtype, features.lengths)
            try:
                said = self._pass(features, progress, writer, pooled)
            finally:
                writer.close()
            self.store.finish(folder, {"lengths": torch.from_numpy(features.lengths)}, hidden=writer.hidden)
        return said

    def _pass(
        self,
        features: Features,
        progress: Callable[[int], None],
        writer: Writer | None = None,
        pooled: States | None = None,
    ) -> States:
        """Let the model read the rows; with `pooled` known, only as far as `writer` wants it."""
        backbone = parts.backbone(self.model)
        hidden: list[torch.Tensor] = []
        pooler: list[torch.Tensor] = []
        order: list[np.ndarray] = []
        watching = self.frozen.reading(stop=pooled is not None) if writer and self.frozen else nullcontext(list)
        device = next(backbone.parameters()).device
        was_training = backbone.training
        backbone.eval()
        with watching as taken, torch.inference_mode():

            def say(rows: np.ndarray) -> Any:
                inputs = {k: v.to(device) for k, v in self.task.model_inputs(features.batch(rows)).items()}
                return call(backbone, inputs), inputs["attention_mask"]

            for rows, (out, mask) in in_memory(longest_first(features.lengths, self.batch_size)[0], say):
                if writer is not None:
                    writer.write(rows, taken()[0], mask)
                if out is not None:
                    hidden.append(parts.pool(out.last_hidden_state, mask, str(self.pooling)).float().cpu())
                    order.append(rows)
                if out is not None and getattr(out, "pooler_output", None) is not None:
                    pooler.append(out.pooler_output.float().cpu())
                self.computed += len(rows)
                progress(len(rows))
        backbone.train(was_training)
        if pooled is not None:
            return pooled
        back = torch.from_numpy(np.argsort(np.concatenate(order)))
        return States(torch.cat(hidden)[back].clone(), torch.cat(pooler)[back].clone() if pooler else None)


def _contents(task: Task, features: Features) -> dict[str, Any]:
    """Return what the model reads of the rows, one array a name."""
    read = task.model_inputs(features.batch([0])) if len(features) else {}
    names = [name for name in read if name in features.inputs[0]]
    flat = {name: np.concatenate([np.atleast_1d(row[name]) for row in features.inputs]) for name in names}
    return flat | {"lengths": features.lengths}


def _versions() -> dict[str, str]:
    return {"weitiao": __version__} | {name: version(name) for name in ("torch", "transformers")}
