"""Output: rich on a terminal, plain text in a pipe, one JSON object on request.

Results go to stdout, everything else to stderr.
"""

import enum
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from mlstack.errors import Mistake, MlstackError
from mlstack.printable import harmless
from mlstack.records.base import Notice, Record, Result, closed

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.progress import Progress, ProgressColumn


NAMED = 20  # mistakes of one sort that are named


class Mode(enum.Enum):
    """How a command answers."""

    TEXT = "text"
    JSON = "json"
    QUIET = "quiet"


@dataclass(frozen=True)
class Bar:
    """What a view returns to move the progress bar; nothing is printed in a pipe."""

    text: str
    done: float
    total: float | None = None
    unit: str = ""  # "bytes": sizes and a rate; another: a rate of so many a second


@dataclass(frozen=True)
class Line:
    """What a view returns for a line of progress that a narrow terminal shows shorter."""

    whole: str
    short: str


Draw = Callable[[Any], "RenderableType | Bar | Line | None"]


def console(*, stderr: bool = False) -> "Console":
    """Open a console that respects pipes, NO_COLOR (which wins) and TERM=dumb."""
    from rich.console import Console  # noqa: PLC0415  an error needs no rich

    plain = bool(os.environ.get("NO_COLOR"))
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else 100
    return Console(
        file=stream,
        no_color=plain,
        force_terminal=False if plain and not stream.isatty() else None,
        highlight=False,
        emoji=False,  # `:cat:` may be a class
        soft_wrap=not stream.isatty(),
        width=width,
    )


def is_terminal() -> bool:
    """Tell whether a person can be asked a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def waits(asked: bool | None) -> bool:
    """Tell whether a command waits for what is in use; unasked, only where a person sees it."""
    return is_terminal() if asked is None else asked


def show(results: Iterator[Record], draw: Draw, mode: Mode) -> int:
    """Show records as they come; return the exit code of the last result.

    A `Result` is what the command was called for: it goes to stdout. Every other record is
    progress: it goes to stderr, and only in text mode, unless it is a `Notice`.
    """
    final: Result | None = None
    progress = _Progress(draw, enabled=mode is Mode.TEXT)
    with progress, closed(results):
        for record in results:
            if isinstance(record, Result):
                final = record
                if mode is Mode.TEXT:
                    progress.pause()
                    _print_result(draw(record))
            else:
                progress.show(record)
    if final is None:
        return 0
    if mode is Mode.JSON:
        _print_json({"v": 1, "ok": True, **msgspec.to_builtins(final)})
    if mode is Mode.QUIET and (line := final.headline()):
        _write(line)
    return final.exit_code()


def show_error(error: MlstackError, mode: Mode) -> None:
    """Say what is wrong, where, and what to type."""
    if mode is Mode.JSON:
        body: dict[str, Any] = {
            "code": error.exit_code,
            "problem": error.problem,
            "hint": error.hint,
            "where": error.where,
        }
        for key, is_note in (("errors", False), ("notes", True)):
            told = [m for m in error.mistakes if m.is_note is is_note]
            if told:
                body[key] = [
                    {"where": m.where, "key": m.key, "problem": m.problem, "hint": m.hint}
                    for m in told
                ]
        _print_json({"v": 1, "ok": False, "error": body})
        return
    lines: list[str] = []
    for mistake in _shortened(error.mistakes):
        word = "note" if mistake.is_note else "error"
        lines.append(f"{word}: {mistake.problem}" + (f"; {mistake.hint}" if mistake.hint else ""))
        lines.extend([f"  --> {mistake.where}"] if mistake.where else [])
        lines.extend([mistake.excerpt] if mistake.excerpt else [])
    lines.append(error.problem if error.mistakes else f"error: {error.problem}")
    if error.where and error.where not in error.problem:
        lines.append(f"  --> {error.where}")
    if error.hint:
        lines.append(f"  hint: {error.hint}")
    # Written plainly: a config error need not wait for rich.
    sys.stderr.write(harmless("\n".join(lines)) + "\n")


def _shortened(mistakes: tuple[Mistake, ...]) -> Iterator[Mistake]:
    """Name the first of each sort and count the rest; `--json` has them all."""
    counts = Counter(mistake.key for mistake in mistakes if mistake.key)
    told: Counter[str] = Counter()
    for mistake in mistakes:
        told[mistake.key] += 1
        if not mistake.key or told[mistake.key] <= NAMED:
            yield mistake
        elif told[mistake.key] == counts[mistake.key]:
            more = counts[mistake.key] - NAMED
            yield Mistake(f"... and {more} more like this", is_note=mistake.is_note)


def show_mode(arguments: list[str]) -> Mode:
    """Tell the mode from raw arguments, for errors met before they are parsed."""
    if "--json" in arguments:
        return Mode.JSON
    return Mode.QUIET if "--quiet" in arguments else Mode.TEXT


@dataclass(frozen=True)
class Harmless:
    """What a view drew, without anything in its texts that a terminal would obey."""

    drawn: "RenderableType"

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        """Pass on the pieces that rich makes of it; those that are commands are rich's own."""
        from rich.segment import Segment  # noqa: PLC0415  plain text needs no rich
        from rich.text import Text  # noqa: PLC0415

        drawn = Text(self.drawn) if isinstance(self.drawn, str) else self.drawn
        for piece in console.render(drawn, options):
            yield piece if piece.control else Segment(harmless(piece.text), piece.style)


class _Progress:
    """Progress on stderr: a bar on a terminal, whole lines everywhere else."""

    def __init__(self, draw: Draw, *, enabled: bool) -> None:
        self._draw = draw
        self._enabled = enabled
        self._console: Console | None = None  # opened by the first progress: rich takes its time
        self._bars: Progress | None = None
        self._task: Any = None

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()

    def show(self, record: Record) -> None:
        if not self._enabled and not isinstance(record, Notice):
            return
        drawn = self._draw(record)
        if not sys.stderr.isatty() and (drawn is None or isinstance(drawn, str | Bar | Line)):
            _note(drawn)
            return
        self._console = target = self._console or console(stderr=True)
        if isinstance(drawn, Line):
            drawn = drawn.whole if len(drawn.whole) <= target.width else drawn.short
        if isinstance(drawn, Bar):
            self._move(target, drawn)
        elif drawn is not None:
            (self._bars.console if self._bars else target).print(Harmless(drawn), markup=False)

    def pause(self) -> None:
        """Take the bar off the screen, so that what follows starts on a clean line."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _move(self, target: "Console", bar: Bar) -> None:
        if not target.is_terminal or target.is_dumb_terminal:
            return
        from rich import progress  # noqa: PLC0415  only a terminal has bars

        text = harmless(bar.text)
        if self._bars is None:
            amount: list[progress.ProgressColumn] = (
                [progress.DownloadColumn(), progress.TransferSpeedColumn()]
                if bar.unit == "bytes"
                else [progress.MofNCompleteColumn(), *_rate(bar.unit)]
            )
            self._bars = progress.Progress(
                progress.TextColumn("{task.description}", markup=False),
                progress.BarColumn(),
                *amount,
                progress.TimeRemainingColumn(),
                console=target,
                transient=True,
            )
            self._bars.start()
            self._task = self._bars.add_task(text, total=bar.total)
        self._bars.update(self._task, description=text, completed=bar.done, total=bar.total)


def _note(drawn: "str | Bar | Line | None") -> None:
    """Write a line of progress where no terminal is; bars are for terminals."""
    drawn = drawn.whole if isinstance(drawn, Line) else drawn
    if isinstance(drawn, str):
        sys.stderr.write(harmless(drawn) + "\n")
        sys.stderr.flush()


def _rate(unit: str) -> "list[ProgressColumn]":
    """Give the column that says how many go by in a second, where they have a name."""
    from rich.progress import ProgressColumn, Task  # noqa: PLC0415  only a terminal has bars
    from rich.text import Text  # noqa: PLC0415

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f} {unit}/s" if task.speed else "")

    return [Rate()] if unit else []


def _print_result(drawn: "RenderableType | Bar | Line | None") -> None:
    if isinstance(drawn, str) and _fits(drawn):
        _write(harmless(drawn))
    elif drawn is not None and not isinstance(drawn, Bar | Line):
        console().print(Harmless(drawn), markup=False)


def _fits(text: str) -> bool:
    """Tell whether no line needs to be broken between words, which rich is loaded for."""
    if not sys.stdout.isatty():
        return True
    width = os.get_terminal_size(sys.stdout.fileno()).columns
    return all(len(line) <= width for line in text.splitlines())


def _print_json(body: dict[str, Any]) -> None:
    try:
        text = msgspec.json.encode(body).decode()
    except UnicodeEncodeError:  # the name of a file that is no text
        import json  # noqa: PLC0415  nobody else needs it here

        text = json.dumps(body)
    _write(text)


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
