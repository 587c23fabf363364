"""What `mlstack run` remembers of a stage: `.mlstack/stages/STAGE.json`, and what it began."""

from mlstack.records.base import Record


class StageState(Record, frozen=True, kw_only=True, tag="stage.state"):
    """`STAGE.json`: what the stage made last. DVC's pipeline has this file as the stage's output.

    A run or package gets a new name each time, so naming it is what makes later stages stale.
    """

    stage: str
    result: str  # run id, NAME/N, MD5 of the labels, sizes of the parts, or accuracy
    config_sha256: str  # of the settings that the stage reads, overrides included


class StageBegun(Record, frozen=True, kw_only=True, tag="stage.begun"):
    """`STAGE.begun.json`: there while a stage runs, after it was killed, and after `dvc repro`."""

    stage: str
    inputs_sha256: str  # of everything that the stage depends on
    last_run: str  # newest run before it began
    last_package: int = 0  # newest package before it began
    anew: bool = False  # what was made before it began does not count, though of the same inputs
