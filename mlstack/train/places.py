"""Where a run is trained: on this machine, or as a job of a cluster."""

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from mlstack import files
from mlstack.config import Project
from mlstack.errors import BusyError, ConfigError, MachineError, MlstackError
from mlstack.launch import gpus
from mlstack.launch.gpus import Gpu
from mlstack.launch.leases import Claim, claim
from mlstack.launch.on_ray import ranks as on_ray
from mlstack.launch.plan import Cluster, PlanOptions
from mlstack.launch.slurm import follow, queue
from mlstack.launch.supervise import (
    Patience,
    StopRequest,
    Terms,
    is_running,
    listen,
    supervise,
)
from mlstack.launch.waiting import Waiting, taken
from mlstack.records.job import Job, JobSeen
from mlstack.records.layout import Layout
from mlstack.records.run import RunEvent, RunSpec
from mlstack.train.request import Request, wanted_gpus

Events = Iterator[RunEvent | JobSeen]
ON_CPU = "--gpus 0 trains on the CPU"
LOST_S = 10.0  # until Ray has noticed that a machine is gone, of which other ranks complain at once


@dataclass(frozen=True)
class Room:
    """What a place holds for a run while it is trained."""

    plain: PlanOptions
    claim: Claim | None = None
    wanted: gpus.Wanted = 0
    otherwise: str = ON_CPU  # what to type to do without GPUs

    @property
    def leased(self) -> list[Gpu]:
        """Give the GPUs of this machine, once they are taken."""
        return self.claim.taken if self.claim else []

    @property
    def options(self) -> PlanOptions:
        """Give what the run is planned with."""
        return replace(self.plain, gpus=tuple(self.leased))

    def taken(self, *, waits: bool) -> Iterator[Waiting]:
        """Take the GPUs; say why that takes long, and again when the reason is another.

        Raises:
            BusyError: others use them, and it is not to be waited for.
        """
        if self.claim:
            yield from taken(self.claim, waits=waits, otherwise=self.otherwise)


class Place(Protocol):
    """One of the words after --on."""

    checks_first: bool  # whether a long run is checked before it, unasked
    follows_others: bool  # whether a run that is going on can be followed further

    def hold(
        self, project: Project, request: Request, options: PlanOptions
    ) -> AbstractContextManager[Room]:
        """Hold what a new run needs."""

    def hold_again(self, project: Project, spec: RunSpec) -> AbstractContextManager[Room]:
        """Hold what a run needs to go on.

        Raises:
            BusyError: it is at work somewhere else.
        """

    def train(self, project: Project, spec: RunSpec, room: Room, *, resume: bool) -> Events:
        """Train a run and yield its events, as `supervise` does."""


class Local:
    """This machine."""

    checks_first = True
    follows_others = False

    @contextmanager
    def hold(self, project: Project, request: Request, options: PlanOptions) -> Iterator[Room]:
        """Claim GPUs."""
        wanted = wanted_gpus(project, request)
        with claim(wanted, f"`mlstack train` in {project.root.name}") as claimed:
            yield Room(options, claimed, wanted)

    @contextmanager
    def hold_again(self, project: Project, spec: RunSpec) -> Iterator[Room]:
        """Claim as many GPUs as the run began with.

        Raises:
            BusyError: the run is a job of Slurm at this moment.
            MachineError: there are not so many here.
        """
        _refuse_job(spec)
        count = spec.ranks if spec.gpus else 0  # of all nodes, where it began on several
        anew = f"`mlstack train --from-run {spec.id} --gpus 0` starts anew on the CPU"
        with ExitStack() as held:
            try:
                claimed = held.enter_context(claim(count, f"run `{spec.id}`"))
            except MachineError as error:
                raise MachineError(f"run `{spec.id}`: {error.problem}", hint=anew) from error
            yield Room(PlanOptions(), claimed, otherwise=anew)

    def train(self, project: Project, spec: RunSpec, room: Room, *, resume: bool) -> Events:
        """Supervise the ranks."""
        terms = Terms(gpus=tuple(gpu.index for gpu in room.leased)) if resume else None
        yield from supervise(folder_of(spec), spec, resume=resume, terms=terms)


class Slurm:
    """A job of Slurm; its script and its events lie in the run's folder, which all nodes see."""

    checks_first = False  # two jobs would wait twice
    follows_others = True

    @contextmanager
    def hold(self, project: Project, request: Request, options: PlanOptions) -> Iterator[Room]:
        """Hold nothing: that is for the queue."""
        queue.need()
        wanted = project.config.train.slurm
        on_cpu = request.ranks is not None
        cluster = Cluster(wanted.nodes, 0 if on_cpu else wanted.gpus_per_node)
        yield Room(replace(options, cluster=cluster))

    @contextmanager
    def hold_again(self, project: Project, spec: RunSpec) -> Iterator[Room]:
        """See whether the nodes that are asked for now can share the ranks.

        Raises:
            ConfigError: they cannot.
            BusyError: the run is at work on a machine of its own.
        """
        queue.need()
        folder = folder_of(spec)
        if is_running(folder) and follow.job_of(folder) is None:
            raise BusyError(
                f"run `{spec.id}` is being trained without Slurm", hint="stop it there first"
            )
        nodes = project.config.train.slurm.nodes
        if spec.ranks % nodes:
            raise ConfigError(
                f"run `{spec.id}` has {spec.ranks} ranks, which {nodes} nodes cannot share evenly",
                hint="change train.slurm.nodes",
            )
        yield Room(PlanOptions())

    def train(self, project: Project, spec: RunSpec, room: Room, *, resume: bool) -> Events:
        """Submit the run and follow its job; one that is in the queue already is only followed."""
        folder = folder_of(spec)
        stop = StopRequest()
        with listen(stop):  # from before sbatch: a job that is in the queue by then has to be noted
            job = _submitted(folder, project, spec, resume=resume)
            yield from follow.follow(folder, spec, job, stop=stop)


class Ray:
    """A cluster of Ray, or one that is started here; supervised from this machine."""

    checks_first = True
    follows_others = False

    @contextmanager
    def hold(self, project: Project, request: Request, options: PlanOptions) -> Iterator[Room]:
        """Hold nothing: Ray does, once the ranks are asked for.

        Raises:
            MachineError: ray is not installed.
        """
        _need_ray()
        on_cpu = request.ranks is not None
        gpus_there = 0 if on_cpu else project.config.train.ray.gpus
        yield Room(replace(options, cluster=Cluster(1, gpus_there)))

    @contextmanager
    def hold_again(self, project: Project, spec: RunSpec) -> Iterator[Room]:
        """See whether nobody is at it.

        Raises:
            MachineError: ray is not installed.
            BusyError: the run is a job of Slurm at this moment.
        """
        _need_ray()
        _refuse_job(spec)
        yield Room(PlanOptions())

    def train(self, project: Project, spec: RunSpec, room: Room, *, resume: bool) -> Events:
        """Supervise the ranks, which a driver starts on the cluster."""
        terms = Terms(start=on_ray.started, patience=Patience(failed_s=LOST_S, echo_s=LOST_S))
        yield from supervise(folder_of(spec), spec, resume=resume, terms=terms)


PLACES: dict[str, Place] = {"local": Local(), "ray": Ray(), "slurm": Slurm()}


def folder_of(spec: RunSpec) -> Path:
    """Give the folder of a run."""
    return Layout(Path(spec.root)).run(spec.id)


def _submitted(folder: Path, project: Project, spec: RunSpec, *, resume: bool) -> Job:
    """Submit a run, or follow the job that another terminal has submitted meanwhile."""
    try:
        with files.lock(folder / "submitting", f"submitting run `{spec.id}`", wait=True):
            job = follow.job_of(folder) if resume else None
            return job or follow.submit(folder, spec, project.config.train.slurm)
    except MlstackError:
        if not resume:  # nothing was run, so nothing stays
            shutil.rmtree(folder)
        raise


def _refuse_job(spec: RunSpec) -> None:
    job = follow.job_of(folder_of(spec))
    if job is not None:
        raise BusyError(
            f"run `{spec.id}` is job {job.id} of Slurm",
            hint=f"`mlstack train --on slurm --resume {spec.id}` follows it, "
            f"`scancel {job.id}` ends it",
        )


def _need_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        raise MachineError(
            "training on Ray needs `ray`, which is not installed",
            hint="pip install 'mlstack[ray]', here and on the machines of the cluster",
        )
