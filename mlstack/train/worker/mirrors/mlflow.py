"""MLflow: its tracking server's documented REST API, at MLFLOW_TRACKING_URI.

https://mlflow.org/docs/latest/api_reference/rest-api.html (2.0). Importing `mlflow` costs four
seconds of CPU and forty packages; these seven calls cost neither.
"""

import hashlib
import os
import re
import time
from typing import Any

import httpx

from mlstack.errors import BusyError, ConfigError
from mlstack.records.run import Started, read_events
from mlstack.train.worker.mirrors.entry import Entry, Point

ADDRESS = "MLFLOW_TRACKING_URI"
ANSWER_S = 5.0
MOST_METRICS, MOST_PARAMS, MOST_LETTERS = 1000, 100, 6000  # the limits of log-batch
MOST_OF_NAME = 250
STATES = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class Mlflow:
    """A run of the experiment that is named like the project; found again by its tag."""

    where = ""

    def __init__(self) -> None:
        """Connect.

        Raises:
            ConfigError: the environment does not say where the server is.
        """
        address = os.environ.get(ADDRESS, "")
        if not address.startswith(("http://", "https://")):
            raise ConfigError(
                f"the mirror mlflow needs the address of a tracking server in {ADDRESS}",
                hint=f"export {ADDRESS}=http://127.0.0.1:5000 (`mlflow server` starts one)",
            )
        url = httpx.URL(address.rstrip("/"))
        user = (url.username, url.password) if url.username else _user()
        self._address = str(url.copy_with(username=None, password=None)).rstrip("/")
        self._client = httpx.Client(timeout=ANSWER_S, headers=_bearer(), auth=user)
        self._run = ""
        self._sent: dict[str, int] = {}  # name of a metric -> the last step that is there

    def open(self, entry: Entry) -> None:
        """Find the run's entry by its tag, or make it; know which points it has."""
        experiment = self._experiment(entry.project)
        found = self._call(
            "runs/search",
            experiment_ids=[experiment],
            filter=f"tags.`mlstack.run` = '{entry.spec.id}'",
            max_results=1,
        ).get("runs", [])
        run = found[0] if found else self._create(experiment, entry)
        self._run = run["info"]["run_id"]
        metrics = run.get("data", {}).get("metrics", [])
        self._sent = {one["key"]: int(one.get("step", 0)) for one in metrics}
        self.where = f"{self._address}/#/experiments/{experiment}/runs/{self._run}"
        params = [
            {"key": _name(name), "value": value[:MOST_LETTERS]}
            for name, value in entry.params.items()
        ]
        for first in range(0, len(params), MOST_PARAMS):
            part = params[first : first + MOST_PARAMS]
            self._call("runs/log-batch", run_id=self._run, params=part)
        self._call("runs/update", run_id=self._run, status="RUNNING")

    def write(self, points: list[Point]) -> None:
        """Add what is not there yet: steps that a resume did again are."""
        metrics = []
        for point in points:
            for name, value in point.values.items():
                key = _name(name)
                if point.step > self._sent.get(key, -1):
                    self._sent[key] = point.step
                    at = round(point.at * 1000)
                    metrics.append(
                        {"key": key, "value": value, "timestamp": at, "step": point.step}
                    )
        for first in range(0, len(metrics), MOST_METRICS):
            part = metrics[first : first + MOST_METRICS]
            self._call("runs/log-batch", run_id=self._run, metrics=part)

    def close(self, state: str) -> None:
        """Say how the run ended."""
        if state in STATES:
            end = round(time.time() * 1000)
            self._call("runs/update", run_id=self._run, status=STATES[state], end_time=end)
        self._client.close()

    def _experiment(self, name: str) -> str:
        try:
            found = self._get("experiments/get-by-name", experiment_name=name)
        except _NotThereError:
            return str(self._call("experiments/create", name=name)["experiment_id"])
        return str(found["experiment"]["experiment_id"])

    def _create(self, experiment: str, entry: Entry) -> Any:
        started = [e.at for e in read_events(entry.folder) if isinstance(e, Started)]
        tags = entry.tags | {"mlflow.source.git.commit": entry.spec.code.commit or ""}
        return self._call(
            "runs/create",
            experiment_id=experiment,
            run_name=entry.spec.id,
            start_time=round((started[0] if started else time.time()) * 1000),
            tags=[{"key": name, "value": value} for name, value in tags.items() if value],
        )["run"]

    def _get(self, what: str, **params: str) -> Any:
        return self._answer("GET", what, params=params)

    def _call(self, what: str, **body: Any) -> Any:
        return self._answer("POST", what, json=body)

    def _answer(self, method: str, what: str, **given: Any) -> Any:
        url = f"{self._address}/api/2.0/mlflow/{what}"
        try:
            answer = self._client.request(method, url, **given)
        except httpx.HTTPError as error:
            words = str(error) or type(error).__name__
            raise BusyError(
                f"the MLflow server at {self._address} does not answer: {words}",
                hint=f"is it running, and is {ADDRESS} right?",
            ) from error
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise _NotThereError(_reason(answer))
        if answer.status_code >= 500 or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise BusyError(f"the MLflow server says {answer.status_code}: {_reason(answer)}")
        if answer.is_error:
            raise ConfigError(
                f"the MLflow server refuses {what}: {_reason(answer)}",
                hint="MLFLOW_TRACKING_USERNAME and _PASSWORD, or MLFLOW_TRACKING_TOKEN, log in"
                if answer.status_code in (401, 403)
                else "",
            )
        return answer.json()


class _NotThereError(ConfigError):
    """The server does not know what was asked for."""


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"]).splitlines()[0]
    except (ValueError, KeyError, IndexError, TypeError):
        return answer.reason_phrase


def _name(name: str) -> str:
    """Write a name with the letters that MLflow takes, and with no more of them.

    One that is too long keeps its end, which tells settings and metrics apart, and a hash of the
    whole, which tells it from others with the same end.
    """
    written = re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)
    if len(written) <= MOST_OF_NAME:
        return written
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{mark}_{written[len(mark) + 1 - MOST_OF_NAME :].lstrip('/. ')}"


def _bearer() -> dict[str, str]:
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _user() -> tuple[str, str] | None:
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    return (user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None
