"""What the subcommands of `serve` answer, and what its worker says to them."""

import msgspec

from mlstack.records.base import Record, Result


class Proving(Record, frozen=True, kw_only=True, tag="serve.proving"):
    """A process opens a package."""

    pid: int


class Promoted(Record, frozen=True, kw_only=True, tag="serve.promoted"):
    """Nothing was live: the newest package is now."""

    model: str
    number: int


class Assumed(Record, frozen=True, kw_only=True, tag="serve.assumed"):
    """There is no project: a package is served with the defaults."""

    model: str
    folder: str  # where `.mlstack` is made


class Predicted(Record, frozen=True, kw_only=True, tag="serve.predicted"):
    """The prediction of a file, or of one of its rows."""

    file: str
    row: int | None = None  # of a file of many, from 0
    prediction: str
    confidence: float
    probabilities: dict[str, float] = msgspec.field(default_factory=dict)
    prediction_id: str | None = None


class Predictions(Result, frozen=True, kw_only=True, tag="serve.predictions"):
    """The answer of `serve predict`."""

    model: str
    version: int
    predictions: list[Predicted]

    def headline(self) -> str:
        """Give one predicted class a line."""
        return "\n".join(p.prediction for p in self.predictions)


class Timing(Record, frozen=True, kw_only=True, tag="serve.timing"):
    """Calls of one batch size."""

    rows: int
    p50_ms: float
    p99_ms: float
    rows_per_s: float


class Load(Record, frozen=True, kw_only=True, tag="serve.load"):
    """A server asked over HTTP by some connections at once."""

    payload: str  # V2 binary, JSON or file
    connections: int
    p50_ms: float
    p99_ms: float
    requests_per_s: float


class Benched(Result, frozen=True, kw_only=True, tag="serve.benched"):
    """The answer of `serve bench`: the model alone, then behind a server."""

    model: str
    version: int
    provider: str
    timings: list[Timing]
    best_size: int
    decode_ms: float | None = None  # one golden example from bytes to array
    example: str = "image"  # or row: what `decode_ms` is about
    advice: str = ""
    loads: list[Load] = msgspec.field(default_factory=list)
    load_advice: str = ""
    rows_per_s_by_device: dict[str, float] = msgspec.field(default_factory=dict)

    def headline(self) -> str:
        """Give the batch size to set."""
        return str(self.best_size)


class PackageLine(Record, frozen=True, kw_only=True, tag="serve.package"):
    """One package in `serve status`."""

    number: int
    role: str  # live, canary, shadow, previous or ""
    created: str = ""
    run: str = ""
    metrics: dict[str, float] = msgspec.field(default_factory=dict)
    problem: str = ""


class Changed(Result, frozen=True, kw_only=True, tag="serve.changed"):
    """The answer of promote, rollback and canary."""

    model: str
    live: int
    previous: int | None = None
    canary: int | None = None
    canary_percent: float = 0.0
    shadow: int | None = None
    shadow_percent: float = 0.0
    url: str | None = None  # of the running server
    taken_over: bool = False  # that server answers with it
    note: str = ""  # why nothing was changed, or not by the server

    def headline(self) -> str:
        """Give the live package's number."""
        return str(self.live)


class Beside(Record, frozen=True, kw_only=True, tag="serve.beside"):
    """How a canary or a shadow does, since it was loaded."""

    role: str
    version: int
    percent: float
    compared: int = 0  # rows that the live model answered too
    agreed: int = 0
    failed: int = 0
    requests: int = 0  # of a canary
    slow: int = 0
    dropped: int = 0  # of a shadow: rows that it had no time for


class Status(Result, frozen=True, kw_only=True, tag="serve.status"):
    """The answer of `serve status`."""

    model: str
    live: int | None
    canary: int | None
    canary_percent: float
    shadow: int | None = None
    shadow_percent: float = 0.0
    note: str = ""  # what was changed last, when it was changed by itself
    beside: list[Beside] = msgspec.field(default_factory=list)  # what the running server says
    packages: list[PackageLine]
    url: str | None = None
    pid: int | None = None
    fixed: str | None = None  # what `--model` named, whatever is live
    ready: bool = False
    serving: int | None = None  # what the running server says
    provider: str = ""

    def headline(self) -> str:
        """Give the live package's number."""
        return str(self.live) if self.live is not None else ""


class KeyAdded(Result, frozen=True, kw_only=True, tag="serve.key_added"):
    """A new API key: the only time that it is shown."""

    id: str
    name: str
    key: str
    file: str
    note: str = ""  # about a server that does not ask for it

    def headline(self) -> str:
        """Give the key."""
        return self.key


class KeyLine(Record, frozen=True, kw_only=True, tag="serve.key_line"):
    """One key in `serve keys ls`."""

    id: str
    name: str
    created: str
    revoked: str


class KeysListed(Result, frozen=True, kw_only=True, tag="serve.keys_listed"):
    """Every key that was given out."""

    file: str
    keys: list[KeyLine]

    def headline(self) -> str:
        """Give the names of the good ones."""
        return "\n".join(key.name for key in self.keys if not key.revoked)


class KeyRevoked(Result, frozen=True, kw_only=True, tag="serve.key_revoked"):
    """A key that is refused from now on."""

    id: str
    name: str
    left: int

    def headline(self) -> str:
        """Give its id."""
        return self.id
