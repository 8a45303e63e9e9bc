"""Learn low-rank updates that begin with a larger rank, and keep it where it matters.

A weight W becomes W + alpha / rank * P diag(e) Q. A triplet (a column of P, an entry of e, a row of Q) is worth what
the loss would change without it: weight times gradient, smoothed over steps, times how much that wavers. After a
warmup the number of triplets of all layers together falls along a cubic curve to a budget, those worth least going
first (their e is set to zero, and may come back); the last steps train what is left. A penalty keeps P and Q near
orthogonal, so that triplets can be told apart.

Source: Zhang et al., AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning, 2023, arXiv:2303.10512.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from pydantic import Field, model_validator

from weitiao.methods._peft import PeftMethod, Placed
from weitiao.plugins import Options

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["AdaLora"]

_SMOOTHING = 0.85  # of worth and of how much it wavers; the paper's
_FACTORS = ("lora_A", "lora_E", "lora_B")


class AdaLora(PeftMethod):
    """Low-rank updates whose ranks share a budget, and the head."""

    class Settings(Placed):
        """Size, place and schedule of the updates."""

        rank: int = Field(12, ge=2, description="rank of every update at first")
        target_rank: int = Field(8, ge=1, description="mean rank at the end: the budget is so much a layer")
        alpha: float = Field(24.0, gt=0, description="scale: an update counts alpha / rank")
        dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the input of an update")
        warmup_share: float = Field(0.1, ge=0, lt=1, description="share of the steps before any rank falls")
        final_share: float = Field(0.3, ge=0, lt=1, description="share of the steps, the last, that keep their ranks")
        orthogonality: float = Field(0.5, ge=0, description="weight of the penalty on factors that are not orthogonal")

        @model_validator(mode="after")
        def _falls(self) -> AdaLora.Settings:
            if self.target_rank >= self.rank:
                raise ValueError(f"target_rank {self.target_rank} is not below rank {self.rank}; use lora")
            if self.warmup_share + self.final_share >= 1:
                raise ValueError("warmup_share and final_share leave no step for the ranks to fall in")
            return self

    what: ClassVar[str] = "AdaLoRA"
    learning_rate: ClassVar[float] = 1e-2
    head_learning_rate: ClassVar[float | None] = None
    settings: Settings

    def __init__(self, settings: Options | None = None) -> None:
        super().__init__(settings)
        self._state: WeakKeyDictionary[nn.Module, dict[str, torch.Tensor]] = WeakKeyDictionary()

    def config(self, model: nn.Module, targets: list[str], *, seed: int) -> Any:
        """Return PEFT's configuration of AdaLoRA; the schedule is written into it once the steps are known."""
        from peft import AdaLoraConfig

        return AdaLoraConfig(
            init_r=self.settings.rank,
            target_r=self.settings.target_rank,
            lora_alpha=self.settings.alpha,  # type: ignore[arg-type]  # peft multiplies by it; a float is right
            lora_dropout=self.settings.dropout,
            orth_reg_weight=self.settings.orthogonality,
            beta1=_SMOOTHING,
            beta2=_SMOOTHING,
            total_step=1,
            target_modules=targets,
        )

    def penalty(self, model: nn.Module) -> torch.Tensor:
        """Return how far the factors are from orthogonal: the mean norm of P^T P - I and Q Q^T - I."""
        import torch

        far = []
        for layer in _layers(model).values():
            q, p = layer.lora_A["default"], layer.lora_B["default"]
            far += [torch.linalg.norm(q @ q.T - torch.eye(len(q), device=q.device, dtype=q.dtype))]
            far += [torch.linalg.norm(p.T @ p - torch.eye(len(q), device=q.device, dtype=q.dtype))]
        return self.settings.orthogonality * torch.stack(far).mean()

    def before_step(self, model: nn.Module, step: int, steps: int) -> None:
        """Take the worth of every number from its gradient, while ranks may still change."""
        import torch

        state = self._state.setdefault(model, {})
        state["steps"] = torch.tensor(steps)
        self._write_schedule(model, steps)
        if step >= steps - self._schedule(steps)[1]:
            return
        numbers = {
            f"{path}.{factor}": getattr(layer, factor)["default"]
            for path, layer in _layers(model).items()
            for factor in _FACTORS
        }
        if not all(p.grad is not None and p.grad.isfinite().all() for p in numbers.values()):
            return  # the loop leaves such a step out, or stops
        with torch.no_grad():
            for name, p in numbers.items():
                now = (p * p.grad).abs()
                worth = state.get(f"worth:{name}", torch.zeros_like(now))
                wavers = state.get(f"wavers:{name}", torch.zeros_like(now))
                worth = _SMOOTHING * worth + (1 - _SMOOTHING) * now
                wavers = _SMOOTHING * wavers + (1 - _SMOOTHING) * (now - worth).abs()
                state[f"worth:{name}"], state[f"wavers:{name}"] = worth, wavers

    def after_step(self, model: nn.Module, step: int, steps: int) -> None:
        """Set the triplets worth least to zero, as many as the budget of this step says."""
        warmup, final = self._schedule(steps)
        state, layers = self._state.get(model, {}), _layers(model)
        if step <= warmup or not any(key.startswith("worth:") for key in state):
            return
        keep = {path: state[f"keep:{path}"] for path in layers if f"keep:{path}" in state}
        if not keep:
            keep = self._worth_most(state, layers, self._budget(step, steps, len(layers)))
            if step >= steps - final:  # these are the ranks to stay
                state |= {f"keep:{path}": mask for path, mask in keep.items()}
        for path, layer in layers.items():
            e = layer.lora_E["default"]
            e.data.masked_fill_(~keep[path].to(e.device)[:, None], 0.0)

    def state_dict(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """Return worths, how they waver, and the ranks that were decided."""
        return dict(self._state.get(model, {}))

    def load_state_dict(self, model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
        """Take them back."""
        device = next(model.parameters()).device
        self._state[model] = {name: value.to(device) for name, value in state.items()}
        if "steps" in state:  # there may be no step left that would tell
            self._write_schedule(model, int(state["steps"]))

    def outcome(self, model: nn.Module) -> dict[str, Any]:
        """Return the budget and the rank of each layer; weights from before the last phase may be above the budget."""
        ranks = {path: int(layer.lora_E["default"].count_nonzero()) for path, layer in _layers(model).items()}
        return {"budget": self.settings.target_rank * len(ranks), "kept": sum(ranks.values()), "ranks": ranks}

    def _write_schedule(self, model: nn.Module, steps: int) -> None:
        """Put the schedule into PEFT's configuration, which is saved."""
        config: Any = model.peft_config["default"]  # type: ignore[index, union-attr]
        config.total_step = steps
        config.tinit, config.tfinal = self._schedule(steps)

    def _schedule(self, steps: int) -> tuple[int, int]:
        """Return how many steps come before the ranks fall, and how many after."""
        return int(self.settings.warmup_share * steps), int(self.settings.final_share * steps)

    def _budget(self, step: int, steps: int, layers: int) -> int:
        """Return how many triplets there may be after `step` steps."""
        warmup, final = self._schedule(steps)
        first, last = self.settings.rank * layers, self.settings.target_rank * layers
        left = 1 - min(1.0, (step - warmup) / (steps - final - warmup))
        return int(last + (first - last) * left**3)

    def _worth_most(
        self, state: Mapping[str, torch.Tensor], layers: Mapping[str, Any], budget: int
    ) -> dict[str, torch.Tensor]:
        """Return for each layer which of its triplets are among the `budget` worth most."""
        import torch

        def score(path: str, factor: str) -> torch.Tensor:
            name = f"{path}.{factor}"
            return state[f"worth:{name}"] * state[f"wavers:{name}"]

        each = [score(p, "lora_A").mean(1) + score(p, "lora_E")[:, 0] + score(p, "lora_B").mean(0) for p in layers]
        order = torch.cat(each).argsort(descending=True, stable=True)
        keep = torch.zeros(len(order), dtype=torch.bool, device=order.device)
        keep[order[:budget]] = True
        return dict(zip(layers, keep.split([len(one) for one in each]), strict=True))

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return small ranks, and one variant a setting."""
        base: dict[str, Any] = {"rank": 4, "target_rank": 3}
        variants: list[dict[str, Any]] = [{"rank": 6}, {"target_rank": 2}, {"alpha": 2.0}, {"dropout": 0.5}]
        variants += [{"warmup_share": 0.5}, {"final_share": 0.7}, {"orthogonality": 0.1}]
        variants += [{"target_modules": "all"}, {"last_layers": 1}, {"merge": True}]
        return {"settings": base, "variants": [base | variant for variant in variants]}


def _layers(model: nn.Module) -> dict[str, Any]:
    """Return the layers with triplets, by their path in the plain model."""
    from peft.tuners.adalora import AdaLoraLayer

    inner: Any = model
    return {path: m for path, m in inner.get_base_model().named_modules() if isinstance(m, AdaLoraLayer)}
