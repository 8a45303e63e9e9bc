"""The recipe's sections about the training loop, and about what it keeps."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from weitiao.plugins import Member, Options, as_member, find, names

__all__ = ["CacheSettings", "ResourceSettings", "TrainingSettings"]


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
    head_learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="highest rate of the head, which learns from nothing; the method's own when "
        "left out, or learning_rate if it has none",
    )
    layer_decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="rate of each layer as a share of that of the layer above it, the embeddings lowest; null: all one",
    )
    optimizer: Member = Field(
        default="adamw",  # type: ignore[arg-type]  # the validator makes it a member
        validate_default=True,
        description="how a gradient becomes a step",
    )
    weight_decay: float = Field(default=0.01, ge=0, description="of weight matrices; biases and norms have none")
    schedule: Member = Field(
        default="linear",  # type: ignore[arg-type]
        validate_default=True,
        description="how the rate rises and falls",
    )
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
    sampling: Literal["shuffled", "balanced", "square_root"] = Field(
        default="shuffled",
        description="rows of an epoch: each once; or drawn, classes equally often, or by the root of their size",
    )
    batch_tokens: int | None = Field(
        default=None, ge=8, description="tokens a step with padding, in place of a number of rows; null: batch_size"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="of forward and backward passes; auto: bfloat16 where a GPU has it, else float32"
    )
    gradient_checkpointing: bool = Field(
        default=False, description="compute activations twice instead of keeping them: less memory, a third more time"
    )
    not_finite: Literal["stop", "skip"] = Field(
        default="stop", description="at a loss or gradient that is not finite: stop the run, or leave the step out"
    )
    seeds: int = Field(default=1, ge=1, description="train this many times with other seeds and report mean and spread")

    @field_validator("optimizer", "schedule", mode="before")
    @classmethod
    def _by_name(cls, value: Any, info: ValidationInfo) -> Member:
        return as_member(f"{info.field_name}s", value)

    @model_validator(mode="after")
    def _no_idle_setting(self) -> TrainingSettings:
        if self.micro_batch_size and not self.batch_tokens and self.micro_batch_size > self.batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} is larger than batch_size {self.batch_size}")
        if self.patience and self.evaluate_steps is None and self.patience >= self.epochs:
            raise ValueError(
                f"patience {self.patience} has no effect: {self.epochs} epochs have {self.epochs} measurements, and "
                f"the first is always the best so far; set it to at most {self.epochs - 1}, or set evaluate_steps"
                if self.epochs > 1
                else "patience has no effect with one measurement; leave it out, or set evaluate_steps"
            )
        if self.batch_tokens and self.batch_size != type(self).model_fields["batch_size"].default:
            raise ValueError("batch_size has no effect beside batch_tokens; leave one out")
        if reason := self.schedule.make("schedules").suits(self):
            raise ValueError(f"schedule {self.schedule.name} has no effect: {reason}")
        falls = find("schedules", self.schedule.name).falls
        if falls and find("optimizers", self.optimizer.name).averages:
            level = ", ".join(name for name in names("schedules") if not find("schedules", name).falls)
            raise ValueError(
                f"optimizer {self.optimizer.name} averages the weights instead of letting the rate fall, and the "
                f"schedule {self.schedule.name} lets it fall; set schedule to {level}"
            )
        return self


class CacheSettings(Options):
    """What frozen layers say of each row, kept on the disk for later epochs, seeds and runs."""

    frozen_states: Literal["float32", "bfloat16", "off"] = Field(
        default="float32", description="precision they are kept in, or off: frozen layers run in every epoch"
    )
    limit_gib: float = Field(
        default=20.0, gt=0, description="GiB that all kept states may fill; the longest unused go first"
    )


class ResourceSettings(Options):
    """Which machines share the steps of a run; they change its time and not its result."""

    cluster: Literal["local", "ray"] = Field(
        default="local", description="local: the processes the run is started with; ray: workers of a Ray cluster"
    )
    shard: bool = Field(
        default=False, description="each process holds a part of weights, gradients and optimizer, and not all (FSDP)"
    )
    workers: int = Field(default=1, ge=1, description="processes that share each step")
    min_workers: int | None = Field(
        default=None, ge=1, description="go on with as few when machines are lost; null: wait for all workers"
    )
    use_gpu: bool = Field(default=False, description="each worker trains on a GPU of its own")
    cpus_per_worker: int = Field(default=1, ge=1, description="processor cores of a worker")
    max_failures: int = Field(
        default=3, ge=0, description="times that the workers are started again after one of them was lost"
    )

    @model_validator(mode="after")
    def _no_idle_setting(self) -> ResourceSettings:
        if self.cluster == "local":
            fields = {name: field for name, field in type(self).model_fields.items() if name != "shard"}
            idle = [name for name, field in fields.items() if getattr(self, name) != field.default]
            if idle:
                raise ValueError(f"{', '.join(idle)} has no effect without cluster: ray; leave it out")
        if self.min_workers is not None and self.min_workers >= self.workers:
            raise ValueError(
                f"min_workers {self.min_workers} has no effect beside workers {self.workers}; set a smaller one"
            )
        return self
