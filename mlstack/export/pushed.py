"""What a push leads to; apart from it, for drawing needs no HTTP client."""

from mlstack.records.base import Result


class Pushed(Result, frozen=True, kw_only=True, tag="export.pushed"):
    """A package is in a registry."""

    path: str
    reference: str  # with the tag
    digest: str  # of the manifest: what names these very bytes
    files: int
    sent: int  # files that the registry did not have yet
    size_bytes: int

    def headline(self) -> str:
        """Give what pulls these very bytes."""
        return f"{self.reference.rpartition(':')[0]}@{self.digest}"
