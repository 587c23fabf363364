"""A run's points: each once, whatever was broken off and gone on with."""

import time

from mlstack.records.run import EpochEnded, Started, Stepped, append_event
from mlstack.records.system import GpuUse, Speed, Used, append_system
from mlstack.train.curves import history, minutes, thin
from mlstack.train.use import use_of


def stepped(step, loss=1.0):
    return Stepped(
        run="r", at=1.0 * step, epoch=1, step=step, batch=step, batches=9, metrics={"loss": loss}
    )


def ended(epoch, step, loss=1.0):
    return EpochEnded(
        run="r", at=2.0 * step, epoch=epoch, epochs=3, step=step, metrics={"loss": loss}
    )


def used(at, cores=1.0, gpus=()):
    return Used(
        run="r", at=at, cpu_cores=cores, machine_cpu=0.5, memory_bytes=int(at), free_bytes=100,
        gpus=[GpuUse(index=i, busy=b, memory_bytes=m) for i, b, m in gpus],
    )  # fmt: skip


def test_what_a_resume_did_again_is_drawn_once(tmp_path):
    broken = [Started(run="r", at=0.0), stepped(3), stepped(6), ended(1, 9), stepped(12, 5.0)]
    resumed = [Started(run="r", at=9.0, attempt=2, step=6), stepped(8), ended(1, 9, 0.5)]
    for event in [*broken, *resumed, stepped(12), ended(2, 18)]:
        append_event(tmp_path, event)

    past = history(tmp_path)

    assert [step.step for step in past.steps] == [3, 6, 8, 12]
    assert [step.metrics["loss"] for step in past.steps] == [1.0, 1.0, 1.0, 1.0]
    assert [(e.epoch, e.metrics["loss"]) for e in past.epochs] == [(1, 0.5), (2, 1.0)]


def test_an_epoch_that_was_trained_again_has_its_last_speed(tmp_path):
    for epoch, rate in ((1, 10.0), (2, 20.0), (2, 30.0)):
        append_system(
            tmp_path, Speed(run="r", at=time.time(), epoch=epoch, step=9, examples_per_s=rate)
        )

    assert [one.examples_per_s for one in history(tmp_path).speeds] == [10.0, 30.0]


def test_the_time_between_two_attempts_is_no_time_of_the_run():
    assert minutes([used(0), used(30), used(7230), used(7260)]) == [0.0, 0.5, 0.5, 1.0]


def test_many_points_are_drawn_as_few_with_the_same_ends():
    points = [(float(x), float(x % 10)) for x in range(10_000)]

    few = thin(points, 100)

    assert len(few) <= 100
    assert few[-1] == points[-1]
    assert all(3 < y < 6 for _, y in few[:-1])
    assert thin(points[:50], 100) == points[:50]


def test_use_is_averaged_over_time_not_over_looks(tmp_path):
    for one in (used(0, 4.0), used(1, 4.0), used(11, 1.0, [(0, 0.5, 7)]), used(21, 1.0)):
        append_system(tmp_path, one)

    use = use_of(history(tmp_path))

    assert 1.0 < use.cpu_cores < 1.5
    assert (use.memory_bytes, use.free_bytes) == (21, 100)
    assert [(gpu.busy, gpu.memory_bytes) for gpu in use.gpus] == [(0.5, 7)]
    assert use.examples_per_s is None
