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

from msgspec.structs import replace

from mlstack import files
from mlstack.config.schema import Monitor
from mlstack.monitor.verdict import Verdict
from mlstack.records.base import encode, read, write
from mlstack.records.report import ONGOING, Alert, Ended, Ongoing

TIMEOUT_S = 10.0
ENV = "env:"
WEBHOOK = ("http://", "https://")
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


def close(folder: Path, verdict: Verdict, settings: Monitor, now: datetime) -> None:
    """End the alert of a model, if what alarmed was judged again and alarms no more.

    A look at too few predictions or requests (`min_window`) says nothing about them. A command of
    `on_alert` is started for alerts alone; webhooks hear of the end too.
    """
    state, key = _state(folder), _key(verdict)
    known, least = state.alerts.get(key), settings.min_window
    if known is None or not all(verdict.is_judged(name, least) for name in known.columns):
        return
    alerts = {name: alert for name, alert in state.alerts.items() if name != key}
    heard = [one for one in settings.on_alert if one not in state.untold.get(key, [])]
    webhooks = [one for one in heard if _address(one).startswith(WEBHOOK)]
    ended = state.ended | {key: Ended(alert=known, at=_iso(now), untold=webhooks)}
    _remember(folder, replace(state, alerts=alerts, ended=ended))


def is_end_untold(folder: Path, verdict: Verdict, now: datetime) -> bool:
    """Tell whether somebody is still to hear that the alert of this model is over for good."""
    state, key = _state(folder), _key(verdict)
    ended = None if key in state.alerts else state.ended.get(key)
    return bool(ended and ended.untold and now - datetime.fromisoformat(ended.at) >= BACK)


def tell_end(folder: Path, verdict: Verdict, settings: Monitor, now: datetime) -> list[str]:
    """Tell webhooks that an alert is over, once it cannot come back as the same one.

    Gives a warning for each failure; whoever could not be told is tried again at the next check.
    """
    if not is_end_untold(folder, verdict, now):
        return []
    state, key = _state(folder), _key(verdict)
    ended = state.ended[key]
    body = alertmanager_body(ended.alert, ended_at=ended.at)
    addresses = {one: _address(one) for one in ended.untold if one in settings.on_alert}
    failed = {
        one: said
        for one, address in addresses.items()
        if address.startswith(WEBHOOK) and (said := _post(address, body, TIMEOUT_S))
    }
    told_all = state.ended | {key: replace(ended, untold=list(failed))}
    _remember(folder, replace(state, ended=told_all))
    return [f"{said}; the next check tries again" for said in failed.values()]


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
    address = _address(receiver)
    if address.startswith("exec:"):
        return _execute(address.removeprefix("exec:"), alert, root, timeout_s)
    if address.startswith(WEBHOOK):
        return _post(address, alertmanager_body(alert), timeout_s)
    if receiver.startswith(ENV):
        name = receiver.removeprefix(ENV)
        return f"the variable {name} of `monitor.on_alert` holds no webhook and no exec:COMMAND"
    return ""  # `log`: the alert's file


def path(folder: Path, alert: Alert) -> Path:
    """Give the file of an alert."""
    return folder / f"{alert.id}.json"


def alertmanager_body(alert: Alert, ended_at: str = "") -> dict[str, Any]:
    """Give an alert as Alertmanager's webhook sends it (version 4), which most receivers read.

    With `ended_at` (UTC, ISO 8601) it is one that is over.
    """
    status = "resolved" if ended_at else "firing"
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
        "status": status,
        "receiver": "mlstack",
        "groupLabels": {"model": alert.model},
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "",
        "alerts": [
            {
                "status": status,
                "labels": labels,
                "annotations": annotations,
                "startsAt": alert.since or alert.created,
                "endsAt": ended_at or "0001-01-01T00:00:00Z",
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


def _address(receiver: str) -> str:
    """Give the webhook or command that a receiver is, or that its variable holds."""
    if receiver.startswith(ENV):
        return os.environ.get(receiver.removeprefix(ENV), "").strip()
    return receiver


def _post(url: str, body: dict[str, Any], timeout_s: float) -> str:
    import httpx  # noqa: PLC0415  50 ms of CPU, where there is an alert to tell

    # Who holds the whole address of a webhook may post to it: only its host is said.
    shown = f"the webhook at {_host(url)}"
    try:
        # The answer's body is not waited for: it could come a byte at a time for ever.
        with httpx.stream("POST", url, json=body, timeout=timeout_s) as answer:
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
