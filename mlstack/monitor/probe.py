"""Ask the endpoint as a client would: is it up, ready, right and quick enough."""

import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from mlstack.launch.own_server import Door
from mlstack.monitor.attempt import Attempt
from mlstack.monitor.target import Target
from mlstack.records import package, requests
from mlstack.records.base import read
from mlstack.records.report import Probed

NOT_TRUSTED = "CERTIFICATE_VERIFY_FAILED"
TIMEOUT = httpx.Timeout(5.0, connect=2.0)


@dataclass(frozen=True)
class Question:
    """A raw input of which the right answer is known; `content` is None if there is none."""

    content: bytes | None = None
    prediction: str = ""


@dataclass(frozen=True)
class Pace:
    """How often is asked, and how quick an answer must be."""

    count: int
    interval_s: float
    limit_ms: float | None = None


def golden_question(target: Target) -> Question:
    """Take the first golden example of the package."""
    side = target.package / package.SIDE
    place = side / "golden.json"
    golden = read(place, package.Golden) if place.is_file() else None
    if golden is None or not golden.examples:
        return Question()
    example = golden.examples[0]
    place = side / "golden" / example.file
    if place.suffix == ".npy" or not place.is_file():
        return Question()  # /predict takes files that people send; readiness must do
    return Question(place.read_bytes(), example.prediction)


def probe(door: Door, question: Question, pace: Pace) -> Iterator[Attempt | Probed]:
    """Ask `count` times with a new connection each; yield every attempt and what they add up to."""
    attempts: list[Attempt] = []
    for number in range(1, pace.count + 1):
        if attempts:
            time.sleep(pace.interval_s)
        attempts.append(_attempt(door, question, pace, number))
        yield attempts[-1]
    yield _sum_up(door.url, attempts)


def _attempt(door: Door, question: Question, pace: Pace, number: int) -> Attempt:
    ms, url = 0.0, door.url
    try:
        # A new client a time, so that each attempt makes a connection of its own.
        client = httpx.Client(
            base_url=url, timeout=TIMEOUT, headers=door.headers, verify=door.trusts
        )
        with client:
            start = time.perf_counter()
            failure, problem = _ask(client, question)
            ms = (time.perf_counter() - start) * 1000
    except httpx.ConnectTimeout:
        failure, problem = "timeout", f"no connection to {url} within {TIMEOUT.connect:g} s"
    except httpx.ConnectError as error:
        failure, problem = "refused", f"nothing listens at {url} ({error})"
        if _is_name_unknown(error):
            problem = f"nobody knows the host of {url} ({error})"
        if NOT_TRUSTED in str(error):
            failure, problem = "broken", f"the certificate of {url} is not trusted here ({error})"
    except httpx.TimeoutException:
        failure, problem = "timeout", f"{url} did not answer within {TIMEOUT.read:g} s"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        failure, problem = "broken", f"{url}: {error or type(error).__name__}"
    if not failure and pace.limit_ms is not None and ms > pace.limit_ms:
        failure, problem = "slow", f"the answer took {ms:.0f} ms (limit {pace.limit_ms:g} ms)"
    return Attempt(number=number, total=pace.count, ms=ms, failure=failure, problem=problem)


def _is_name_unknown(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, socket.gaierror):
        error = error.__cause__ or error.__context__
    return error is not None


def _ask(client: httpx.Client, question: Question) -> tuple[str, str]:
    ready = client.get("/health/ready")
    if not ready.is_success:
        return "not-ready", f"/health/ready answered {ready.status_code}"
    if question.content is None:
        return "", ""
    headers = {"content-type": "application/octet-stream", "x-request-id": requests.PROBE}
    answer = client.post("/predict", content=question.content, headers=headers)
    if not answer.is_success:
        kind = "http-5xx" if answer.is_server_error else "http-4xx"
        return kind, f"/predict answered {answer.status_code}: {answer.text[:200]}"
    try:
        said = answer.json().get("prediction")
    except (ValueError, AttributeError):
        return "wrong", f"/predict answered something else than an object: {answer.text[:100]}"
    if str(said) != question.prediction:
        return "wrong", f"/predict answered `{said}`; the golden answer is `{question.prediction}`"
    return "", ""


def _sum_up(url: str, attempts: list[Attempt]) -> Probed:
    times = sorted(one.ms for one in attempts if not one.failure or one.failure == "slow")
    failures = Counter(one.failure for one in attempts if one.failure)
    # One refused connection in the middle is over; a wrong answer never is.
    wrong = [one for one in attempts if one.failure == "wrong"]
    last = attempts[-1]
    return Probed(
        url=url,
        attempts=len(attempts),
        failures=dict(failures),
        p50_ms=times[len(times) // 2] if times else None,
        max_ms=times[-1] if times else None,
        last_problem=last.problem or (wrong[-1].problem if wrong else ""),
    )
