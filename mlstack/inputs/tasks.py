"""What an example of each task is."""

ROWS = ("tabular", "text-classification")


def reads_rows(task: str) -> bool:
    """Tell whether an example is a row of a table; else it is a file."""
    return task in ROWS
