"""One check and its outcome."""

from enum import StrEnum

from mlstack.records.base import Record


class Status(StrEnum):
    """How a check ended; only FAIL says that this machine cannot."""

    OK = "ok"
    WARNING = "warning"
    FAIL = "fail"


class Check(Record, frozen=True, kw_only=True, tag="doctor.check"):
    """What was looked at, what was seen, and what to type."""

    name: str
    status: Status
    detail: str
    fix: str = ""


def ok(name: str, detail: str) -> Check:
    """Say that all is well."""
    return Check(name=name, status=Status.OK, detail=detail)


def warning(name: str, detail: str, fix: str) -> Check:
    """Say what will be slow, missing or surprising."""
    return Check(name=name, status=Status.WARNING, detail=detail, fix=fix)


def fail(name: str, detail: str, fix: str) -> Check:
    """Say what does not work at all."""
    return Check(name=name, status=Status.FAIL, detail=detail, fix=fix)
