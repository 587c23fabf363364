"""Alerts: one file each, told to whom mlstack.yaml names, once as long as they go on."""

import os
import secrets
import signal
import subprocess
import tempfile
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from msgspec.structs import replace

from mlstack import files
from mlstack.config.schema import Monitor
from mlstack.monitor.verdict import Verdict
from mlstack.records.base import encode, read, write
from mlstack.records.report import ONGOING, Alert, Ended, Ongoing

TIMEOUT_S = 10.0
LAST_BYTES = 4096  # of what a command says
BACK = timedelta(hours=1)  # what is over and comes back so soon is the same alert, told already


def held(folder: Path) -> AbstractContextManager[int]:
    """Keep other checks of this project waiting while one opens, tells or ends an alert."""
    return files.lock(folder / ".lock", "alerts", wait=True)


def is_open(folder: Path, verdict: Verdict) -> bool:
    """Tell whether the last check of this model left an alert open."""
    return _key(verdict) in _state(folder).alerts


def ongoing(folder: Path, verdict: Verdict, now: datetime) -> Alert | None:
    """Give the alert that this verdict goes on with: same model, nothing new alarming.

    One that was over for less than an hour is open again.
    """
    state, key = _state(folder), _key(verdict)
    known, ended = state.alerts.get(key), state.ended.get(key)
    if known is None and ended is not None and now - datetime.fromisoformat(ended.at) < BACK:
        known = ended.alert
    if known is None or not set(verdict.columns) <= set(known.columns):
        return None
    if not path(folder, known).is_file():
        return None
    if key not in state.alerts:
        _remember(folder, replace(state, alerts=state.alerts | {key: known}))
    return known


def open_alert(
    folder: Path, verdict: Verdict, prediction_ids: list[str], receivers: list[str]
) -> Alert:
    """Write a new alert and remember it as ongoing, and that nobody has been told yet."""
    now = datetime.now(UTC)
    report = verdict.report
    since = datetime.fromtimestamp(verdict.since_us / 1e6, UTC)
    alert = Alert(
        id=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        model=report.model,
        version=report.version,
        created=_iso(now),
        since=_iso(since) if verdict.since_us else "",
        summary=report.summary,
        columns=verdict.columns,
        prediction_ids=prediction_ids,
        report=report.report_file,
    )
    write(path(folder, alert), alert)
    state, key = _state(folder), _key(verdict)
    # What alarmed before and alarms again after this is no news.
    before = state.alerts[key].columns if key in state.alerts else []
    kept = replace(alert, columns=list(dict.fromkeys([*verdict.columns, *before])))
    state = replace(state, alerts=state.alerts | {key: kept})
    _remember(folder, replace(state, untold=state.untold | {key: receivers}))
    return alert


def close(folder: Path, verdict: Verdict, least: int, now: datetime) -> None:
    """End the alert of a model, if what alarmed was judged again and alarms no more.

    A look at too few predictions or requests (fewer than `least`) says nothing about them.
    """
    state, key = _state(folder), _key(verdict)
    known = state.alerts.get(key)
    if known is None or not all(verdict.is_judged(name, least) for name in known.columns):
        return
    alerts = {name: alert for name, alert in state.alerts.items() if name != key}
    ended = state.ended | {key: Ended(alert=known, at=_iso(now))}
    _remember(folder, replace(state, alerts=alerts, ended=ended))


def tell(folder: Path, alert: Alert, settings: Monitor, root: Path) -> list[str]:
    """Tell an ongoing alert to everyone who has not heard of it; give a warning for each failure.

    Whoever could not be told is tried again at the next check.
    """
    state, key = _state(folder), f"{alert.model}/{alert.version}"
    if not state.untold.get(key):
        return []
    waiting = [one for one in state.untold[key] if one in settings.on_alert]
    failed = {one: said for one in waiting if (said := told(one, alert, root))}
    _remember(folder, replace(state, untold=state.untold | {key: list(failed)}))
    return [f"{said}; the next check tries again" for said in failed.values()]


def told(receiver: str, alert: Alert, root: Path, timeout_s: float = TIMEOUT_S) -> str:
    """Tell one receiver of `monitor.on_alert`; give what went wrong, or nothing."""
    if receiver.startswith("env:"):
        name = receiver.removeprefix("env:")
        receiver = os.environ.get(name, "").strip()
        if not receiver.startswith(("exec:", "http://", "https://")):
            return f"the variable {name} of `monitor.on_alert` holds no webhook and no exec:COMMAND"
    if receiver.startswith("exec:"):
        return _execute(receiver.removeprefix("exec:"), alert, root, timeout_s)
    if receiver.startswith(("http://", "https://")):
        return _post(receiver, alert, timeout_s)
    return ""  # `log`: the alert's file


def path(folder: Path, alert: Alert) -> Path:
    """Give the file of an alert."""
    return folder / f"{alert.id}.json"


def alertmanager_body(alert: Alert) -> dict[str, Any]:
    """Give an alert as Alertmanager's webhook sends it (version 4), which most receivers read."""
    labels = {
        "alertname": "mlstack_monitor",
        "model": alert.model,
        "version": str(alert.version),
        "columns": ",".join(alert.columns),
    }
    annotations = {"summary": alert.summary, "predictions_to_label": " ".join(alert.prediction_ids)}
    return {
        "version": "4",
        "groupKey": f"mlstack:{alert.model}/{alert.version}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "mlstack",
        "groupLabels": {"model": alert.model},
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "",
        "alerts": [
            {
                "status": "firing",
                "labels": labels,
                "annotations": annotations,
                "startsAt": alert.since or alert.created,
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "",
                "fingerprint": alert.id,
            }
        ],
    }


def _execute(command: str, alert: Alert, root: Path, timeout_s: float) -> str:
    # A shell line of the user's own, as in a crontab; its session ends as a whole. Files instead of
    # pipes: what it leaves running in the background may hold them as long as it likes.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output:
        given.write(encode(alert))
        given.seek(0)
        process = subprocess.Popen(
            command,
            shell=True,
            cwd=root,
            stdin=given,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"`{command}` was ended after {timeout_s:g} s"
        if process.returncode == 0:
            return ""
        output.seek(max(0, output.seek(0, os.SEEK_END) - LAST_BYTES))
        said = output.read().decode(errors="replace").strip().splitlines()
    return f"`{command}` ended with {process.returncode}" + (f": {said[-1]}" if said else "")


def _post(url: str, alert: Alert, timeout_s: float) -> str:
    # Who holds the whole address of a webhook may post to it: only its host is said.
    shown = f"the webhook at {_host(url)}"
    try:
        # The answer's body is not waited for: it could come a byte at a time for ever.
        with httpx.stream("POST", url, json=alertmanager_body(alert), timeout=timeout_s) as answer:
            return "" if answer.is_success else f"{shown} answered {answer.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{shown} was not reached: {error or type(error).__name__}"


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "an address without a host"
    except ValueError:
        return "an address that is none"


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _key(verdict: Verdict) -> str:
    return f"{verdict.report.model}/{verdict.report.version}"


def _state(folder: Path) -> Ongoing:
    place = folder / ONGOING
    return read(place, Ongoing) if place.is_file() else Ongoing()


def _remember(folder: Path, state: Ongoing) -> None:
    write(folder / ONGOING, state)
