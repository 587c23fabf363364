"""The entry: `mlstack` and `python -m mlstack`."""

import sys


def main() -> None:
    """Load the commands and run one; Ctrl-C while they are loaded ends quietly."""
    try:
        from mlstack.cli import main as run  # noqa: PLC0415  what takes long is inside the try
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
