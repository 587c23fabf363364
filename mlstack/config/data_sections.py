"""Settings of the data: where it is, how it is divided, labeled and versioned."""

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, model_validator

from mlstack.config.kinds import AUGMENT, DottedClass, Duration, Secret, Section, Share


class Split(Section):
    """Shares of train, validation and test; they add up to 1."""

    train: Share = Field(default=0.8, description="Share to learn from.")
    val: Share = Field(default=0.1, description="Share to choose the best epoch with.")
    test: Share = Field(default=0.1, description="Share to judge the finished model with.")
    stratify: bool = Field(default=True, description="Keep the class balance in every part.")
    group_by: str | None = Field(
        default=None, description="Column whose equal values stay in the same part."
    )

    @model_validator(mode="after")
    def _adds_up(self) -> "Split":
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + val + test is {total:g}; it must be 1")
        return self


class Synthetic(Section):
    """Generated examples, only ever added to train."""

    fraction: Share = Field(default=0.0, description="Share of generated examples in train.")


class DataChecks(Section):
    """What the data must satisfy before it is trained on."""

    max_missing: Share = Field(
        default=0.01, description="Largest share of missing values in a column of a table."
    )
    no_duplicates_across_splits: bool = Field(
        default=True, description="Refuse equal files in different parts."
    )
    min_per_class: int = Field(default=2, ge=0, description="Fewest examples of a class.")


class Features(Section):
    """Values from further Parquet files, as they were known at the time of a row."""

    key: str = Field(min_length=1, description="Column that names whom a row is about.")
    time: str = Field(min_length=1, description="Column of the moment; nothing later is looked at.")
    files: list[str] = Field(
        min_length=1, description="Parquet files with both columns, below the folder of the data."
    )
    ttl: Duration | None = Field(default=None, description='What is older is missing, e.g. "30d".')


class Data(Section):
    """Where the data is and how it is read."""

    source: str = Field(
        min_length=1,
        description="Folder under data/ with the files and their labels, or a URL to copy from.",
        examples=["data/digits"],
    )
    table: str | None = Field(
        default=None, min_length=1, description="Table of a postgresql:// source, or SCHEMA.TABLE."
    )
    query: str | None = Field(
        default=None, min_length=1, description="SELECT on a postgresql:// source, instead."
    )
    password: Secret | None = Field(
        default=None, description="Where the password of a postgresql:// source is: env:NAME."
    )
    label: str = Field(
        default="label", min_length=1, description="Column of a table that holds the class."
    )
    module: DottedClass | None = Field(
        default=None, description="Own LightningDataModule as package.module:Class."
    )
    args: dict[str, Any] = Field(default_factory=dict, description="Arguments of data.module.")
    features: Features | None = Field(default=None, description="Joined to the rows of a table.")
    classes: list[str] | None = Field(
        default=None, description="The classes in order; taken from the labels when not given."
    )
    split: Split = Field(default_factory=Split, description="How examples are divided.")
    sampling: Literal["natural", "balanced"] = Field(
        default="natural", description="balanced: every class equally often in train."
    )
    augment: Annotated[str, StringConstraints(pattern=AUGMENT)] = Field(
        default="none", description="none, basic, photo, strong or package.module:function."
    )
    synthetic: Synthetic = Field(default_factory=Synthetic, description="Generated examples.")
    checks: DataChecks = Field(default_factory=DataChecks, description="Checks of the data.")

    @property
    def is_remote(self) -> bool:
        """Whether the source is a URL, whose content is copied before it is used."""
        return "://" in self.source

    @property
    def folder(self) -> str:
        """The folder of the files: the source itself, or what its URL is copied into."""
        if not self.is_remote:
            return self.source
        last = (self.table or self.source.rstrip("/")).rpartition("/")[2]
        name = last if self.table else last.partition("?")[0].removesuffix(".parquet")
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name.removesuffix(".csv")).strip("-")
        return f"data/{plain or 'source'}"

    @model_validator(mode="after")
    def _fits_its_source(self) -> "Data":
        parts = urlsplit(self.source) if self.is_remote else None
        if parts and parts.password:
            raise ValueError("source holds a password; write password: env:NAME instead")
        if parts and parts.scheme == "postgresql":
            if (self.table is None) == (self.query is None):
                raise ValueError("a postgresql:// source needs a table or a query, one of them")
        elif self.table or self.query or self.password:
            raise ValueError("table, query and password are for a postgresql:// source")
        return self


class Label(Section):
    """How people label."""

    queue: Literal["random", "uncertain", "diverse"] = Field(
        default="random", description="Order in which items are offered."
    )
    overlap: Share = Field(default=0.0, description="Share of items that two people label.")
    min_agreement: Share = Field(default=0.8, description="Cohen's kappa that `check` asks for.")


class Versioning(Section):
    """Where data versions are kept."""

    backend: Literal["dvc", "none"] = Field(default="dvc", description="Keeper of versions.")
    layout: Literal["files", "packs", "chunks"] = Field(
        default="files", description="Packs for many small files, chunks for large that change."
    )
    remote: str | None = Field(
        default=None, description="Folder or URL to push to, or a remote of DVC by name."
    )
