"""Copies of runs below a URL: whole folders, so that another machine can go on with them.

`URL/RUN/` holds the files of `.mlstack/runs/RUN/` under their names, without those that mean
something on one machine only. A checkpoint is there before the events that speak of it.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from mlstack import files
from mlstack.errors import BusyError, ConfigError, DataError, MachineError, MlstackError
from mlstack.records.run import CHECKPOINTS, EVENTS, SPEC, RunEvent, decode_events
from mlstack.records.worker import WorkerProgress

HERE_ONLY = ("lock", "submitting", "heartbeat-", "mirrors/", ".")  # how such names begin
WHOLE_OR_NOT = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "memory", "http", "https")
EXTRAS = {"s3": "mlstack[s3]", "gs": "gcsfs", "abfs": "adlfs", "az": "adlfs", "sftp": "paramiko"}


class Copies:
    """The runs below a URL that fsspec knows, or below a folder.

    Raises:
        ConfigError: nobody knows such a URL.
        MachineError: a package that speaks to it is not installed.
    """

    def __init__(self, url: str, root: Path) -> None:
        self.url = url.rstrip("/")
        scheme = url.partition("://")[0] if "://" in url else ""
        try:
            self._client, self._root = fsspec.core.url_to_fs(url if scheme else str(root / url))
        except ImportError as error:
            package = EXTRAS.get(scheme, f"fsspec[{scheme}]")
            raise MachineError(
                f"track.copy_to: a package for `{scheme}://` is not installed",
                hint=f"type `pip install '{package}'`",
            ) from error
        except ValueError as error:
            raise ConfigError(
                f"track.copy_to: `{url}` cannot be opened: {error}",
                hint="name a folder, or a URL such as s3://BUCKET/FOLDER",
            ) from error
        self._is_whole = scheme in WHOLE_OR_NOT

    def runs(self) -> list[str]:
        """List the ids of the runs that are there, oldest first."""
        with self._told():
            self._client.invalidate_cache()
            if not self._client.exists(self._root):
                return []
            found = self._client.glob(f"{self._root}/*/{SPEC}")
        return sorted(path.split("/")[-2] for path in found)

    def last_event(self, run: str) -> RunEvent | None:
        """Read what a run said last; None when it has not said anything yet.

        Raises:
            DataError: its events are damaged.
        """
        path = f"{self._root}/{run}/{EVENTS}"
        with self._told():
            content = self._client.cat_file(path) if self._client.exists(path) else b""
        events = list(decode_events(content, where=f"{self.url}/{run}/{EVENTS}"))
        return events[-1] if events else None

    def put(self, run: str, name: str, content: Path | bytes) -> None:
        """Copy one file of a run; half of it is never seen under its name."""
        target = f"{self._root}/{run}/{name}"
        written = target if self._is_whole else f"{target}.tmp"
        with self._told():
            if not self._is_whole:  # of an object store it would make a bucket
                self._client.makedirs(target.rpartition("/")[0], exist_ok=True)
            if isinstance(content, bytes):
                self._client.pipe_file(written, content)
            else:
                self._client.put_file(str(content), written)
            if not self._is_whole:
                self._client.mv(written, target)

    def drop(self, run: str, name: str) -> None:
        """Remove one file of a run, if it is there."""
        with self._told():
            if self._client.exists(f"{self._root}/{run}/{name}"):
                self._client.rm_file(f"{self._root}/{run}/{name}")

    def fetch(self, run: str, target: Path) -> Iterator[WorkerProgress]:
        """Copy a run into a folder that is not there yet; it gets its name when it is whole.

        Raises:
            DataError: there is no such run.
            BusyError: the place cannot be reached.
        """
        top = f"{self._root}/{run}"
        with self._told():
            self._client.invalidate_cache()
            found = self._client.find(top, detail=True)
        names = sorted(path[len(top) + 1 :] for path in found if not path.endswith(".tmp"))
        if SPEC not in names:
            raise DataError(f"`{self.url}` has no run `{run}`", hint=f"look into {self.url}")
        beside = target.with_name(f".{target.name}.coming")
        shutil.rmtree(beside, ignore_errors=True)
        total = sum(int(found[f"{top}/{name}"]["size"]) for name in names)
        done = 0
        for name in names:
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            with self._told():
                self._client.get_file(f"{top}/{name}", str(beside / name))
            files.sync_file(beside / name)
            done += (beside / name).stat().st_size
            yield WorkerProgress(text=f"fetching run {run}, bytes", done=done, total=total)
        files.move(beside, target)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what any kind of store raises into an error that can be shown."""
        try:
            yield
        except MlstackError:
            raise
        except PermissionError as error:
            raise ConfigError(
                f"track.copy_to: `{self.url}` refuses: {error}",
                hint="look at the keys that your environment holds for it",
            ) from error
        except Exception as error:  # each kind of store has errors of its own
            first = (str(error).splitlines() or [""])[0]
            raise BusyError(
                f"`{self.url}` cannot be reached: {type(error).__name__}: {first}",
                hint="try again, or correct track.copy_to",
            ) from error


def files_of(run_folder: Path) -> dict[str, tuple[int, int]]:
    """List what is worth a copy: size and time of change of each file, the events last."""
    found: dict[str, tuple[int, int]] = {}
    for path in sorted(run_folder.rglob("*")):
        name = path.relative_to(run_folder).as_posix()
        if name.startswith(HERE_ONLY) or path.name.startswith(".") or not path.is_file():
            continue
        stat = path.stat()
        found[name] = (stat.st_size, stat.st_mtime_ns)
    return dict(sorted(found.items(), key=_rank))


def _rank(item: tuple[str, Any]) -> tuple[bool, bool, str]:
    name = item[0]
    return name == EVENTS, not name.startswith(CHECKPOINTS), name
