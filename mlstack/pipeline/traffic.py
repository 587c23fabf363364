"""What has been asked of the project's model, as far as the status screen looks."""

from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from mlstack.pipeline.result import Line
from mlstack.records import requests, server
from mlstack.records.layout import Layout

LOOKED_AT = 50  # newest parts of the log that are opened
MOST_OPEN_BYTES = 8 << 20  # of an open file that is read to count its rows


@dataclass(frozen=True)
class Traffic:
    """How much is logged, and who answers now."""

    rows: int
    is_more: bool  # not everything was counted
    newest: float  # seconds since the epoch
    damaged: str  # a part that cannot be read
    url: str | None  # of the server that runs

    @property
    def is_none(self) -> bool:
        """Tell whether nothing was ever asked."""
        return not (self.rows or self.is_more or self.damaged)

    @property
    def line(self) -> Line:
        """Say it in a line of the screen."""
        if self.damaged:
            state = f"`{self.damaged}` is damaged; move it away"
            return Line(part="requests", state=state, is_well=False)
        if self.is_none:
            return Line(
                part="requests", state=f"none yet; {self.url} waits" if self.url else "none yet"
            )
        when = datetime.fromtimestamp(self.newest, UTC).strftime("%Y-%m-%d %H:%M UTC")
        more = "at least " if self.is_more else ""
        return Line(part="requests", state=f"{more}{self.rows:,} logged, last {when}")


def look(layout: Layout, model: str) -> Traffic:
    """Count the newest parts of the log, and what is not packed into parts yet."""
    parts = requests.parts(layout.requests, model)
    waiting = sorted((layout.requests / requests.WAL).glob("*.arrows"))
    rows, is_more, damaged = 0, len(parts) > LOOKED_AT, ""
    for part in parts[-LOOKED_AT:]:
        try:
            rows += pq.read_metadata(part).num_rows
        except (pa.ArrowInvalid, OSError):
            damaged = str(part.relative_to(layout.root))
    for file in waiting:
        if file.stat().st_size > MOST_OPEN_BYTES:
            is_more = True
        elif (table := requests.read_wal(file)) is not None:
            rows += table.num_rows
    running = server.running(layout.state)
    return Traffic(
        rows=rows,
        is_more=is_more,
        newest=max((path.stat().st_mtime for path in (*parts[-1:], *waiting)), default=0.0),
        damaged=damaged,
        url=running.url if running else None,
    )
