"""Train a few vectors that the frozen model reads among its tokens.

Source: Lester, Al-Rfou and Constant, The Power of Scale for Parameter-Efficient Prompt Tuning, 2021, arXiv:2104.08691.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from weitiao.errors import ModelError
from weitiao.methods._prompted import Prompted
from weitiao.plugins import Options
from weitiao.randomness import generator

if TYPE_CHECKING:
    from torch import nn

    from weitiao.models.reading import Form

__all__ = ["PromptTuning"]


class PromptTuning(Prompted):
    """Free vectors at the input, and the head."""

    class Settings(Options):
        """Number of vectors, and where they begin."""

        tokens: int = Field(20, ge=1, description="how many vectors are trained")
        init: Literal["vocabulary", "text"] = Field(
            "vocabulary", description="vectors they begin as: of random tokens, or of the tokens of 'init_text'"
        )
        init_text: str | None = Field(
            None, min_length=1, description="text to begin as, over and over until there are enough tokens"
        )

        @model_validator(mode="after")
        def _whole(self) -> PromptTuning.Settings:
            if (self.init == "text") != (self.init_text is not None):
                raise ValueError("init_text is needed with init 'text', and has no effect otherwise")
            return self

    learning_rate: ClassVar[float] = 3e-2
    head_learning_rate: ClassVar[float | None] = 3e-3
    settings: Settings

    def make(self, model: nn.Module, form: Form, seed: int) -> nn.Module:
        """Return vectors of tokens, to be trained."""
        import torch

        from weitiao.models.reading import embedded, halves
        from weitiao.models.soft_prompt import Vectors

        reader, _ = halves(model)
        table = reader.get_input_embeddings().weight
        if self.settings.init == "text":
            ids = self._tokens(reader.name_or_path)
        else:
            ids = generator(seed, "prompt_tuning").integers(len(table), size=self.settings.tokens).tolist()
        with torch.no_grad():
            return Vectors(embedded(reader, torch.tensor([ids], device=table.device), form.scale)[0].clone())

    def _tokens(self, folder: str) -> list[int]:
        """Return as many tokens as there are vectors."""
        from weitiao.models.load import open_tokenizer

        text = str(self.settings.init_text)
        ids = open_tokenizer(Path(folder))(text, add_special_tokens=False)["input_ids"]
        count = self.settings.tokens
        if not 0 < len(ids) <= count:
            raise ModelError(
                f"method.init_text has {len(ids)} tokens, and method.tokens is {count}.",
                fix="Take a shorter text or more tokens." if ids else "Take another text.",
            )
        return (ids * count)[:count]

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return a few vectors, fewer, and a text."""
        text = {"tokens": 4, "init": "text", "init_text": "good"}
        return {"settings": {"tokens": 4}, "variants": [{"tokens": 2}, text]}
