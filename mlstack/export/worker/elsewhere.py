"""Run LiteRT's converter with the Python of its own environment, under limits."""

import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mlstack import files
from mlstack.export.handover import Stored
from mlstack.launch import limits, tether
from mlstack.launch.worker import how_it_ended

SCRIPT = Path(__file__).with_name("litert_script.py")
PAPER, PROBLEM = "job.json", "problem.txt"


@dataclass(frozen=True)
class Job:
    """A program that torch saved, and what shall become of it."""

    program: str
    folder: str  # for PRECISION.tflite
    input: str
    outputs: list[str]
    # Percent of the weights, in the first layers, that stay in FP32; null for all.
    precisions: dict[str, int | None]
    calibration: Stored | None = None  # what INT8 needs


def convert(python: str, job: Job, limit_s: int) -> str:
    """Write what was asked for; give what hindered the rest, or nothing.

    What the converter prints goes where this process prints, hence to the log. It ends with
    this process.
    """
    paper, problem = Path(job.folder) / PAPER, Path(job.folder) / PROBLEM
    told = msgspec.to_builtins(job)
    told |= {"problem": str(problem), "limit_bytes": _limit_bytes(job)}
    files.write_bytes(paper, msgspec.json.encode(told))
    # -I: neither PYTHONPATH nor the folder of the script, whose modules have names of Python's.
    command = tether.tied(signal.SIGKILL, [python, "-I", str(SCRIPT), str(paper)])
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return f"LiteRT's converter took more than {limit_s} s"
    if done.returncode == 0:
        return ""
    if problem.is_file():
        return problem.read_text()
    return f"LiteRT's converter {how_it_ended(done.returncode)}"


def _limit_bytes(job: Job) -> int:
    """Limit the memory by the weights, as for a graph that is run."""
    return limits.bytes_for(Path(job.program).stat().st_size)
