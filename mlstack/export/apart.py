"""The environment of LiteRT's converter: its packages and ours exclude each other.

litert-torch pins xdsl 0.28, which pins a typing-extensions that pydantic no longer takes.
"""

import json
import subprocess
from importlib import metadata
from pathlib import Path

from packaging.version import Version

from mlstack import shell
from mlstack.config import Project
from mlstack.errors import MachineError
from mlstack.records.layout import Layout

CONVERTER = "litert-torch"
TESTED = "0.10.0"
LIMIT_S = 60
ASK = f"""
import importlib.metadata as m, json
names = ("torch", "{CONVERTER}")
print(json.dumps({{n: next((d.version for d in m.distributions(name=n)), None) for n in names}}))
"""


def check(project: Project) -> Path:
    """Find the Python of the converter.

    Raises:
        MachineError: it is not there, does not run, or has no converter or another torch.
    """
    python = _python(project)
    torch = Version(metadata.version("torch")).public
    if not python.is_file():
        raise MachineError(
            f"the format `litert` needs its converter in an environment of its own: there is no "
            f"`{_short(python)}`",
            hint=f"type `python3 -m venv {_quoted(_home(python))} && {_install(python, torch)}`",
        )
    there = _versions(python)
    if there[CONVERTER] is None or there["torch"] is None:
        absent = CONVERTER if there[CONVERTER] is None else "torch"
        problem = f"`{_short(python)}` has no {absent}"
    elif Version(there["torch"]).public != torch:
        problem = f"`{_short(python)}` has torch {there['torch']}; what torch {torch} writes here "
        problem += "may not be what it reads there"
    else:
        return python
    raise MachineError(problem, hint=f"type `{_install(python, torch)}`")


def _python(project: Project) -> Path:
    wanted = project.config.export.litert_python
    if wanted is None:
        return Layout(project.root).litert_python
    return project.root.absolute() / Path(wanted).expanduser()


def _versions(python: Path) -> dict[str, str | None]:
    """Ask that Python what it would import, without importing it."""
    try:
        done = subprocess.run(
            [python, "-I", "-c", ASK], capture_output=True, text=True, check=True, timeout=LIMIT_S
        )
        found: dict[str, str | None] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise MachineError(
            f"`{_short(python)}` does not run: {said[-1] if said else 'it says nothing'}",
            hint=f"make the environment again: delete `{_short(_home(python))}`, then export",
        ) from error
    return found


def _install(python: Path, torch: str) -> str:
    """Give the command that fills the environment; an unpinned torch would be another one."""
    pip = _quoted(python.with_name("pip"))
    return f"{pip} install torch=={torch} {CONVERTER}=={TESTED}"


def _home(python: Path) -> Path:
    return python.parent.parent


def _quoted(path: Path) -> str:
    return shell.path(_short(path))


def _short(path: Path) -> Path:
    """Name a path as a person here would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
