"""What a training has beside its encoded rows, for hooks that need more than a batch.

The encoded rows of the loop and the rows here are the same ones: the input number i of the loop is encoded from the
row number ``loop.train.owners[i]`` of `Supplies.rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from weitiao.data.augment import Context
from weitiao.data.table import Table
from weitiao.errors import RecipeError
from weitiao.tasks.base import Features, Rows, Task

__all__ = ["Bundled", "Supplies"]


class Bundled(Protocol):
    """A trained model as a bundle holds it."""

    task: Task
    text_fields: tuple[str, ...]

    @property
    def model(self) -> Any:
        """The model."""
        ...

    def ask(self, rows: Rows) -> Sequence[Any]:
        """Return what the model says of each row."""
        ...


@dataclass(frozen=True)
class Supplies:
    """Rows as people wrote them, rows without labels, and other models.

    Parameters
    ----------
    rows
        The training rows, those of augmentation too.
    encode
        Encodes rows for the model that trains; rows without labels give inputs without targets.
    open_bundle
        Opens a bundle by the path of its folder, or of its run's.
    unlabeled
        Rows without labels; ``None`` if there are none.
    context
        What augmentations may use.
    device
        Where models run.
    answers
        What bundles said, by path and rows: kept for further seeds of the same run.
    """

    rows: Table
    encode: Callable[[Table], Features]
    open_bundle: Callable[[str], Bundled]
    unlabeled: Table | None = None
    context: Context = field(default_factory=Context)
    device: Any = "cpu"
    answers: dict[tuple[str, str], np.ndarray] = field(default_factory=dict, repr=False)

    def logits_of(self, path: str, labels: Sequence[str]) -> np.ndarray:
        """Return what the bundle at `path` says of the training rows, ``(rows, classes)``, in the order of `labels`.

        Raises
        ------
        BundleError
            There is no bundle, or it does not reproduce itself.
        RecipeError
            It has other labels, or reads fields that the rows do not have.
        """
        key = path, self.rows.fingerprint
        if key not in self.answers:
            bundle = self.open_bundle(path)
            order = _places(path, bundle.task, labels)
            if missing := [name for name in bundle.text_fields if name not in self.rows.column_names]:
                raise RecipeError(f"the bundle {path} reads {', '.join(missing)}, which the training rows do not have.")
            bundle.model.to(self.device)
            rows: list[Mapping[str, Any]] = [{name: row[name] for name in bundle.text_fields} for row in self.rows]
            self.answers[key] = np.asarray(bundle.ask(rows), dtype=np.float32)[:, order]
        return self.answers[key]


def _places(path: str, task: Task, labels: Sequence[str]) -> list[int]:
    """Return where each of `labels` stands among those of a bundle."""
    if task.label_field() is None or sorted(task.labels) != sorted(labels):
        theirs, mine = set(task.labels), set(labels)
        lacks = f"it lacks {', '.join(sorted(mine - theirs)[:5])}" if mine - theirs else ""
        more = f"it has {', '.join(sorted(theirs - mine)[:5])} too" if theirs - mine else ""
        why = " and ".join(filter(None, (lacks, more))) or "it gives no row one label of several"
        raise RecipeError(
            f"the bundle {path} does not have the labels of these rows: {why}.",
            fix="Name a bundle that was trained on the same labels.",
        )
    return [task.labels.index(label) for label in labels]
