"""Look at everything that a project needs of its machine."""

from collections.abc import Iterator
from pathlib import Path

from mlstack.doctor import machine, place, software, together
from mlstack.doctor.check import Check, Status
from mlstack.errors import MachineError
from mlstack.records.base import Record, Result

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8000


class Examined(Result, frozen=True, kw_only=True, tag="doctor.examined"):
    """All checks; `ok` is false when one that is required failed."""

    ok: bool
    checks: list[Check]

    def headline(self) -> str:
        """Say whether this machine is able to."""
        return "ok" if self.ok else "fail"

    def exit_code(self) -> int:
        """Give the code of a machine that cannot."""
        return 0 if self.ok else MachineError.exit_code


def doctor(path: Path, sets: tuple[str, ...]) -> Iterator[Record]:
    """Yield each check as it is done, then all of them."""
    checks: list[Check] = []
    for check in _checks(path, sets):
        checks.append(check)
        yield check
    yield Examined(ok=all(check.status is not Status.FAIL for check in checks), checks=checks)


def _checks(path: Path, sets: tuple[str, ...]) -> Iterator[Check]:
    wanted = path.resolve()
    folder = next(one for one in wanted.parents if one.is_dir())
    yield machine.python()
    yield software.packages()
    yield software.versions()
    yield software.extras()
    yield machine.memory()
    graphics, gpus = machine.gpus()
    yield graphics
    yield machine.leases()
    computes = list(software.torch(gpus))
    yield from computes
    yield from together.gpus(gpus, each_works=computes[0].status is Status.OK)
    yield software.runtimes(gpus)
    yield from software.onnxruntime(gpus)
    yield machine.shared_memory()
    yield machine.temporary()
    yield machine.open_files()
    yield from machine.disk(folder)
    config, project = place.config(path, sets)
    yield config
    serve = project.config.serve if project else None
    yield machine.port(serve.host if serve else DEFAULT_HOST, serve.port if serve else DEFAULT_PORT)
    yield place.git_state(folder, is_project=path.is_file())
    if project:
        yield from place.data_state(project)
        yield place.kept(project)
        yield place.loader(project, path, sets)
    yield place.clock(folder)
