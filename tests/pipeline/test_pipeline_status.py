import resource
import subprocess
import sys

from mlstack.records.base import write
from mlstack.records.package import Live
from mlstack.records.report import Alert


def test_the_next_command_follows_the_state_of_the_project(project, answer, records) -> None:

    steps = [answer("status")["next"]]
    (project / "data" / "digits" / "images" / "x.png").write_bytes(b"x")
    steps.append(answer("status")["next"])
    answer("version", "snapshot", "-m", "x")
    first = records.lay_run(project, "20260101-000000-aaaa")
    steps.append(answer("status")["next"])
    records.finish(first, 0.9)
    steps.append(answer("status")["next"])
    records.lay_package(project, 1, first.name)
    steps.append(answer("status")["next"])
    write(project / "models" / "my_project" / "live.json", Live(live=1, changed="2026-01-03"))
    steps.append(answer("status")["next"])
    records.lay_package(project, 2, first.name)
    steps.append(answer("status")["next"])
    alert = Alert(
        id="a1",
        model="my_project",
        version=1,
        created="2026-01-04",
        since="2026-01-03",
        summary="brightness drifted",
        columns=["f_brightness"],
        prediction_ids=[],
    )
    write(project / ".mlstack" / "alerts" / "a1.json", alert)
    said = answer("status")

    assert steps == [
        "mlstack train --check",
        'mlstack version snapshot -m "what changed"',
        "mlstack train --check",
        "mlstack export",
        "mlstack serve",
        "mlstack monitor check",
        "mlstack serve promote 2",
    ]
    assert said["next"] == "mlstack monitor report"
    assert any("brightness drifted" in line["state"] for line in said["lines"])


def test_bare_mlstack_is_quick_loads_nothing_heavy_and_fits_the_screen(fresh) -> None:
    code = (
        "import sys; sys.argv = ['mlstack']\n"
        "from mlstack.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'dvc', 'torch', 'duckdb', 'onnxruntime'} & set(sys.modules)\n"
        "assert code == 0 and not heavy, (code, heavy)\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=fresh, capture_output=True, text=True, check=False
    )

    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert len(done.stdout.splitlines()) <= 24
    assert "next: mlstack serve" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_a_damaged_record_is_named(fresh, mlstack) -> None:
    (fresh / ".mlstack" / "runs" / "20260101-000000-aaaa" / "run.json").write_text("{")

    done = mlstack("status")

    assert done.returncode == 0
    assert "damaged" in done.stdout
