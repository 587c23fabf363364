"""What a handler gives back: an answer, or a refusal that names the field."""

from dataclasses import dataclass, field

import orjson

from mlstack.records.server import LogSpec

Headers = list[tuple[bytes, bytes]]

JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")


@dataclass(slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes
    headers: Headers = field(default_factory=list)


class Refused(Exception):
    """A request that is not answered with a prediction, and why.

    Args:
        status: 4xx or 503.
        problem: what is wrong, lower case, for the caller.
        field: which part of the request, e.g. `inputs[0].shape`.
    """

    def __init__(
        self, status: int, problem: str, *, field: str = "", headers: Headers | None = None
    ) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem
        self.field = field
        self.headers = headers or []

    def noted(self, spec: LogSpec) -> str:
        """Say it for the log; only the place where the words may repeat what it must not hold."""
        column = self.field.rpartition("].")[2]
        is_secret = column in spec.redact or (not column and bool(spec.redact))
        if self.status == 400 and (is_secret or not spec.inputs):
            return f"{self.field or 'body'}: refused"
        return f"{self.field}: {self.problem}" if self.field else self.problem

    def answer(self) -> Answer:
        """Turn it into the JSON body that every refusal has."""
        body = (
            {"error": self.problem, "field": self.field} if self.field else {"error": self.problem}
        )
        return Answer(self.status, orjson.dumps(body), [JSON, *self.headers])


def bad(problem: str, field: str) -> Refused:
    """Refuse with 400: the request itself is wrong in `field`."""
    return Refused(400, problem, field=field)


def busy(status: int, problem: str, *, seconds: int = 1) -> Refused:
    """Refuse for now: 429 when the queue is full, 503 when loading or stopping."""
    return Refused(status, problem, headers=[(b"retry-after", str(seconds).encode())])


def json_answer(body: object, headers: Headers | None = None) -> Answer:
    """Answer 200 with JSON."""
    return Answer(200, orjson.dumps(body), [JSON, *(headers or [])])
