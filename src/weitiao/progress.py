"""Who hears of a run while it goes on: ``events.jsonl``, TensorBoard, and a live line in the terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

__all__ = ["Listeners"]


class Listeners:
    """Pass events on; used as a context manager, and called with one event at a time.

    Parameters
    ----------
    folder
        Where ``events.jsonl`` and ``tensorboard/`` are written; ``None``: nowhere.
    show
        Whether to draw in the terminal (on standard error, so that a pipe of standard output stays clean).
    """

    def __init__(self, folder: Path | None, *, show: bool) -> None:
        self.folder = folder
        self._show = show
        self._file: TextIO | None = None
        self._board: Any = None
        self._seed = 0
        self._failed = False
        self._screen: _Screen | None = None

    def __enter__(self) -> Listeners:
        if self.folder:
            path = self.folder / "events.jsonl"
            if path.is_file():
                _drop_torn_line(path)
            self._file = path.open("a", encoding="utf-8")
        if self._show:
            self._screen = _Screen()
        return self

    def __exit__(self, *_: object) -> None:
        if self._screen:
            self._screen.close()
        with suppress(OSError):  # what could not be written has been told of
            self._close_board()
        with suppress(OSError):
            if self._file:
                self._file.close()

    def __call__(self, event: dict[str, Any]) -> None:
        """Pass one event on; a full disk costs the record of it, never the run."""
        if self._screen:
            self._screen(event)
        try:
            self._record(event)
        except OSError as error:
            if not self._failed and self._screen:
                self._screen.warn(f"events cannot be written: {error.strerror or error}. The run goes on without.")
            self._failed = True

    def _record(self, event: dict[str, Any]) -> None:
        if self._file is None or self.folder is None:
            return
        line = {"time": round(time.time(), 3), **event}
        self._file.write(json.dumps(line, ensure_ascii=False, default=float) + "\n")
        self._file.flush()
        if event["event"] == "training":  # each seed of a run has a board of its own
            self._close_board()
            self._seed = event.get("seed", 0)
        if event["event"] in ("step", "measured"):
            self._draw_board(event, self.folder)

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Announce a part of the run; gives a function to be called with the rows done."""
        self({"event": "phase", "name": name})
        if self._screen is None:
            yield lambda rows: None
            return
        with self._screen.task(name, total) as advance:
            yield advance

    def _draw_board(self, event: dict[str, Any], folder: Path) -> None:
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            board = folder / "tensorboard" / f"seed-{self._seed}"
            self._board = SummaryWriter(str(board), purge_step=event["step"])
        group = "training" if event["event"] == "step" else "dev"
        for key, value in event.items():
            if isinstance(value, float):
                self._board.add_scalar(f"{group}/{key}", value, event["step"])

    def _close_board(self) -> None:
        if self._board:
            self._board.close()
        self._board = None


def _drop_torn_line(path: Path) -> None:
    """Cut off half a line that a killed process has left."""
    with path.open("rb+") as file:
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class _Screen:
    """One live line with what is being done, how far, how fast, and how long it will take."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self.console = Console(stderr=True)
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
        )
        self.progress.start()
        self.training: Any = None

    def close(self) -> None:
        self.progress.stop()

    @contextmanager
    def task(self, name: str, total: int | None) -> Iterator[Callable[[int], None]]:
        task = self.progress.add_task(name, total=total, note="")
        try:
            yield lambda rows: self.progress.advance(task, rows)
        finally:
            self.progress.remove_task(task)

    def __call__(self, event: dict[str, Any]) -> None:
        say = getattr(self, f"_{event['event']}", None)
        if say:
            say(event)

    def _print(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)  # the terminal wraps; a log need not

    def warn(self, text: str) -> None:
        self._print(f"warning   {text}")

    def _data(self, event: dict[str, Any]) -> None:
        splits = ", ".join(f"{name} {rows:,}" for name, rows in event["splits"].items())
        aside = sum(event["set_aside"].values())
        self._print(f"data      {event['rows_in']:,} rows in = {splits}, set aside {aside:,}")

    def _finding(self, event: dict[str, Any]) -> None:
        if event["severity"] != "info":
            self._print(f"{event['severity']:9} {event['message']} {event['remedy']}")

    def _training(self, event: dict[str, Any]) -> None:
        share = event["trainable"] / event["parameters"]
        self._print(f"training  {event['trainable']:,} of {event['parameters']:,} parameters ({share:.2%})")
        if self.training is not None:
            self.progress.remove_task(self.training)
        self.training = None

    def _estimate(self, event: dict[str, Any]) -> None:
        need, free = sum(event["memory_mib"].values()), event["free_mib"]
        each = ", ".join(f"{name} {mib:,.0f}" for name, mib in event["memory_mib"].items())
        self._print(f"estimate  about {need:,.0f} MiB ({each}), about {_time(event['seconds'])} of training")
        if free is not None and need > free:
            self.warn(f"{free:,.0f} MiB are free: batches will be cut when memory runs out.")

    def _not_kept(self, event: dict[str, Any]) -> None:
        self.warn(f"{event['rows']}: {event['reason']}. It is computed again when it is needed.")

    def _memory(self, event: dict[str, Any]) -> None:
        self.warn(f"memory ran out; going on with {event['micro_batch_size']} rows a forward pass. The result stays.")

    def _skipped(self, event: dict[str, Any]) -> None:
        self.warn(f"step {event['step']:,} is left out: its loss or gradient is not finite ({event['rows'][0]}, ...).")

    def _step(self, event: dict[str, Any]) -> None:
        note = (
            f"loss {event['loss']:.4f}  lr {event['learning_rate']:.2e}  {event['rows_per_second']:.0f} rows/s  "
            f"epoch {event['epoch']:.2f}"
        )
        if self.training is None:
            self.training = self.progress.add_task(
                "training", total=event["total"], completed=event["step"] - 1, note=""
            )
        self.progress.update(self.training, completed=event["step"], note=note)

    def _measured(self, event: dict[str, Any]) -> None:
        values = "  ".join(f"{k} {v:.4f}" for k, v in event.items() if isinstance(v, float))
        best = "  best so far" if event["best_step"] == event["step"] else ""
        self._print(f"dev       step {event['step']:,}  {values}{best}")

    def _solved(self, event: dict[str, Any]) -> None:
        told = {k: v for k, v in event.items() if isinstance(v, float) and k not in ("C", "iterations", "converged")}
        values = "  ".join(f"{k} {v:.4f}" for k, v in told.items()) + ("" if event["converged"] else "  not converged")
        self._print(f"dev       C {event['C']:g}  {values}")

    def _resumed(self, event: dict[str, Any]) -> None:
        torn = f" ({', '.join(event['torn'])} was torn and is left out)" if event["torn"] else ""
        self._print(f"resumed   at step {event['step']:,} of {event['total']:,}{torn}")

    def _checkpoint_failed(self, event: dict[str, Any]) -> None:
        self.warn(f"the checkpoint of step {event['step']:,} was not written: {event['reason']}")

    def _tested(self, event: dict[str, Any]) -> None:
        self._print(f"test      {event['line']}")

    def _done(self, event: dict[str, Any]) -> None:
        self._print(f"bundle    {event['bundle']} (verified; largest difference {event['verified']:.1e})")
