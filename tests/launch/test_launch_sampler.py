"""What a run uses is looked at from outside, and nothing waits for the look."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlstack.launch import sampler
from mlstack.launch.power import Meter
from mlstack.launch.sampler import Watched, sampled
from mlstack.records.system import SYSTEM, GpuUse, Used, energy, read_system

BUSY = "import os, time\nos.fork()\nkept = bytearray(50 << 20)\nwhile True: pass"


@pytest.fixture
def busy():
    """A rank and a process that it started, both at work and holding 50 MiB each."""
    process = subprocess.Popen([sys.executable, "-c", BUSY], start_new_session=True)
    yield process.pid
    os.killpg(process.pid, 9)
    process.wait()


def used(folder: Path) -> list[Used]:
    return [one for one in read_system(folder) if isinstance(one, Used)]


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ranks_and_what_they_started_are_added_up(tmp_path, busy):
    with sampled(Watched(tmp_path, "run", lambda: frozenset({busy}))):
        wait_for(lambda: len(used(tmp_path)) >= 2)

    last = used(tmp_path)[-1]
    assert 0.1 < last.cpu_cores < 2.5
    assert last.memory_bytes > 100 << 20
    assert 0 < last.machine_cpu <= 1
    assert last.free_bytes > 0
    assert last.gpus == []


def test_other_processes_are_not_counted(tmp_path, busy):
    with sampled(Watched(tmp_path, "run", lambda: frozenset({os.getpid() + 1_000_000}))):
        time.sleep(1.3)

    assert used(tmp_path) == []


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Give a function that puts a program of the driver's name first in the path."""

    def install(body: str) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return install


def test_the_driver_is_asked_about_the_gpus_of_the_run_alone(tmp_path, busy, driver):
    driver(f'echo "$@" > {tmp_path}/asked; echo "1, 83, 2048, 214.50"; echo "3, 0, 11, [N/A]"')

    with sampled(Watched(tmp_path, "run", lambda: frozenset({busy}), gpus=(1, 3))):
        wait_for(lambda: used(tmp_path))

    assert "-i 1,3" in (tmp_path / "asked").read_text()
    assert used(tmp_path)[0].gpus == [
        GpuUse(index=1, busy=0.83, memory_bytes=2048 << 20, watts=214.5),
        GpuUse(index=3, busy=0.0, memory_bytes=11 << 20),
    ]


def test_a_driver_that_does_not_answer_delays_no_end(tmp_path, busy, driver):
    driver(f"touch {tmp_path}/asked; exec sleep 60")
    with sampled(Watched(tmp_path, "run", lambda: frozenset({busy}), gpus=(0,))):
        wait_for((tmp_path / "asked").exists)
        began = time.monotonic()

    assert time.monotonic() - began < 3


def test_a_driver_that_is_asked_as_the_run_ends_delays_it_no_more(
    tmp_path, busy, driver, monkeypatch
):
    driver(f"touch {tmp_path}/asked; exec sleep 60")
    watching = sampler.Sampler(Watched(tmp_path, "run", lambda: frozenset({busy}), gpus=(0,)))

    class Late(subprocess.Popen):
        def __init__(self, *words, **options):
            super().__init__(*words, **options)
            watching._over.wait(20)
            time.sleep(0.3)  # until `end` has looked for it

    monkeypatch.setattr(sampler.subprocess, "Popen", Late)
    watching.start()
    wait_for((tmp_path / "asked").exists)
    began = time.monotonic()

    watching.end()

    assert time.monotonic() - began < 3


def test_a_figure_that_a_card_does_not_have_is_0():
    assert sampler.parse("0, [N/A], 512, [N/A]\nnot a line\n") == [
        GpuUse(index=0, busy=0.0, memory_bytes=512 << 20)
    ]


def test_meters_of_processors_are_read_across_their_limit(tmp_path):
    def show(zone: str, count: int) -> None:
        (tmp_path / zone).mkdir(exist_ok=True)
        (tmp_path / zone / "energy_uj").write_text(f"{count}\n")
        (tmp_path / zone / "max_energy_range_uj").write_text("10000000\n")

    show("intel-rapl:0", 9_000_000)
    show("intel-rapl:1", 500_000)
    show("intel-rapl:0:0", 1)  # the cores of the first package, which counts them too
    meter = Meter(tmp_path)
    show("intel-rapl:0", 1_000_000)
    show("intel-rapl:1", 1_500_000)
    show("intel-rapl:0:0", 9_000_000)

    assert meter.joules() == 3.0
    assert meter.joules() == 0.0


def test_without_a_meter_that_can_be_read_no_energy_is_claimed(tmp_path):
    (tmp_path / "intel-rapl:0").mkdir()

    assert Meter(tmp_path).joules() is None
    assert Meter(tmp_path / "none").joules() is None


def test_energy_is_added_up_from_looks():
    gpus = [GpuUse(index=n, busy=1, memory_bytes=1, watts=w) for n, w in ((0, None), (1, 100.0))]
    looks = [
        Used(
            run="r",
            at=at,
            cpu_cores=2.0,
            machine_cpu=0.5,
            memory_bytes=1,
            free_bytes=1,
            seconds=10.0,
            processors_j=metered,
            gpus=gpus,
        )
        for at, metered in ((0.0, None), (10.0, 50.0), (20.0, 50.0))
    ]

    found = energy(looks)

    assert (found.core_seconds, found.processors_j, found.gpus_j) == (60.0, 100.0, 3000.0)
    assert "0.000833 kWh of the GPUs" in found.told()
    assert energy([]).told()[-1] == "energy was not measured: no meter could be read"


def test_looks_get_rarer_while_a_run_goes_on():
    pauses = [sampler.pause(elapsed) for elapsed in (0, 600, 86_400)]

    assert pauses == [1.0, 2.0, 10.0]


def test_a_line_that_was_cut_off_hides_no_other(tmp_path):
    whole = b'{"kind":"run.speed","v":1,"run":"r","at":1.0,"epoch":1,"step":2,"examples_per_s":3.0}'
    (tmp_path / SYSTEM).write_bytes(whole[:30] + b"\n" + whole + b"\n" + whole[:50])

    assert [one.step for one in read_system(tmp_path)] == [2]
