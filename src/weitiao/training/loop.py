"""The heart: steps until done. Which task, which method and which regularizers, it does not know.

Seven laws, each with a test that can fail (``tests/laws``):

window
    cutting a step into micro-batches changes nothing: a task's loss is a *sum*, and the loop divides it by the
    items of the whole window.
process
    nor does the number of processes that share a step.
resume
    a run killed at any instant ends with the same bits as one that was not.
reference
    without hooks, on whole batches, the weights equal those of the Hugging Face ``Trainer``.
prefix
    that layers which nothing trains run once a row, and not once an epoch, changes no weight. They have no dropout.
memory
    nor does running out of memory on the way.
honesty
    a loss that is not finite names its rows, and moves no weight.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from weitiao.data.batch import cut, epoch_order
from weitiao.errors import RecipeError, TrainingError
from weitiao.memory import free, ran_out
from weitiao.models import STATES
from weitiao.models.frozen import FrozenLayers
from weitiao.randomness import derive_seed
from weitiao.tasks.base import Features, Task
from weitiao.training.checkpoint import Checkpoints
from weitiao.training.devices import Precision, accelerator, keep_fewer_activations, precision
from weitiao.training.health import overflowed, watch
from weitiao.training.hook import Hook
from weitiao.training.optimizer import build_optimizer, measured_weights, set_rate
from weitiao.training.position import Interrupt, Position, random_state, set_random_state
from weitiao.training.processes import Processes
from weitiao.training.schedule import rate_factor
from weitiao.training.settings import TrainingSettings
from weitiao.training.supplies import Supplies
from weitiao.training.weights import Weights, local, refuse_whole

__all__ = ["Loop", "Outside", "Position"]

Batch = dict[str, torch.Tensor]
_MOST_SKIPPED = 10  # steps in a row whose loss is not finite


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
    supplies
        Rows and models for hooks that need more than a batch.
    shard
        Whether each process holds a part of the weights, and not all.
    """

    checkpoints: Checkpoints | None = None
    measure: Callable[[nn.Module], Mapping[str, float]] | None = None
    higher_is_better: bool = True
    report: Callable[[dict[str, Any]], None] = lambda event: None
    accelerator: Accelerator = field(default_factory=accelerator)
    supplies: Supplies | None = None
    shard: bool = False


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
        self._supplies = outside.supplies
        self.processes = Processes()
        self._refuse_to_cut(settings)
        self._lengths, self._classes = train.lengths, task.classes(train.inputs)
        self.weights = Weights(
            model.to(self.accelerator.device), self.processes, self.checkpoints, in_parts=outside.shard
        )
        self.plain_model: Any = self.weights.trained
        self._take_precision(settings.precision)
        if settings.gradient_checkpointing:
            keep_fewer_activations(self.plain_model)
        self.quiet = self._frozen_modules()
        self.learning_rate = settings.learning_rate or 5e-5  # the recipe always fills it
        self._prepare(outside.shard)
        steps = sum(len(self.order(epoch)) for epoch in range(settings.epochs))
        self.total_steps = min(steps, settings.max_steps or steps)
        for name, most in (("max_steps", steps), ("evaluate_steps", self.total_steps)):
            if (getattr(settings, name) or 0) > most:
                raise RecipeError(
                    f"training.{name} is {getattr(settings, name)}, but the training has {most} steps in all: it has "
                    "no effect.",
                    fix="Leave it out.",
                )
        self._refuse_idle()
        self.position = Position(
            asked_micro=settings.micro_batch_size,
            micro_batch_size=settings.micro_batch_size,
            precision=str(self.precision.dtype).removeprefix("torch."),
        )
        self.items = 0  # in the present window, over all processes
        self.window = self.part = np.zeros(0, np.int64)  # numbers of its rows; places in it of the micro-batch's
        self.norm = float("nan")  # of the last gradient, before clipping
        self._interrupted = False

    @property
    def numbers(self) -> np.ndarray:
        """Numbers of the rows of the present micro-batch; a hook's `loss` may ask."""
        return self.window[self.part]

    @property
    def supplies(self) -> Supplies:
        """Rows and models beside the batches."""
        if self._supplies is None:
            raise TrainingError("a hook needs more than encoded rows, and there is nothing beside them.")
        return self._supplies

    def run(self) -> Position:
        """Train to the end, or to patience's; then put the best weights back.

        Raises
        ------
        TrainingError
            The loss is not finite.
        KeyboardInterrupt
            After a checkpoint was written.
        """
        self._draw_from_here()
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
                due, interrupted = self.processes.any(due or self.position.done, self._interrupted)
                if due or interrupted:
                    self.save()
                    saved_at = counted_at = time.monotonic()
                if interrupted:
                    raise KeyboardInterrupt
        self.call("finish")
        with nullcontext() if self.position.best_step else measured_weights(self.optimizer):
            self.weights.restore_best(self.position.best_step)
        return self.position

    def take_step(self) -> None:
        """Take the next step of the data order."""
        here, started = self.position, time.perf_counter()
        order = self.order(here.epoch)
        rows = order[here.step_in_epoch]
        rate = self.learning_rate * rate_factor(
            here.step, self.total_steps, self.settings, [(int(step), score) for step, score in here.scores]
        )
        set_rate(self.optimizer, rate)
        loss = self.update(rows)
        if np.isfinite(loss) and np.isfinite(self.norm):
            here.loss = loss
            watch(here.health, here.step + 1, loss, self.norm, scale=self.precision.scale)
        here.step, here.step_in_epoch = here.step + 1, here.step_in_epoch + 1
        self.call("after_step")
        epoch = self._epochs_done()
        if here.step_in_epoch == len(order):
            here.epoch, here.step_in_epoch = here.epoch + 1, 0
            self.call("after_epoch")
        self.report(
            {
                "event": "step",
                "step": here.step,
                "total": self.total_steps,
                "epoch": epoch,
                "loss": loss,
                "gradient_norm": self.norm,
                "learning_rate": rate,
                "rows": len(rows),
                "rows_per_second": len(rows) / (time.perf_counter() - started),
            }
        )

    def update(self, rows: np.ndarray) -> float:
        """Take one optimizer step on `rows`; return their mean loss, hooks' terms included.

        Equal to one step on all of them joined into a single batch on a single device, also where memory runs out
        on the way and smaller micro-batches have to do.
        """
        before = random_state()
        while (loss := self._gradients(rows)) is None:  # memory ran out
            self.optimizer.zero_grad()
            free()
            set_random_state(before)
        scaler, inner = self.precision.scaler, getattr(self.optimizer, "optimizer", self.optimizer)
        scaler.unscale_(inner)
        self.call("before_step")
        limit = self.settings.clip_norm or float("inf")
        norm: Any = self.accelerator.clip_grad_norm_(self.model.parameters(), limit)
        self.norm = float(local(norm))
        if np.isfinite(loss) and np.isfinite(self.norm):
            self._step(scaler, inner)
        elif np.isfinite(loss) and overflowed(self.position.health, self.precision.scale):
            pass  # the scale of the loss was too large, and gets smaller
        else:
            self._not_finite(loss, rows)
        scaler.update()
        self.optimizer.zero_grad()
        return loss

    def _step(self, scaler: torch.amp.GradScaler, inner: torch.optim.Optimizer) -> None:
        try:
            scaler.step(inner)
        except Exception as error:
            if not ran_out(error):
                raise
            raise TrainingError(  # some weights may have moved: it cannot be taken again
                f"memory ran out while the optimizer took step {self.position.step + 1}; its checkpoints are whole.",
                fix="Choose a training.optimizer that remembers less, or train fewer weights.",
            ) from error

    def _gradients(self, rows: np.ndarray) -> float | None:
        """Add up the gradient of the mean loss of `rows`, and return that loss; ``None`` if memory ran out."""
        self.prepare_to_train()
        micro = min(self.position.micro_batch_size or len(rows), len(rows))
        try:
            window = self._window(rows)
            for hook in self._having("before_batch"):
                window = [(hook.before_batch(self, batch), share, part) for batch, share, part in window]
            self.items = int(self._total(sum(self.task.items(batch) for batch, share, _ in window if share)))
            return self._total(sum(self._backward(*each, last=each is window[-1]) for each in window))
        except Exception as error:
            if not ran_out(error):
                raise
            self._halve(micro, error)
        return None

    def _backward(self, batch: Batch, share: float, part: np.ndarray, *, last: bool) -> float:
        self.part = part
        with nullcontext() if last else self.accelerator.no_sync(self.model):
            outputs = self.forward(batch)
            loss = share * self.task.loss(outputs, batch) / self.items
            for hook in self._having("loss"):
                loss = loss + share * self.task.items(batch) / self.items * hook.loss(self, batch, outputs)
            # DDP averages over processes, and we want their sum
            self.precision.scaler.scale(loss * self.accelerator.num_processes).backward()
        self.call("after_backward", batch)
        return loss.item()

    def _halve(self, micro: int, error: Exception) -> None:
        """Go on with micro-batches of half the rows: the rows of a step, their order and its result stay."""
        couples = self._coupling()
        several = self.accelerator.num_processes > 1
        if micro == 1 or couples or several:
            why = f"{couples} needs the rows of a step together" if couples else "a single row does not fit"
            why = "with several processes it cannot be halved on the way" if several else why
            raise TrainingError(
                f"memory ran out at step {self.position.step + 1} with {micro} rows a forward pass, and {why}.",
                fix="Set a smaller training.micro_batch_size, a smaller model.max_length, or "
                "training.gradient_checkpointing to true.",
            ) from error
        self.position.micro_batch_size = (micro + 1) // 2
        self.report({"event": "memory", "step": self.position.step, "micro_batch_size": (micro + 1) // 2})

    def prepare_to_train(self) -> None:
        """Put the model into training mode, but for what nothing trains."""
        self.model.train()
        for module in self.quiet:
            module.training = False

    def forward(self, batch: Batch) -> Any:
        """Call the model; never with the targets, for the loss is ours."""
        return self.precision.forward(self.model, self.task.model_inputs(batch))

    def evaluate(self) -> None:
        """Measure on dev, and keep the weights if they are the best so far."""
        here = self.position
        if self.measure is None:
            return
        self.call("before_measure")
        with measured_weights(self.optimizer):
            said = dict(self.measure(self.plain_model)) if self.weights.in_parts else {}  # by all, each with its part
            metrics = self.processes.on_main(lambda: said or dict(self.measure(self.plain_model)))  # type: ignore[misc]
            score = next(iter(metrics.values()))
            better = score > here.best_score if self.higher_is_better else score < here.best_score
            better = better or (np.isnan(here.best_score) and not np.isnan(score))
            if here.best_step == 0 or better:
                here.best_step, here.best_score, here.since_best = here.step, score, -1
                self.weights.keep_best(here.step)
            here.since_best += 1
        self.call("after_measure")
        here.scores.append([here.step, score if self.higher_is_better else -score])
        here.history.append({"step": here.step, "epoch": self._epochs_done(), "loss": here.loss, **metrics})
        if self.settings.patience is not None and here.since_best >= self.settings.patience:
            here.done = True
        self.report({"event": "measured", "step": here.step, "best_step": here.best_step, **metrics})

    def save(self) -> None:
        """Write a checkpoint; a disk that is full costs the checkpoint, not the run."""
        if self.checkpoints is None:
            return
        chance = self.processes.gather(random_state())
        tensors: dict[str, Mapping[str, torch.Tensor]] = {
            "weights": self.weights.whole(),
            "optimizer": self.weights.optimizer_state(self.optimizer),
        }
        if not self.processes.main:
            return
        tensors |= {f"random-{rank}": state for rank, state in enumerate(chance)}
        if scale := self.precision.state_dict():
            tensors["scale"] = scale
        tensors |= {f"hook-{i}": state for i, hook in enumerate(self.hooks) if (state := hook.state_dict())}
        try:
            if best := self.weights.best_in_memory:  # the disk was full when they were found
                self.checkpoints.keep_best(self.position.best_step, best)
                self.weights.best_in_memory = {}
            self.checkpoints.write(self.position.step, tensors, asdict(self.position), best=self.position.best_step)
        except OSError as error:
            why = f"{error.strerror or error}; training goes on, the checkpoint before is whole. Make room on the disk."
            self.report({"event": "checkpoint_failed", "step": self.position.step, "reason": why})

    def resume(self) -> None:
        """Go back to the newest whole checkpoint, if there is one."""
        if self.checkpoints is None:
            return
        with self.processes.main_first():  # it removes what is torn
            found = self.checkpoints.newest()
        self.processes.agree(found and found[1]["step"], "the checkpoints")
        if found is None:
            return
        tensors, state = found
        torn = state.pop("torn")
        self.position = Position(**state)
        if self.position.asked_micro != self.settings.micro_batch_size:  # the user chose another since
            self.position.asked_micro = self.position.micro_batch_size = self.settings.micro_batch_size
        self._take_precision(self.position.precision)
        self.weights.load(tensors["weights"])
        self.weights.load_optimizer(self.optimizer, tensors.get("optimizer", {}))
        self.precision.load_state_dict(tensors.get("scale", {}))
        for i, hook in enumerate(self.hooks):
            hook.load_state_dict(tensors.get(f"hook-{i}", {}))
        if (chance := tensors.get(f"random-{self.processes.rank}")) is not None:
            set_random_state(chance)  # last: nothing after this line draws
        else:
            self._draw_from_here()  # more processes than wrote it
        self.report({"event": "resumed", "step": self.position.step, "total": self.total_steps, "torn": torn})

    def _prepare(self, in_parts: bool) -> None:
        """Let the processes share the model and its optimizer."""
        if not in_parts:
            optimizer = build_optimizer(self.plain_model, self.settings, self.learning_rate)
            self.model, self.optimizer = self.accelerator.prepare(self.plain_model, optimizer)
            return
        refuse_whole([*self.hooks, self.settings.optimizer.make("optimizers")])
        optimizer = build_optimizer(self.plain_model, self.settings, self.learning_rate, self.weights.shard)
        self.model, self.optimizer = self.plain_model, self.accelerator.prepare(optimizer)

    def _take_precision(self, name: str) -> None:
        self.precision = Precision(precision(name, self.accelerator.device.type), self.accelerator.device)

    def _refuse_idle(self) -> None:
        """Refuse what cannot be known to have no effect before the rows and the steps are."""
        warmup = getattr(self.settings.schedule.settings, "warmup_steps", None) or 0
        if warmup >= self.total_steps:
            raise RecipeError(
                f"training.schedule.warmup_steps is {warmup}, but the training has {self.total_steps} steps in all: "
                "the rate would never be reached.",
                fix="Make it smaller, or set warmup_share.",
            )
        if self.settings.sampling == "shuffled":
            return
        if self._classes is None:
            raise RecipeError(
                f"training.sampling is {self.settings.sampling}, but rows of the task {self.task.name} have no one "
                "class to draw by.",
                fix="Leave it out.",
            )
        if self.task.balances:
            raise RecipeError(
                f"training.sampling is {self.settings.sampling}, and task.{self.task.balances} makes up for rare "
                "classes too: together they overdo it.",
                fix="Leave one of them out.",
            )

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

    def order(self, epoch: int) -> list[np.ndarray]:
        """Return the row numbers of each step of an epoch."""
        if getattr(self, "_order_of", None) != epoch:
            how = self.settings
            self._steps = epoch_order(
                self._lengths,
                how.batch_size,
                seed=self.seed,
                epoch=epoch,
                classes=self._classes,
                sampling=how.sampling,
                batch_tokens=how.batch_tokens,
            )
            self._order_of = epoch
        return self._steps

    def _epochs_done(self) -> float:
        here = self.position
        return here.epoch + (here.step_in_epoch / len(self.order(here.epoch)) if here.step_in_epoch else 0)

    def _draw_from_here(self) -> None:
        """Seed dropout; each process has draws of its own, for it has rows of its own."""
        rank, step = self.processes.rank, self.position.step
        torch.manual_seed(derive_seed(self.seed, "dropout", *([rank, step] if rank else [])))

    def _refuse_to_cut(self, settings: TrainingSettings) -> None:
        most = settings.batch_tokens or settings.batch_size  # a token is at least a row's share of a step
        cut_up = settings.micro_batch_size and settings.micro_batch_size < most
        if (what := self._coupling()) and (cut_up or self.accelerator.num_processes > 1):
            raise RecipeError(
                f"{what} compares the rows of a step with each other, so a step cannot be "
                f"{'cut into micro-batches' if cut_up else 'shared by several processes'}.",
                fix="Leave training.micro_batch_size out." if cut_up else "Run it in one process.",
            )

    def _coupling(self) -> str | None:
        """Return what compares the rows of a step with each other, or ``None``."""
        if self.task.couples_rows:
            return f"the loss of {self.task.name}"
        return next((f"the regularizer {hook.name}" for hook in self.hooks if hook.couples_rows), None)

    def _frozen_modules(self) -> list[nn.Module]:
        """Return what runs below all that trains: without dropout, it says the same of a row in every epoch."""
        if any(hook.drops_frozen for hook in self.hooks):
            return []
        shortest = self.task.model_inputs(self.train.batch([int(self._lengths.argmin())]))
        inputs = {k: v.to(self.accelerator.device) for k, v in shortest.items() if k != STATES}
        return FrozenLayers.of(self.plain_model, inputs).quieten(inputs)

    def _window(self, rows: np.ndarray) -> list[tuple[Batch, float, np.ndarray]]:
        """Return this process's micro-batches of a step, each with 1, or 0 where it only fills up, and its places."""
        self.window, places = rows, np.arange(len(rows))
        processes, me = self.accelerator.num_processes, self.accelerator.process_index
        micro = cut(places, self.position.micro_batch_size or len(rows), processes)[me::processes]
        window = []
        for part in micro:
            share, part = (1.0, part) if len(part) else (0.0, places[:1])
            batch = self.train.batch(rows[part])
            window.append(({k: v.to(self.accelerator.device) for k, v in batch.items()}, share, part))
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

    def _not_finite(self, loss: float, rows: np.ndarray) -> None:
        """Leave the step out, or stop, as the recipe says; the rows are named either way."""
        places = [str(self.train.places[i]) for i in rows]
        here = self.position
        here.skipped.append({"step": here.step + 1, "loss": str(loss), "rows": places})
        in_a_row = sum(1 for i, s in enumerate(reversed(here.skipped)) if s["step"] == here.step + 1 - i)
        if self.settings.not_finite == "skip" and in_a_row <= _MOST_SKIPPED:
            self.report({"event": "skipped", **here.skipped[-1]})
            return
        what = f"the loss is {loss}" if not np.isfinite(loss) else f"the gradient's norm is {self.norm}"
        raise TrainingError(
            f"{what} at step {here.step + 1} (epoch {here.epoch + 1}); "
            f"the last finite loss was {here.loss:.4g}. "
            f"Rows of this step: {', '.join(places[:5])}{', ...' if len(places) > 5 else ''}.",
            fix="Look at these rows, run with a lower training.learning_rate in another folder, or leave such steps "
            "out with training.not_finite=skip.",
        )

    def _finishing_the_step_on_interrupt(self) -> Any:
        return Interrupt(self._note_interrupt)

    def _note_interrupt(self) -> None:
        self._interrupted = True
