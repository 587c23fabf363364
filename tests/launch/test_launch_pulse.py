"""Who hangs: told from hearts that beat for real, by a clock that the test sets."""

import os
import subprocess
import sys
import time

import pytest

from mlstack.launch.pulse import BUSY_SHARE, Pulse, cpu_seconds
from mlstack.records.heartbeat import Activity, Heart, read_beat

START_S, NO_LIMIT_S = 3600.0, float("inf")


class Machine:
    """A clock, what each process computes, and a pulse that listens to them."""

    def __init__(self, folder, ranks):
        self.now = 0.0
        self.used = dict.fromkeys(range(ranks), 0.0)
        self.computing = set()
        self.pulse = Pulse(folder, ranks, clock=lambda: self.now, usage=self.used.__getitem__)
        self.hearts = [Heart(folder / f"heartbeat-{number}") for number in range(ranks)]

    def hang_after(self, seconds, limit_s=NO_LIMIT_S):
        """Look twice a second; give the first hang and when it was seen."""
        running = {number: number for number in range(len(self.hearts))}
        for _ in range(int(seconds * 2)):
            self.now += 0.5
            for number in self.computing:
                self.used[number] += 0.5
            if hang := self.pulse.hang(running, START_S, limit_s):
                return hang.rank, hang.activity, self.now
        return None


@pytest.fixture
def machine(tmp_path):
    return lambda ranks: Machine(tmp_path, ranks)


def test_a_beat_is_read_as_it_was_written(tmp_path):
    heart = Heart(tmp_path / "heartbeat-0")
    before = read_beat(tmp_path / "heartbeat-0")

    heart.beat(17, Activity.BACKWARD, 11.5, 63.0)

    assert before is None
    assert read_beat(tmp_path / "heartbeat-0") == (1, 17, Activity.BACKWARD, 11.5, 63.0)
    assert read_beat(tmp_path / "heartbeat-1") is None


def test_a_beat_for_another_machine_is_a_plain_file_that_gives_time(tmp_path):
    heart = Heart(tmp_path / "heartbeat-0", far=True)

    heart.beat(17, Activity.FORWARD, 11.5, 463.0)
    first = (tmp_path / "heartbeat-0").stat().st_ino, read_beat(tmp_path / "heartbeat-0")
    heart.beat(18, Activity.BACKWARD, 11.5, 463.0)  # less than a second later
    heart.beat(19, Activity.SAVING, 1800.0, 1800.0)

    assert first[1] == (1, 17, Activity.FORWARD, 180.0, 463.0)
    assert read_beat(tmp_path / "heartbeat-0") == (3, 19, Activity.SAVING, 1800.0, 1800.0)


def test_what_a_process_elsewhere_computes_is_not_known():
    assert cpu_seconds(0) == float("inf")


def test_a_rank_that_does_nothing_hangs_when_its_own_limit_is_over(machine):
    one = machine(1)
    one.hearts[0].beat(5, Activity.FORWARD, 10.3, 60.0)

    assert one.hang_after(100) == (0, Activity.FORWARD, 11.0)


def test_a_rank_that_computes_gets_more_time(machine):
    one = machine(1)
    one.hearts[0].beat(5, Activity.FORWARD, 10.3, 60.0)
    one.computing.add(0)

    assert one.hang_after(100) == (0, Activity.FORWARD, 61.0)


def test_a_rank_that_stops_computing_is_noticed_soon(machine):
    one = machine(1)
    one.hearts[0].beat(5, Activity.FORWARD, 10.3, 600.0)
    one.computing.add(0)
    assert one.hang_after(9) is None
    one.computing.clear()

    rank, _, seen_at = one.hang_after(100)

    assert (rank, seen_at < 40) == (0, True)


def test_the_rank_behind_is_named_and_not_those_that_wait_for_it(machine):
    three = machine(3)
    three.hearts[0].beat(43, Activity.BACKWARD, 10.0, 60.0)
    three.hearts[1].beat(42, Activity.FORWARD, 10.0, 60.0)
    three.hearts[2].beat(43, Activity.BACKWARD, 10.0, 60.0)

    assert three.hang_after(100)[:2] == (1, Activity.FORWARD)


def test_nobody_hangs_while_the_others_wait_for_one_that_may_take_its_time(machine):
    two = machine(2)
    two.hearts[0].beat(40, Activity.SAVING, 1800.0, 1800.0)
    two.hearts[1].beat(43, Activity.BACKWARD, 10.0, 60.0)

    assert two.hang_after(1700) is None
    assert two.hang_after(200)[:2] == (0, Activity.SAVING)


def test_of_ranks_that_are_together_all_must_be_late(machine):
    two = machine(2)
    two.hearts[0].beat(40, Activity.SAVING, 100.0, 100.0)
    two.hearts[1].beat(40, Activity.LOADING, 30.0, 60.0)

    assert two.hang_after(99) is None


def test_a_machine_that_stood_still_was_not_silent(machine):
    one = machine(1)
    one.hearts[0].beat(5, Activity.FORWARD, 10.0, 60.0)
    one.hang_after(1)

    one.now += 3600  # suspended, or out of memory

    assert one.hang_after(5) is None


def test_the_first_beat_may_take_as_long_as_the_start(machine):
    one = machine(1)

    assert one.hang_after(START_S - 1) is None
    assert one.hang_after(10)[:2] == (0, Activity.PREPARING)


def test_whoever_beats_does_not_hang(machine):
    one = machine(1)
    for place in range(40):
        one.hearts[0].beat(place, Activity.FORWARD, 10.0, 60.0)
        assert one.hang_after(5) is None


def test_computing_is_told_from_sleeping():
    spins = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    sleeps = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        deadline = time.monotonic() + 60
        while cpu_seconds(spins.pid) < 0.5 and time.monotonic() < deadline:
            time.sleep(0.05)

        assert cpu_seconds(spins.pid) >= 0.5
        assert cpu_seconds(sleeps.pid) < 0.5
    finally:
        for process in (spins, sleeps):
            process.kill()
            process.wait()
    assert cpu_seconds(spins.pid) == 0.0


def test_a_process_that_gets_no_core_on_a_crowded_machine_is_not_taken_for_idle():
    core = next(iter(os.sched_getaffinity(0)))
    code = f"import os; os.sched_setaffinity(0, {{{core}}}); print(flush=True)\nwhile True: pass"
    crowd = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(12)
    ]
    try:
        for one in crowd:
            one.stdout.readline()  # all are at it
        began, before = time.monotonic(), cpu_seconds(crowd[0].pid)
        time.sleep(3)
        share = (cpu_seconds(crowd[0].pid) - before) / (time.monotonic() - began)
    finally:
        for one in crowd:
            one.kill()
            one.communicate()

    assert share > 2 * BUSY_SHARE  # a twelfth of a core is what it gets
