"""The state of a project on one screen, read from files alone, and what to type next."""

import re
import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from mlstack import shell
from mlstack.config import Project
from mlstack.errors import DataError
from mlstack.inputs import folders, images
from mlstack.inputs.tasks import reads_rows
from mlstack.launch import dataset as launch_dataset
from mlstack.launch.at_work import up_to_date
from mlstack.pipeline import labels, lacking, overview, served, traffic
from mlstack.pipeline.result import Line, Status
from mlstack.pipeline.served import OpenAlert
from mlstack.pipeline.traffic import Traffic
from mlstack.plurals import counted
from mlstack.records import data_folder, dataset, dvc
from mlstack.records.base import read
from mlstack.records.dataset_hash import hash_dataset, is_packed
from mlstack.records.layout import Layout
from mlstack.records.lineage import Lineage
from mlstack.records.package import SIDE, Live, Metrics, numbers, read_live
from mlstack.records.run import RunSummary, glance, run_ids

LOOKED_AT = 50  # newest runs that are opened
ALERT_WIDTH = 46  # of 80 columns
ASIDE = re.compile(r" \([^`()]*\)(?=[^`]*$)")  # figures in brackets, no name of a column


@dataclass(frozen=True)
class Found:
    """What lies in the project, as far as the next step depends on it."""

    has_data: bool
    refill: str  # command that brings the data where only its pointer is
    is_snapshotted: bool
    runs: list[RunSummary]  # newest last, trials left out
    trials: list[RunSummary]
    package: Lineage | None
    live: Live | None
    damage: str  # what keeps the live package from being served; empty when nothing does
    can_roll_back: bool
    alert: OpenAlert | None  # of the live package
    traffic: Traffic
    has_new_data: bool  # the newest package was made from another version


def status(project: Project) -> Status:
    """Look at every part of the project.

    Raises:
        DataError: a record is damaged; it is named.
    """
    layout = Layout(project.root)
    found = _find(project, layout)
    command, why = _next(project, found)
    config = project.config
    return Status(
        project=config.project.name,
        task=config.project.task,
        lines=[
            _data(project, found),
            _labels(project, layout),
            *_stages(project, found),
            _runs(project, found),
            _study(found, config.train.monitor, config.train.mode),
            _package(layout, found),
            _live(found),
            found.traffic.line,
            _alerts(layout, found),
        ],
        next=command,
        why=why,
    )


def _find(project: Project, layout: Layout) -> Found:
    name = project.config.project.name
    glances = [glance(layout.run(i)) for i in run_ids(layout.runs)[-LOOKED_AT:]]
    summaries = [one for one in glances if one.mode == "fit"]
    if summaries and summaries[-1].state not in ("finished", "damaged"):
        summaries[-1] = up_to_date(layout.run(summaries[-1].id), summaries[-1])
    model = layout.model(name)
    lineages = [model / str(number) / SIDE / "lineage.json" for number in numbers(model)]
    lineage = next((path for path in reversed(lineages) if path.is_file()), None)
    live = read_live(model / "live.json") if (model / "live.json").is_file() else None
    source = project.root / project.config.data.folder
    has_data = is_packed(source) or (source.is_dir() and any(source.iterdir()))
    package = read(lineage, Lineage) if lineage else None
    pointer = dvc.read_pointer(dvc.pointer_path(source))
    return Found(
        has_data=has_data,
        refill="" if has_data else launch_dataset.refill(project),
        is_snapshotted=_is_snapshotted(project.root, project.config.data.folder),
        runs=[run for run in summaries if run.study is None],
        trials=[run for run in summaries if run.study is not None],
        package=package,
        live=live,
        damage=served.damage(model, live.live) if live else "",
        can_roll_back=bool(live and live.previous and not served.damage(model, live.previous)),
        alert=served.open_alert(layout, name, live),
        traffic=traffic.look(layout, name),
        has_new_data=bool(package and pointer and package.dataset.md5 != pointer.md5),
    )


def _next(project: Project, found: Found) -> tuple[str, str]:
    source = project.config.data.folder
    newest = found.runs[-1] if found.runs else None
    finished = [run for run in found.runs if run.state == "finished"]
    if not found.has_data and found.refill:
        named = project.config.data.source if project.config.data.is_remote else f"{source}.dvc"
        return found.refill, f"{named} names files that are not in {source}"
    if not found.has_data:
        return f"cp -r YOUR_FILES {shell.path(source)}", f"there is no data in {source}"
    if not found.is_snapshotted and project.config.versioning.backend == "dvc":
        return 'mlstack version snapshot -m "what changed"', "the data is in no snapshot"
    if found.damage:
        command = "mlstack serve rollback" if found.can_roll_back else "mlstack export"
        return command, found.damage
    if newest and newest.state == "stopped":
        return "mlstack train --resume", f"run {newest.id} was stopped"
    if newest and newest.state in ("running", "queued") and not finished:
        return f"mlstack train show {newest.id}", f"run {newest.id} is {newest.state}"
    if not finished and found.package is None:
        return _next_of_untrained(project, found)
    if found.package is None or (finished and found.package.run < finished[-1].id):
        return "mlstack export", f"run {finished[-1].id} is not packed"
    if found.live is None or found.live.live is None:
        return "mlstack serve", f"package {found.package.number} is not live"
    return _next_of_live(found, found.live.live, found.package, project.config.project.task)


def _next_of_untrained(project: Project, found: Found) -> tuple[str, str]:
    best = _best_trial(found, project.config.train.monitor, project.config.train.mode)
    if best:
        return f"mlstack export {best.id}", f"it is the best trial of study {best.study}"
    missing = lacking.label(project)
    if missing:
        return "mlstack label", missing
    return "mlstack train --check", "nothing is trained yet; try the smallest thing first"


def _next_of_live(found: Found, live: int, package: Lineage, task: str) -> tuple[str, str]:
    if found.alert and not (live < package.number and package.created > found.alert.alert.created):
        return _next_of_alert(found.alert, task, has_new_data=found.has_new_data)
    if live < package.number:
        command = f"mlstack serve promote {package.number}"
        return command, f"package {live} is live, {package.number} is newer"
    if found.traffic.is_none and found.traffic.url is None:
        return "mlstack serve", f"package {live} is live, and no server runs"
    if found.traffic.is_none:
        command = f"mlstack serve predict FILE --url {found.traffic.url}"
        return command, "no request is logged yet"
    return "mlstack monitor check", "everything is in place; see how it does"


def _next_of_alert(opened: OpenAlert, task: str, *, has_new_data: bool) -> tuple[str, str]:
    said = f"alert {opened.alert.id} is open"
    if not opened.is_reported:
        return "mlstack monitor report", said
    if opened.new_labels or has_new_data:
        return "mlstack run", f"{said}, and there is new data to learn from"
    if reads_rows(task):
        return "mlstack monitor check", f"{said}; add labeled rows, or look again"
    return "mlstack label", f"{said}; its report is written, and new labels are wanted"


def _data(project: Project, found: Found) -> Line:
    source = project.config.data.folder
    pointer = dvc.read_pointer(dvc.pointer_path(project.root / source))
    if not found.has_data:
        named = f", version {pointer.md5[:8]} is not laid out" if pointer else ""
        return Line(part="data", state=f"nothing in {source}{named}", is_well=False)
    if pointer is None:
        return Line(part="data", state=f"{source}: never snapshotted", is_well=False)
    what = f"{source}: {counted(pointer.files, 'file')}, version {pointer.md5[:8]}"
    if not found.is_snapshotted:
        return Line(part="data", state=f"{what}, changed since", is_well=False)
    return Line(part="data", state=what)


def _is_snapshotted(root: Path, name: str) -> bool:
    """Compare the folder with its pointer; only changed files are hashed."""
    source = root / name
    pointer = dvc.read_pointer(dvc.pointer_path(source))
    if pointer is None or not (source.is_dir() or is_packed(source)):
        return False
    return hash_dataset(root, name).md5 == pointer.md5


def _labels(project: Project, layout: Layout) -> Line:
    source = project.root / project.config.data.folder
    events = labels.last_event(layout)
    said = f", {counted(events, 'label event')}" if events is not None else ""
    if is_packed(source):
        return Line(part="labels", state="in packs; mlstack version checkout HEAD lays them out")
    if not source.is_dir():
        return Line(part="labels", state="none yet")
    if reads_rows(project.config.project.task):
        column = project.config.data.label
        return Line(part="labels", state=f"in the column `{column}` of the table")
    try:
        if (source / dataset.LABELS).is_file():
            named = dataset.read_labels(source / dataset.LABELS)["path"].to_pylist()
        else:
            named = [name for name, _ in folders.labeled_files(source)]
    except (DataError, pa.ArrowInvalid, OSError) as error:
        return Line(part="labels", state=str(error), is_well=False)
    suffixes = tuple(images.SUFFIXES)
    there = set(data_folder.list_files(source))
    pictures = sum(name.lower().endswith(suffixes) for name in there)
    gone = sum(name not in there for name in named)
    rows = len(named) - gone
    lost = f", {counted(gone, 'label')} of files that are gone" if gone else ""
    state = f"{rows} of {max(rows, pictures)} files{lost}{said}"
    return Line(part="labels", state=state, is_well=not gone)


def _stages(project: Project, found: Found) -> list[Line]:
    """Show the stages where there is a pipeline, as soon as the data is snapshotted."""
    pointer = dvc.read_pointer(dvc.pointer_path(project.root / project.config.data.folder))
    is_there = project.config.versioning.backend == "dvc" and found.is_snapshotted
    return [overview.line(project, pointer.md5)] if pointer and is_there else []


def _runs(project: Project, found: Found) -> Line:
    if not found.runs:
        return Line(part="runs", state="none yet")
    newest, metric = found.runs[-1], project.config.train.monitor
    measured = f", {metric} {newest.metrics[metric]:.4f}" if metric in newest.metrics else ""
    problem = f": {newest.problem}" if newest.problem else ""
    damaged = [run.id for run in found.runs[:-1] if run.state == "damaged"]
    also = f"; damaged: {', '.join(damaged)}" if damaged else ""
    return Line(
        part="runs",
        state=f"{len(found.runs)}, newest {newest.id} {newest.state}{measured}{problem}{also}",
        is_well=newest.state not in ("failed", "damaged") and not damaged,
    )


def _study(found: Found, metric: str, mode: str) -> Line:
    if not found.trials:
        return Line(part="study", state="none yet")
    study = found.trials[-1].study
    trials = [trial for trial in found.trials if trial.study == study]
    best = _best_trial(found, metric, mode)
    said = f", best {metric} {best.metrics[metric]:.4f}" if best else ""
    return Line(part="study", state=f"{study}: {counted(len(trials), 'trial')}{said}")


def _best_trial(found: Found, metric: str, mode: str) -> RunSummary | None:
    """Give the best trial of the newest study; one that was ended early is none."""
    done = [
        trial
        for trial in found.trials
        if trial.study == found.trials[-1].study
        and trial.state == "finished"
        and metric in trial.metrics
    ]
    return (max if mode == "max" else min)(
        done, key=lambda trial: trial.metrics[metric], default=None
    )


def _package(layout: Layout, found: Found) -> Line:
    if found.package is None:
        return Line(part="package", state="none yet")
    package = found.package
    path = layout.package(package.model, package.number) / SIDE / "metrics.json"
    values = read(path, Metrics).values if path.is_file() else {}
    accuracy = f", test/acc {values['test/acc']:.4f}" if "test/acc" in values else ""
    return Line(
        part="package", state=f"{package.model}/{package.number} of run {package.run}{accuracy}"
    )


def _live(found: Found) -> Line:
    live = found.live
    if live is None or live.live is None:
        return Line(part="live", state="nothing")
    if found.damage:
        state = f"package {live.live} cannot be served: {found.damage}"
        return Line(part="live", state=state, is_well=False)
    canary = f", canary {live.canary} at {live.canary_percent:g} %" if live.canary else ""
    previous = f", before it {live.previous}" if live.previous else ""
    since = f" since {_minute(live.changed)}" if live.changed else ""
    return Line(part="live", state=f"package {live.live}{since}{previous}{canary}")


def _minute(moment: str) -> str:
    """Write an ISO 8601 time to the minute; what is none stays as it is."""
    try:
        return datetime.fromisoformat(moment).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return moment


def _alerts(layout: Layout, found: Found) -> Line:
    count = len(list(layout.alerts.glob("[!.]*.json")))
    if found.alert:
        alert = found.alert.alert
        said = alert.summary.removeprefix(f"{alert.model} version {alert.version}: ")
        first, _, rest = said.partition("; ")
        first = textwrap.shorten(ASIDE.sub("", first), ALERT_WIDTH, placeholder=" ...")
        state = f"{count}, open: {first}{', and more' if rest else ''}"
        return Line(part="alerts", state=state, is_well=False)
    return Line(part="alerts", state=f"{count}, none open" if count else "none")
