"""The README's transcript is typed line by line, and prints what the README says."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mlstack.config.schema import Export

README = Path(__file__).parents[2] / "README.md"
MARK = "<!-- typed by a test -->"
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


def transcripts() -> list[str]:
    """Give the console blocks that follow a mark."""
    text = README.read_text()
    return re.findall(re.escape(MARK) + r"\n+```console\n(.*?)```", text, re.DOTALL)


def commands(transcript: str) -> list[str]:
    return [line[2:] for line in transcript.splitlines() if line.startswith("$ ")]


def pattern(line: str) -> str:
    """Turn a printed line into a pattern: any number fits a number, any white space the same."""
    parts = [re.escape(part) for part in NUMBER.split(" ".join(line.split()))]
    anything = re.escape("...")
    return r"\d[\d,]*(?:\.\d+)?(?:e-?\d+)?".join(parts).replace(anything, ".*")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_the_readme_has_a_transcript():
    assert len(commands("".join(transcripts()))) >= 8


def test_the_readme_shows_the_limit_of_parity_that_is_in_force():
    (line,) = [line for line in transcripts()[0].splitlines() if line.startswith(" parity max")]

    assert float(line.split()[3]) == Export().max_diff


@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_the_readme_does_what_it_says(tmp_path: Path):
    transcript = "".join(transcripts())
    port = str(free_port())
    command = tmp_path / "bin" / "mlstack"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mlstack "$@"\n')
    command.chmod(0o755)
    script = ["set -e", "trap 'kill $server 2>/dev/null || true' EXIT"]
    for number, line in enumerate(commands(transcript)):
        script += [f"echo '@@ {number}'", line.replace("8000", port)]
        if line.endswith("&"):
            script += [
                "server=$!",
                f"for i in $(seq 600); do curl -sf localhost:{port}/health/ready >/dev/null "
                "&& break; sleep 0.1; done",
            ]
    script += ["kill $server; wait $server"]

    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=tmp_path, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=environment(port, command.parent),
    )  # fmt: skip

    assert done.returncode == 0, done.stdout[-3000:]
    printed = " ".join(done.stdout.split())
    missing = [
        line
        for line in transcript.splitlines()
        if line.strip() and not line.startswith("$ ") and not re.search(pattern(line), printed)
    ]
    assert not missing, "\n".join([*missing, "--- printed ---", done.stdout[-6000:]])


def environment(port: str, folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "MLSTACK_SERVE__PORT": port,
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }
