"""GGUF files: their facts read quickly, and a plain model made of them once."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from weitiao.errors import ModelError
from weitiao.models.packaged import cache_folder
from weitiao.models.quiet import quiet

if TYPE_CHECKING:
    from weitiao.models.find import Pretrained

__all__ = ["gguf_facts", "plain_folder"]

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


def gguf_facts(file: Path) -> dict[str, Any]:
    """Read the scalar metadata of a GGUF up to its vocabulary: the reader of the gguf package takes seconds."""
    facts: dict[str, Any] = {}
    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise ModelError("this is not a GGUF file.", where=file, fix="Download it again.")
        _, _, count = struct.unpack("<IQQ", stream.read(20))
        for _ in range(count):
            key = _value(stream, _STRING)
            (kind,) = struct.unpack("<I", stream.read(4))
            if kind == _ARRAY and key.startswith("tokenizer."):
                break  # what is asked here comes before it, and the vocabulary is long
            facts[key] = _value(stream, kind)
    return facts


def _value(stream: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        (size,) = struct.unpack("<Q", stream.read(8))
        return stream.read(size).decode("utf-8", "replace")
    if kind == _ARRAY:
        inner, size = struct.unpack("<IQ", stream.read(12))
        return [_value(stream, inner) for _ in range(size)]
    code = _NUMBERS[kind]
    return struct.unpack(f"<{code}", stream.read(struct.calcsize(code)))[0]


def plain_folder(pretrained: Pretrained) -> Path:
    """Return a folder with config, safetensors and tokenizer; a GGUF is turned into one, once.

    Opening a GGUF takes tens of seconds each time (its vocabulary is parsed three
    times over), and a model opened from one still counts as quantized, which
    transformers refuses to save or train. The plain copy is in the cache folder.
    """
    if pretrained.gguf_file is None:
        return pretrained.folder
    import transformers

    target = cache_folder() / "gguf" / f"{pretrained.content_hash[:32]}-{transformers.__version__}-writer"
    if (target / "config.json").is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        _convert(pretrained, aside)
        try:
            os.replace(aside, target)
        except OSError:
            if not (target / "config.json").is_file():  # else another process was quicker: its copy is as good
                raise
    except OSError as error:
        raise ModelError(
            f"{pretrained.gguf_file} cannot be made into a plain model: {error}.",
            where=target.parent,
            fix=f"{shutil.disk_usage(target.parent).free / 2**30:.1f} GiB are free there, and it takes about eight "
            "times its size; free some, or set WEITIAO_CACHE to another folder.",
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def _convert(pretrained: Pretrained, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = pretrained.gguf_file
    try:
        with quiet(), contextlib.redirect_stderr(io.StringIO()):  # its bar asks nobody whether bars are wanted
            opened = AutoModelForCausalLM.from_pretrained(
                pretrained.folder, gguf_file=file, dtype=torch.float32, trust_remote_code=False
            )
    except ImportError as error:
        raise ModelError("GGUF files need the gguf package, which is not installed.", fix="pip install gguf") from error
    except (ValueError, KeyError, NotImplementedError) as error:
        raise ModelError(f"this GGUF cannot be opened: {error}", where=pretrained.folder / str(file)) from error
    config = type(opened.config).from_dict(
        {key: value for key, value in opened.config.to_dict().items() if key != "quantization_config"}
    )
    with torch.device("meta"):
        plain = type(opened)(config)
    plain.load_state_dict(opened.state_dict(), assign=True)
    with quiet():
        AutoTokenizer.from_pretrained(pretrained.folder, gguf_file=file, trust_remote_code=False).save_pretrained(
            target
        )
        plain.save_pretrained(target)
