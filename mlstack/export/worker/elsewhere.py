"""Run LiteRT's converter with the Python of its own environment, under limits."""

import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mlstack import files
from mlstack.export.worker.session import BASE_BYTES
from mlstack.launch import tether
from mlstack.launch.worker import how_it_ended

SCRIPT = Path(__file__).with_name("litert_script.py")


@dataclass(frozen=True)
class Job:
    """A program that torch saved, and what shall become of it."""

    program: Path
    target: Path
    input: str
    outputs: list[str]


def convert(python: str, job: Job, limit_s: int) -> str:
    """Write the target; give what hindered it, or nothing.

    What the converter prints goes where this process prints, hence to the log. It ends with
    this process.
    """
    paper, problem = (job.target.with_suffix(end) for end in (".json", ".problem"))
    limits = {"limit_bytes": BASE_BYTES + 20 * job.program.stat().st_size}
    told = {name: str(value) for name, value in (("program", job.program), ("target", job.target))}
    told |= {"problem": str(problem), "input": job.input}
    files.write_bytes(paper, msgspec.json.encode({**told, **limits, "outputs": job.outputs}))
    # -I: neither PYTHONPATH nor the folder of the script, whose modules have names of Python's.
    command = tether.tied(signal.SIGKILL, [python, "-I", str(SCRIPT), str(paper)])
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return f"LiteRT's converter took more than {limit_s} s"
    if done.returncode == 0 and job.target.is_file():
        return ""
    if problem.is_file():
        return problem.read_text()
    return f"LiteRT's converter {how_it_ended(done.returncode)}"
