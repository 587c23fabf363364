"""`make demo` tells its story to the end."""

import subprocess
import sys
from pathlib import Path

import pytest

STORY = Path(__file__).parents[2] / "demo" / "story.py"


@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_the_demo_ends_with_an_alarm_and_leaves_a_project(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, str(STORY)], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "ALERT" in done.stdout
    assert (tmp_path / "demo-1" / "digits-demo" / "mlstack.yaml").is_file()
