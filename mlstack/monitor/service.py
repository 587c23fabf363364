"""Service figures against their limits: failed answers and slow ones."""

from mlstack.config.schema import Service as Limits
from mlstack.plurals import counted
from mlstack.records.report import Finding, Service
from mlstack.stats import testing

ERRORS, LATENCY = "error_rate", "p99_ms"
CERTAIN = 2.326  # a bound that is true in 99 of 100 cases


def judge(service: Service, limits: Limits, least: int) -> list[Finding]:
    """Compare errors and latency with their limits; fewer than `least` requests never alarm.

    The share of 5xx answers alarms by its lower bound, so that one failure in a quiet hour does
    not. The latency alarms by what was measured, as a limit on p99 is a promise and no estimate.
    """
    enough = service.requests >= least
    found = [_errors(service, limits.max_error_rate, enough)]
    if limits.p99_ms is not None and service.p99_ms is not None:
        found.append(
            Finding(
                subject=LATENCY,
                area="service",
                alert=enough and service.p99_ms > limits.p99_ms,
                effect=service.p99_ms,
                limit=limits.p99_ms,
                statistic="milliseconds",
                detail=f"99 of 100 requests took at most {service.p99_ms:.1f} ms",
            )
        )
    return found


def _errors(service: Service, limit: float, enough: bool) -> Finding:
    total, failed = service.requests, service.failed
    refused = counted(service.refused, "was", "were")
    certain, _ = testing.wilson(failed, total, z=CERTAIN)
    return Finding(
        subject=ERRORS,
        area="service",
        alert=enough and failed > 0 and certain > limit,
        effect=failed / total if total else 0.0,
        limit=limit,
        statistic="share",
        detail=f"{failed} of {total} requests failed (5xx), {refused} refused (4xx)",
    )
