"""Start the labeling server: `python -m mlstack.label.worker .mlstack/label-session.json`."""

import sys
from collections.abc import Iterator
from pathlib import Path

from mlstack import files
from mlstack.label import store
from mlstack.label.board import Board, Plan
from mlstack.label.session import Serving, Session
from mlstack.label.worker import listen
from mlstack.label.worker.door import Door
from mlstack.label.worker.http import Desk, build
from mlstack.launch.worker import report
from mlstack.records import base
from mlstack.records.base import Record


def serve(path: Path) -> Iterator[Record]:
    """Serve the page until asked to stop; yields one record once the port listens."""
    session = base.read(path, Session)
    with (
        files.lock(Path(session.lock), "labeling"),
        listen.bound(session.host, session.port) as socket,
        store.Writer(Path(session.events)) as writer,
    ):
        plan = Plan(session.paths, session.known, session.seed, session.overlap)
        board = Board(plan, store.read_events(Path(session.events)))
        door = Door.open(socket, shared=session.shared)
        app = door.guard(build(Desk(session, board, writer)))
        progress = board.progress(session.annotator)
        yield Serving(
            url=door.url,
            total=progress.total,
            remaining=progress.remaining,
            shared=session.shared,
        )
        listen.run(app, socket)


if __name__ == "__main__":
    sys.exit(report(serve(Path(sys.argv[1])), sys.stdout.buffer))
