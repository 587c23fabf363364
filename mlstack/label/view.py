"""What a person reads of labeling."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mlstack.label.results import (
    LabelingEnded,
    LabelsChecked,
    LabelsExported,
    LabelsImported,
    LabelsRebuilt,
    LabelStats,
    PairAgreement,
)
from mlstack.label.session import Serving
from mlstack.plurals import counted
from mlstack.printable import printable
from mlstack.records.base import Record
from mlstack.ui import Bar

SHOWN = 10
CLASSES = 30


def draw(record: Record) -> RenderableType | Bar | None:
    """Draw any record of the room."""
    match record:
        case Serving():
            return _serving(record)
        case LabelingEnded():
            return _ended(record)
        case LabelsExported():
            return _exported(record)
        case LabelsImported():
            return _imported(record)
        case LabelsChecked():
            return _checked(record)
        case LabelStats():
            return _stats(record)
        case LabelsRebuilt():
            return _rebuilt(record)
    return None


def _serving(serving: Serving) -> str:
    who = "whoever has this link can label" if serving.shared else "only this machine can open it"
    return (
        f"labeling at {serving.url}\n"
        f"{serving.remaining} of {counted(serving.total, 'image')} left; {who}; Ctrl-C ends it"
    )


def _ended(ended: LabelingEnded) -> str:
    saved = f"{counted(ended.events, 'answer')} saved"
    following = "\nnext: mlstack label export" if ended.events else ""
    total = counted(ended.total, "image is", "images are")
    return f"{saved}; {ended.labeled} of {total} labeled{following}"


def _exported(exported: LabelsExported) -> str:
    lines = [
        f"wrote {exported.file}: {counted(exported.rows, 'label')}, {exported.new} new, "
        f"{exported.changed} changed, {exported.withdrawn} withdrawn",
        _classes(exported.classes),
    ]
    if exported.tied:
        lines.append(f"left out, annotators are divided: {_some(exported.tied)}")
    if exported.left_out:
        lines.append(f"left out, no such image or class: {_some(exported.left_out)}")
    if exported.gone:
        kept = counted(exported.gone, "label is", "labels are")
        lines.append(f"{kept} of files that are gone; --drop-missing leaves them out")
    if exported.format == "parquet":
        lines.append("next: mlstack version snapshot -m MESSAGE")
    return "\n".join(lines)


def _imported(imported: LabelsImported) -> str:
    lines = [
        f"imported {counted(imported.imported, 'label')} from {imported.file}"
        + (f"; {imported.unchanged} were there already" if imported.unchanged else "")
    ]
    lines += [f"refused: {problem}" for problem in imported.refused[:SHOWN]]
    if len(imported.refused) > SHOWN:
        lines.append(f"refused: {len(imported.refused) - SHOWN} more")
    return "\n".join([*lines, "next: mlstack label export"])


def _checked(checked: LabelsChecked) -> str:
    lines = [
        f"ok: {checked.labeled} of {counted(checked.total, 'image')} labeled",
        _classes(checked.classes),
    ]
    none = [name for name, count in checked.classes.items() if not count]
    lines += [f"no label of class {_some(none)}"] if none else []
    lines += [_pair(pair) for pair in checked.agreement]
    lines += [f"{_pair(pair)} (too few to judge)" for pair in checked.not_judged]
    return "\n".join(lines)


def _stats(stats: LabelStats) -> RenderableType:
    table = Table(
        box=None,
        pad_edge=False,
        caption="\n".join(_pair(pair) for pair in stats.agreement) or None,
        caption_justify="left",
        caption_style="",
    )
    table.add_column("class")
    table.add_column("labels", justify="right")
    for annotator in stats.annotators:
        table.add_column(annotator.name, justify="right")
    for name, count in stats.classes.items():
        own = [str(a.classes.get(name, 0)) for a in stats.annotators]
        table.add_row(printable(name), str(count), *own)
    if stats.annotators:
        table.add_section()
        table.add_row("all", str(sum(stats.classes.values())), *_column(stats, "labels"))
        table.add_row("skipped", "", *_column(stats, "skipped"))
        table.add_row("undone", "", *_column(stats, "undone"))
        table.add_row("seconds each", "", *_column(stats, "median_seconds"))
    title = f"{stats.labeled} of {counted(stats.total, 'image')} labeled"
    return Group(Text(title, style="bold"), table)


def _column(stats: LabelStats, name: str) -> list[str]:
    values = [getattr(annotator, name) for annotator in stats.annotators]
    return ["-" if value is None else str(value) for value in values]


def _rebuilt(rebuilt: LabelsRebuilt) -> str:
    if rebuilt.damage:
        lines = [
            f"labels.db was damaged: {rebuilt.damage}",
            f"saved {counted(rebuilt.events, 'event')}; {rebuilt.missing} lost; "
            f"the damaged file is {rebuilt.kept_as}",
        ]
    else:
        lines = [f"labels.db is whole: {counted(rebuilt.events, 'event')}"]
    return "\n".join(lines + ([_exported(rebuilt.exported)] if rebuilt.exported else []))


def _pair(pair: PairAgreement) -> str:
    return (
        f"{pair.first} and {pair.second}: kappa {pair.kappa:.2f}, "
        f"{pair.agreement:.0%} equal on {counted(pair.shared, 'image')}"
    )


def _classes(classes: dict[str, int]) -> str:
    more = len(classes) - CLASSES
    shown = [f"{printable(name)}: {count}" for name, count in classes.items()][:CLASSES]
    return "  ".join([*shown, *([f"and {counted(more, 'class', 'classes')} more"] * (more > 0))])


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(printable, names[:SHOWN])) + more
