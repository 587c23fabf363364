"""Whether a setting can have the values that `tune.space` gives it, before a study begins."""

from collections.abc import Sequence
from typing import Any

from mlstack.config import Project
from mlstack.config.train_sections import Choice, Dimension, IntRange, LogUniform, Uniform
from mlstack.errors import ConfigError, Mistake
from mlstack.launch.gpus import Gpu
from mlstack.launch.plan import PlanOptions, as_json, configured, ranks_of
from mlstack.tune.space import Space, bounds, points

BATCH = "train.batch_size"
SHARED_BY = ("train.ranks", "train.accumulate")
FEW = 6  # values that are proposed
EDGE = 1e-6  # share of a range


def check(project: Project, space: Space, slot: tuple[Gpu, ...]) -> None:
    """Refuse a space with values that no trial could have.

    What depends on another setting of the space is left to the trials.

    Args:
        project: gives all other settings.
        space: what is searched.
        slot: the GPUs of a trial.

    Raises:
        ConfigError: each such setting is named, and what to write.
    """
    found = [_wrong(project, key, dimension) for key, dimension in space.items()]
    if BATCH in space and not any(key in space for key in SHARED_BY) and not any(found):
        found = [_uneven(project, space[BATCH], slot)]
    mistakes = tuple(mistake for mistake in found if mistake)
    if mistakes:
        raise ConfigError(
            "tune.space has values that no trial could have. Nothing was run.", mistakes=mistakes
        )


def present(project: Project, keys: list[str]) -> dict[str, Any]:
    """Read the present values of settings; those that are not set are left out."""
    found, document = {}, as_json(project.config)
    for key in keys:
        place: Any = document
        for part in key.split("."):
            place = place.get(part) if isinstance(place, dict) else None
        if place is not None:
            found[key] = place
    return found


def _wrong(project: Project, key: str, dimension: Dimension) -> Mistake | None:
    """Say which value the setting itself refuses, and what to write instead."""
    values = points(dimension)
    if isinstance(dimension, Uniform | LogUniform):  # a bound itself is never drawn
        values = [_inside(value, values) for value in values]
    refusals = [_refusal(project, key, value) for value in values]
    said = next(filter(None, refusals), "")
    if not said:
        return None
    good = [value for value, refusal in zip(values, refusals, strict=True) if not refusal]
    if isinstance(dimension, Choice):
        good = good or list(present(project, [key]).values())
        hint = f"write {_choice(key, good)}" if good else ""
    else:
        low, high = (round(bound) for bound in bounds(dimension))
        is_decimal = not isinstance(dimension, IntRange)
        whole = is_decimal and not any(_refusal(project, key, bound) for bound in (low, high))
        hint = f"write `{key}: {{int_range: [{low}, {high}]}}`" if whole else "change its bounds"
    return Mistake(f"tune.space: {said}", hint)


def _inside(value: float, values: list[float]) -> float:
    low, high = values[0], values[-1]
    return value + (low + high - 2 * value) * EDGE


def _refusal(project: Project, key: str, value: Any) -> str:
    """Say why a setting cannot have a value; what it does to other settings does not count."""
    try:
        configured(project, PlanOptions(overrides={key: value}))
    except ConfigError as error:
        own = [one for one in error.mistakes if one.key == key or one.key.startswith(f"{key}.")]
        return own[0].problem if own else ""
    return ""


def _uneven(project: Project, dimension: Dimension, slot: tuple[Gpu, ...]) -> Mistake | None:
    """Say which batch size the ranks of a trial cannot share, and which ones they can."""
    parts = ranks_of(project.config, PlanOptions(gpus=slot)) * project.config.train.accumulate
    if isinstance(dimension, Choice):
        sizes: Sequence[int] = dimension.choice
        fitting = sorted({max(1, size // parts) * parts for size in sizes})
    else:
        low, high = (round(bound) for bound in bounds(dimension))
        sizes = range(low, high + 1)
        fitting = [size for size in sizes if size % parts == 0] or [parts]
        fitting = fitting[:: max(1, len(fitting) // FEW)]
    wrong = next((size for size in sizes if size % parts), None)
    if wrong is None:
        return None
    problem = f"tune.space: {BATCH}: {wrong} cannot be cut evenly into {parts} parts"
    of = "one for each rank" + ", train.accumulate times" * (project.config.train.accumulate > 1)
    return Mistake(f"{problem}, {of}", f"write {_choice(BATCH, fitting)}")


def _choice(key: str, values: list[Any]) -> str:
    return f"`{key}: {{choice: [{', '.join(map(str, values))}]}}`"
