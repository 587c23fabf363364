"""Weights & Biases: an offline run in `.mlstack/wandb/`; `wandb sync` sends it when you like."""

import os
import shutil

import wandb

from mlstack.train.worker.mirrors.entry import Entry, Point

QUIET = {"WANDB_ERROR_REPORTING": "false", "WANDB_CONSOLE": "off", "WANDB_SILENT": "true"}
FAILED = 1


class Wandb:
    """One offline run for each run of ours; each copy begins it anew, under the same id."""

    where = ""

    def open(self, entry: Entry) -> None:
        """Begin the offline run: nothing is sent, nothing of the machine is collected."""
        os.environ.update(QUIET)
        root = entry.folder.parents[2]
        home = root / ".mlstack"
        os.environ.setdefault("WANDB_CACHE_DIR", str(home / "wandb" / "cache"))
        for old in (home / "wandb").glob(f"offline-run-*-{entry.spec.id}"):
            shutil.rmtree(old)
        self._run = wandb.init(
            project=entry.project,
            id=entry.spec.id,
            name=entry.spec.id,
            dir=str(home),
            config=entry.spec.config | {"mlstack": entry.tags},
            tags=[f"data {entry.spec.dataset.md5[:12]}", f"code {_commit(entry)}"],
            settings=wandb.Settings(
                mode="offline",
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
            ),
        )
        folder = next((home / "wandb").glob(f"offline-run-*-{entry.spec.id}"))
        self.where = str(folder.relative_to(root))

    def write(self, points: list[Point]) -> None:
        """Add points; those of one step make one row."""
        for point in points:
            self._run.log(point.values | {"_timestamp": point.at}, step=point.step)

    def close(self, state: str) -> None:
        """Say how the run ended, and write what is left."""
        self._run.finish(exit_code=FAILED if state == "failed" else 0)


def _commit(entry: Entry) -> str:
    return (entry.spec.code.commit or "none")[:9]
