"""Models that are fetched: from the Hugging Face hub or a mirror of it, and from ModelScope.

Only what is opened is downloaded, never pickle; and when a model cannot be had,
the message lists those that are here.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from weitiao.errors import MissingExtra, ModelError
from weitiao.models.packaged import available

__all__ = [
    "PICKLE",
    "SETTINGS_FILES",
    "TOKENIZER_FILES",
    "WEIGHTS",
    "from_hub",
    "from_modelscope",
    "no_weights",
    "unavailable",
]

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model",
    "bpe.codes", "chat_template.jinja",
)  # fmt: skip
SETTINGS_FILES = ("config.json", "sentence_bert_config.json", "modules.json")
WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
_DOWNLOAD = (*WEIGHTS, *SETTINGS_FILES, *TOKENIZER_FILES, "1_Pooling/config.json")
PICKLE = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_CONVERT = """Where you trust its author, convert it once:
  from transformers import AutoModel, AutoTokenizer
  AutoModel.from_pretrained({name!r}).save_pretrained("converted")
  AutoTokenizer.from_pretrained({name!r}).save_pretrained("converted")
and name the folder "converted"."""


def from_hub(name: str) -> Path:
    """Return the folder of a hub model, downloading what is not here yet.

    ``HF_ENDPOINT``, ``HF_HUB_OFFLINE`` and ``HF_TOKEN`` work as everywhere.

    Raises
    ------
    ModelError
        It cannot be had; the message says why.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(_DOWNLOAD)))
    except GatedRepoError as error:
        raise unavailable(name, "its owner asks for a login (accept its terms there, then set HF_TOKEN)") from error
    except RepositoryNotFoundError as error:
        raise unavailable(name, f"{constants.ENDPOINT} has no such model, or it is private") from error
    except LocalEntryNotFoundError as error:
        offline = "HF_HUB_OFFLINE is set and it is not in the hub cache"
        why = offline if constants.is_offline_mode() else f"{constants.ENDPOINT} cannot be reached"
        raise unavailable(name, why) from error
    except (OSError, ValueError, RuntimeError) as error:  # the clients under the hub raise many kinds
        first = str(error).strip().partition("\n")[0]
        raise unavailable(name, f"{constants.ENDPOINT} answered: {first or type(error).__name__}") from error


def from_modelscope(name: str, model_id: str) -> Path:
    """Return the folder of a ModelScope model, downloading what is not here yet.

    Raises
    ------
    MissingExtra
        The ``modelscope`` client is not installed.
    ModelError
        It cannot be had; the message says why.
    """
    try:
        from modelscope import snapshot_download  # type: ignore[import-not-found]
    except ImportError as error:
        raise MissingExtra("modelscope", "modelscope", f"The model {name}") from error
    try:
        return Path(snapshot_download(model_id, allow_file_pattern=list(_DOWNLOAD)))
    except Exception as error:  # its client documents no error classes
        first = str(error).strip().partition("\n")[0]
        raise unavailable(name, f"ModelScope answered: {first or type(error).__name__}") from error


def unavailable(name: str, why: str) -> ModelError:
    """Return the error for a model that cannot be had: why, what is here, what to do."""
    here = [*available(), *_cached()]
    return ModelError(
        f"the model {name!r} cannot be had: {why}.",
        fix=f"Here now: {', '.join(here) or 'none'}. Or name a folder with config.json and safetensors, or "
        "modelscope:ORG/NAME, or set HF_ENDPOINT to a mirror that you can reach (such as https://hf-mirror.com).",
    )


def _cached() -> list[str]:
    """Models in the hub cache that have weights we would open."""
    with contextlib.suppress(Exception):  # no cache, or a damaged one: nothing to offer
        from huggingface_hub import scan_cache_dir

        return sorted(
            repo.repo_id
            for repo in scan_cache_dir().repos
            if repo.repo_type == "model"
            and any(f.file_name.endswith(".safetensors") for revision in repo.revisions for f in revision.files)
        )
    return []


def no_weights(name: str, folder: Path, ggufs: list[Path]) -> ModelError:
    """Return the error for a folder without safetensors: several GGUFs, only pickle, or nothing."""
    if ggufs:
        files = ", ".join(file.name for file in ggufs)
        return ModelError(f"there are several GGUF files: {files}.", where=folder, fix="Name one of them.")
    pickles = sorted(file.name for pattern in PICKLE for file in folder.glob(pattern))
    if not pickles and folder != Path(name).expanduser().resolve():
        pickles = _remote_pickles(name)
    if pickles:
        return ModelError(
            f"the model {name!r} has only pickle weights ({', '.join(pickles)}), "
            "which can run any code when opened; weitiao opens safetensors and GGUF.",
            fix=_CONVERT.format(name=name),
        )
    return ModelError(
        f"the model {name!r} has no weights: neither safetensors nor GGUF.",
        where=folder,
        fix="A model folder has config.json, model.safetensors and a tokenizer.",
    )


def _remote_pickles(name: str) -> list[str]:
    """Pickle files the hub has for a model of which nothing else could be downloaded."""
    with contextlib.suppress(Exception):  # offline: then the message says only that there are no weights
        from huggingface_hub import list_repo_files

        ends = tuple(pattern[1:] for pattern in PICKLE)
        return [file for file in list_repo_files(name) if file.endswith(ends) and "/" not in file]
    return []
