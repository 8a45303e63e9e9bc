"""Translation models: stock encoder-decoders, opened by name like any other model, used to write texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from weitiao.errors import ModelError
from weitiao.models.find import Pretrained, find
from weitiao.models.quiet import quiet
from weitiao.randomness import derive_seed, torch_seed

__all__ = ["Translator", "open_translator"]

_BATCH = 16  # texts at a time


def open_translator(name: str) -> Translator:
    """Open the encoder-decoder called `name`.

    Raises
    ------
    ModelError
        It cannot be had, or is no encoder-decoder. Code that comes with a model is never run.
    """
    return Translator(find(name))


class Translator:
    """A model that turns a text into another, such as Marian's.

    One that wants a prefix or a language code in front of the text does not fit.

    Parameters
    ----------
    pretrained
        From `weitiao.models.find.find`.
    """

    def __init__(self, pretrained: Pretrained) -> None:
        import torch
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        self.name, self.folder = pretrained.name, pretrained.folder
        try:
            with quiet():
                self.tokenizer: Any = AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
                model: Any = AutoModelForSeq2SeqLM.from_pretrained(
                    self.folder, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
                )
        except (ValueError, KeyError, OSError, TypeError) as error:
            first = str(error).strip().partition("\n")[0][:200]
            raise ModelError(
                f"the model {self.name!r} cannot translate: {first}",
                where=self.folder,
                fix="It takes a stock encoder-decoder with its tokenizer, such as Helsinki-NLP/opus-mt-zh-en.",
            ) from error
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = model.eval().to(self.device)
        # T5 was trained on longer texts than its config says; others have as many places as the config says
        self.longest = min(getattr(model.config, "max_position_embeddings", None) or 512, 512)

    def __call__(self, texts: Sequence[str], *, seed: int, sample_from: int, beams: int) -> list[str]:
        """Return one translation a text; an empty one where the text has no tokens, or more than the model takes.

        Parameters
        ----------
        seed
            Decides what is drawn, together with the order of the texts.
        sample_from
            1: the best that a search finds; more: drawn from so many of the likeliest tokens.
        beams
            Texts followed at once in search.
        """
        if not texts:
            return []
        encoded = self.tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
        lengths = np.array([len(ids) for ids in encoded], dtype=np.int64)
        order = [int(i) for i in np.argsort(lengths, kind="stable") if 0 < lengths[i] <= self.longest]
        said = [""] * len(texts)
        for number in range(math.ceil(len(order) / _BATCH)):
            part = order[number * _BATCH : (number + 1) * _BATCH]
            with torch_seed(derive_seed(seed, number), "translation"):
                for i, text in zip(part, self._write([texts[i] for i in part], sample_from, beams), strict=True):
                    said[i] = text
        return said

    def _write(self, texts: list[str], sample_from: int, beams: int) -> list[str]:
        import torch

        batch = self.tokenizer(texts, padding=True, return_tensors="pt").to(self.device)
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
        how: dict[str, Any] = {"num_beams": beams, "do_sample": False}
        if sample_from > 1:
            how = {"num_beams": 1, "do_sample": True, "top_k": sample_from, "top_p": 1.0, "temperature": 1.0}
        most = inputs["attention_mask"].sum(1) * 2 + 8  # tokens; a translation is hardly ever longer
        most = most.clamp(max=self.longest - 2).tolist()
        with torch.inference_mode(), quiet():
            written = self.model.generate(**inputs, **how, max_new_tokens=max(most) + 1, max_length=None)
        # each cut at its own length, so that the texts beside it play no part: the first token only begins, and one
        # more than the longest may have was asked for because some models force an end there
        ids = [row[: n + 1] for row, n in zip(written, most, strict=True)]
        return self.tokenizer.batch_decode(ids, skip_special_tokens=True)
