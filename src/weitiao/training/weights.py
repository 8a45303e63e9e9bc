"""The weights of a model that trains: read, kept where they were best, and put back; whole, or a part in each process.

In parts, a layer's weights are put together only while it runs, and each process steps its own part: of weights,
gradients and what the optimizer remembers it holds one part in as many as there are processes. What is written to the
disk is whole either way, so that a run goes on with another number of processes.

Source: Rajbhandari, Rasley, Ruwase and He, ZeRO: Memory Optimizations Toward Training Trillion Parameter Models, 2019,
arXiv:1910.02054 (stage 3); Zhao et al., PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel, 2023,
arXiv:2304.11277 (its second version, ``fully_shard``).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from weitiao.errors import ModelError, RecipeError
from weitiao.models.parts import layers
from weitiao.training.checkpoint import Checkpoints, load_optimizer, optimizer_state
from weitiao.training.groups import Groups
from weitiao.training.processes import Processes

__all__ = ["Weights", "local", "refuse_whole"]

Tensors = Mapping[str, torch.Tensor]


class Weights:
    """The weights of a model, and the best of them so far.

    Parameters
    ----------
    model
        Holds the best weights after `restore_best`.
    processes
        That share the training.
    checkpoints
        Where the best are kept; ``None``: in memory.
    in_parts
        Whether each process holds a part of them.

    Attributes
    ----------
    trained
        The model that trains: a copy, where each process holds a part.

    Raises
    ------
    RecipeError
        There is only one process to hold a part.
    """

    def __init__(
        self, model: nn.Module, processes: Processes, checkpoints: Checkpoints | None, *, in_parts: bool = False
    ) -> None:
        self.model, self.processes, self.checkpoints, self.in_parts = model, processes, checkpoints, in_parts
        self.best_in_memory: dict[str, torch.Tensor] = {}
        self.trained: Any = model
        if not in_parts:
            return
        if processes.count == 1:
            raise RecipeError(
                "resources.shard has no effect in one process, which holds all of the weights.",
                fix="Start several, such as: torchrun --nproc-per-node 2 -m weitiao.cli run RECIPE; or leave it out.",
            )
        self._device = next(model.parameters()).device
        self.trained = copy.deepcopy(model.to("cpu")).to(self._device)  # it stays there until the end: for its place

    def shard(self, groups: Groups) -> Groups:
        """Give each process its part of every weight; return the groups with the parameters that there are now."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        names = {id(p): name for name, p in self.trained.named_parameters()}
        mesh = init_device_mesh(self._device.type, (self.processes.count,))
        try:
            blocks = list(layers(self.trained))
        except ModelError:  # it has no layers: all of it is put together at once
            blocks = []
        for block in blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(self.trained, mesh=mesh)
        now = dict(self.trained.named_parameters())
        return [group | {"params": [now[names[id(p)]] for p in group["params"]]} for group in groups]

    def whole(self) -> dict[str, torch.Tensor]:
        """Return what trains, by name; in parts, all processes have to ask, and get it in the CPU's memory."""
        weights = {name: p.detach() for name, p in self.trained.named_parameters() if p.requires_grad}
        return {name: _whole(value).cpu() for name, value in weights.items()} if self.in_parts else weights

    def load(self, weights: Tensors) -> None:
        """Give the model that trains these weights."""
        with torch.no_grad():
            for name, parameter in self.trained.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(_part_of(parameter, weights[name]))

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
        """Return the optimizer's state, whole; in parts, all processes have to ask, and the main one gets it."""
        state = optimizer_state(optimizer)
        if not self.in_parts:
            return state
        gathered = ((name, _whole(value)) for name, value in state.items())
        return {name: value.cpu() for name, value in gathered if self.processes.main}

    def load_optimizer(self, optimizer: torch.optim.Optimizer, flat: Tensors) -> None:
        """Give the optimizer back what `optimizer_state` returned."""
        if self.in_parts:
            owners = [p for group in optimizer.param_groups for p in group["params"]]
            flat = {key: _part_of(owners[int(key.partition(".")[0])], value) for key, value in flat.items()}
        load_optimizer(optimizer, flat)

    def keep_best(self, step: int) -> None:
        """Keep the weights as they are now, on the disk if they can be: there they take no memory."""
        self.best_in_memory, in_memory, weights = {}, self.checkpoints is None, self.whole()
        if self.checkpoints is not None and self.processes.main:
            try:
                self.checkpoints.keep_best(step, weights)
            except OSError:
                in_memory = True
        if any(self.processes.any(in_memory)):  # where one has to hold them, all do
            self.best_in_memory = {name: value.clone() for name, value in weights.items()}

    def restore_best(self, step: int) -> None:
        """Put the best weights, those of `step`, into the model; 0: the weights as they are now."""
        if not step:
            self.best_in_memory = {name: value.clone() for name, value in self.whole().items()}
        self.processes.wait()
        if not self.best_in_memory and self.checkpoints is not None:
            self.best_in_memory = self.checkpoints.best(step)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(self.best_in_memory[name])
        self.best_in_memory = {}
        if self.in_parts:
            self.trained = self.model.to(self._device)


def refuse_whole(members: Iterable[Any]) -> None:
    """Refuse hooks and optimizers that say that they need ``whole_weights``.

    Raises
    ------
    RecipeError
        Names the first of them.
    """
    if name := next((member.name for member in members if member.whole_weights), None):
        raise RecipeError(
            f"{name} works on whole weights, and with resources.shard each process holds a part of them.",
            fix="Leave one of the two out.",
        )


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return the part of a tensor that this process holds."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor  # type: ignore[operator]


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # type: ignore[operator]


def _part_of(like: Any, value: torch.Tensor) -> torch.Tensor:
    """Return this process's part of a value, where `like` is in parts and the value is one of its shape."""
    if not hasattr(like, "full_tensor") or hasattr(value, "full_tensor") or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
