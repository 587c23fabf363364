"""Settings of `serve` that say who may call, and when a canary has failed."""

from pydantic import Field

from mlstack.config.kinds import Section, Share


class Tls(Section):
    """HTTPS by the server itself."""

    cert: str = Field(description="Certificate and its chain (PEM); a renewed one is taken up.")
    key: str = Field(description="Its private key (PEM), which others may not read.")


class Rollback(Section):
    """When a canary is ended by itself."""

    auto: bool = Field(default=True, description="End a canary that leaves its bounds.")
    min_requests: int = Field(default=20, ge=1, description="Requests before it is judged.")
    window: int = Field(default=1000, ge=1, description="How many of the newest ones count.")
    max_error_rate: Share = Field(
        default=0.02, description="Share that it may fail while the live model answers."
    )
    max_slowdown: float = Field(
        default=2.0, ge=1, description="Slow is more than this times the live model's p95."
    )
    min_agreement: Share = Field(
        default=0.8, description="Share of rows that the live model must answer the same."
    )
