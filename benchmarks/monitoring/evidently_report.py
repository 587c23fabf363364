"""One drift report of Evidently: python evidently_report.py REFERENCE.parquet NOW.parquet OUT."""

import sys
import warnings

import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset

warnings.filterwarnings("ignore")


def main() -> None:
    """Compare two tables, and write the page, or the JSON where OUT ends in .json."""
    reference, now = (pd.read_parquet(path) for path in sys.argv[1:3])
    found = Report([DataDriftPreset()]).run(now, reference)
    save = found.save_json if sys.argv[3].endswith(".json") else found.save_html
    save(sys.argv[3])


if __name__ == "__main__":
    main()
