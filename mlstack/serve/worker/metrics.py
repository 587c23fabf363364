"""Counters as plain numbers, rendered as Prometheus text only when somebody asks."""

import time
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

LATENCY_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TYPE = "text/plain; version=0.0.4; charset=utf-8"

BY_VERSION = {
    "mlstack_canary_answered_total": "Requests that the canary answered.",
    "mlstack_canary_failed_total": "Requests that the canary failed and the live model answered.",
    "mlstack_canary_rows_total": "Rows of the canary that the live model was asked too.",
    "mlstack_canary_mismatch_total": "Of these, rows that the live model answered otherwise.",
    "mlstack_model_restarts_total": "Sessions that had broken and were opened anew.",
    "mlstack_shadow_rows_total": "Rows that the shadow was asked too.",
    "mlstack_shadow_mismatch_total": "Of these, rows that the shadow answered otherwise.",
    "mlstack_shadow_failed_total": "Rows that the shadow could not answer.",
    "mlstack_shadow_dropped_total": "Rows that the shadow had no time for.",
}

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Histogram:
    """Counts between bounds, and their sum."""

    bounds: tuple[float, ...]
    counts: list[int]
    total: float = 0.0

    @classmethod
    def over(cls, bounds: tuple[float, ...]) -> "Histogram":
        """Make an empty one."""
        return cls(bounds, [0] * (len(bounds) + 1))

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass
class Metrics:
    """Everything the server counts about itself."""

    model: str
    started: float = field(default_factory=time.time)
    requests: Counter[tuple[int, str, int]] = field(default_factory=Counter)  # version, route, code
    durations: dict[str, Histogram] = field(default_factory=dict)  # by route
    batches: Histogram = field(default_factory=lambda: Histogram.over(SIZES))
    waits: Histogram = field(default_factory=lambda: Histogram.over(LATENCY_S))
    calls: Histogram = field(default_factory=lambda: Histogram.over(LATENCY_S))
    rejected: Counter[str] = field(default_factory=Counter)
    reloads: Counter[str] = field(default_factory=Counter)
    predictions: Counter[tuple[int, str]] = field(default_factory=Counter)  # version, class
    by_version: Counter[tuple[str, int]] = field(default_factory=Counter)  # name, version
    loaded: dict[tuple[int, str, str], float] = field(default_factory=dict)  # see `note_loaded`
    rollbacks: Counter[str] = field(default_factory=Counter)  # reason
    shadow_durations: Histogram = field(default_factory=lambda: Histogram.over(LATENCY_S))

    def count(self, version: int, route: str, code: int, seconds: float) -> None:
        """Count one answered request."""
        self.count_all(version, route, code, [seconds])

    def count_all(self, version: int, route: str, code: int, seconds: list[float]) -> None:
        """Count requests that were answered together."""
        self.requests[version, route, code] += len(seconds)
        histogram = self.durations.get(route)
        if histogram is None:
            histogram = self.durations[route] = Histogram.over(LATENCY_S)
        for one in seconds:
            histogram.add(one)

    def note_call(self, rows: int, seconds: float, waits: list[float]) -> None:
        """Count one call of the model, and how long each request in it had waited."""
        self.batches.add(rows)
        self.calls.add(seconds)
        for waited in waits:
            self.waits.add(waited)

    def add(self, name: str, version: int, by: int = 1) -> None:
        """Count on one of `BY_VERSION`."""
        self.by_version[name, version] += by

    def note_loaded(self, models: list[tuple[int, str, str]]) -> None:
        """Keep since when each (version, role, provider) is what it is; forget what is no more."""
        now = time.time()
        self.loaded = {model: self.loaded.get(model, now) for model in models}

    def render(self, gauges: dict[str, tuple[str, float]]) -> bytes:
        """Write everything, and `gauges` (name -> help, value), in Prometheus' text format."""
        model = ("model", self.model)
        labels: Labels
        lines = _head("mlstack_requests_total", "counter", "Requests answered.")
        for (version, route, code), count in sorted(self.requests.items()):
            labels = (model, ("version", str(version)), ("route", route), ("code", str(code)))
            lines.append(_line("mlstack_requests_total", labels, count))
        lines += _head("mlstack_predictions_total", "counter", "Predictions by class.")
        for (version, label), count in sorted(self.predictions.items()):
            labels = (model, ("version", str(version)), ("class", label))
            lines.append(_line("mlstack_predictions_total", labels, count))
        name = "mlstack_request_duration_seconds"
        lines += _head(name, "histogram", "From the request's last byte to its answer.")
        for route, histogram in sorted(self.durations.items()):
            lines += _histogram(name, (model, ("route", route)), histogram)
        lines += _head("mlstack_batch_size", "histogram", "Rows of one call of the model.")
        lines += _histogram("mlstack_batch_size", (model,), self.batches)
        for name, text, histogram in (
            ("mlstack_queue_duration_seconds", "From the question to its call.", self.waits),
            ("mlstack_inference_duration_seconds", "One call of the model.", self.calls),
        ):
            lines += [*_head(name, "histogram", text), *_histogram(name, (model,), histogram)]
        lines += _counter("mlstack_rejected_total", "reason", "Requests refused.", self.rejected)
        lines += _counter("mlstack_reload_total", "result", "Changes of the model.", self.reloads)
        lines += _counter(
            "mlstack_rollback_total", "reason", "Canaries ended by themselves.", self.rollbacks
        )
        lines += self._beside(model)
        name = "mlstack_model_loaded_timestamp_seconds"
        lines += _head(name, "gauge", "Since when a package is loaded, as what and on what.")
        for (version, role, provider), since in self.loaded.items():
            labels = (model, ("version", str(version)), ("role", role), ("provider", provider))
            lines.append(_line(name, labels, since))
        for name, (text, value) in gauges.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [*_head(name, kind, text), _line(name, (), value)]
        return ("\n".join(lines) + "\n").encode()

    def _beside(self, model: tuple[str, str]) -> list[str]:
        """Render what stands beside the live model: the canary and the shadow."""
        lines: list[str] = []
        for name, text in BY_VERSION.items():
            lines += _head(name, "counter", text)
            for (counted, version), count in sorted(self.by_version.items()):
                if counted == name:
                    lines.append(_line(name, (model, ("version", str(version))), count))
        name = "mlstack_shadow_duration_seconds"
        lines += _head(name, "histogram", "One call of the shadow, its way in and comparison.")
        return lines + _histogram(name, (model,), self.shadow_durations)


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _counter(name: str, label: str, text: str, counts: Counter[str]) -> list[str]:
    lines = [_line(name, ((label, value),), count) for value, count in sorted(counts.items())]
    return _head(name, "counter", text) + lines


def _histogram(name: str, labels: Labels, histogram: Histogram) -> list[str]:
    lines: list[str] = []
    below = 0
    for bound, count in zip((*histogram.bounds, None), histogram.counts, strict=True):
        below += count
        edge = ("le", "+Inf" if bound is None else f"{bound:g}")
        lines.append(_line(f"{name}_bucket", (*labels, edge), below))
    lines.append(_line(f"{name}_sum", labels, histogram.total))
    return [*lines, _line(f"{name}_count", labels, below)]


def _line(name: str, labels: Labels, value: float) -> str:
    inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels)
    return f"{name}{{{inside}}} {value:.13g}" if inside else f"{name} {value:.13g}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
