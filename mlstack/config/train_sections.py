"""Settings of the model: how it is trained, where its runs are recorded, how it is tuned."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from mlstack.config.kinds import (
    OPTION,
    STORE,
    DottedClass,
    Duration,
    Name,
    Secret,
    Section,
    Share,
)

LEAST_PRIVATE = 32  # examples a step on average: that there are none has a chance of 1e-14


class Model(Section):
    """The user's own LightningModule."""

    class_: DottedClass = Field(
        alias="class",
        description="LightningModule: package.module:Class.",
        examples=["my_project.model:Net"],
    )
    args: dict[str, Any] = Field(default_factory=dict, description="Arguments of model.class.")


class Distill(Section):
    """A finished run whose answers the model learns beside the labels."""

    run: str = Field(min_length=1, description="The teacher: a run, or a part of its id.")
    weight: Share = Field(default=0.5, description="Share of the teacher in the loss.")
    temperature: float = Field(default=2.0, gt=0, description="How soft its answers are made.")
    unlabeled: bool = Field(
        default=False, description="Learn its answers to images without a label, too."
    )


class Privacy(Section):
    """How much the weights may give away of a single example (DP-SGD)."""

    epsilon: float = Field(gt=0, description="What all epochs may spend; 1 is strong, 10 weak.")
    delta: float = Field(
        default=1e-5, gt=0, lt=1, description="Chance that it does not hold; far below 1/examples."
    )
    max_grad_norm: float = Field(
        default=1.0, gt=0, description="Length to which the gradient of an example is cut."
    )


class Slurm(Section):
    """What `mlstack train --on slurm` asks the cluster for."""

    partition: Name | None = Field(default=None, description="Partition; its default without.")
    account: Name | None = Field(default=None, description="Who pays.")
    nodes: int = Field(default=1, ge=1, description="Machines.")
    gpus_per_node: int = Field(
        default=0, ge=0, description="GPUs of each, a rank on each; 0 trains train.ranks on CPUs."
    )
    time: Duration | None = Field(
        default=None, description='Time limit of the job, e.g. "12h"; the run goes on after it.'
    )
    extra: list[Annotated[str, StringConstraints(pattern=OPTION)]] = Field(
        default_factory=list, description="Anything else for sbatch.", examples=[["--mem=32G"]]
    )


class Ray(Section):
    """What `mlstack train --on ray` asks the cluster of RAY_ADDRESS for."""

    gpus: int = Field(
        default=0, ge=0, description="GPUs, a rank on each; 0 trains train.ranks on CPUs."
    )
    cpus_per_rank: int = Field(default=1, ge=1, description="Cores that each rank is given.")


class Train(Section):
    """How a run is trained."""

    gpus: Literal["auto"] | Annotated[int, Field(ge=0)] | list[Annotated[int, Field(ge=0)]] = Field(
        default="auto", description="auto, a number, or a list of GPU indices."
    )
    ranks: int = Field(default=1, ge=1, description="Processes when training without GPUs.")
    epochs: int = Field(default=10, ge=1, description="Passes over train, at most.")
    batch_size: int = Field(default=64, ge=1, description="Examples per step over all ranks.")
    accumulate: int = Field(
        default=1, ge=1, description="Parts in which a rank works through its share of a batch."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="Arithmetic; auto is bf16 where the GPU has it."
    )
    strategy: Literal["auto", "ddp", "fsdp"] = Field(
        default="auto", description="How several ranks share the work."
    )
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(gt=0)]] = Field(
        default="none", description="For a model that takes class_weights; or class -> weight."
    )
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Decay of an average of the weights, e.g. 0.999; it is kept."
    )
    compile: bool = Field(default=False, description="Run the network through torch.compile.")
    checkpoint_activations: bool = Field(
        default=False, description="Compute activations twice: slower, with less memory."
    )
    distill: Distill | None = Field(default=None, description="Learn from a finished run too.")
    privacy: Privacy | None = Field(
        default=None, description="Train with differential privacy; needs mlstack[privacy]."
    )
    monitor: str = Field(default="val/loss", description="Metric that decides which epoch is best.")
    mode: Literal["min", "max"] = Field(default="min", description="Which direction is better.")
    patience: int | None = Field(
        default=None, ge=1, description="Stop after so many epochs without a better one."
    )
    keep_last: int = Field(
        default=1, ge=1, description="Newest checkpoints that are kept, beside the best."
    )
    max_time: Duration | None = Field(default=None, description='Stop after, e.g. "2h30m".')
    hang_limit: Duration | None = Field(
        default=None, description="A rank silent for so long hangs; learnt from the steps if unset."
    )
    slurm: Slurm = Field(default_factory=Slurm, description="What --on slurm asks for.")
    ray: Ray = Field(default_factory=Ray, description="What --on ray asks for.")
    trainer_args: dict[str, Any] = Field(
        default_factory=dict, description="Anything else for lightning's Trainer."
    )

    @model_validator(mode="after")
    def _can_be_private(self) -> "Train":
        if self.privacy is None:
            return self
        others = {
            "accumulate": self.accumulate > 1,
            "compile": self.compile,
            "checkpoint_activations": self.checkpoint_activations,
            "class_weights": self.class_weights != "none",
            "distill.unlabeled": self.distill is not None and self.distill.unlabeled,
            "strategy": self.strategy != "auto",
            "precision": self.precision not in ("auto", "fp32"),
            "trainer_args.gradient_clip_val": "gradient_clip_val" in self.trainer_args,
        }
        for name in (name for name, is_set in others.items() if is_set):
            raise ValueError(f"privacy and {name} do not go together; remove one of them")
        if self.batch_size < LEAST_PRIVATE:
            raise ValueError(
                f"privacy draws batches by chance, so batch_size must be at least {LEAST_PRIVATE}"
            )
        return self


class Track(Section):
    """Where runs are recorded."""

    store: Annotated[str, StringConstraints(pattern=STORE)] = Field(
        default="local", description="local, or postgresql://HOST/DATABASE for a list of all."
    )
    password: Secret | None = Field(default=None, description="Its password: env:NAME.")
    mirror: list[Literal["tensorboard", "mlflow", "wandb", "comet"]] = Field(
        default_factory=list,
        description="Copies of each run: tensorboard, wandb, mlflow (at $MLFLOW_TRACKING_URI).",
    )
    copy_to: str | None = Field(
        default=None,
        min_length=1,
        description="URL or folder for copies of whole runs; --resume fetches from there.",
    )


def _ascending(low: float, high: float) -> None:
    if low >= high:
        raise ValueError(f"{low:g} is not below {high:g}")


class Uniform(Section):
    """A number between two bounds."""

    uniform: tuple[float, float] = Field(strict=False, description="Low and high.")

    @model_validator(mode="after")
    def _ascends(self) -> "Uniform":
        _ascending(*self.uniform)
        return self


class LogUniform(Section):
    """A number between two bounds, drawn on a logarithmic scale."""

    log_uniform: tuple[float, float] = Field(
        strict=False, description="Low and high, both above 0."
    )

    @model_validator(mode="after")
    def _ascends(self) -> "LogUniform":
        if self.log_uniform[0] <= 0:
            raise ValueError(f"{self.log_uniform[0]:g} must be above 0 on a logarithmic scale")
        _ascending(*self.log_uniform)
        return self


class IntRange(Section):
    """A whole number between two bounds, both included."""

    int_range: tuple[int, int] = Field(strict=False, description="Low and high.")

    @model_validator(mode="after")
    def _ascends(self) -> "IntRange":
        _ascending(*self.int_range)
        return self


class Choice(Section):
    """One of a list."""

    choice: list[Any] = Field(min_length=1, description="The values to choose from.")


DIMENSIONS: dict[str, type[Section]] = {
    "uniform": Uniform,
    "log_uniform": LogUniform,
    "int_range": IntRange,
    "choice": Choice,
}


def _kind(given: Any) -> str | None:
    """Tell by its key which dimension is meant, so that a mistake is reported once."""
    if isinstance(given, Section):
        return type(given).__name__
    keys = given if isinstance(given, dict) else ()
    return next((DIMENSIONS[key].__name__ for key in keys if key in DIMENSIONS), None)


Dimension = Annotated[
    Annotated[Uniform, Tag("Uniform")]
    | Annotated[LogUniform, Tag("LogUniform")]
    | Annotated[IntRange, Tag("IntRange")]
    | Annotated[Choice, Tag("Choice")],
    Discriminator(_kind),
]


class Tune(Section):
    """How hyper-parameters are searched."""

    trials: int = Field(default=20, ge=1, description="How many settings to try.")
    gpus_per_trial: int = Field(default=1, ge=0, description="GPUs of one trial.")
    sampler: Literal["grid", "random", "tpe", "gp"] = Field(
        default="tpe", description="How the next setting is chosen."
    )
    pruner: Literal["none", "median", "asha", "hyperband", "pbt"] = Field(
        default="median", description="How hopeless trials are ended early."
    )
    space: dict[str, Dimension] = Field(
        default_factory=dict, description="Setting -> where to look for its value."
    )
