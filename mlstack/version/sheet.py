"""The contact sheet of a diff: one HTML file with every picture inside, for light and dark."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from importlib.resources import files as package_files
from pathlib import Path

from mlstack import files
from mlstack.errors import DataError
from mlstack.inputs import images
from mlstack.plurals import counted
from mlstack.printable import printable
from mlstack.version.content import Content
from mlstack.version.difference import ClassChange, Difference, RowChange, TableChange
from mlstack.version.words import apart, size

EACH = 24  # pictures of a section
SIDE_PX = 128
SMALL_PX = 64  # smaller pictures are drawn with hard pixels
CLASSES = 40
COLUMNS = 20
WIDTH = 80  # characters of a value


@dataclass(frozen=True)
class _Card:
    """A picture with its caption; two pictures where it changed."""

    path: str
    before: str = ""  # path in the version before, or none
    after: str = ""
    note: str = ""  # HTML


def write(place: Path, found: Difference, before: Content, after: Content) -> None:
    """Draw a difference, atomically."""
    files.write_text(place, render(found, before, after))


def render(found: Difference, before: Content, after: Content) -> str:
    """Make the page."""
    style = package_files("mlstack.version").joinpath("sheet.css").read_text("utf-8")
    title = f"{found.dataset}: {found.before} to {found.after}"
    sections = [_head(found), _tiles(found), _classes(found.classes)]
    cards = _cards(found, _labels(before), _labels(after))
    sections += [_pictures(name, some, before, after) for name, some in cards]
    sections += [_table(table) for table in found.tables]
    if not any(sections[3:]):
        sections.append('<p class="soft">No difference.</p>')
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_safe(title)}</title><style>{style}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def _head(found: Difference) -> str:
    return (
        f"<h1>{_safe(found.dataset)}</h1>"
        f'<p class="soft"><b>{_safe(found.before)}</b> &rarr; <b>{_safe(found.after)}</b>'
        f"{_bytes(found)}</p>"
    )


def _bytes(found: Difference) -> str:
    if found.bytes_added is None or found.bytes_removed is None:
        return ""
    return f" &middot; +{size(found.bytes_added)} &minus;{size(found.bytes_removed)}"


def _tiles(found: Difference) -> str:
    rows = sum(table.rows_changed for table in found.tables)
    counts = [
        ("added", len(found.added), ""),
        ("removed", len(found.removed), ""),
        ("changed", len(found.changed), counted(rows, "row") if rows else ""),
        ("renamed", len(found.renamed), ""),
        ("relabelled", found.relabelled_count, ""),
    ]
    tiles = "".join(
        f'<div class="tile {name}"><b>{count:,}</b><span>{name}</span><i>{note}</i></div>'
        for name, count, note in counts
    )
    return f'<div class="tiles">{tiles}</div>'


def _classes(classes: list[ClassChange]) -> str:
    """Draw two bars for each class, those that moved most first."""
    if not classes:
        return ""
    most = max(max(one.before, one.after) for one in classes) or 1
    ordered = sorted(classes, key=lambda one: (not one.flag, -abs(one.delta), one.name))
    rows = "".join(_class_row(one, most) for one in ordered[:CLASSES])
    more = len(ordered) - CLASSES
    rest = f'<p class="soft">and {more} classes more</p>' if more > 0 else ""
    legend = '<p class="legend"><i class="old"></i>before <i class="new"></i>after</p>'
    return f'<section><h2>Classes</h2>{legend}<table class="bars">{rows}</table>{rest}</section>'


def _class_row(one: ClassChange, most: int) -> str:
    share = f" ({one.delta / one.before:+.1%})" if one.before and one.delta else ""
    flag = f'<span class="flag {one.flag}">{one.flag}</span>' if one.flag else ""
    still = "" if one.delta else ' class="still"'
    return (
        f"<tr{still}><th>{_safe(one.name)} {flag}</th>"
        f'<td class="bar"><div class="old" style="width:{one.before / most:.2%}"></div>'
        f'<div class="new" style="width:{one.after / most:.2%}"></div></td>'
        f'<td class="count">{one.before:,} &rarr; {one.after:,}</td>'
        f'<td class="count">{one.delta:+,}{share}</td></tr>'
    )


def _labels(side: Content) -> dict[str, str]:
    """Give the label of each picture; the rows of a table have none."""
    return {} if side.label is not None else side.labels()


def _cards(
    found: Difference, before: dict[str, str], after: dict[str, str]
) -> Iterator[tuple[str, list[_Card]]]:
    moved = {one.after: one.before for one in found.renamed}
    relabelled = [
        _Card(
            one.path,
            after=one.path,
            note=f"{_chip(one.before)} &rarr; {_chip(one.after)}"
            + (f"<br>was {_safe(moved[one.path])}" if one.path in moved else ""),
        )
        for one in found.relabelled
    ]
    told = {one.path for one in found.relabelled}
    renamed = [
        _Card(new, after=new, note=f"was {_safe(old)}")
        for new, old in moved.items()
        if new not in told
    ]
    yield "Changed", [_Card(path, before=path, after=path) for path in found.changed]
    yield "Relabelled", relabelled
    yield (
        "Added",
        [
            _Card(path, after=path, note=_chip(after[path]) if path in after else "")
            for path in found.added
        ],
    )
    yield (
        "Removed",
        [
            _Card(path, before=path, note=_chip(before[path]) if path in before else "")
            for path in found.removed
        ],
    )
    yield "Renamed", renamed


def _chip(label: str | None) -> str:
    text = _safe(label or "(none)")
    return f'<span class="chip" title="{text}">{text}</span>'


def _pictures(name: str, cards: list[_Card], before: Content, after: Content) -> str:
    suffixes = tuple(images.SUFFIXES)
    drawn = [card for card in cards if card.path.lower().endswith(suffixes)]
    if not drawn:
        return ""
    more = len(drawn) - EACH
    rest = f' <span class="soft">the first {EACH} of {len(drawn):,}</span>' if more > 0 else ""
    figures = "".join(_figure(card, before, after) for card in drawn[:EACH])
    return f'<section><h2>{name}{rest}</h2><div class="sheet">{figures}</div></section>'


def _figure(card: _Card, before: Content, after: Content) -> str:
    pictures = [_picture(before, card.before)] if card.before else []
    pictures += [_picture(after, card.after)] if card.after else []
    arrow = '<span class="arrow">&rarr;</span>'
    note = f"<div>{card.note}</div>" if card.note else ""
    kind = " pair" if len(pictures) > 1 else ""
    return (
        f'<figure class="card{kind}"><div class="pictures">{arrow.join(pictures)}</div>'
        f'<figcaption title="{_safe(card.path)}">{note}<code>{_safe(card.path)}</code>'
        "</figcaption></figure>"
    )


def _picture(side: Content, path: str) -> str:
    try:
        content = side.locate(path).read_bytes()
    except OSError:
        return '<div class="none">not in the cache</div>'
    try:
        picture = images.thumbnail(content, SIDE_PX)
    except DataError as error:
        return f'<div class="none">{_safe(error.problem)}</div>'
    hard = ' class="hard"' if max(picture.size) < SMALL_PX else ""
    kind = "png" if hard else "jpeg"
    stream = io.BytesIO()
    picture.save(stream, kind, quality=82)
    coded = base64.b64encode(stream.getvalue()).decode("ascii")
    return f'<img{hard} src="data:image/{kind};base64,{coded}" alt="{_safe(path)}">'


def _table(table: TableChange) -> str:
    head = f"<h2><code>{_safe(table.path)}</code></h2>"
    if table.problem:
        return f'<section>{head}<p class="bad">{_safe(table.problem)}</p></section>'
    how = f"rows by {', '.join(map(_safe, table.key))}" if table.key else "rows as wholes"
    said = (
        f"{how}: {table.rows_added:,} added, {table.rows_removed:,} removed, "
        f"{table.rows_changed:,} changed ({table.rows_before:,} &rarr; {table.rows_after:,})"
    )
    schema = [f"+ {_safe(name)} {_safe(kind)}" for name, kind in table.columns_added.items()]
    schema += [f"- {_safe(name)} {_safe(kind)}" for name, kind in table.columns_removed.items()]
    schema += [
        f"{_safe(one.name)}: {_safe(one.before)} &rarr; {_safe(one.after)}"
        for one in table.columns_retyped
    ]
    items = "".join(f"<li>{line}</li>" for line in [*schema, *map(_safe, table.notes)])
    counted = "".join(
        f"<tr><th>{_safe(name)}</th><td>{count:,}</td></tr>"
        for name, count in list(table.cells_changed.items())[:COLUMNS]
    )
    columns = f"<h3>Changed values by column</h3><table>{counted}</table>" if counted else ""
    return f"<section>{head}<p>{said}</p><ul>{items}</ul>{columns}{_rows(table.rows)}</section>"


def _rows(rows: list[RowChange]) -> str:
    if not rows:
        return ""
    lines = "".join(
        f"<tr><th>{_safe(', '.join(row.key))}</th><td>{_safe(cell.column)}</td>"
        f"<td><del>{_safe(before)}</del></td><td>&rarr; <ins>{_safe(after)}</ins></td></tr>"
        for row in rows
        for cell in row.cells
        for before, after in [apart(cell.before, cell.after, WIDTH)]
    )
    return f'<h3>The first changed rows</h3><div class="wide"><table>{lines}</table></div>'


def _safe(text: str) -> str:
    return escape(printable(text))
