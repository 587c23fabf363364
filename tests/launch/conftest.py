"""Runs to supervise: a folder with a spec, and ranks that need no torch."""

import shutil
from pathlib import Path

import pytest

from mlstack.records import base
from mlstack.records.dataset import DatasetVersion
from mlstack.records.run import SPEC, CodeVersion, Environment, RunSpec


@pytest.fixture
def make_run(tmp_path):
    """Lay out a run of so many ranks, and say what each one does."""

    def make(*behaviours: str) -> tuple[Path, RunSpec]:
        shutil.copy(Path(__file__).parent / "fake_ranks.py", tmp_path)
        folder = tmp_path / "20260102-030405-abcd"
        folder.mkdir()
        for number, behaviour in enumerate(behaviours):
            (folder / f"behave-{number}").write_text(behaviour)
        spec = RunSpec(
            id=folder.name,
            created="2026-01-02T03:04:05Z",
            root=str(tmp_path),
            command=["mlstack", "train"],
            config={},
            dataset=DatasetVersion(name="digits", source="data/digits", md5="0.dir"),
            code=CodeVersion(),
            environment=Environment(python="3", platform="test", cpu_count=1),
            seed=1,
            classes=[],
            ranks=len(behaviours),
        )
        base.write(folder / SPEC, spec)
        return folder, spec

    return make
