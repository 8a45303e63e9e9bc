"""Solve for what trains when all else is frozen: a smooth problem, minimised whole, to its optimum.

For each strength C of the L2 term, minimise over the weights w that train

    1/n * loss(w) + 1 / (2 C n) * sum over features j of  s_j^2 ||w_j||^2          biases are not shrunk

with s_j the standard deviation over the training rows of feature j as w reads it: what logistic regression with
scikit-learn's C does on standardized features, so that C means the same for every backbone. Or, where the features' own
proportions are what was learnt, with s_j the mean length of a row's features for all j: what it does on features of
mean length 1.

By L-BFGS in float64 over all rows, from the strongest L2 to the weakest, each from the optimum before, until the loss
on dev rises; the smallest is kept. There is no randomness.

Source: Liu and Nocedal, On the Limited Memory BFGS Method for Large Scale Optimization, 1989.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import nn

from weitiao.errors import TrainingError
from weitiao.models import parts
from weitiao.tasks.base import Features, Task
from weitiao.training.prefix import States, StoredBackbone

__all__ = ["logits", "solve"]

_CHUNK = 8192  # rows at a time in float64


def solve(
    model: nn.Module,
    task: Task,
    rows: Mapping[str, tuple[Features, States]],
    *,
    strengths: Sequence[float],
    standardized: bool = True,
    measure: Callable[[np.ndarray], Mapping[str, float]],
    report: Callable[[dict[str, Any]], None] = lambda event: None,
) -> list[dict[str, float]]:
    """Put the optimum into `model`'s training parameters.

    Parameters
    ----------
    rows
        Encoded rows and their frozen states, of ``train`` and, to choose by, of ``dev``.
    strengths
        Values of C to try.
    standardized
        Whether each feature is brought to its own scale, or all to one.
    measure
        Given dev logits ``(rows, classes)``, returns metrics for the history.

    Returns
    -------
    One entry a strength tried: ``C``, training ``loss``, ``dev_loss`` (means over items) and the metrics on dev.

    Raises
    ------
    TrainingError
        Several strengths, but no dev rows to choose by.
    """
    if "dev" not in rows and len(strengths) > 1:
        raise TrainingError("there are no dev rows to choose C by.", fix="Give one value of C, or dev rows.")
    problem = _Problem(model, task, rows, standardized=standardized)
    x = problem.start()
    history: list[dict[str, float]] = []
    best, lowest = x, float("inf")
    for c in sorted(strengths):
        options = {"maxiter": 2000, "maxcor": 20, "ftol": 1e-8, "gtol": 1e-5}
        found = minimize(problem.value, x, args=(c,), jac=True, method="L-BFGS-B", options=options)
        x = found.x
        entry = {"C": c, "loss": problem.mean_loss(x, "train"), "iterations": float(found.nit)}
        entry["converged"] = float(found.nit < options["maxiter"])
        if "dev" in rows:
            entry |= {"dev_loss": problem.mean_loss(x, "dev"), **measure(problem.logits(x, "dev"))}
        history.append(entry)
        report({"event": "solved", **entry})
        if entry.get("dev_loss", 0.0) >= lowest:
            break  # weaker L2 only fits train better from here on
        best, lowest = x.copy(), entry.get("dev_loss", 0.0)
    problem.put_into(model, best)
    return history


@torch.inference_mode()
def logits(model: nn.Module, task: Task, features: Features, states: States) -> np.ndarray:
    """Return what a model with a frozen backbone says of rows whose states are known, ``(rows, classes)``."""
    small, stored = _without_backbone(model)
    small.eval()
    said = []
    for stored.current, batch in _chunks(features, states, next(small.parameters()).dtype):
        said.append(task.logits(_call(small, stored), batch).float())
    return torch.cat(said).numpy()


def _without_backbone(model: nn.Module) -> tuple[nn.Module, StoredBackbone]:
    """Return a copy of the model on the CPU, with stored states in its backbone's place."""
    backbone = parts.backbone(model)
    stored = StoredBackbone(backbone.config)
    memo: dict[int, Any] = {id(backbone): stored}  # deepcopy takes this for the backbone
    return copy.deepcopy(model, memo).cpu(), stored


def _call(small: nn.Module, stored: StoredBackbone) -> Any:
    pad = getattr(stored.config, "pad_token_id", None) or 0
    rows = len(stored.current.last_hidden_state)
    ids = torch.full((rows, 1), pad + 1)  # any token but padding: its place counts
    return small(input_ids=ids, attention_mask=torch.ones_like(ids))


class _Problem:
    """A float64 copy of the model without its backbone, as a function of one vector of weights on scaled features."""

    def __init__(
        self, model: nn.Module, task: Task, rows: Mapping[str, tuple[Features, States]], *, standardized: bool
    ) -> None:
        self.small, self.stored = _without_backbone(model)
        self.small.double().eval()
        self.task, self.size = task, len(rows["train"][0])
        self.chunks = {name: list(_chunks(*both)) for name, both in rows.items()}
        self.weights = [p for p in self.small.parameters() if p.requires_grad]
        self.scales = self._scales(each=standardized)

    @torch.no_grad()
    def _scales(self, *, each: bool) -> list[torch.Tensor]:
        """Return what brings the features that each weight matrix reads to scale, ``(features,)``; one for a bias.

        They are taken where the matrix reads them: a dense layer of the checkpoint may stand before it.
        """
        owners = {id(own): module for module in self.small.modules() for own in module.parameters(recurse=False)}
        read: dict[int, list[torch.Tensor]] = {id(w): [] for w in self.weights if w.dim() > 1}
        hooks = [owners[key].register_forward_pre_hook(partial(_keep, kept)) for key, kept in read.items()]
        for stored, _ in self.chunks["train"]:
            self._call(stored)
        for hook in hooks:
            hook.remove()
        scales = []
        for w in self.weights:
            if w.dim() == 1:
                scales.append(torch.ones((), dtype=w.dtype))
                continue
            features = torch.cat(read[id(w)]).flatten(0, -2)
            scale = features.std(0) if each else features.norm(dim=1).mean().expand(w.shape[1])
            scales.append(torch.where(scale > 1e-8, scale, 1.0))  # what never changes has no scale to bring it to
        return scales

    def start(self) -> np.ndarray:
        """Return where the weights are now."""
        pieces = zip(self.weights, self.scales, strict=True)
        return torch.cat([(w.detach() * scale).flatten() for w, scale in pieces]).numpy().copy()

    def value(self, x: np.ndarray, c: float) -> tuple[float, np.ndarray]:
        """Return the objective and its gradient."""
        self._assign(x)
        for w in self.weights:
            w.grad = None
        total = 0.0
        for stored, batch in self.chunks["train"]:
            loss = self.task.loss(self._call(stored), batch) / self.size
            loss.backward()
            total += loss.item()
        gradients = []
        for w, scale in zip(self.weights, self.scales, strict=True):
            gradient = w.grad / scale if w.grad is not None else torch.zeros_like(w)
            if w.dim() > 1:
                standard = w.detach() * scale
                total += (standard**2).sum().item() / (2 * c * self.size)
                gradient = gradient + standard / (c * self.size)
            gradients.append(gradient.flatten())
        return total, torch.cat(gradients).numpy()

    @torch.no_grad()
    def mean_loss(self, x: np.ndarray, split: str) -> float:
        """Return the task's loss, a mean over items."""
        self._assign(x)
        items = sum(self.task.items(batch) for _, batch in self.chunks[split])
        return sum(self.task.loss(self._call(stored), batch).item() for stored, batch in self.chunks[split]) / items

    @torch.no_grad()
    def logits(self, x: np.ndarray, split: str) -> np.ndarray:
        """Return ``(rows, classes)``."""
        self._assign(x)
        said = [self.task.logits(self._call(stored), batch) for stored, batch in self.chunks[split]]
        return torch.cat(said).numpy()

    @torch.no_grad()
    def put_into(self, model: nn.Module, x: np.ndarray) -> None:
        """Give the model's training parameters these values."""
        self._assign(x)
        trained = dict(self.small.named_parameters())
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and name in trained:  # a backbone that was tuned before stays as it is
                parameter.copy_(trained[name].to(parameter.dtype))

    def _call(self, stored: Any) -> Any:
        self.stored.current = stored
        return _call(self.small, self.stored)

    @torch.no_grad()
    def _assign(self, x: np.ndarray) -> None:
        at = 0
        for w, scale in zip(self.weights, self.scales, strict=True):
            w.copy_(torch.from_numpy(x[at : at + w.numel()]).view_as(w) / scale)
            at += w.numel()


def _keep(kept: list[torch.Tensor], _module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
    kept.append(given[0].detach())


def _chunks(
    features: Features, states: States, dtype: torch.dtype = torch.float64
) -> Iterator[tuple[Any, dict[str, torch.Tensor]]]:
    """Yield what the backbone said of some rows, and their targets."""
    targets = torch.tensor([row.get("labels", -1) for row in features.inputs])  # rows that are only asked have none
    for start in range(0, len(features), _CHUNK):
        rows = slice(start, start + _CHUNK)
        yield states.output(rows, dtype), {"labels": targets[rows]}
