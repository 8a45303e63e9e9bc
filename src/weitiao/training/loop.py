"""The heart: steps until done. Which task, which method and which regularizers, it does not know.

Five laws, each with a test that can fail (``tests/laws``):

window
    cutting a step into micro-batches changes nothing: a task's loss is a *sum*, and the loop divides it by the
    items of the whole window.
process
    nor does the number of processes that share a step.
resume
    a run killed at any instant ends with the same bits as one that was not.
reference
    without hooks, on whole batches, the weights equal those of the Hugging Face ``Trainer``.
honesty
    a loss that is not finite stops the run and names the rows.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from weitiao.data.batch import cut, epoch_order, steps_per_epoch
from weitiao.errors import TrainingError
from weitiao.randomness import derive_seed
from weitiao.tasks.base import Features, Task
from weitiao.training.checkpoint import Checkpoints, load_optimizer, optimizer_state
from weitiao.training.hook import Hook
from weitiao.training.optimizer import build_optimizer, rate_factor, set_rate
from weitiao.training.settings import TrainingSettings

__all__ = ["Loop", "Outside", "Position"]

Batch = dict[str, torch.Tensor]


@dataclass
class Position:
    """Where training stands; with the tensors of a checkpoint, all that a resumed run needs."""

    step: int = 0  # steps taken in all
    epoch: int = 0
    step_in_epoch: int = 0
    loss: float = float("nan")  # of the last step
    best_step: int = 0  # 0: not measured yet
    best_score: float = float("nan")
    since_best: int = 0  # measurements since the best
    seconds: float = 0.0  # in all attempts
    history: list[dict[str, float]] = field(default_factory=list)  # one entry a measurement on dev
    done: bool = False


@dataclass(frozen=True)
class Outside:
    """What a training has around it; all of it can be left out.

    Parameters
    ----------
    checkpoints
        Where a killed run finds itself again.
    measure
        Called with the model now and then, returns metrics on dev; the first chooses the best weights.
    higher_is_better
        Direction of that metric.
    report
        Called with one event, a mapping of JSON values, after each step and measurement.
    accelerator
        Devices and processes.
    """

    checkpoints: Checkpoints | None = None
    measure: Callable[[nn.Module], Mapping[str, float]] | None = None
    higher_is_better: bool = True
    report: Callable[[dict[str, Any]], None] = lambda event: None
    accelerator: Accelerator = field(default_factory=lambda: Accelerator())


class Loop:
    """Train a model on encoded rows.

    Parameters
    ----------
    model
        Parameters that train have ``requires_grad``; left with the best weights after `run`.
    task
        Gives the loss.
    train
        Encoded rows with targets.
    settings, seed
        How.
    hooks
        In the order of the recipe.
    outside
        Checkpoints, measurement on dev, reporting, devices.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        train: Features,
        settings: TrainingSettings,
        seed: int = 0,
        hooks: Sequence[Hook] = (),
        outside: Outside | None = None,
    ) -> None:
        outside = outside or Outside()
        self.task, self.train, self.settings, self.seed, self.hooks = task, train, settings, seed, hooks
        self.checkpoints, self.measure, self.report = outside.checkpoints, outside.measure, outside.report
        self.higher_is_better, self.accelerator = outside.higher_is_better, outside.accelerator
        self.plain_model = model.to(self.accelerator.device)
        self.learning_rate = settings.learning_rate or 5e-5  # the recipe always fills it
        optimizer = build_optimizer(model, settings, self.learning_rate)
        self.model, self.optimizer = self.accelerator.prepare(self.plain_model, optimizer)
        self.steps_per_epoch = steps_per_epoch(len(train), settings.batch_size)
        self.total_steps = min(self.steps_per_epoch * settings.epochs, settings.max_steps or 2**62)
        self.position = Position()
        self.items = 0  # in the present window, over all processes
        self._best: Mapping[str, torch.Tensor] = {}
        self._lengths = train.lengths
        self._interrupted = False

    def run(self) -> Position:
        """Train to the end, or to patience's; then put the best weights back.

        Raises
        ------
        TrainingError
            The loss is not finite.
        KeyboardInterrupt
            After a checkpoint was written.
        """
        torch.manual_seed(derive_seed(self.seed, "dropout"))
        self.resume()
        self.call("begin")
        saved_at = counted_at = time.monotonic()
        with self._finishing_the_step_on_interrupt():
            while not self.position.done:
                self.take_step()
                if self._measurement_due():
                    self.evaluate()
                self.position.done = self.position.done or self.position.step >= self.total_steps
                now = time.monotonic()
                self.position.seconds, counted_at = self.position.seconds + now - counted_at, now
                due = now - saved_at >= self.settings.checkpoint_seconds
                if due or self.position.done or self._interrupted:
                    self.save()
                    saved_at = counted_at = time.monotonic()
                if self._interrupted:
                    raise KeyboardInterrupt
        self.call("finish")
        self._restore_best()
        return self.position

    def take_step(self) -> None:
        """Take the next step of the data order."""
        here, started = self.position, time.perf_counter()
        order = self._order(here.epoch)
        rows = order[here.step_in_epoch]
        rate = self.learning_rate * rate_factor(here.step, self.total_steps, self.settings)
        set_rate(self.optimizer, rate)
        here.loss = self.update(rows)
        here.step, here.step_in_epoch = here.step + 1, here.step_in_epoch + 1
        self.call("after_step")
        epoch = here.epoch + here.step_in_epoch / len(order)
        if here.step_in_epoch == len(order):
            here.epoch, here.step_in_epoch = here.epoch + 1, 0
            self.call("after_epoch")
        self.report(
            {
                "event": "step",
                "step": here.step,
                "total": self.total_steps,
                "epoch": epoch,
                "loss": here.loss,
                "learning_rate": rate,
                "rows": len(rows),
                "rows_per_second": len(rows) / (time.perf_counter() - started),
            }
        )

    def update(self, rows: np.ndarray) -> float:
        """Take one optimizer step on `rows`; return their mean loss, hooks' terms included.

        Equal to one step on all of them joined into a single batch on a single device.
        """
        self.model.train()
        window = self._window(rows)
        for hook in self._having("before_batch"):
            window = [(hook.before_batch(self, batch), share) for batch, share in window]
        self.items = int(self._total(sum(self.task.items(batch) for batch, share in window if share)))
        total = 0.0
        for i, (batch, share) in enumerate(window):
            last = i == len(window) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                outputs = self.forward(batch)
                loss = share * self.task.loss(outputs, batch) / self.items
                for hook in self._having("loss"):
                    loss = loss + share * self.task.items(batch) / self.items * hook.loss(self, batch, outputs)
                # DDP averages over processes, and we want their sum
                self.accelerator.backward(loss * self.accelerator.num_processes)
            total += loss.item()
            self.call("after_backward", batch)
        self.call("before_step")
        total = self._total(total)
        if not np.isfinite(total):
            raise self._not_finite(total, rows)
        if self.settings.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total

    def forward(self, batch: Batch) -> Any:
        """Call the model; never with the targets, for the loss is ours."""
        with self.accelerator.autocast():
            return self.model(**self.task.model_inputs(batch))

    def evaluate(self) -> None:
        """Measure on dev, and keep the weights if they are the best so far."""
        here = self.position
        if self.measure is None:
            return
        metrics = dict(self.measure(self.plain_model))
        score = next(iter(metrics.values()))
        here.history.append(
            {"step": here.step, "epoch": here.step / self.steps_per_epoch, "loss": here.loss, **metrics}
        )
        better = score > here.best_score if self.higher_is_better else score < here.best_score
        if here.best_step == 0 or better:
            here.best_step, here.best_score, here.since_best = here.step, score, 0
            self._best = {name: value.clone() for name, value in self._weights().items()}
        else:
            here.since_best += 1
        if self.settings.patience is not None and here.since_best >= self.settings.patience:
            here.done = True
        self.report({"event": "measured", "step": here.step, "best_step": here.best_step, **metrics})

    def save(self) -> None:
        """Write a checkpoint; a disk that is full costs the checkpoint, not the run."""
        if self.checkpoints is None or not self.accelerator.is_main_process:
            return
        tensors: dict[str, Mapping[str, torch.Tensor]] = {
            "weights": self._weights(),
            "optimizer": optimizer_state(self.optimizer),
            "random": {"cpu": torch.get_rng_state(), **_device_rng_state()},
        }
        tensors |= {f"hook-{i}": state for i, hook in enumerate(self.hooks) if (state := hook.state_dict())}
        if self.position.best_step not in (0, self.position.step):
            tensors["best"] = self._best
        try:
            self.checkpoints.write(self.position.step, tensors, asdict(self.position))
        except OSError as error:
            why = f"{error.strerror or error}; training goes on, the checkpoint before is whole. Make room on the disk."
            self.report({"event": "checkpoint_failed", "step": self.position.step, "reason": why})

    def resume(self) -> None:
        """Go back to the newest whole checkpoint, if there is one."""
        found = self.checkpoints.newest() if self.checkpoints else None
        if found is None:
            return
        tensors, state = found
        torn = state.pop("torn")
        self.position = Position(**state)
        self._best = tensors.get("best", tensors["weights"])
        self._load(tensors["weights"])
        load_optimizer(self.optimizer, tensors.get("optimizer", {}))
        for i, hook in enumerate(self.hooks):
            hook.load_state_dict(tensors.get(f"hook-{i}", {}))
        torch.set_rng_state(tensors["random"]["cpu"])  # last: nothing after this line draws
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all([v for k, v in sorted(tensors["random"].items()) if k.startswith("cuda")])
        self.report({"event": "resumed", "step": self.position.step, "total": self.total_steps, "torn": torn})

    def call(self, seam: str, *args: Any) -> None:
        """Call a seam of every hook that has it; an error says which hook, where."""
        hooks = self._having(seam)
        for hook in reversed(hooks) if seam.startswith(("after", "finish")) else hooks:
            try:
                getattr(hook, seam)(self, *args)
            except Exception as error:
                error.add_note(f"in {seam} of {type(hook).__name__}, step {self.position.step}")
                raise

    def _having(self, seam: str) -> list[Hook]:
        return [hook for hook in self.hooks if getattr(type(hook), seam) is not getattr(Hook, seam)]

    def _order(self, epoch: int) -> list[np.ndarray]:
        if getattr(self, "_order_of", None) != epoch:
            self._steps = epoch_order(self._lengths, self.settings.batch_size, seed=self.seed, epoch=epoch)
            self._order_of = epoch
        return self._steps

    def _window(self, rows: np.ndarray) -> list[tuple[Batch, float]]:
        """Return this process's micro-batches of a step, each with 1, or 0 where it only fills up."""
        processes, me = self.accelerator.num_processes, self.accelerator.process_index
        micro = cut(rows, self.settings.micro_batch_size or self.settings.batch_size, processes)[me::processes]
        window = []
        for part in micro:
            share = 1.0 if len(part) else 0.0
            batch = self.train.batch(part if len(part) else rows[:1])
            window.append(({k: v.to(self.accelerator.device) for k, v in batch.items()}, share))
        return window

    def _measurement_due(self) -> bool:
        here = self.position
        if self.settings.evaluate_steps is None:
            return here.step_in_epoch == 0 or here.step == self.total_steps
        return here.step % self.settings.evaluate_steps == 0 or here.step == self.total_steps

    def _total(self, value: float) -> float:
        if self.accelerator.num_processes == 1:
            return value
        return self.accelerator.reduce(torch.tensor(value, dtype=torch.float64, device=self.accelerator.device)).item()  # type: ignore[union-attr]

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: p.detach() for name, p in self.plain_model.named_parameters() if p.requires_grad}

    def _load(self, weights: Mapping[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.plain_model.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(weights[name])

    def _restore_best(self) -> None:
        if self.position.best_step:
            self._load(self._best)

    def _not_finite(self, loss: float, rows: np.ndarray) -> TrainingError:
        places = [str(self.train.places[i]) for i in rows]
        here = self.position
        return TrainingError(
            f"the loss is {loss} at step {here.step + 1} (epoch {here.epoch + 1}); "
            f"the last finite loss was {here.loss:.4g}. "
            f"Rows of this step: {', '.join(places[:5])}{', ...' if len(places) > 5 else ''}.",
            fix="Look at these rows, or run with a lower training.learning_rate in another folder.",
        )

    def _finishing_the_step_on_interrupt(self) -> Any:
        return _Interrupt(self) if threading.current_thread() is threading.main_thread() else nullcontext()


class _Interrupt:
    """The first Ctrl-C lets the step end and a checkpoint be written; the second stops at once."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop

    def __enter__(self) -> None:
        self.before = signal.signal(signal.SIGINT, self.note)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self.before)

    def note(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self.before)
        self.loop._interrupted = True


def _device_rng_state() -> dict[str, torch.Tensor]:
    if not torch.cuda.is_available():
        return {}
    return {f"cuda-{i:03d}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
