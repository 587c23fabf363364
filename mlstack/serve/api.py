"""The steps of everything that `serve` does beside serving."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
import msgspec

from mlstack.config import Project, load
from mlstack.errors import ConfigError, DataError
from mlstack.launch.own_server import door
from mlstack.launch.worker import run_worker
from mlstack.records import server as server_record
from mlstack.records.base import Record, read, write
from mlstack.records.layout import Layout
from mlstack.records.package import (
    MANIFEST,
    SIDE,
    Live,
    Manifest,
    Metrics,
    live_package,
    numbers,
    refuse_strange,
)
from mlstack.records.server import WORKER, DeviceChoice, ServerSpec
from mlstack.records.worker import WorkerProgress
from mlstack.serve import asking, proof
from mlstack.serve import live as live_file
from mlstack.serve.results import (
    Benched,
    Beside,
    Changed,
    PackageLine,
    Predicted,
    Predictions,
    Status,
)

TAKE_OVER_S = 15.0


@dataclass(frozen=True)
class Wanted:
    """What the command line asks of a canary or a shadow."""

    number: int | None
    percent: float | None
    is_off: bool


@dataclass(frozen=True)
class Asked:
    """Which files `predict` answers, and by whom."""

    names: list[Path]
    url: str | None
    device: str | None


def promote(path: Path, *, sets: tuple[str, ...], number: int | None) -> Changed:
    """Make a package live: `number`, or the newest."""
    project = load(path, sets=sets)
    folder = _folder(project)
    chosen = live_file.newest(folder) if number is None else number
    return _changed(project, live_file.promote(folder, chosen))


def roll_back(path: Path, *, sets: tuple[str, ...]) -> Changed:
    """Make the package live that was live before."""
    project = load(path, sets=sets)
    return _changed(project, live_file.roll_back(_folder(project)))


def canary(path: Path, *, sets: tuple[str, ...], wanted: Wanted) -> Changed:
    """Give a share of the requests to another package, or end that."""
    project = load(path, sets=sets)
    share = project.config.serve.traffic.canary if wanted.percent is None else wanted.percent
    if share <= 0 and not wanted.is_off and wanted.number is not None:
        raise ConfigError("a canary needs a share of the requests", hint="add `--percent 10`")
    return _beside(project, "canary", wanted, share)


def shadow(path: Path, *, sets: tuple[str, ...], wanted: Wanted) -> Changed:
    """Copy a share of the requests (all, unless it is said) to another package, or end that."""
    project = load(path, sets=sets)
    share = project.config.serve.traffic.shadow or 100.0
    if wanted.percent is not None:
        share = wanted.percent
    if share <= 0 and not wanted.is_off:
        raise ConfigError(
            "a shadow needs a share of the requests", hint="type `mlstack serve shadow --off`"
        )
    return _beside(project, "shadow", wanted, share)


def _beside(project: Project, role: str, wanted: Wanted, share: float) -> Changed:
    folder = _folder(project)
    is_canary = role == "canary"
    if wanted.is_off:
        end = live_file.end_canary if is_canary else live_file.end_shadow
        live, had_one = end(folder)
        changed = _changed(project, live)
        return changed if had_one else msgspec.structs.replace(changed, note=f"there is no {role}")
    if wanted.number is None:
        raise ConfigError("which package?", hint=f"type `mlstack serve {role} N --percent P`")
    begin = live_file.set_canary if is_canary else live_file.set_shadow
    return _changed(project, begin(folder, wanted.number, share))


def status(path: Path, *, sets: tuple[str, ...]) -> Status:
    """Say what is live, what else there is, and whether a server runs."""
    project = load(path, sets=sets)
    folder = _folder(project)
    live = live_file.current(folder)
    running = server_record.running(Layout(project.root).state)
    health = _health(running) if running else {}
    return Status(
        model=project.config.project.name,
        live=live.live,
        canary=live.canary,
        canary_percent=live.canary_percent,
        shadow=live.shadow,
        shadow_percent=live.shadow_percent,
        note=live.note,
        beside=_how_they_do(running) if running else [],
        packages=[_line(folder, number, live) for number in numbers(folder)],
        url=running.url if running else None,
        pid=running.pid if running else None,
        fixed=running.fixed if running else None,
        ready=health.get("ready") is True,
        serving=_whole(health.get("version")),
        provider=str(health.get("provider", "")),
    )


def predict(path: Path, *, sets: tuple[str, ...], asked: Asked) -> Iterator[Record]:
    """Answer files of an image, a row or many rows, by the live package or a server at `url`."""
    for name in asked.names:
        if not name.is_file():
            raise ConfigError(
                f"`{name}` is a folder" if name.is_dir() else f"there is no file `{name}`",
                hint="give images, rows of JSON, or rows of a table (CSV, Parquet, JSONL)",
            )
    if asked.url is not None:
        yield asking.ask(asked.url.rstrip("/"), asked.names)
        return
    project = load(path, sets=sets)
    package, number = _live_package(project)
    device = asked.device or project.config.serve.device
    arguments = ["predict", str(package), device, *map(str, asked.names)]
    log = Layout(project.root).state / "serve-worker.log"
    decode = msgspec.json.Decoder(Predicted).decode
    answered = list(run_worker(WORKER, arguments, decode, log))
    yield Predictions(model=package.parent.name, version=number, predictions=answered)


def bench(
    path: Path, *, sets: tuple[str, ...], device: str | None, largest: int
) -> Iterator[Record]:
    """Time the live package, alone and behind a server; the faster device is remembered."""
    project = load(path, sets=sets)
    package, _ = _live_package(project)
    config, layout = project.config.serve, Layout(project.root)
    engines = str(layout.tensorrt) if config.tensorrt else ""
    where = [device or config.device, str(config.gpus), engines]
    arguments = ["bench", str(package), str(largest), *where]
    log = layout.state / "serve-worker.log"
    decode = msgspec.json.Decoder(Benched | WorkerProgress).decode
    for record in run_worker(WORKER, arguments, decode, log):
        if isinstance(record, Benched) and len(record.rows_per_s_by_device) > 1:
            write(server_record.choice_path(layout.state), _choice(record))
        yield record


def _choice(benched: Benched) -> DeviceChoice:
    rates = benched.rows_per_s_by_device
    faster: Literal["cpu", "gpu"] = "gpu" if rates["gpu"] >= rates["cpu"] else "cpu"
    return DeviceChoice(package=benched.version, device=faster, rows_per_s=rates)


def _folder(project: Project) -> Path:
    return Layout(project.root).model(project.config.project.name)


def _live_package(project: Project) -> tuple[Path, int]:
    folder = _folder(project)
    live = live_file.current(folder).live
    number = live_file.newest(folder) if live is None else live
    package = live_package(folder, number)
    proof.check(project.root, package)
    return package, number


def _changed(project: Project, live: Live) -> Changed:
    """Report a change, once the running server (if any) has taken it over or refused to."""
    running = server_record.running(Layout(project.root).state)
    assert live.live is not None
    return Changed(
        model=project.config.project.name,
        live=live.live,
        previous=live.previous,
        canary=live.canary,
        canary_percent=live.canary_percent,
        shadow=live.shadow,
        shadow_percent=live.shadow_percent,
        url=running.url if running else None,
        taken_over=_takes_over(running, live) if running and running.fixed is None else False,
        note=_kept(running) if running and running.fixed is not None else "",
    )


def _kept(running: ServerSpec) -> str:
    """Say of a server that was told what to serve that it goes on with that."""
    return (
        f"the server at {running.url} goes on with {running.fixed}, which `--model` named; "
        "end it and type `mlstack serve`"
    )


def _takes_over(running: ServerSpec, live: Live) -> bool:
    stop = time.monotonic() + TAKE_OVER_S
    while time.monotonic() < stop:
        health = _health(running)
        if not health:
            return False
        names = ("version", "canary", "canary_percent", "shadow", "shadow_percent")
        wanted = (
            live.live,
            live.canary,
            live.canary_percent,
            live.shadow,
            live.shadow_percent,
        )
        if tuple(health.get(name) for name in names) == wanted:
            return True
        time.sleep(0.1)
    return False


def _health(running: ServerSpec) -> dict[str, Any]:
    return _told(running, "/health/ready")


def _how_they_do(running: ServerSpec) -> list[Beside]:
    told = _told(running, "/traffic")
    return [
        msgspec.convert({"kind": "serve.beside", "role": role, **told[role]}, Beside)
        for role in ("canary", "shadow")
        if role in told
    ]


def _told(running: ServerSpec, path: str) -> dict[str, Any]:
    """Ask the server of this project, with the key that it has for its own commands."""
    its = door(running)
    with contextlib.suppress(httpx.HTTPError, ValueError):
        body = httpx.get(its.url + path, timeout=2, headers=its.headers, verify=its.trusts).json()
        return body if isinstance(body, dict) else {}
    return {}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _line(folder: Path, number: int, live: Live) -> PackageLine:
    roles = {live.previous: "previous", live.shadow: "shadow", live.canary: "canary"}
    roles[live.live] = "live"
    role = roles.get(number, "")
    package = folder / str(number)
    try:
        manifest = read(package / SIDE / MANIFEST, Manifest)
        metrics = read(package / SIDE / "metrics.json", Metrics)
        refuse_strange(package)
    except DataError as error:
        return PackageLine(number=number, role=role, problem=error.problem)
    return PackageLine(
        number=number,
        role=role,
        created=manifest.created,
        run=manifest.run,
        metrics=metrics.values,
    )
