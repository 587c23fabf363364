"""The steps of `mlstack label` and its subcommands."""

import getpass
import sys
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mlstack import files
from mlstack.call import Call
from mlstack.config import Project, load
from mlstack.errors import BusyError, ConfigError, DataError, Interrupted, Mistake
from mlstack.label import formats, items, quality, repair, store, table
from mlstack.label.formats import Row
from mlstack.label.items import Items
from mlstack.label.names import Format
from mlstack.label.opinions import ledger
from mlstack.label.quality import MIN_SHARED
from mlstack.label.results import (
    LabelingEnded,
    LabelsChecked,
    LabelsExported,
    LabelsImported,
    LabelsRebuilt,
    LabelStats,
)
from mlstack.label.session import (
    ADDRESS,
    IMPORTER,
    MAX_NAME,
    ClassKeys,
    Serving,
    Session,
    is_person,
)
from mlstack.label.table import Target as Target
from mlstack.launch.worker import run_worker
from mlstack.records import base
from mlstack.records.base import Record
from mlstack.records.labels import LabelEvent
from mlstack.records.layout import Layout

SHOWN = 20
SHOWN_CHARS = 200  # of a path: Prodigy may write the picture itself


@dataclass(frozen=True)
class Address:
    """Where the page is served and to whom."""

    host: str
    port: int
    shared: bool
    annotator: str


def label(call: Call, address: Address, *, browser: bool) -> Iterator[Record]:
    """Serve the labeling page until Ctrl-C.

    Raises:
        ConfigError: the classes are unknown, or the address would be open to strangers.
        MachineError: the port is taken or the events cannot be written.
        BusyError: another server labels this project; its address is named.
        Interrupted: stopped by SIGTERM; what was answered is saved.
    """
    project = load(call.config, sets=call.sets)
    if address.host not in ("127.0.0.1", "localhost", "::1") and not address.shared:
        raise ConfigError(
            f"--host: {address.host} can be reached by others",
            hint="add --share; it makes a link with a token",
        )
    if not is_person(address.annotator):
        raise ConfigError(
            f"--annotator: `{address.annotator}` is no name of a person",
            hint=f"give 1 to {MAX_NAME} letters, not `{IMPORTER}`",
        )
    _known_queue(project)
    layout = Layout(project.root)
    found = items.find(project)
    base.write(layout.label_session, _session(project, found, address))
    before = len(store.read_events(layout.labels_db))
    said: Callable[[bytes], Record] = msgspec.json.Decoder(Serving).decode
    worker = run_worker(
        "mlstack.label.worker", [str(layout.label_session)], said, layout.state / "label.log"
    )
    try:
        with _address_told(layout):
            for record in worker:
                if isinstance(record, Serving):
                    _tell_address(layout, record)
                yield record
                if browser and isinstance(record, Serving) and sys.stderr.isatty():
                    webbrowser.open(record.url)
    except KeyboardInterrupt:
        del worker  # ends the server, which first writes what it has accepted
    except Interrupted as error:
        del worker
        ended = _ended(layout, found, before)
        answers = "1 answer" if ended.events == 1 else f"{ended.events} answers"
        raise Interrupted(
            f"{error.problem}; {answers} saved",
            hint="`mlstack label` goes on",
            exit_code=error.exit_code,
        ) from None
    yield _ended(layout, found, before)


def _ended(layout: Layout, found: Items, before: int) -> LabelingEnded:
    events = store.read_events(layout.labels_db)
    labels = quality.stats(events, found.scope)
    return LabelingEnded(events=len(events) - before, labeled=labels.labeled, total=labels.total)


def export(call: Call, target: Target) -> LabelsExported:
    """Write the labels that count: by default into labels.parquet, which `train` reads.

    Raises:
        DataError: there is no label yet, or a file is damaged.
    """
    project = load(call.config, sets=call.sets)
    found = items.find(project)
    kept = ledger(store.read_events(Layout(project.root).labels_db))
    return table.export(project, found, kept, target)


def check(call: Call) -> LabelsChecked:
    """Refuse labels outside the classes, without a file, or that annotators dispute.

    Raises:
        DataError: something is wrong; everything is named.
    """
    project = load(call.config, sets=call.sets)
    found = items.find(project)
    events = store.read_events(Layout(project.root).labels_db)
    kept, scope = ledger(events), found.scope
    wrong = quality.problems(kept, scope, project.config.label.min_agreement)
    if wrong:
        _refuse(
            wrong,
            "found wrong",
            "correct them by `mlstack label import FILE.csv` (path,label), or in data.classes",
        )
    counted = quality.stats(events, scope)
    return LabelsChecked(
        labeled=counted.labeled,
        total=counted.total,
        classes=counted.classes,
        agreement=[pair for pair in counted.agreement if pair.shared >= MIN_SHARED],
        not_judged=[pair for pair in counted.agreement if pair.shared < MIN_SHARED],
    )


def stats(call: Call) -> LabelStats:
    """Count labels by class, annotator and pair of annotators."""
    project = load(call.config, sets=call.sets)
    events = store.read_events(Layout(project.root).labels_db)
    return quality.stats(events, items.find(project).scope)


def import_file(call: Call, file: Path, *, skip_invalid: bool) -> LabelsImported:
    """Take labels from a file over as events of the annotator `import`, all or none.

    Of the data folder, or a folder in it, images without a label get the name of their folder.

    Raises:
        DataError: a row names no image or no class, unless `skip_invalid`.
        ConfigError: the folder is not part of the data.
        BusyError: a labeling server is running.
    """
    project = load(call.config, sets=call.sets)
    layout, found = Layout(project.root), items.find(project)
    if file.is_dir():
        kind, rows = Format.CSV, _by_folder(file, found, store.read_events(layout.labels_db))
    else:
        kind, rows = formats.read(file)
    accepted, refused = _sort_out(rows, found)
    if refused and not skip_invalid:
        hint = "nothing was imported; correct them, or add --skip-invalid"
        _refuse(refused, "refused", hint + _new_classes(rows, found.classes))
    with _only_writer(layout):
        kept = ledger(store.read_events(layout.labels_db))
        fresh = {p: c for p, c in accepted.items() if kept.current(p).get(IMPORTER) != c}
        drafts = [store.Draft(IMPORTER, path, "label", name) for path, name in fresh.items()]
        imported = store.append(layout.labels_db, drafts)
    return LabelsImported(
        file=str(file),
        format="folder" if file.is_dir() else kind.value,
        imported=imported,
        unchanged=len(accepted) - imported,
        refused=[mistake.problem for mistake in refused],
    )


def rebuild(call: Call, *, from_events: bool) -> LabelsRebuilt:
    """Check every page of labels.db, save what a damaged one still holds, then export.

    The damaged file is kept beside. labels.parquet is merged as by `label export`; with
    `from_events` it is written from the events alone, and rows that no event knows are dropped.

    Raises:
        DataError: nothing of the damaged file can be read.
        BusyError: a labeling server is running.
    """
    project = load(call.config, sets=call.sets)
    layout = Layout(project.root)
    if not layout.labels_db.is_file():
        raise DataError("nothing was labeled here yet", hint="type `mlstack label`")
    with _only_writer(layout):
        damage = store.damage(layout.labels_db)
        kept_as = repair.repair(layout) if damage else ""
        events = store.read_events(layout.labels_db)
    found = items.find(project)
    kept = ledger(events)
    alone = Items(found.source, found.paths, found.classes, {}) if from_events else found
    has_labels = bool(quality.verdicts(kept, alone.scope))
    return LabelsRebuilt(
        events=len(events),
        damage=damage,
        kept_as=kept_as,
        missing=(events[-1].seq - len(events)) if events else 0,
        exported=table.export(project, alone, kept, Target(Format.PARQUET)) if has_labels else None,
    )


def default_annotator() -> str:
    """Give the name of the user of this machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "me"


def _known_queue(project: Project) -> None:
    queue = project.config.label.queue
    if queue != "random":
        raise ConfigError(
            f"label.queue: `{queue}` needs a model's predictions, which labeling cannot use yet",
            hint="write `queue: random` under label in mlstack.yaml",
        )


def _session(project: Project, found: Items, address: Address) -> Session:
    config, layout = project.config, Layout(project.root)
    return Session(
        project=config.project.name,
        source=str(found.source),
        events=str(layout.labels_db),
        lock=str(layout.label_lock),
        annotator=address.annotator,
        host="0.0.0.0" if address.shared and address.host == "127.0.0.1" else address.host,
        port=address.port,
        shared=address.shared,
        seed=config.project.seed,
        overlap=config.label.overlap,
        classes=[
            ClassKeys(name=name, keys=keys)
            for name, keys in zip(found.classes, items.keys(found.classes), strict=True)
        ],
        paths=found.paths,
        known=found.known,
    )


def _by_folder(folder: Path, found: Items, events: list[LabelEvent]) -> list[Row]:
    """Give each image below a folder of the data that nobody labeled the name of its class folder.

    Labels that are there stay as they are: someone may have corrected them.
    """
    source, chosen = found.source.resolve(), folder.resolve()
    if not chosen.is_relative_to(source):
        raise ConfigError(
            f"`{folder}` is not in the data folder",
            hint=f"copy its images into folders of `{found.source}`, one per class, first",
        )
    kept = ledger(events)
    return [
        Row(path, path, path.split("/")[0])
        for path in found.paths
        if "/" in path
        and (source / path).is_relative_to(chosen)
        and path not in found.known
        and not kept.current(path)
    ]


def _sort_out(rows: list[Row], found: Items) -> tuple[dict[str, str], list[Mistake]]:
    there, classes = set(found.paths), set(found.classes)
    accepted: dict[str, str] = {}
    refused: list[Mistake] = []
    for row in rows:
        own = (row.path, row.path.strip())
        names = formats.candidates(row.path) if row.is_foreign else own
        path = next((name for name in names if name in there), None)
        if path is None:
            refused.append(Mistake(f"{row.where}: there is no image `{row.path[:SHOWN_CHARS]}`"))
        elif row.label not in classes:
            refused.append(Mistake(f"{row.where}: `{row.label}` is not in data.classes"))
        elif accepted.get(path, row.label) != row.label:
            refused.append(
                Mistake(
                    f"{row.where}: `{path}` is `{accepted[path]}` before, and `{row.label}` here"
                )
            )
        else:
            accepted[path] = row.label
    return accepted, refused


def _new_classes(rows: list[Row], classes: list[str]) -> str:
    """Say how classes that nobody gave so far become known; nothing where there are none."""
    new = sorted({row.label for row in rows if row.label} - set(classes))
    if not new or len(new) > SHOWN:
        return ""
    listed = msgspec.json.encode([*classes, *new]).decode()
    return f"; if the classes are right, write `classes: {listed}` under data in mlstack.yaml"


def _refuse(mistakes: list[Mistake], verb: str, hint: str) -> None:
    noun = "label" if len(mistakes) == 1 else "labels"
    more = f"; the first {SHOWN} are shown" if len(mistakes) > SHOWN else ""
    raise DataError(
        f"{len(mistakes)} {noun} {verb}{more}", hint=hint, mistakes=tuple(mistakes[:SHOWN])
    )


@contextmanager
def _only_writer(layout: Layout) -> Iterator[None]:
    with _busy_where(layout), files.lock(layout.label_lock, "labeling"):
        yield


def _tell_address(layout: Layout, serving: Serving) -> None:
    """Note where this server labels, for others that want to; a token is not written down."""
    plain = serving.url.partition("?")[0]
    base.write(layout.state / ADDRESS, msgspec.structs.replace(serving, url=plain))


@contextmanager
def _address_told(layout: Layout) -> Iterator[None]:
    """Forget the address at the end, unless it is that of the server that keeps us out."""
    with _busy_where(layout):
        try:
            yield
        except BusyError:
            raise
        except BaseException:
            (layout.state / ADDRESS).unlink(missing_ok=True)
            raise
    (layout.state / ADDRESS).unlink(missing_ok=True)


@contextmanager
def _busy_where(layout: Layout) -> Iterator[None]:
    """Name the address of the server that keeps us out, where it is known."""
    try:
        yield
    except BusyError as error:
        place = layout.state / ADDRESS
        if not place.is_file():
            raise
        url = base.read(place, Serving).url
        hint = "label there, or end it with Ctrl-C first"
        raise BusyError(f"{error.problem} at {url}", hint=hint, where=error.where) from error
