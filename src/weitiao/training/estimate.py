"""What a training will need, told before it begins: memory, by what needs it, and time.

Activations are not guessed from an architecture: one row is read, and what its forward pass keeps for the backward
pass is counted. Time is that of one step, taken without moving a weight.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from weitiao.training.loop import Loop
from weitiao.training.position import random_state, set_random_state
from weitiao.training.weights import local

__all__ = ["Estimate", "estimate"]

_MIB = 1 << 20


@dataclass(frozen=True)
class Estimate:
    """About what a training needs.

    Parameters
    ----------
    memory
        MiB of ``weights``, ``gradients``, ``optimizer``, and ``activations`` of the longest micro-batch.
    free
        MiB that the device has free now; ``None`` if that is not known.
    seconds
        Of all steps and measurements on dev.
    """

    memory: dict[str, float]
    free: float | None
    seconds: float

    def event(self) -> dict[str, Any]:
        """Return it as an event."""
        return {"event": "estimate", "memory_mib": self.memory, "free_mib": self.free, "seconds": self.seconds}


def estimate(loop: Loop, dev_rows: int = 0) -> Estimate:
    """Return what the steps that `loop` has still to take will need; no weight, gradient or random state changes.

    Parameters
    ----------
    dev_rows
        How many rows a measurement reads.
    """
    model = loop.plain_model
    weights = sum(_bytes(p) for p in model.parameters()) + sum(_bytes(b) for b in model.buffers())
    trained = sum(_bytes(p) for p in model.parameters() if p.requires_grad)
    remembers = loop.settings.optimizer.make("optimizers").remembers
    random = random_state()
    try:
        rows = loop.settings.micro_batch_size or max(len(step) for step in loop.order(0))
        held = _activations(loop, int(loop.train.lengths.argmax())) * rows
        seconds, share = _step_seconds(loop)
    finally:
        loop.optimizer.zero_grad()
        set_random_state(random)
    left = loop.total_steps - loop.position.step
    measured = dev_rows / max(1, len(loop.train)) * len(loop.order(0)) * seconds * share  # of one measurement
    often = loop.settings.evaluate_steps or len(loop.order(0))
    memory = {"weights": weights, "gradients": trained, "optimizer": trained * remembers, "activations": held}
    return Estimate(
        {name: size / _MIB for name, size in memory.items()},
        _free(loop.accelerator.device),
        left * seconds + left / often * measured,
    )


def _activations(loop: Loop, row: int) -> float:
    """Return the bytes that a training forward pass of one row keeps, weights not counted."""
    own = {local(p).untyped_storage().data_ptr() for p in loop.plain_model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = {k: v.to(loop.accelerator.device) for k, v in loop.train.batch([row]).items()}
    loop.prepare_to_train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = loop.forward(batch)
        _ = loop.task.loss(outputs, batch)
    return float(sum(kept.values()))


def _step_seconds(loop: Loop) -> tuple[float, float]:
    """Return how long a step of middling length takes, and what share of it is the forward pass."""
    order = sorted(loop.order(0), key=lambda rows: int(loop.train.lengths[rows].max()))
    rows = order[len(order) // 2]
    batch = {
        k: v.to(loop.accelerator.device) for k, v in loop.train.batch(rows[: loop.settings.micro_batch_size]).items()
    }
    times = []
    for _ in range(2):  # the first also warms up
        started = time.perf_counter()
        loss = loop.task.loss(loop.forward(batch), batch)
        forward = time.perf_counter() - started
        loss.backward()
        times.append((time.perf_counter() - started, forward))
    whole, forward = times[-1]
    return whole * len(rows) / len(batch["input_ids"]), forward / whole


def _bytes(tensor: torch.Tensor) -> int:
    tensor = local(tensor)
    return tensor.numel() * tensor.element_size()


def _free(device: torch.device) -> float | None:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / _MIB
    import psutil

    return psutil.virtual_memory().available / _MIB
