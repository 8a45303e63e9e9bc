"""A reply that is read while it is written; the pieces together are what `Bundle.predict` answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from weitiao.data.request import request_texts
from weitiao.data.words import HAN
from weitiao.errors import BundleError

if TYPE_CHECKING:
    from weitiao.bundle import Bundle

__all__ = ["stream_reply"]

# What no later token changes: all up to the last space, or up to a last Chinese character.
_SETTLED = re.compile(f".*(?:\\s|[{HAN}，。！？：；、])", re.DOTALL)


def stream_reply(
    bundle: Bundle, messages: str | Sequence[Mapping[str, Any]], *, max_new_tokens: int | None = None
) -> Iterator[str]:
    """Yield the reply to a conversation piece by piece.

    What is searched for with several beams is known at the end alone, and comes as one piece. A caller who stops to
    read stops the model.

    Parameters
    ----------
    bundle
        Of a task that writes texts.
    messages
        ``{"role": ..., "content": ...}`` one after another, or the text of a user's first turn.
    max_new_tokens
        Fewer than the bundle's own, or as many.

    Raises
    ------
    BundleError
        The bundle writes no texts, or does not reproduce itself.
    DataError
        The conversation cannot be read.
    """
    task: Any = bundle.task
    if "likelihood" not in task.gives:
        raise BundleError("writes no texts.", where=bundle.folder, fix="Ask it with predict.")
    if bundle.verified is None:
        bundle.verify()
    told = messages if isinstance(messages, str) else json.dumps(list(map(dict, messages)), ensure_ascii=False)
    row = request_texts(told, 1, bundle.text_fields, task.fields)
    inputs = task.ask(task.encode([row], bundle.tokenizer, bundle.max_length)[-1:], bundle.tokenizer)
    most = min(max_new_tokens or task.state["max_new_tokens"], task.state["max_new_tokens"])
    yield from _pieces(bundle, {name: inputs[name] for name in ("input_ids", "attention_mask")}, most)


def _pieces(bundle: Bundle, inputs: Mapping[str, Any], most: int) -> Iterator[str]:
    task: Any = bundle.task
    ends, ids, given = set(task.state["ends"]), [], ""
    for token in _tokens(bundle, inputs, most):
        ids.append(token)
        if token in ends:
            break
        text = task.texts([ids])[0]
        settled = _SETTLED.match(text) if not text.endswith("\ufffd") else None
        if settled and len(settled[0]) > len(given) and _is_additive(bundle.tokenizer):
            yield settled[0][len(given) :]
            given = settled[0]
    if rest := task.texts([ids])[0][len(given) :]:
        yield rest


def _is_additive(tokenizer: Any) -> bool:
    """Whether a text only grows with its tokens: a tokenizer that tidies spaces changes what stood there before."""
    return not getattr(tokenizer, "clean_up_tokenization_spaces", False)


def _tokens(bundle: Bundle, inputs: Mapping[str, Any], most: int) -> Iterator[int]:
    """Yield the tokens that a model writes while it does, in a thread of its own."""
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    from weitiao.models.quiet import quiet

    model: Any = bundle.model
    device = next(model.parameters()).device
    queue: SimpleQueue[Any] = SimpleQueue()
    stopped = Event()
    greedy = model.generation_config.num_beams in (None, 1)

    class Stop(StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            return torch.full((len(input_ids),), stopped.is_set(), dtype=torch.bool, device=input_ids.device)

    def write() -> None:
        try:
            with torch.inference_mode(), quiet():
                rows = model.generate(
                    **{name: value.to(device) for name, value in inputs.items()},
                    use_cache=True,
                    max_new_tokens=most,
                    min_new_tokens=min(model.generation_config.min_new_tokens or 0, most) or None,
                    stopping_criteria=StoppingCriteriaList([Stop()]),
                    streamer=_Streamer(queue) if greedy else None,
                )
            if not greedy:
                for token in rows[0, inputs["input_ids"].shape[1] :].tolist():
                    queue.put(token)
            queue.put(None)
        except Exception as error:  # raised again where the reply is read
            queue.put(error)

    thread = Thread(target=write, daemon=True)
    thread.start()
    try:
        while (token := queue.get()) is not None:
            if isinstance(token, Exception):
                raise token
            yield token
    finally:
        stopped.set()
        thread.join()


class _Streamer:
    """Puts each token into a queue as transformers writes it; the prompt, which comes first, is left out."""

    def __init__(self, queue: SimpleQueue[Any]) -> None:
        self.queue = queue
        self.begun = False

    def put(self, value: Any) -> None:
        """Take the prompt, then one token at a time."""
        if self.begun:
            for token in value.flatten().tolist():
                self.queue.put(token)
        self.begun = True

    def end(self) -> None:
        """Do nothing: the thread says when all is written."""
