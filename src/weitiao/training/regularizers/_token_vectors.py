"""A model's token vectors within the reach of regularizers that move them: per row, and never at padding.

Members share this; it is none itself. What is drawn at random comes from a stream of each row's own, named by the
seed, the step and the row's tokens, so that neither micro-batches nor processes change it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from weitiao.randomness import derive_seed
from weitiao.training.hook import Hook
from weitiao.training.regularizers._first_pass import FirstPass, mask_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from weitiao.tasks.base import Task
    from weitiao.training.loop import Loop

__all__ = [
    "OnTokenVectors",
    "TokenVectors",
    "draw",
    "into_ball",
    "lengths",
    "row_norms",
    "unit",
    "why_no_token_vectors",
]


def why_no_token_vectors(model: nn.Module) -> str | None:
    """Return ``None`` if the model looks its token vectors up in a table, or a sentence that says it does not."""
    from weitiao.models.parts import unwrap

    inner: Any = unwrap(model)
    try:
        table = inner.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        table = None
    return None if table is not None else f"{type(inner).__name__} has no table of token vectors to work on"


class TokenVectors(FirstPass):
    """The vectors of the first pass, and a second pass with them changed.

    Parameters
    ----------
    model
        As the loop has it, adapters and all.
    track
        Let gradients reach the vectors of the first pass, also where the table is frozen.
    always
        Changes the vectors of every pass that trains.
    """

    def __init__(
        self, model: nn.Module, *, track: bool = False, always: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        from weitiao.models.parts import unwrap

        super().__init__(model)
        self.seen: Tensor | None = None  # (rows, length, hidden), of the first pass
        self._model, self._track, self._always, self._waiting = model, track, always, False
        self._change: Callable[[Tensor], Tensor] | None = None
        inner: Any = unwrap(model)
        self._handles.append(inner.get_input_embeddings().register_forward_hook(self._looked_up))

    def forget(self) -> None:
        """Make the next training pass the first one."""
        super().forget()
        self.seen = None

    def forward(self, loop: Loop, batch: dict[str, Tensor], change: Callable[[Tensor], Tensor]) -> Any:
        """Return the model's outputs for `batch` with the token vectors changed, under the first pass's dropout."""
        self._change = change
        try:
            with self.same_masks():
                return loop.forward(batch)
        finally:
            self._change = None

    def _start(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super()._start(model, args, kwargs)
        self._waiting = True  # a table that an encoder and a decoder share is asked twice: the encoder is first

    def _looked_up(self, table: nn.Module, args: tuple[Any, ...], vectors: Tensor) -> Tensor | None:
        if not self._waiting or not self._model.training:
            return None
        self._waiting = False
        if self._always is not None:
            return self._always(vectors)
        if self._change is not None:
            return self._change(vectors)
        if self.first:
            if self._track and not vectors.requires_grad:
                vectors = vectors.detach().requires_grad_()
            self.seen = vectors if self._track else vectors.detach()
            return vectors
        return None


class OnTokenVectors(Hook):
    """What regularizers have in common that run passes with the token vectors moved."""

    changes_frozen: ClassVar[bool] = True
    track: ClassVar[bool] = False
    vectors: TokenVectors

    def suits(self, model: nn.Module, task: Task) -> str | None:
        """Refuse a model without a table of token vectors."""
        return why_no_token_vectors(model)

    def begin(self, loop: Loop) -> None:
        """Put the hooks on the model."""
        self.vectors = TokenVectors(loop.plain_model, track=self.track)

    def before_batch(self, loop: Loop, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Forget what a pass outside of a step left; the batch stays as it is."""
        self.vectors.forget()
        return batch

    def after_backward(self, loop: Loop, batch: dict[str, Tensor]) -> None:
        """Forget the micro-batch."""
        self.vectors.forget()

    def finish(self, loop: Loop) -> None:
        """Take the hooks off the model."""
        self.vectors.remove()

    def moved(self, loop: Loop, batch: dict[str, Tensor], by: Tensor) -> Any:
        """Return the outputs with `by`, (rows, length, hidden), added to the token vectors."""
        return self.vectors.forward(loop, batch, lambda vectors: vectors + by.to(vectors.dtype))

    def mean_loss(self, loop: Loop, batch: dict[str, Tensor], by: Tensor) -> Tensor:
        """Return the task's loss with `by` added to the token vectors, a mean over items."""
        return loop.task.loss(self.moved(loop, batch, by), batch) / loop.task.items(batch)

    def seen(self) -> Tensor:
        """Return the token vectors of the micro-batch's own pass, (rows, length, hidden)."""
        if self.vectors.seen is None:
            raise RuntimeError("no forward pass has been seen since the last backward")
        return self.vectors.seen

    def start_in_ball(self, loop: Loop, batch: dict[str, Tensor], radius: float) -> Tensor:
        """Return a random point of the ball of each row: uniform in the largest cube that fits into it."""
        seen = self.seen()
        numbers = lengths(batch) * seen.shape[-1]  # (rows, 1, 1)
        return radius / numbers.sqrt() * draw(loop, self.name, batch, seen)


def draw(loop: Loop, name: str, batch: Any, vectors: Tensor, kind: Literal["uniform", "normal"] = "uniform") -> Tensor:
    """Return noise for each row from a stream of its own: uniform in [-1, 1], or standard normal.

    Returns
    -------
    As `vectors`, (rows, length, hidden), in float32; 0 at padding.
    """
    import torch

    mask = mask_of(batch)
    noise = torch.zeros(vectors.shape, dtype=torch.float32, device=vectors.device)
    generator = torch.Generator(device=vectors.device)
    for i, (ids, real) in enumerate(zip(batch["input_ids"].tolist(), mask.tolist(), strict=True)):
        tokens = [token for token, there in zip(ids, real, strict=True) if there]
        generator.manual_seed(derive_seed(loop.seed, name, loop.position.step, *tokens))
        values = torch.empty(len(tokens), vectors.shape[-1], device=vectors.device)
        if kind == "normal":
            values.normal_(generator=generator)
        else:
            values.uniform_(-1.0, 1.0, generator=generator)
        noise[i, mask[i]] = values
    return noise


def lengths(batch: Any) -> Tensor:
    """Return (rows, 1, 1), the number of tokens of each row."""
    return mask_of(batch).sum(1).float()[:, None, None]


def row_norms(x: Tensor) -> Tensor:
    """Return (rows, 1, 1), the Euclidean norm of each row of (rows, length, hidden)."""
    return x.float().norm(dim=(1, 2), keepdim=True)


def unit(x: Tensor) -> Tensor:
    """Return each row over its norm, in float32; a row of zeros stays one."""
    return x.float() / row_norms(x).clamp(min=1e-12)


def into_ball(x: Tensor, radius: float) -> Tensor:
    """Return each row, shortened to `radius` where its norm is larger."""
    return x * (radius / row_norms(x).clamp(min=1e-12)).clamp(max=1.0)
