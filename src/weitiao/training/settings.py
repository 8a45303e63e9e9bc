"""The recipe's section about the training loop."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from weitiao.plugins import Options

__all__ = ["TrainingSettings"]


class TrainingSettings(Options):
    """How the numbers are moved."""

    epochs: int = Field(default=3, ge=1, description="passes over the training rows")
    max_steps: int | None = Field(default=None, ge=1, description="stop after this many steps, if that comes first")
    batch_size: int = Field(default=32, ge=1, description="rows a step, over all devices")
    micro_batch_size: int | None = Field(
        default=None,
        ge=1,
        description="rows a forward pass on one device; smaller needs less memory, and changes no result",
    )
    learning_rate: float | None = Field(default=None, gt=0, description="highest rate; the method's own when left out")
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(default=0.01, ge=0, description="of weight matrices; biases and norms have none")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="how the rate falls after warm-up"
    )
    warmup_share: float = Field(default=0.06, ge=0, lt=1, description="share of all steps in which the rate rises")
    clip_norm: float | None = Field(default=1.0, gt=0, description="largest norm of a gradient; null: no clipping")
    evaluate_steps: int | None = Field(
        default=None, ge=1, description="steps between measurements on dev; null: each epoch"
    )
    patience: int | None = Field(
        default=None, ge=1, description="stop after this many measurements on dev without a new best; null: never"
    )
    checkpoint_seconds: float = Field(
        default=60.0, ge=0, description="seconds between checkpoints; 0: after every step"
    )
    seeds: int = Field(default=1, ge=1, description="train this many times with other seeds and report mean and spread")

    @model_validator(mode="after")
    def _no_idle_setting(self) -> TrainingSettings:
        if self.optimizer != "sgd" and self.momentum != 0.9:
            raise ValueError("momentum has no effect unless optimizer is sgd")
        if self.micro_batch_size and self.micro_batch_size > self.batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} is larger than batch_size {self.batch_size}")
        return self
