"""What would end a run when its ranks have started, or after hours: said before it is made."""

from mlstack.config import Config
from mlstack.errors import ConfigError
from mlstack.plurals import counted

SHOWN = 20


def refuse_sizes(sizes: dict[str, int], ranks: int) -> None:
    """See that every rank gets an example of every part.

    Raises:
        ConfigError: a part has fewer.
    """
    for part, size in sizes.items():
        if 0 < size < ranks:
            raise ConfigError(
                f"{ranks} ranks cannot share {counted(size, 'example')} of {part}",
                hint=f"use {size} or fewer, or a larger share in data.split.{part}"
                if size > 1
                else f"use one, or a larger share in data.split.{part}",
            )


def refuse_settings(config: Config, classes: list[str], ranks: int, *, on_gpus: bool) -> None:
    """See that the settings fit the classes and the machine.

    Raises:
        ConfigError: they do not.
    """
    train = config.train
    unknown = [name for name in _weighted(config) if name not in classes]
    if unknown:
        raise ConfigError(
            f"train.class_weights: there is no class `{unknown[0]}`",
            hint=f"the classes are {', '.join(classes[:SHOWN])}",
        )
    if train.precision == "fp16" and not on_gpus:
        raise ConfigError(
            "train.precision: fp16 needs a GPU", hint="write `precision: auto`, or bf16"
        )
    if train.strategy == "fsdp" and ranks > 1 and train.ema is not None:
        raise ConfigError(
            "train.ema: an average of weights that are in parts is not kept",
            hint="leave train.ema out, or write `strategy: ddp`",
        )


def _weighted(config: Config) -> list[str]:
    weights = config.train.class_weights
    return list(weights) if isinstance(weights, dict) else []
