"""Are defects caught, and are sound models let through?

Plants every defect of `tests/export/planted.py` (in the project, in the graph, in the calibration,
in a finished package), one at a time, and says which gate or check stopped it. Then exports sound
runs of the digits: several seeds and widths, each in fp32, int8, fp16, by `auto`, and int8 for ARM.

    python benchmarks/export_defects.py [CLEAN_EXPORTS]
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / name) for name in ("", "export")]
from export_runs import RUN, TRAIN, finish, python_path, write_run  # noqa: E402
from planted import CALIBRATION, CODE, GRAPH, PACKAGE  # noqa: E402
from planting import build, opened  # noqa: E402
from projects import make_project  # noqa: E402

from mlstack.records import dataset, run  # noqa: E402

WAYS = (
    ("--precision", "fp32"),
    ("--precision", "int8"),
    ("--precision", "fp16", "--set", "export.target=gpu"),
    ("--precision", "auto"),
    ("--precision", "int8", "--set", "export.target=arm"),
)
LOGGED = """
data.setup("test")
net.eval()
right = [net(x).argmax(1) == y for x, y in data.test_dataloader()]
print(float(torch.cat(right).float().mean()))
"""


def trained(root: Path, seed: int, width: int) -> Path:
    """Make a project with a finished run, without the training worker."""
    project = make_project(root / "digits", images=600)
    config = project / "mlstack.yaml"
    config.write_text(config.read_text().replace("width: 16", f"width: {width}"))
    folder = write_run(project)
    code = TRAIN.replace("manual_seed(0)", f"manual_seed({seed})").replace(
        "width=16", f"width={width}"
    )
    paths = [folder / dataset.EXAMPLES, folder / run.CHECKPOINTS / run.BEST]
    done = subprocess.run(
        [sys.executable, "-c", code + LOGGED, *paths],
        env=os.environ | {"PYTHONPATH": python_path(project)},
        check=True,
        capture_output=True,
        text=True,
    )
    finish(folder, **{"test/acc": float(done.stdout.split()[-1])})
    return project


def export(project: Path, *arguments: str) -> tuple[int, str]:
    """Export as a user would: the exit code, and what stopped it."""
    done = subprocess.run(
        [sys.executable, "-m", "mlstack", "export", "--set", "gates={}", "--json", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return 0, json.loads(done.stdout)["path"]
    error = json.loads(done.stdout)["error"]
    named = [e.get("key") or e["problem"] for e in error.get("errors") or []]
    return done.returncode, "; ".join(named) or error["problem"]


def planted(project: Path, root: Path) -> Iterator[tuple[str, str, str]]:
    """Plant all defects: where, which, and what stopped it (empty when nothing did)."""
    for name, plant in CODE.items():
        copy = shutil.copytree(project, root / "code" / project.name)
        plant(copy)
        code, problem = export(copy)
        yield "project", name, problem if code else ""
        shutil.rmtree(root / "code")
    (root / "work").mkdir()
    bench = build(project, root / "work")
    for name, change in GRAPH.items():
        yield "graph", name, "; ".join(bench.red(change))
    for name, calibrate in CALIBRATION.items():
        yield "calibration", name, "; ".join(bench.quantized_red(calibrate))
    code, path = export(project)
    assert code == 0, path
    for name, plant in PACKAGE.items():
        copy = shutil.copytree(project / path, root / "package" / "1")
        plant(copy)
        yield "package", name, opened(copy)
        shutil.rmtree(root / "package")


def clean(root: Path, wanted: int) -> Iterator[tuple[str, str]]:
    """Export sound runs: which, and what was wrongly found."""
    for number in range(0, wanted, len(WAYS)):
        seed = number // len(WAYS)
        width = (8, 16, 24)[seed % 3]
        project = trained(root / f"clean-{seed}", seed + 1, width)
        for way in WAYS[: wanted - number]:
            code, problem = export(project, *way)
            yield f"seed {seed + 1}, width {width}, {' '.join(way)}", problem if code else ""


def main() -> None:
    """Print every defect, every false alarm, and the counts."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        project = trained(root / "faulty", 0, 16)
        assert (project / ".mlstack/runs" / RUN).is_dir()
        caught = total = 0
        for where, name, problem in planted(project, root):
            total += 1
            caught += bool(problem)
            print(f"{where:11} {name:45} {problem[:110] or 'NOT CAUGHT'}", flush=True)
        alarms = done = 0
        for name, problem in clean(root, wanted):
            done += 1
            alarms += bool(problem)
            print(
                f"clean       {name:45} {f'FALSE ALARM {problem}' if problem else 'green'}",
                flush=True,
            )
        print(
            f"\ncaught {caught} of {total} defects; {alarms} false alarms on {done} clean exports"
        )


if __name__ == "__main__":
    main()
