"""CPU of `mlstack monitor check` at 500 and 100,000 rows, and the size of the report.

python benchmarks/monitor.py
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests" / "monitor"


def cpu_s(root: Path, *arguments: str) -> float:
    """Give the CPU seconds of one command, start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "mlstack", "monitor", *arguments, "--quiet"]
    subprocess.run(command, cwd=root, check=False, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print one line a measurement."""
    sys.path.insert(0, str(TESTS))
    from monitor_log import TEMPLATE, Log, Watched, add_package

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "mlstack.yaml").write_text((TEMPLATE / "mlstack.yaml").read_text())
        watched = Watched(root)
        add_package(root)
        watched.part(Log.of(500, seed=1), hour="10")
        print(f"check,     500 of     500 rows  {cpu_s(root, 'check'):.2f} CPU-s")
        watched.part(Log.of(100_000, seed=2).later(1), hour="11")
        print(f"check,     500 of 100,500 rows  {cpu_s(root, 'check'):.2f} CPU-s")
        whole = cpu_s(root, "check", "--window", "100000")
        print(f"check, 100,000 of 100,500 rows  {whole:.2f} CPU-s")
        watched.part(Log.of(500, seed=3, pixels=2).later(48), hour="23")
        page = root / "report.html"
        used = cpu_s(root, "report", "--out", str(page))
        print(
            f"report with 16 pictures         {used:.2f} CPU-s, {page.stat().st_size / 1e3:.0f} kB"
        )


if __name__ == "__main__":
    main()
