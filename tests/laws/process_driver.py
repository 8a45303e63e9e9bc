"""Train for the process law; started once alone and once as two processes by test_process.py.

Usage: process_driver.py PLAIN MODEL OUT

PLAIN is a model without dropout: its trained weights are written to OUT. With the dropout of MODEL a training is left
in the middle and gone on with, and has to end with the bits of one that went through, in every process.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import made
from weitiao.errors import TrainingError
from weitiao.plugins import find
from weitiao.training.checkpoint import Checkpoints
from weitiao.training.hook import Hook
from weitiao.training.loop import Loop, Outside
from weitiao.training.processes import Processes
from weitiao.training.settings import TrainingSettings

_SETTINGS = {"batch_size": 16, "micro_batch_size": 5, "optimizer": "sgd", "learning_rate": 0.05, "epochs": 2}


class Leave(Hook):
    """Stops as Ctrl-C in one process would, after the third step."""

    def after_step(self, loop: Loop) -> None:
        if loop.position.step == 3 and loop.processes.rank == loop.processes.count - 1:
            loop._note_interrupt()


def train(folder: Path, hooks: list[Hook], outside: Outside | None = None, **settings: Any) -> Any:
    """Return the trained weights by name, and the loop."""
    task, features, build = made.training(folder, 45)  # the last step has 13 rows: no even share
    model = find("methods", "full")().apply(build(), seed=0)
    loop = Loop(model, task, features, TrainingSettings(**_SETTINGS | settings), 0, hooks, outside)
    loop.run()
    return {name: p.detach().contiguous() for name, p in model.named_parameters()}, loop


def tell_each_other(processes: Processes) -> None:
    """Check what the main process decides for all, and that all stop when it has to."""
    if processes.on_main(lambda: f"said by {processes.rank}") != "said by 0":
        raise SystemExit("the main process was not heard")
    if processes.any(processes.rank == 1, False) != (True, False):
        raise SystemExit("the flag of one was not seen by all")
    for act, words in (
        (lambda: processes.on_main(lambda: 1 // 0), "by zero"),
        (lambda: processes.agree(processes.rank, "the ranks"), "the ranks differ"),
    ):
        try:
            act()
        except (TrainingError, ZeroDivisionError) as error:
            if words not in str(error):
                raise SystemExit(f"{error} does not say {words!r}") from error
        else:
            raise SystemExit(f"no {words!r}")


def main() -> None:
    torch.set_num_threads(1)
    plain, model, out = (Path(word) for word in sys.argv[1:])
    smoothing = find("regularizers", "label_smoothing")
    weights, loop = train(plain, [smoothing()])
    if loop.processes.main:
        save_file(weights, out)
    through, _ = train(model, [])
    kept = Outside(checkpoints=Checkpoints(out.with_name(f"{out.name}-checkpoints")))
    try:
        train(model, [Leave()], kept)
    except KeyboardInterrupt:
        resumed, loop = train(model, [], kept)
        if any(not torch.equal(resumed[name], value) for name, value in through.items()):
            raise SystemExit("the resumed training ended with other bits") from None
        if loop.processes.count > 1 and len({float(draw) for draw in loop.processes.gather(torch.rand(()))}) == 1:
            raise SystemExit("all processes draw the same") from None
        if loop.processes.count > 1:
            tell_each_other(loop.processes)
        loop.accelerator.end_training()
        return
    raise SystemExit("the interrupt of one process did not stop all")


if __name__ == "__main__":
    main()
