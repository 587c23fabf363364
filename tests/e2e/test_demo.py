"""`make demo` tells its story to the end, and what it leaves answers without mlstack."""

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from mlstack.records import requests

STORY = Path(__file__).parents[2] / "demo" / "story.py"
ANSWERS = 100  # of the log, asked again
# Runs the script of a model card in a Python that has neither mlstack nor torch.
ALONE = """
import runpy, sys
sys.modules.update(dict.fromkeys(["mlstack", "torch", "pytorch_lightning", "onnx"]))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, str(STORY)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout, folder / "demo-1" / "digits-demo"


@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_the_demo_ends_with_an_alarm_and_leaves_a_project(told: tuple[str, Path]):
    said, project = told

    assert "ALERT" in said
    assert (project / "mlstack.yaml").is_file()


@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_its_packages_answer_raw_files_by_their_cards_alone(told: tuple[str, Path], tmp_path: Path):
    _, project = told
    models = project / "models" / "digits-demo"
    asked = defaultdict(list)
    for part in requests.parts(project / ".mlstack" / "requests", models.name):
        for row in requests.read_part(part).to_pylist():
            if row["input"] is not None and len(asked[row["version"]]) < ANSWERS:
                asked[row["version"]].append(row)

    assert asked
    for version, rows in asked.items():
        package = models / str(version)
        (script,) = re.findall(r"```python\n(.*?)```", (package / "README.md").read_text(), re.S)
        (tmp_path / "answer.py").write_text(script)
        files = [tmp_path / f"{version}-{place}" for place in range(len(rows))]
        for file, row in zip(files, rows, strict=True):
            file.write_bytes(row["input"])
        done = subprocess.run(
            [sys.executable, "-c", ALONE, tmp_path / "answer.py", *files],
            cwd=package,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answers = [line.split("\t") for line in done.stdout.splitlines()]
        assert [name for _, name, _ in answers] == [row["prediction"] for row in rows]
        shares = [float(share) for *_, share in answers]
        assert shares == pytest.approx([row["confidence"] for row in rows], abs=1e-5)
