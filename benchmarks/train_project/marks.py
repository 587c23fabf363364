"""Notes what a command has cost so far, from inside: CPU of a process and its ancestors."""

import json
import os
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def mark(name: str, *, ancestors: bool = False) -> None:
    """Append a line to the file that BENCH_MARKS names."""
    cpu_s = time.process_time()
    pid = os.getppid()
    while ancestors and pid not in (0, 1, int(os.environ["BENCH_PID"])):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        cpu_s += (int(fields[11]) + int(fields[12])) / TICKS
        pid = int(fields[1])
    line = {"name": name, "rank": int(os.environ.get("RANK", "0")), "cpu_s": cpu_s}
    with Path(os.environ["BENCH_MARKS"]).open("a") as file:
        file.write(json.dumps({**line, "at": time.time()}) + "\n")
