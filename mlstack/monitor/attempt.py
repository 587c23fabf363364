"""One question to the endpoint, and how it went: what is drawn of a probe while it goes on."""

from mlstack.records.base import Record


class Attempt(Record, frozen=True, kw_only=True, tag="monitor.attempt"):
    """One attempt; `failure` is empty when all was well."""

    number: int
    total: int
    ms: float
    failure: str = ""  # refused, timeout, not-ready, http-4xx, http-5xx, broken, wrong or slow
    problem: str = ""
