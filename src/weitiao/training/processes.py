"""The processes that share a training: which one writes, and what all of them have to do alike.

Every process reads the same rows, builds the same model and takes its share of each step. One, the *main* one, also
measures, writes and reports. Whatever decides what happens next is decided in one place and told to the others, so
that no process goes on while another stops.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env

from weitiao.errors import RecipeError, TrainingError

__all__ = ["Processes"]

T = TypeVar("T")
_IN_PARTS = ("FSDP", "DEEPSPEED", "MEGATRON_LM")  # as accelerate calls them
_PATIENCE = timedelta(hours=12)  # the main process may measure for long; one that died is noticed by the launcher


class Processes:
    """Those that were started together, by ``accelerate launch``, ``torchrun`` or Ray; one if nobody did.

    Raises
    ------
    RecipeError
        They were started for FSDP or the like, where each process holds a part of the weights.

    Attributes
    ----------
    count, rank
        How many there are, and which this is.
    """

    def __init__(self) -> None:
        for kind in _IN_PARTS:
            if parse_flag_from_env(f"ACCELERATE_USE_{kind}"):
                raise RecipeError(
                    f"the processes were started for {kind}, where each holds a part of the weights; here the recipe "
                    "says so.",
                    fix="Start them with accelerate launch --multi_gpu, or with torchrun; resources.shard: true gives "
                    "each a part.",
                )
        # accelerate asks the environment only for its own launcher's word; torchrun and Ray start on CPUs too
        cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or (
            "RANK" in os.environ and not torch.accelerator.is_available()
        )
        self._state = PartialState(cpu=cpu, timeout=_PATIENCE)  # the second and later ones find the first's
        self.count, self.rank = self._state.num_processes, self._state.process_index

    @property
    def main(self) -> bool:
        """Whether this is the one that measures, writes and reports."""
        return self.rank == 0

    def wait(self) -> None:
        """Go on when all processes are here."""
        self._state.wait_for_everyone()

    def on_main(self, act: Callable[[], T]) -> T:
        """Let the main process do something, and return what it got in all of them.

        Raises
        ------
        TrainingError
            In the others, if it raised in the main process.
        """
        if self.count == 1:
            return act()
        outcome: list[Any] = [None, None]
        if self.main:
            try:
                outcome[0] = act()
            except BaseException as error:
                broadcast_object_list([None, f"{type(error).__name__}: {error}"])
                raise
        broadcast_object_list(outcome)
        if outcome[1] is not None:
            raise TrainingError(f"the main process stopped. {outcome[1]}")
        return outcome[0]

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return each flag, raised if it is raised in any process."""
        if self.count == 1:
            return flags
        raised = torch.tensor(flags, dtype=torch.int32, device=self._state.device)
        torch.distributed.all_reduce(raised)
        return tuple(bool(flag) for flag in raised.tolist())

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, in their order."""
        return [value] if self.count == 1 else gather_object([value])

    def agree(self, value: Any, what: str) -> None:
        """Make sure that all processes have the same.

        Raises
        ------
        TrainingError
            They have not.
        """
        differ = [str(rank) for rank, theirs in enumerate(self.gather(value)) if theirs != value]
        if any(self.any(bool(differ))):
            raise TrainingError(
                f"{what} differ between the main process and process {', '.join(differ) or self.rank}.",
                fix="Start every process with the same recipe, in folders that hold the same files.",
            )

    @contextmanager
    def main_first(self, *, of_machine: bool = False) -> Iterator[None]:
        """Let the main process, or one of each machine, go through the block before the others."""
        turn = self._state.local_main_process_first if of_machine else self._state.main_process_first
        with turn():
            yield
