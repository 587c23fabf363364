"""Settings of `serve` that say who may call, and when a canary has failed."""

from pydantic import Field

from mlstack.config.kinds import Section


class Tls(Section):
    """HTTPS by the server itself."""

    cert: str = Field(description="Certificate and its chain (PEM); a renewed one is taken up.")
    key: str = Field(description="Its private key (PEM), which others may not read.")
