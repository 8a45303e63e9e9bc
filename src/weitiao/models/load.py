"""From a found model to modules: tokenizer, encoder, classifier; and back from a saved folder.

This is the only place that decides which class a classifier is: the stock
transformers one where it pools as asked, else `SentenceClassifier`. Everything
is float32 and in eval mode; code that comes with a model is never run; what is
newly initialised is named in ``new_parameters`` instead of being warned about.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from weitiao.errors import ModelError
from weitiao.models.find import Pretrained, must_read_text, transformer_folder
from weitiao.models.gguf import plain_folder
from weitiao.models.parts import POOLINGS, backbone
from weitiao.models.quiet import quiet
from weitiao.randomness import torch_seed

__all__ = [
    "label_names",
    "load_encoder",
    "load_sequence_classifier",
    "load_tokenizer",
    "native_pooling",
    "open_saved",
    "open_tokenizer",
    "renew_head",
    "save",
    "save_tokenizer",
]

_SAFE: dict[str, Any] = {"trust_remote_code": False}
_WEIGHTS: dict[str, Any] = {**_SAFE, "dtype": torch.float32, "use_safetensors": True}
_HEADS = ("classifier.", "score.", "logits_proj.")  # ModernBERT's "head" is not one: it comes from pretraining


def load_tokenizer(pretrained: Pretrained) -> Any:
    """Return the tokenizer, padding and cutting on the right, limited to the model's length.

    A decoder without padding token pads with its end token.
    """
    return _tokenizer(plain_folder(pretrained), pretrained.max_length)


def load_encoder(pretrained: Pretrained, *, seed: int = 0) -> nn.Module:
    """Return the model without any head.

    Parameters
    ----------
    pretrained
        From `weitiao.models.find.find`.
    seed
        For weights that the checkpoint lacks (a pooler); their names are in ``new_parameters``.
    """
    from transformers import AutoModel

    must_read_text(pretrained)
    folder = plain_folder(pretrained)
    with quiet(), torch_seed(seed, "weights"):
        model, info = AutoModel.from_pretrained(folder, output_loading_info=True, **_WEIGHTS)
    model.new_parameters = frozenset(info["missing_keys"])
    return model.eval()


def load_sequence_classifier(
    pretrained: Pretrained,
    *,
    labels: Sequence[str],
    pooling: str,
    seed: int,
    dropout: float | None = None,
    problem: str = "single_label_classification",
) -> nn.Module:
    """Return the model with a head for `labels`: one output each.

    Parameters
    ----------
    pretrained
        From `weitiao.models.find.find`.
    labels
        Names in the order of the logits; they go into the config.
    pooling
        ``"cls"``, ``"mean"`` or ``"last"``. The class is the stock one where it pools like that.
    seed
        Decides the head's first weights; the process's own random state is left as it was.
    dropout
        Of the head, 0 to 1; None keeps what the config says.
    problem
        What the outputs mean, as transformers calls it in ``problem_type``: other tools read it from the config, and
        take a softmax, sigmoids or plain numbers.

    Returns
    -------
    A model whose ``new_parameters`` are the names the checkpoint did not have. A
    head in the checkpoint is kept only if it was made for the same problem and the same labels in the same order.

    Raises
    ------
    ModelError
        The architecture cannot classify, or `dropout` would have no effect.
    """
    if pooling not in POOLINGS:
        raise ModelError(f"pooling={pooling!r} is not known.", fix=f"Take one of {', '.join(POOLINGS)}.")
    must_read_text(pretrained)
    folder = plain_folder(pretrained)
    config = _config(folder)
    if config.is_encoder_decoder:
        raise ModelError(
            f"{pretrained.name} is an encoder-decoder ({config.model_type}), made to write text, not to classify it.",
            fix="Name an encoder (such as bert-base-chinese) or a decoder.",
        )
    same_head = label_names(config) == list(labels) and config.problem_type in (None, problem)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    config.problem_type = problem
    config.use_cache = False  # nothing is generated, so no keys and values need keeping
    if pretrained.is_decoder:  # the stock head finds a row's last token by it
        config.get_text_config().pad_token_id = config.pad_token_id = load_tokenizer(pretrained).pad_token_id
    if pooling in native_pooling(config):
        if hasattr(config, "classifier_pooling"):
            config.classifier_pooling = pooling
        model = _stock(folder, config, seed=seed, keep_head=same_head)
    else:
        model = _pooled(folder, config, pooling=pooling, seed=seed, keep_head=same_head)
    if dropout is not None:
        _set_dropout(model, dropout)
    return model.eval()


def native_pooling(config: Any) -> tuple[str, ...]:
    """Return the poolings that the stock classifier of an architecture can do."""
    from transformers import AutoModelForSequenceClassification

    try:
        with torch.device("meta"), quiet(), torch_seed(0):
            model = AutoModelForSequenceClassification.from_config(config)
    except ValueError:  # there is no stock classifier
        return ()
    if any("summary" in name for name, _ in model.named_children()):
        return ()  # XLNet and XLM summarise by place in the padded row
    if hasattr(config, "classifier_pooling"):
        return ("cls", "mean")
    # A decoder's stock head scores every token and picks; an encoder's has something of its own between.
    return ("last",) if hasattr(model, "score") else ("cls",)


def save(model: Any, folder: Path, tokenizer: Any = None, *, max_length: int | None = None) -> None:
    """Write a classifier so that the folder opens by itself, with plain transformers or sentence-transformers.

    Parameters
    ----------
    model
        From `load_sequence_classifier` or `open_saved`.
    folder
        Made if it is not there.
    tokenizer
        As in `save_tokenizer`; None writes none.
    max_length
        As in `save_tokenizer`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(folder)
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder, max_length=max_length)


def save_tokenizer(tokenizer: Any, folder: Path, *, max_length: int | None = None) -> None:
    """Write a tokenizer into a saved model's folder, where the model's own library looks for it.

    Parameters
    ----------
    tokenizer
        From `load_tokenizer` or `open_tokenizer`.
    folder
        As it was given to `save`; a folder without a model takes the tokenizer alone.
    max_length
        Tokens at which sentence-transformers cuts a row; None takes the tokenizer's limit.
    """
    home = transformer_folder(folder)
    if home != folder:
        settings = {"max_seq_length": max_length or tokenizer.model_max_length, "do_lower_case": False}
        (home / "sentence_bert_config.json").write_text(json.dumps(settings), encoding="utf-8")
    tokenizer.save_pretrained(home)


def open_tokenizer(folder: Path) -> Any:
    """Open a tokenizer that `save_tokenizer` wrote; it pads and cuts on the right."""
    return _tokenizer(transformer_folder(folder))


def open_saved(folder: Path) -> nn.Module:
    """Open a classifier that `save` wrote, of either class; safetensors only.

    Raises
    ------
    ModelError
        It cannot be opened, or weights are missing.
    """
    from transformers import AutoModelForSequenceClassification

    from weitiao.models.pooled import SentenceClassifier

    try:
        with quiet(), torch_seed(0):
            if (folder / "modules.json").is_file():
                return SentenceClassifier.from_pretrained(folder)
            model, info = AutoModelForSequenceClassification.from_pretrained(
                folder, output_loading_info=True, **_WEIGHTS
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"the saved model cannot be opened: {error}", where=folder) from error
    if info["missing_keys"]:
        raise ModelError(
            f"the saved model lacks weights: {', '.join(sorted(info['missing_keys']))}.",
            where=folder,
            fix="It was not saved whole.",
        )
    return model.eval()


def _stock(folder: Path, config: Any, *, seed: int, keep_head: bool) -> Any:
    from transformers import AutoModelForSequenceClassification

    with quiet(), torch_seed(seed, "weights"):
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder, config=config, output_loading_info=True, ignore_mismatched_sizes=True, **_WEIGHTS
        )
        new = set(info["missing_keys"]) | {key for key, *_ in info["mismatched_keys"]}
        learned = _outside(model) - set(info["missing_keys"])
        if not keep_head and any(name.startswith(_HEADS) for name in learned):
            with torch_seed(seed, "new head"):
                new |= renew_head(model)
    model.new_parameters = frozenset(new & {name for name, _ in model.named_parameters()})
    return model


def renew_head(model: Any) -> set[str]:
    """Initialise what is outside the backbone again: a head learned for other labels says nothing of these."""
    names = _outside(model)
    for name, parameter in model.named_parameters():
        if name in names and hasattr(parameter, "_is_hf_initialized"):
            del parameter._is_hf_initialized
    for name, child in model.named_children():
        if child is not backbone(model) and name:
            for module in child.modules():
                model._init_weights(module)
    return names


def _outside(model: nn.Module) -> set[str]:
    inside = {id(parameter) for parameter in backbone(model).parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) not in inside}


def _pooled(folder: Path, config: Any, *, pooling: str, seed: int, keep_head: bool) -> nn.Module:
    from transformers import AutoModel

    from weitiao.models.pooled import SentenceClassifier, head_dropout

    with quiet(), torch_seed(seed, "weights"):
        encoder, info = AutoModel.from_pretrained(folder, config=config, output_loading_info=True, **_WEIGHTS)
        model = SentenceClassifier(encoder, pooling=pooling, dropout=head_dropout(config))
    with torch_seed(seed, "new head"):  # a stream of its own: what the encoder lacked does not shift it
        nn.init.normal_(model.classifier.weight, std=getattr(config, "initializer_range", 0.02))
    nn.init.zeros_(model.classifier.bias)
    new = {f"encoder.{name}" for name in info["missing_keys"]}
    if not (keep_head and model.take_head(folder.parent)):
        new |= {"classifier.weight", "classifier.bias"}
    model.new_parameters = frozenset(new & {name for name, _ in model.named_parameters()})  # type: ignore[assignment]
    return model


def _set_dropout(model: Any, dropout: float) -> None:
    inside = {id(module) for module in backbone(model).modules()}
    own = [m for m in model.modules() if isinstance(m, nn.Dropout) and id(m) not in inside]
    if not own:
        raise ModelError(
            f"dropout={dropout} would have no effect: {type(model).__name__} has no dropout before its head.",
            fix="Leave it out.",
        )
    for module in own:
        module.p = dropout
    for key in ("classifier_dropout", "seq_classif_dropout", "cls_dropout"):
        if hasattr(model.config, key):
            setattr(model.config, key, dropout)


def label_names(config: Any) -> list[str]:
    """Return the labels that a config knows, in the order of the logits."""
    return [config.id2label[i] for i in sorted(config.id2label)]


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    with quiet():
        return AutoConfig.from_pretrained(folder, **_SAFE)


def _tokenizer(folder: Path, max_length: int | None = None, **kwargs: Any) -> Any:
    from transformers import AutoTokenizer

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, **_SAFE, **kwargs)
    except (OSError, ValueError, KeyError, TypeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ModelError(f"the tokenizer cannot be opened: {first}", where=folder) from error
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError("the tokenizer has neither a padding nor an end token.", where=folder)
        tokenizer.pad_token = tokenizer.eos_token
    if max_length:
        tokenizer.model_max_length = max_length
    return tokenizer
