"""Names that the command line must know without loading anything else."""

import enum


class Format(enum.StrEnum):
    """What `label export` writes."""

    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"
    LABEL_STUDIO = "label-studio"
