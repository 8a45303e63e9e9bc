"""A language model as a classifier: a label is as likely as its words are where a template has left a gap.

Nothing in it is new: the model answers with the head it was pretrained with. `PromptedClassifier` scores every word of
every label in one call and gives logits ``(rows, classes)``, so that whatever trains a classifier trains it.

* masked: the gap holds as many masks as the longest word has tokens; a word's score is the mean log-probability of its
  tokens, each at its own mask. Log-probabilities and not raw logits, since words of unlike length look at unlike masks,
  and raw logits of two places are not on one scale.
* causal: the mean log-probability of the word's tokens after the text. The text is read once, and what is kept of it
  (keys and values) is shared by all words. Rows are moved to the right end of the batch, so that no padding stands
  between text and word.
* seq2seq: the same, of the half that writes; the half that reads runs once.
* entailment: no words, but a sentence a label; its score is the logit of "entailment".

A label of several words has the mean of their probabilities, exp(score).

Source: Schick and Schuetze, It's Not Just Size That Matters, 2020, arXiv:2009.07118, section 3.1 (several masks);
Brown et al., Language Models are Few-Shot Learners, 2020, arXiv:2005.14165, section 2.4 (likelihood by length); Yin et
al., Benchmarking Zero-shot Text Classification, 2019, arXiv:1909.00161 (entailment); Hambardzumyan et al., WARP:
Word-level Adversarial ReProgramming, 2021, arXiv:2101.00121 (learnt label vectors).
Differs: all masks are filled in at once, where Schick and Schuetze fill in one after another.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput

from weitiao.errors import ModelError
from weitiao.models.find import Pretrained
from weitiao.models.gguf import plain_folder
from weitiao.models.heads import is_encoder_decoder
from weitiao.models.quiet import quiet
from weitiao.randomness import torch_seed

__all__ = ["SETTINGS", "Kind", "LabelWords", "PromptedClassifier", "kind_of", "load_prompted", "open_prompted"]

Kind = Literal["masked", "causal", "seq2seq", "entailment"]

SETTINGS = "prompt.json"  # beside the model it belongs to; its id2label names the labels
_TENSORS = "prompt.safetensors"
_ROOM = 1 << 26  # logits at a time, of words that are read after a text
_CLASSES: dict[str, str] = {
    "masked": "AutoModelForMaskedLM",
    "causal": "AutoModelForCausalLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "entailment": "AutoModelForSequenceClassification",
}
_OTHERS = {
    "masked": "Name a model that was pretrained to fill in masks and saved with that head (bert-base-uncased, "
    "bert-base-chinese, roberta-base); sentence encoders such as MiniLM have none. Or leave task.prompt out",
    "causal": "Name a checkpoint that was saved with its language-model head, or leave task.prompt out",
    "seq2seq": "Name a checkpoint that was saved with its language-model head (T5, BART)",
    "entailment": "Name a model that was tuned on natural language inference, or leave task.prompt.kind out",
}


@dataclass(frozen=True)
class LabelWords:
    """What a prompted model reads or writes for each label.

    Parameters
    ----------
    kind
        How the model answers.
    labels
        Their names, in the order of the logits.
    words
        Of each label, the tokens of each of its words; for entailment, those of its sentences as second text.
    start
        seq2seq: the tokens that the writing half begins with.
    pad
        Fills tensors up; never read.
    segment
        entailment: the number of the second text in ``token_type_ids``; ``None`` where a model knows none.
    soft
        Whether labels are vectors to learn, which start as the mean of their words' output vectors.
    examples
        How many solved examples stand before a text; the model does not use it, methods ask for it.
    """

    kind: Kind
    labels: tuple[str, ...]
    words: tuple[tuple[tuple[int, ...], ...], ...]
    start: tuple[int, ...] = ()
    pad: int = 0
    segment: int | None = None
    soft: bool = False
    examples: int = 0


class SoftVerbalizer(nn.Module):
    """One vector and one number a label, in the place of rows of the output embedding."""

    def __init__(self, vectors: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.vectors, self.bias = nn.Parameter(vectors), nn.Parameter(bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits ``(rows, classes)`` of vectors ``(rows, hidden)``."""
        return nn.functional.linear(hidden, self.vectors, self.bias)

    @classmethod
    def of(cls, model: Any, words: LabelWords) -> SoftVerbalizer:
        """Return label vectors that are the means of their words' output vectors.

        Raises
        ------
        ModelError
            The model's output layer is no dense layer.
        """
        head = model.get_output_embeddings()
        if not isinstance(head, nn.Linear):
            raise ModelError(
                f"{type(model).__name__} has no plain output layer, whose vectors labels could start from.",
                fix="Leave task.prompt.soft_verbalizer out.",
            )
        tokens = [torch.tensor([token for word in own for token in word]) for own in words.words]
        weight, bias = head.weight.detach(), head.bias
        vectors = torch.stack([weight[own].mean(0) for own in tokens])
        known = torch.zeros(len(tokens)) if bias is None else torch.stack([bias.detach()[own].mean() for own in tokens])
        return cls(vectors.clone(), known.to(vectors).clone())


class PromptedClassifier(nn.Module):
    """A language model, or a model of natural language inference, that scores labels.

    Parameters
    ----------
    model
        A stock transformers model with its own pretrained head.
    words
        What stands for each label.
    log_prior
        Log-probability of each label where a text says nothing, taken off the logits; none where left out.
    """

    base_model_prefix = "model"
    new_parameters: frozenset[str] = frozenset()
    how_to_open = """`model/` opens with plain transformers as the language model it is (see its config.json). Which
words stand for which label is in `model/prompt.json`, the template in `recipe.yaml` and `bundle.json`."""

    word_ids: Tensor
    word_mask: Tensor
    owners: Tensor
    log_prior: Tensor | None

    def __init__(self, model: Any, words: LabelWords, log_prior: Sequence[float] | None = None) -> None:
        super().__init__()
        self.model, self.words, self.config = model, words, model.config
        flat = [word for own in words.words for word in own]
        longest = max(map(len, flat))
        ids = torch.tensor([[*word, *[words.pad] * (longest - len(word))] for word in flat])  # (words, longest)
        sizes = torch.tensor([len(word) for word in flat])
        self.register_buffer("word_ids", ids, persistent=False)
        self.register_buffer("word_mask", torch.arange(longest) < sizes[:, None], persistent=False)
        owners = torch.tensor([i for i, own in enumerate(words.words) for _ in own])
        self.register_buffer("owners", owners, persistent=False)
        self.register_buffer("log_prior", None if log_prior is None else torch.tensor(log_prior))
        self.verbalizer = SoftVerbalizer.of(model, words) if words.soft else None
        self._takes = set(inspect.signature(model.forward).parameters)
        self._entails = entailment_of(model.config) if words.kind == "entailment" else -1

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are stored as."""
        return self.model.dtype

    def get_input_embeddings(self) -> nn.Module:
        """Return the table of token vectors."""
        return self.model.get_input_embeddings()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, mask_places: Tensor | None = None, **kwargs: Any
    ) -> SequenceClassifierOutput:
        """Score all labels.

        Parameters
        ----------
        input_ids, attention_mask
            ``(rows, length)``, padded on the right.
        mask_places
            masked: where the masks stand, ``(rows, masks)``.
        kwargs
            Go to the model where it reads the text.

        Returns
        -------
        Logits ``(rows, classes)``.
        """
        kwargs.pop("labels", None)  # the task computes the loss
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if self.words.kind == "entailment":
            scores = self._entailment(input_ids, attention_mask, kwargs)
        elif self.words.kind == "masked":
            if mask_places is None:
                raise ModelError("a masked language model has to be told where the masks are: mask_places.")
            scores = self._masked(input_ids, attention_mask, mask_places, kwargs)
        else:
            read = self._causal if self.words.kind == "causal" else self._seq2seq
            scores = read(input_ids, attention_mask, kwargs)
        logits = scores if self.verbalizer is not None else self._by_label(scores)
        return SequenceClassifierOutput(logits=logits if self.log_prior is None else logits - self.log_prior)

    def _by_label(self, scores: Tensor) -> Tensor:
        """Return the log of the mean of exp(score) of each label's words, from ``(rows, words)``."""
        if len(self.owners) == len(self.words.labels):
            return scores
        each = [scores[:, self.owners == i] for i in range(len(self.words.labels))]
        return torch.stack([own.logsumexp(1) - torch.tensor(float(own.shape[1])).log() for own in each], dim=1)

    @contextmanager
    def _head_at(self, places: Tensor | None) -> Iterator[Callable[[], Tensor]]:
        """Let the output layer read some places only, ``(rows, places)``; the function given returns what it read."""
        seen: list[Tensor] = []

        def choose(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden = args[0] if places is None else _at(args[0], places)
            seen.append(hidden)
            return (hidden, *args[1:])

        hook = self.model.get_output_embeddings().register_forward_pre_hook(choose)
        try:
            yield lambda: seen[-1]
        finally:
            hook.remove()

    # --- masked ---

    def _masked(self, ids: Tensor, mask: Tensor, places: Tensor, kwargs: dict[str, Any]) -> Tensor:
        with self._head_at(places) as hidden:
            logits = self.model(input_ids=ids, attention_mask=mask, **kwargs).logits
            if self.verbalizer is not None:
                return self.verbalizer(hidden()[:, 0])
        if logits.shape[1] != places.shape[1]:  # a head that does not go through the output layer read all places
            logits = _at(logits, places)
        log_p = logits.log_softmax(-1)  # (rows, masks, vocabulary)
        longest = self.word_ids.shape[1]
        each = log_p[:, torch.arange(longest, device=ids.device), self.word_ids]  # (rows, words, longest)
        return (each * self.word_mask).sum(-1) / self.word_mask.sum(-1)

    # --- causal ---

    def _causal(self, ids: Tensor, mask: Tensor, kwargs: dict[str, Any]) -> Tensor:
        ids, mask = _to_the_right(ids, mask)
        longest = 1 if self.verbalizer is not None else self.word_ids.shape[1]
        # checkpointing computes layers a second time, which would write into what is kept a second time
        keeps = longest > 1 and not (self.training and _checkpoints(self.model))
        told = self._told(mask, 1) | {"use_cache": keeps} | kwargs
        with self._head_at(None) as hidden:
            outputs = self.model(input_ids=ids, attention_mask=mask, **told)
            if self.verbalizer is not None:
                return self.verbalizer(hidden()[:, -1])
        totals = outputs.logits[:, -1].log_softmax(-1)[:, self.word_ids[:, 0]]  # (rows, words)
        past = getattr(outputs, "past_key_values", None) if keeps else None
        vocabulary = outputs.logits.shape[-1]
        for some in self._longer(len(ids), vocabulary):
            totals = totals.index_add(1, some, self._after(some, ids, mask, past))
        return totals / self.word_mask.sum(1)

    def _told(self, mask: Tensor, last: int) -> dict[str, Any]:
        """Return the places of tokens and how many of the last logits are wanted, as far as the model takes them."""
        places = (mask.cumsum(1) - 1).clamp(min=0)
        told = {"position_ids": places, "logits_to_keep": last}
        return {name: value for name, value in told.items() if name in self._takes}

    def _longer(self, rows: int, vocabulary: int) -> Iterator[Tensor]:
        """Yield numbers of words of more than one token, as many at a time as there is room for."""
        longer = self.word_mask.sum(1).gt(1).nonzero()[:, 0]
        size = max(1, _ROOM // max(1, rows * vocabulary * (self.word_ids.shape[1] - 1)))
        yield from longer.split(size) if len(longer) else ()

    def _after(self, some: Tensor, ids: Tensor, mask: Tensor, past: Any) -> Tensor:
        """Return summed log-probabilities of the second to last tokens of some words, ``(rows, some)``."""
        rows, count = len(ids), len(some)
        width = int(self.word_mask[some].sum(1).max())
        word, real = (each[some, :width].repeat(rows, 1) for each in (self.word_ids, self.word_mask))
        fed, seen = word[:, :-1], torch.cat([mask.repeat_interleave(count, 0), real[:, :-1].to(mask.dtype)], dim=1)
        told: dict[str, Any] = self._told(seen, width - 1) | {"use_cache": past is not None}
        if past is None:  # the text is read again
            fed = torch.cat([ids.repeat_interleave(count, 0), fed], dim=1)
        else:
            told["past_key_values"] = _repeated(past, count)
            if "position_ids" in told:
                told["position_ids"] = told["position_ids"][:, -(width - 1) :]
        logits = self.model(input_ids=fed, attention_mask=seen, **told).logits[:, -(width - 1) :]
        each = logits.log_softmax(-1).gather(2, word[:, 1:, None])[..., 0] * real[:, 1:]
        return each.sum(1).view(rows, count)

    # --- seq2seq ---

    def _seq2seq(self, ids: Tensor, mask: Tensor, kwargs: dict[str, Any]) -> Tensor:
        states = self.model.get_encoder()(input_ids=ids, attention_mask=mask, **kwargs)[0]  # (rows, length, hidden)
        start = torch.tensor(self.words.start, device=ids.device)
        if self.verbalizer is not None:
            with self._head_at(None) as hidden:
                self._write(states, mask, start.repeat(len(ids), 1))
            return self.verbalizer(hidden()[:, -1])
        if self.word_ids.shape[1] == 1:  # no word goes on: all are read off one place
            log_p = self._write(states, mask, start.repeat(len(ids), 1))[:, -1].log_softmax(-1)
            return log_p[:, self.word_ids[:, 0]]
        vocabulary, scores = self.config.get_text_config(decoder=True).vocab_size, []
        size = max(1, _ROOM // (len(ids) * vocabulary * (self.word_ids.shape[1] + len(start))))
        for some in torch.arange(len(self.word_ids), device=ids.device).split(size):
            word, real = (each[some].repeat(len(ids), 1) for each in (self.word_ids, self.word_mask))
            fed = torch.cat([start.repeat(len(word), 1), word[:, :-1]], dim=1)
            logits = self._write(states.repeat_interleave(len(some), 0), mask.repeat_interleave(len(some), 0), fed)
            log_p = logits[:, len(start) - 1 :].log_softmax(-1).gather(2, word[..., None])[..., 0]
            scores.append(((log_p * real).sum(1) / real.sum(1)).view(len(ids), len(some)))
        return torch.cat(scores, dim=1)

    def _write(self, states: Tensor, mask: Tensor, ids: Tensor) -> Tensor:
        read = BaseModelOutput(last_hidden_state=states)  # type: ignore[arg-type]
        return self.model(encoder_outputs=read, attention_mask=mask, decoder_input_ids=ids, use_cache=False).logits

    # --- entailment ---

    def _entailment(self, ids: Tensor, mask: Tensor, kwargs: dict[str, Any]) -> Tensor:
        """Read each row with the sentence of each label, one label after another."""
        ends, found = mask.sum(1, keepdim=True), []  # where the second text begins
        for word, real in zip(self.word_ids, self.word_mask, strict=True):
            second = word[real].expand(len(ids), -1)
            places = ends + torch.arange(second.shape[1], device=ids.device)
            room = (0, second.shape[1])
            told = {
                "input_ids": nn.functional.pad(ids, room, value=self.words.pad).scatter(1, places, second),
                "attention_mask": nn.functional.pad(mask, room).scatter(1, places, 1),
            }
            if self.words.segment is not None:
                types = torch.zeros_like(told["input_ids"])
                told["token_type_ids"] = types.scatter(1, places, self.words.segment)
            found.append(self.model(**told, **kwargs).logits[:, self._entails])
        return torch.stack(found, dim=1)

    # --- files ---

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Write the plain language model, and beside it what makes it a classifier."""
        from safetensors.torch import save_file

        root = Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(root)
        told = asdict(self.words) | {"id2label": {str(i): label for i, label in enumerate(self.words.labels)}}
        (root / SETTINGS).write_text(json.dumps(told, ensure_ascii=False, indent=2), encoding="utf-8")
        own = {} if self.verbalizer is None else dict(self.verbalizer.named_parameters(prefix="verbalizer"))
        own |= {} if self.log_prior is None else {"log_prior": self.log_prior}
        if own:
            save_file({name: w.detach().cpu().contiguous() for name, w in own.items()}, root / _TENSORS)


def kind_of(pretrained: Pretrained) -> Kind:
    """Return how a model with the head of its pretraining answers."""
    if is_encoder_decoder(pretrained):
        return "seq2seq"
    return "causal" if pretrained.is_decoder else "masked"


def entailment_of(config: Any) -> int:
    """Return the number of the class that says that a sentence follows.

    Raises
    ------
    ModelError
        No class, or more than one, is called so.
    """
    names = {i: str(name).lower() for i, name in (config.id2label or {}).items()}
    found = [i for i, name in names.items() if "entail" in name or "蕴含" in name]
    found = [i for i in found if not names[i].startswith(("not", "non", "no_", "不"))]
    if len(found) != 1:
        raise ModelError(
            f"this is no model of natural language inference: none of its classes is called entailment "
            f"({', '.join(names.values())}).",
            fix=_OTHERS["entailment"] + ".",
        )
    return int(found[0])


def load_prompted(
    pretrained: Pretrained, words: LabelWords, log_prior: Sequence[float] | None = None
) -> PromptedClassifier:
    """Return a pretrained model that scores labels, in eval mode.

    Raises
    ------
    ModelError
        The checkpoint lacks weights of the head that answers, or is no model of that kind.
    """
    return PromptedClassifier(_open(plain_folder(pretrained), words.kind, pretrained.name), words, log_prior).eval()


def open_prompted(folder: Path) -> PromptedClassifier:
    """Open a model that `PromptedClassifier.save_pretrained` wrote, in eval mode.

    Raises
    ------
    ModelError
        It cannot be opened, or weights are missing.
    """
    from safetensors.torch import load_file

    told = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    del told["id2label"]
    told["words"] = tuple(tuple(map(tuple, own)) for own in told["words"])
    words = LabelWords(**told | {"labels": tuple(told["labels"]), "start": tuple(told["start"])})
    own = load_file(folder / _TENSORS) if (folder / _TENSORS).is_file() else {}
    prior = own.get("log_prior")
    model = PromptedClassifier(_open(folder, words.kind, str(folder)), words, None if prior is None else [0.0])
    model.log_prior = prior
    if model.verbalizer is not None:
        model.verbalizer.load_state_dict(
            {name.removeprefix("verbalizer."): w for name, w in own.items() if "." in name}
        )
    return model.eval()


def _open(folder: Path, kind: Kind, name: str) -> Any:
    import transformers

    told: dict[str, Any] = {"trust_remote_code": False, "dtype": torch.float32, "use_safetensors": True}
    try:
        with quiet(), torch_seed(0):
            auto = getattr(transformers, _CLASSES[kind])
            model, info = auto.from_pretrained(folder, output_loading_info=True, **told)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ModelError(f"{name} cannot answer prompts: {first}", fix=_OTHERS[kind] + ".") from error
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise ModelError(
            f"{name} cannot answer prompts: the checkpoint has no weights for {missing}.", fix=_OTHERS[kind] + "."
        )
    return model


def _at(values: Tensor, places: Tensor) -> Tensor:
    """Return the vectors at some places of each row, ``(rows, places, width)``."""
    return values.gather(1, places[..., None].expand(-1, -1, values.shape[-1]))


def _to_the_right(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Move the padding of each row from its right to its left."""
    # a stable sort of 0 (padding) before 1 (tokens) keeps the tokens in their order, wherever the padding stands
    order = mask.long().sort(dim=1, stable=True).indices
    return ids.gather(1, order), mask.gather(1, order)


def _checkpoints(model: Any) -> bool:
    """Whether layers are computed a second time in the place of being kept; older transformers have another name."""
    new, old = "is_activation_checkpointing", "is_gradient_checkpointing"
    return bool(getattr(model, new if hasattr(type(model), new) else old, False))


def _repeated(past: Any, count: int) -> Any:
    """Return what is kept of each row so many times; `past` stays as it is, and gradients go through."""
    twin = copy.copy(past)
    twin.layers = [copy.copy(layer) for layer in past.layers]
    twin.batch_repeat_interleave(count)
    return twin
