"""Whether a run's examples are still those that it was trained on, and divided as they were."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from mlstack.errors import DataError
from mlstack.inputs.tasks import reads_rows
from mlstack.records import dataset
from mlstack.records.run import RunSpec

HINT = "train again"


def check(spec: RunSpec, folder: Path) -> None:
    """Refuse examples whose parts, labels or classes are not those of the run.

    Figures on a part that was trained on, or with classes in another order, would be worth nothing.

    Raises:
        DataError: they are not; the first example that is wrong is named.
    """
    path = folder / dataset.EXAMPLES
    table = dataset.read_examples(path)
    where = str(path)
    counts: dict[str, int] = {}
    for part in table["split"].to_pylist():
        counts[part] = counts.get(part, 0) + 1
    had = {part: count for part, count in spec.dataset.split.items() if count}
    if had and counts != had:
        raise DataError(
            f"run `{spec.id}` had {_told(had)}; its examples now are {_told(counts)}",
            hint=HINT,
            where=where,
        )
    rows = table.select([n for n in (*_NEEDED, "md5") if n in table.column_names]).to_pylist()
    _check_classes(rows, spec, where)
    if not reads_rows(spec.config["project"]["task"]):  # rows of a table share the table's path
        _check_parts(rows, spec, where)


_NEEDED = ("path", "label", "target", "split")


def _check_classes(rows: list[dict[str, Any]], spec: RunSpec, where: str) -> None:
    for row in rows:
        if not 0 <= row["target"] < len(spec.classes) or (
            spec.classes[row["target"]] != row["label"]
        ):
            raise DataError(
                f"`{row['path']}` is labeled `{row['label']}` and stands for class "
                f"{row['target']} of run `{spec.id}`, which is another one",
                hint=HINT,
                where=where,
            )


def _check_parts(rows: list[dict[str, Any]], spec: RunSpec, where: str) -> None:
    """Look for files, or contents, that are in train and in another part."""
    parts: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for name in filter(None, (row["path"], row.get("md5"))):
            parts[name].add(row["split"])
            if len(parts[name]) > 1:
                raise DataError(
                    f"`{row['path']}` is in two parts of run `{spec.id}`: "
                    f"{' and '.join(sorted(parts[name]))}",
                    hint=HINT,
                    where=where,
                )


def _told(split: dict[str, int]) -> str:
    return ", ".join(f"{count} {part}" for part, count in sorted(split.items())) or "none"
