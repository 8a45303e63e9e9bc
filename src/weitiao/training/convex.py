"""Solve for what trains when all else is frozen: a smooth problem, minimised whole, to its optimum.

For each strength C of the L2 term (as scikit-learn counts it) minimise over the weights w that train

    1/n * loss(w) + 1 / (2 C n) * ||w||^2          biases are not shrunk

by L-BFGS in float64 over all rows, from the strongest L2 to the weakest, each from the optimum before; the
strength with the best main metric on dev is kept, among equals the one with the smallest loss on dev. There is no
randomness.

Source: Liu and Nocedal, On the Limited Memory BFGS Method for Large Scale Optimization, 1989.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import nn

from weitiao.errors import TrainingError
from weitiao.models import parts
from weitiao.tasks.base import Features, Task
from weitiao.training.prefix import States, StoredBackbone

__all__ = ["STRENGTHS", "solve"]

STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)
_CHUNK = 8192  # rows at a time in float64


def solve(
    model: nn.Module,
    task: Task,
    rows: Mapping[str, tuple[Features, States]],
    *,
    strengths: Sequence[float],
    measure: Callable[[np.ndarray], Mapping[str, float]],
    higher_is_better: bool,
    report: Callable[[dict[str, Any]], None] = lambda event: None,
) -> list[dict[str, float]]:
    """Put the optimum into `model`'s training parameters.

    Parameters
    ----------
    rows
        Encoded rows and their frozen states, of ``train`` and, to choose by, of ``dev``.
    strengths
        Values of C.
    measure
        Given dev logits ``(rows, classes)``, returns metrics; the first is the main one.

    Returns
    -------
    One entry a strength: ``C``, training ``loss`` (a mean over items) and the metrics on dev.

    Raises
    ------
    TrainingError
        Several strengths, but no dev rows to choose by.
    """
    (train, states), dev = rows["train"], rows.get("dev")
    if dev is None and len(strengths) > 1:
        raise TrainingError("there are no dev rows to choose method.C by.", fix="Give one value of C, or dev rows.")
    small = _on_stored_states(model)
    weights = [p for p in small.parameters() if p.requires_grad]
    targets = _targets(train)
    x = _flat(weights)
    history: list[dict[str, float]] = []
    best: tuple[tuple[float, float], np.ndarray] | None = None
    for c in sorted(strengths):
        found = minimize(
            _objective(small, task, weights, states, targets, c),
            x,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 1000, "maxcor": 20, "ftol": 1e-10, "gtol": 1e-6},
        )
        x = found.x
        _assign(weights, x)
        entry = {"C": c, "loss": _mean_loss(small, task, states, targets), "iterations": int(found.nit)}
        score = (0.0, 0.0)
        if dev is not None:
            metrics = dict(measure(_logits(small, task, dev[1])))
            entry |= metrics
            main = next(iter(metrics.values())) * (1 if higher_is_better else -1)
            score = (main, -_mean_loss(small, task, dev[1], _targets(dev[0])))
        history.append(entry)
        report({"event": "solved", **entry})
        if best is None or score > best[0]:
            best = (score, x.copy())
    if best is not None:
        _assign(weights, best[1])
    trained = dict(small.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(trained[name].to(parameter.dtype))
    return history


def _on_stored_states(model: nn.Module) -> nn.Module:
    """Return a float64 copy of `model` without its backbone."""
    backbone = parts.backbone(model)
    memo: dict[int, Any] = {id(backbone): StoredBackbone(backbone.config)}  # deepcopy takes this for the backbone
    return copy.deepcopy(model, memo).double().cpu().eval()


def _targets(features: Features) -> torch.Tensor:
    return torch.tensor([row["labels"] for row in features.inputs])


def _call(small: nn.Module, states: States, rows: slice) -> Any:
    stored = next(m for m in small.modules() if isinstance(m, StoredBackbone))
    stored.current = states.output(rows, torch.float64)
    count = stored.current.last_hidden_state.shape[0]
    pad = getattr(stored.config, "pad_token_id", None) or 0
    ids = torch.full((count, 1), pad + 1)  # any token that is not padding: only its position counts
    return small(input_ids=ids, attention_mask=torch.ones_like(ids))


def _chunks(states: States) -> list[slice]:
    return [slice(i, i + _CHUNK) for i in range(0, len(states.hidden), _CHUNK)]


def _objective(
    small: nn.Module,
    task: Task,
    weights: Sequence[nn.Parameter],
    states: States,
    targets: torch.Tensor,
    c: float,
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    n = len(targets)

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        _assign(weights, x)
        for w in weights:
            w.grad = None
        total = 0.0
        for rows in _chunks(states):
            loss = task.loss(_call(small, states, rows), {"labels": targets[rows]}) / n
            loss.backward()
            total += loss.item()
        penalty = torch.stack([(w**2).sum() for w in weights if w.dim() > 1]).sum() / (2 * c * n)
        penalty.backward()
        return total + penalty.item(), torch.cat([w.grad.flatten() for w in weights]).numpy()  # type: ignore[union-attr]

    return value


@torch.no_grad()
def _mean_loss(small: nn.Module, task: Task, states: States, targets: torch.Tensor) -> float:
    sums = [task.loss(_call(small, states, rows), {"labels": targets[rows]}).item() for rows in _chunks(states)]
    return sum(sums) / len(targets)


@torch.no_grad()
def _logits(small: nn.Module, task: Task, states: States) -> np.ndarray:
    return np.concatenate([task.logits(_call(small, states, rows), {}).numpy() for rows in _chunks(states)])


def _flat(weights: Sequence[nn.Parameter]) -> np.ndarray:
    return torch.cat([w.detach().flatten() for w in weights]).numpy().copy()


def _assign(weights: Sequence[nn.Parameter], x: np.ndarray) -> None:
    start = 0
    with torch.no_grad():
        for w in weights:
            w.copy_(torch.from_numpy(x[start : start + w.numel()]).view_as(w))
            start += w.numel()
