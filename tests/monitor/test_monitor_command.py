import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
from monitor_log import Log, Watched, add_package, last
from rich.console import Console

from mlstack.monitor import api, view
from mlstack.records.base import write
from mlstack.records.package import Live


def mlstack(watched: Watched, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlstack", "monitor", *arguments]
    return subprocess.run(command, cwd=watched.root, capture_output=True, text=True, check=False)


def test_the_first_line_is_the_verdict_and_the_exit_code_says_it_too(watched: Watched):
    watched.part(Log.of(500, seed=1))
    calm = mlstack(watched, "check")
    watched.part(Log.of(500, seed=2, pixels=2).later(1), hour="11")
    alarmed = mlstack(watched, "check")
    quiet = mlstack(watched, "check", "--quiet")
    machine = mlstack(watched, "check", "--json")

    assert (calm.returncode, alarmed.returncode, machine.returncode) == (0, 5, 5)
    assert calm.stdout.startswith("OK  my_project version 1: the last 500 predictions look like")
    assert alarmed.stdout.startswith("ALERT  my_project version 1: input `center_x` changed")
    assert "mlstack monitor report" in alarmed.stdout
    assert (calm.stderr, alarmed.stderr) == ("", "")
    assert quiet.stdout == "alert\n"
    said = json.loads(machine.stdout)
    assert said["ok"] is True
    assert said["alert"] is True
    assert {one["subject"] for one in said["findings"]} >= {"center_x", "prediction", "error_rate"}


def test_predictions_of_a_clock_that_ran_ahead_are_told_of(watched: Watched):
    watched.part(Log.of(60, seed=1))
    before = mlstack(watched, "check")
    watched.part(Log.of(500, seed=2).later(24 * 365 * 100), hour="11")

    after = mlstack(watched, "check")
    mlstack(watched, "report")

    assert "a clock was wrong" not in before.stdout
    assert "note: the newest predictions are dated 2125-12-" in " ".join(after.stdout.split())
    (page,) = watched.layout.reports.glob("*.html")
    assert "a clock was wrong" in page.read_text()


def test_without_a_terminal_the_live_view_looks_once_and_says_so(watched: Watched):
    watched.part(Log.of(500, seed=1))

    seen = mlstack(watched)

    assert seen.returncode == 0
    assert "predicted" in seen.stdout
    assert "one look" in seen.stdout
    assert "\x1b" not in seen.stdout


@pytest.mark.parametrize("end", ["q", "ctrl-c"])
def test_the_live_view_goes_on_until_q_or_ctrl_c_and_ends_well(watched: Watched, end: str):
    watched.part(Log.of(500, seed=1))
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(watched.root)
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [sys.executable, "-m", "mlstack", "monitor"])

    seen = b""
    deadline = time.monotonic() + 60
    while b"q ends" not in seen and time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 65536)
    os.write(terminal, b"q" if end == "q" else b"")
    if end == "ctrl-c":
        os.kill(pid, signal.SIGINT)
    while time.monotonic() < deadline:
        try:
            if not os.read(terminal, 65536):
                break
        except OSError:
            break  # the other side is gone
    _, status = os.waitpid(pid, 0)
    os.close(terminal)

    assert b"q ends" in seen
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_query_answers_as_a_table_and_as_rows(watched: Watched):
    watched.part(Log.of(60, seed=1))
    query = "SELECT version, count(*) AS n FROM requests GROUP BY version"

    table = mlstack(watched, "sql", query)
    machine = mlstack(watched, "sql", query, "--json")
    wrong = mlstack(watched, "sql", "SELEC 1")

    assert table.stdout.split() == ["version", "n", "1", "60"]
    assert json.loads(machine.stdout)["rows"] == [[1, 60]]
    assert wrong.returncode == 2
    assert "syntax error" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_what_is_missing_is_said_with_the_command_to_type(bare: Watched):
    no_package = mlstack(bare, "check")
    add_package(bare.root, live=False)
    not_live = mlstack(bare, "check")
    write(bare.layout.model("my_project") / "live.json", Live(live=7))
    gone = mlstack(bare, "check")
    write(bare.layout.model("my_project") / "live.json", Live(live=1))
    no_log = mlstack(bare, "check")
    stranger = mlstack(bare, "check", "--model", "other")
    path = mlstack(bare, "check", "--model", "../models/my_project")

    for answer, hint in (
        (no_package, "mlstack export"),
        (not_live, "mlstack serve"),
        (gone, "mlstack serve rollback"),
        (no_log, "mlstack serve"),
        (stranger, "there is my_project"),
        (path, "there is my_project"),
    ):
        assert answer.returncode == 3
        assert hint in answer.stderr
        assert "Traceback" not in answer.stderr
        assert answer.stdout == ""


def test_a_damaged_reference_profile_is_named(watched: Watched):
    watched.part(Log.of(60))
    path = watched.layout.package("my_project", 1) / "mlstack" / "reference.json"
    path.write_bytes(path.read_bytes()[:200])

    answer = mlstack(watched, "check")

    assert answer.returncode == 3
    assert "reference.json" in answer.stderr


def test_a_time_that_is_none_is_a_usage_error(watched: Watched):
    watched.part(Log.of(60))

    answer = mlstack(watched, "check", "--since", "yesterday-ish")

    assert answer.returncode == 2
    assert "--since 2h" in answer.stderr


@pytest.mark.parametrize(
    "text", ["0001-01-01", "9999-12-31T23:59:59", "1000-01-01T00:00-12:00", "9" * 18 + "d"]
)
def test_times_far_off_are_times(text: str):
    assert 1 <= api.parse_since(text, datetime.now(UTC)) < 2**62


def test_a_naive_time_is_local_and_knows_of_summer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "Europe/Zurich")
    time.tzset()
    texts = "2026-01-31 14:00", "2026-07-31 14:00", "2026-07-31 14:00+00:00"

    winter, summer, utc = (api.parse_since(text, datetime.now(UTC)) for text in texts)

    monkeypatch.undo()
    time.tzset()
    assert datetime.fromtimestamp(winter / 1e6, UTC).hour == 13
    assert datetime.fromtimestamp(summer / 1e6, UTC).hour == 12
    assert datetime.fromtimestamp(utc / 1e6, UTC).hour == 14


def test_nothing_of_the_verdict_is_lost_in_a_pipe(watched: Watched):
    watched.part(Log.of(500, seed=1, pixels=2))

    answer = mlstack(watched)

    framed = " ".join(line.strip("│ ") for line in answer.stdout.splitlines() if "│" in line)
    assert last(api.status(api.Where(watched.config))).summary.partition(": ")[2] in framed


def test_one_request_is_told_as_one(watched: Watched):
    watched.part(Log.of(1, seed=1))
    report = last(api.check(api.Where(watched.config), api.Asked()))
    console = Console(width=120, force_terminal=False, file=io.StringIO())

    console.print(view.draw(report), markup=False)

    assert "service  1 request, " in console.file.getvalue()


@pytest.mark.parametrize("width", [40, 80, 160])
def test_everything_that_is_drawn_fits_the_terminal(watched: Watched, width: int):
    watched.part(Log.of(500, seed=1, pixels=2))
    report = last(api.check(api.Where(watched.config), api.Asked()))
    console = Console(width=width, force_terminal=False, file=io.StringIO())

    console.print(view.draw(report), markup=False)
    console.print(view.screen(report), markup=False)

    assert max(map(len, console.file.getvalue().splitlines())) <= width


def test_a_low_terminal_shows_what_matters_most(watched: Watched):
    watched.part(Log.of(500, seed=2, pixels=2))
    report = last(api.status(api.Where(watched.config)))
    low = Console(file=io.StringIO(), width=60, height=15, force_terminal=True, color_system=None)
    high = Console(file=io.StringIO(), width=100, height=60, force_terminal=True, color_system=None)

    for target in (low, high):
        target.print(view.fitted(report, target), markup=False)

    lines = low.file.getvalue().rstrip("\n").splitlines()
    assert len(lines) <= 15
    assert lines[0].startswith("ALERT")
    text = "\n".join(lines)
    assert "service" in text and "latency" in text and "center_x" in text
    assert lines[-1].startswith("q ends")
    assert "predicted" in high.file.getvalue()


def test_a_look_loads_no_library_that_it_does_not_need(watched: Watched):
    watched.part(Log.of(500, seed=1))
    lines = (
        "import sys; from mlstack.cli import main\n"
        "sys.argv = ['mlstack', 'monitor', 'check', '--quiet']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sorted({'pandas', 'httpx', 'duckdb', 'torch', 'scipy'} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", lines], cwd=watched.root, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["ok", "duckdb"]
