"""Put a random part of the pretrained weights back to where they started, anew in every step.

For each entry of a pretrained weight matrix w with start w0, with probability p and m = 1 (else m = 0), a step uses

    (m * w0 + (1 - m) * w - p * w0) / (1 - p)

whose mean over m is w, and the gradient of w is the one found there times (1 - m) / (1 - p). With w0 = 0 this is
dropout of weights. The mask of a step comes from the seed and the number of the step, so that all its micro-batches
and processes share it. Measured and handed over are the weights themselves. Costs two more copies of these matrices.

Source: Lee et al., Mixout: Effective Regularization to Finetune Large-scale Pretrained Language Models, 2020,
arXiv:1909.11299.
Differs: embeddings, biases and norms are left alone, as in the authors' code; so are new weights, for which the paper
takes dropout, and the model's own dropout stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from weitiao.models import parts
from weitiao.plugins import Options
from weitiao.randomness import derive_seed
from weitiao.training.hook import Hook

if TYPE_CHECKING:
    import torch
    from torch import nn

    from weitiao.tasks.base import Task
    from weitiao.training.loop import Loop

__all__ = ["Mixout"]


class Mixout(Hook):
    """Steps that know only a part of what the weights have learnt."""

    whole_weights: ClassVar[bool] = True

    class Settings(Options):
        """How large the other part is."""

        probability: float = Field(
            0.7, gt=0, lt=1, description="share of entries at their start in a step; the paper uses 0.7 to 0.9"
        )

    settings: Settings

    def __init__(self, settings: Options | None = None) -> None:
        super().__init__(settings)
        self._start: dict[str, torch.Tensor] = {}
        self._own: dict[str, torch.Tensor] = {}  # the weights themselves, while mixed ones stand in their place
        self._mask: dict[str, torch.Tensor] = {}

    def suits(self, model: nn.Module, task: Task) -> str | None:
        """Refuse a model of which no pretrained matrix trains."""
        return None if _matrices(model) else "no pretrained weight matrix of the model trains"

    def begin(self, loop: Loop) -> None:
        """Note where the matrices start, unless a checkpoint has told."""
        here = _matrices(loop.plain_model)
        if not self._start:
            self._start = {name: parameter.detach().clone() for name, parameter in here.items()}
        self._start = {name: value.to(here[name].device) for name, value in self._start.items()}

    def before_batch(self, loop: Loop, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Mix the weights, once a step: all micro-batches pass here before the first forward pass."""
        for name, parameter in _matrices(loop.plain_model).items():
            if name not in self._own:
                self._mix(name, parameter, derive_seed(loop.seed, "mixout", loop.position.step, name))
        return batch

    def before_step(self, loop: Loop) -> None:
        """Put the weights themselves back, and make the gradient theirs."""
        keep = 1.0 - self.settings.probability
        for name, parameter in _matrices(loop.plain_model).items():
            parameter.detach().copy_(self._own[name])
            if parameter.grad is not None:
                parameter.grad.masked_fill_(self._mask[name], 0.0).div_(keep)
        self._own, self._mask = {}, {}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return where the matrices started, by name."""
        return dict(self._start)

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take back where they started."""
        self._start = dict(state)

    def _mix(self, name: str, parameter: nn.Parameter, seed: int) -> None:
        import torch

        p, weight, start = self.settings.probability, parameter.detach(), self._start[name]
        generator = torch.Generator(weight.device).manual_seed(seed)
        mask = torch.rand(weight.shape, generator=generator, device=weight.device) < p
        rest = weight + (weight - start) * (p / (1.0 - p))  # so written it is exact where both are equal
        own, mixed = weight.clone(), torch.where(mask, start, rest)
        self._own[name], self._mask[name] = own, mask  # from here on nothing can run out of memory
        weight.copy_(mixed)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default and a weaker one."""
        return {"settings": {}, "variants": [{"probability": 0.3}], "idle": [{"probability": 0.0}]}


def _matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the matrices of dense layers that train and came with the checkpoint; under peft there are none."""
    from torch import nn

    if parts.unwrap(model) is not model:
        return {}
    fresh = parts.new_parameters(model) | parts.inserted_parameters(model)
    tables = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    return {
        name: p
        for name, p in model.named_parameters()
        if p.requires_grad and p.dim() > 1 and name not in fresh and id(p) not in tables
    }
