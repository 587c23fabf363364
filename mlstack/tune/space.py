"""The settings that are searched and the values they may take."""

import itertools
import json
import math
import random
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from mlstack.config.train_sections import Choice, Dimension, IntRange, LogUniform, Uniform
from mlstack.errors import ConfigError

SEARCHABLE = ("model.", "train.", "data.args.", "data.augment", "data.sampling")
# What belongs to the study, or to the place where it runs: a trial would not follow it.
FIXED = ("train.gpus", "train.monitor", "train.mode", "train.slurm", "train.ray")
STEPS = 5  # points of a range in a grid
LARGEST_GRID = 100_000  # points that are kept in memory; no PC trains as many

Space = Mapping[str, Dimension]
_DIMENSION: TypeAdapter[Dimension] = TypeAdapter(Dimension)


def check(space: Space, sampler: str) -> None:
    """Refuse a space that cannot be searched; the config has checked the bounds.

    Raises:
        ConfigError: it is empty, a setting is not one of a run, or its grid is too large.
    """
    if not space:
        raise ConfigError(
            "tune.space: there is nothing to search",
            hint="write, e.g., `space: {model.args.lr: {log_uniform: [1e-4, 1e-2]}}` under tune",
        )
    others = [key for key in space if not key.startswith(SEARCHABLE)]
    if others:
        raise ConfigError(
            f"tune.space: `{others[0]}` is not a setting of a run",
            hint="search settings below model, train and data.args, data.augment or data.sampling",
        )
    fixed = [key for key in space if key.startswith(FIXED)]
    if fixed:
        raise ConfigError(
            f"tune.space: `{fixed[0]}` is the same for all trials of a study",
            hint="take it out; tune.gpus_per_trial says how many GPUs a trial has",
        )
    if sampler == "grid" and size(space) > LARGEST_GRID:
        raise ConfigError(
            f"tune.space: its grid has {size(space):,} points; {LARGEST_GRID:,} is the most",
            hint="take settings out, or write `sampler: tpe` under tune",
        )


def grid(space: Space, seed: int) -> list[dict[str, Any]]:
    """List every combination, five values of a range, in an order drawn from the seed."""
    axes = [points(dimension) for dimension in space.values()]
    found = [dict(zip(space, values, strict=True)) for values in itertools.product(*axes)]
    random.Random(seed).shuffle(found)
    return found


def size(space: Space) -> int:
    """Count the points of a grid."""
    return math.prod(len({encode(point) for point in points(one)}) for one in space.values())


def count(space: Space) -> float:
    """Count the points that a trial can have; infinite as soon as one range is of decimals."""
    return math.prod(_values(dimension) for dimension in space.values())


def draw(space: Space, source: random.Random) -> dict[str, Any]:
    """Draw a point, every value of a setting being as likely as the others."""
    return {key: _draw(dimension, source) for key, dimension in space.items()}


def contains(space: Space, point: Mapping[str, Any]) -> bool:
    """Tell whether a point can be a trial."""
    return all(key in point and _inside(dimension, point[key]) for key, dimension in space.items())


def encode(value: Any) -> Any:
    """Turn a choice into what a journal can hold; lists become JSON."""
    return value if value is None or isinstance(value, bool | int | float | str) else _json(value)


def decode(dimension: Dimension, stored: Any) -> Any:
    """Turn what the journal holds into the setting's value."""
    if isinstance(dimension, Choice):
        return next(value for value in dimension.choice if encode(value) == stored)
    return stored


def to_json(space: Space) -> dict[str, Any]:
    """Give the space as a study keeps it."""
    return {key: dimension.model_dump(mode="json") for key, dimension in space.items()}


def from_json(stored: dict[str, Any]) -> dict[str, Dimension]:
    """Read what `to_json` gave."""
    return {key: _DIMENSION.validate_python(one) for key, one in stored.items()}


def bounds(dimension: Uniform | LogUniform | IntRange) -> tuple[float, float]:
    """Give the lowest and the highest value of a range."""
    match dimension:
        case Uniform():
            return dimension.uniform
        case LogUniform():
            return dimension.log_uniform
        case IntRange():
            return dimension.int_range


def points(dimension: Dimension) -> list[Any]:
    """List the values of a choice, or five of a range, its bounds among them."""
    if isinstance(dimension, Choice):
        return list(dimension.choice)
    low, high = bounds(dimension)
    shares = [step / (STEPS - 1) for step in range(STEPS)]
    if isinstance(dimension, LogUniform):
        inner = [math.exp(math.log(low) + s * math.log(high / low)) for s in shares[1:-1]]
        return [low, *inner, high]
    values = [low + share * (high - low) for share in shares]
    if isinstance(dimension, IntRange):
        return sorted({round(value) for value in values})
    return values


def _values(dimension: Dimension) -> float:
    if isinstance(dimension, Choice):
        return len({encode(value) for value in dimension.choice})
    low, high = bounds(dimension)
    return high - low + 1 if isinstance(dimension, IntRange) else math.inf


def _draw(dimension: Dimension, source: random.Random) -> Any:
    if isinstance(dimension, Choice):
        return source.choice(dimension.choice)
    low, high = bounds(dimension)
    if isinstance(dimension, IntRange):
        return source.randint(*dimension.int_range)
    if isinstance(dimension, LogUniform):
        return math.exp(source.uniform(math.log(low), math.log(high)))
    return source.uniform(low, high)


def _inside(dimension: Dimension, value: Any) -> bool:
    if isinstance(dimension, Choice):
        return value in dimension.choice
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    low, high = bounds(dimension)
    whole = isinstance(value, int) or not isinstance(dimension, IntRange)
    return whole and low <= value <= high


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
