"""Alerts: one file each, told to whom mlstack.yaml names, once as long as they go on."""

import os
import secrets
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from mlstack.config.schema import Monitor
from mlstack.monitor.verdict import Verdict
from mlstack.records.base import encode, read, write
from mlstack.records.report import ONGOING, Alert, Ongoing

TIMEOUT_S = 10.0


def ongoing(folder: Path, verdict: Verdict) -> Alert | None:
    """Give the alert that this verdict only goes on with: same model, nothing new alarming."""
    known = _state(folder).alerts.get(_key(verdict))
    if known is None or not set(verdict.columns) <= set(known.columns):
        return None
    return known if path(folder, known).is_file() else None


def open_alert(folder: Path, verdict: Verdict, prediction_ids: list[str]) -> Alert:
    """Write a new alert and remember it as ongoing."""
    now = datetime.now(UTC)
    report = verdict.report
    since = datetime.fromtimestamp(verdict.since_us / 1e6, UTC)
    alert = Alert(
        id=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
        model=report.model,
        version=report.version,
        created=f"{now:%Y-%m-%dT%H:%M:%SZ}",
        since=f"{since:%Y-%m-%dT%H:%M:%SZ}" if verdict.since_us else "",
        summary=report.summary,
        columns=verdict.columns,
        prediction_ids=prediction_ids,
        report=report.report_file,
    )
    write(path(folder, alert), alert)
    _remember(folder, _key(verdict), alert)
    return alert


def close(folder: Path, verdict: Verdict) -> None:
    """Forget an alert that has ended, so that the next one is new."""
    if _key(verdict) in _state(folder).alerts:
        _remember(folder, _key(verdict), None)


def tell(alert: Alert, settings: Monitor, root: Path, timeout_s: float = TIMEOUT_S) -> list[str]:
    """Tell everyone in `monitor.on_alert`; give a warning for each who could not be told."""
    problems: list[str] = []
    for receiver in settings.on_alert:
        if receiver.startswith("exec:"):
            problems += _execute(receiver.removeprefix("exec:"), alert, root, timeout_s)
        elif receiver.startswith(("http://", "https://")):
            problems += _post(receiver, alert, timeout_s)
        elif receiver != "log":
            problems.append(f"`{receiver}` in `monitor.on_alert` is neither log, exec: nor a URL")
    return problems


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


def _execute(command: str, alert: Alert, root: Path, timeout_s: float) -> list[str]:
    # A shell line of the user's own, as in a crontab; its session ends as a whole.
    process = subprocess.Popen(
        command,
        shell=True,
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(encode(alert), timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return [f"`{command}` was ended after {timeout_s:g} s"]
    if process.returncode == 0:
        return []
    said = output.decode(errors="replace").strip().splitlines()
    return [f"`{command}` ended with {process.returncode}" + (f": {said[-1]}" if said else "")]


def _post(url: str, alert: Alert, timeout_s: float) -> list[str]:
    try:
        answer = httpx.post(url, json=alertmanager_body(alert), timeout=timeout_s)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return [f"the webhook {url} was not reached: {error or type(error).__name__}"]
    if answer.is_success:
        return []
    return [f"the webhook {url} answered {answer.status_code}"]


def _key(verdict: Verdict) -> str:
    return f"{verdict.report.model}/{verdict.report.version}"


def _state(folder: Path) -> Ongoing:
    place = folder / ONGOING
    return read(place, Ongoing) if place.is_file() else Ongoing()


def _remember(folder: Path, key: str, alert: Alert | None) -> None:
    known = {name: one for name, one in _state(folder).alerts.items() if name != key}
    write(folder / ONGOING, Ongoing(alerts=known | ({key: alert} if alert else {})))
