"""Generated examples: rows of the labels whose column `synthetic` is true. Only train gets them."""

import pyarrow as pa

from mlstack.config import Config
from mlstack.errors import ConfigError
from mlstack.inputs import splits

COLUMN = "synthetic"


def flags(table: pa.Table, config: Config) -> list[bool]:
    """Tell of each labeled file whether it was generated.

    Raises:
        ConfigError: some are asked for, and nothing says which those are.
    """
    if COLUMN not in table.column_names:
        if config.data.synthetic.fraction:
            raise ConfigError(
                f"data.synthetic.fraction: the labels have no column `{COLUMN}`",
                hint="add it to labels.parquet: true where an example was generated",
            )
        return [False] * table.num_rows
    kind = table.schema.field(COLUMN).type
    if not pa.types.is_boolean(kind):
        raise ConfigError(
            f"the column `{COLUMN}` of the labels holds {kind}, not true and false",
            hint="write it as booleans, or give it another name",
        )
    return [bool(value) for value in table[COLUMN].to_pylist()]


def chosen(
    ties: list[tuple[str, ...]], parts: list[str], made: list[bool], config: Config
) -> set[int]:
    """Choose which generated examples train gets, so that they are `fraction` of it at most.

    One that is tied to a real example of val or test (equal content, or the same value of
    `data.split.group_by`) would give that away, and is left out.

    Args:
        ties: of each example, what ties it to others; the last one is its name.
        parts: of each real example, its part; anything for the others.
        made: whether it was generated.
        config: the project's settings.

    Returns:
        Their places.
    """
    fraction = config.data.synthetic.fraction
    real = [
        (tie, part) for tie, part, is_made in zip(ties, parts, made, strict=True) if not is_made
    ]
    held_out = {one for tie, part in real if part != "train" for one in tie}
    learnt = sum(part == "train" for _, part in real)
    most = len(made) if fraction == 1 else round(fraction / (1 - fraction) * learnt)
    free = [
        place
        for place, (tie, is_made) in enumerate(zip(ties, made, strict=True))
        if is_made and held_out.isdisjoint(tie)
    ]
    free.sort(key=lambda place: splits.rank(ties[place][-1], config.project.seed))
    return set(free[:most])
