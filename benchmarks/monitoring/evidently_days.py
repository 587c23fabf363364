"""Evidently's drift preset on each day: python evidently_days.py STREAM.npy REFERENCE_DAYS."""

import json
import sys
import time
import warnings

import numpy as np
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset

warnings.filterwarnings("ignore")


def main() -> None:
    """Print, as JSON, which columns alarm on which day after the reference, and CPU seconds."""
    stream, first = np.load(sys.argv[1]), int(sys.argv[2])  # (days, rows, columns)
    names = [f"c{place}" for place in range(stream.shape[2])]
    reference = pd.DataFrame(stream[:first].reshape(-1, len(names)), columns=names)
    begun, alarms = time.process_time(), []
    for day in stream[first:]:
        report = Report([DataDriftPreset()]).run(pd.DataFrame(day, columns=names), reference)
        found = {}
        for metric in report.dict()["metrics"]:
            settings = metric["config"]
            if "column" in settings:
                far = float(metric["value"]) - settings["threshold"]
                found[settings["column"]] = far < 0 if "p_value" in settings["method"] else far >= 0
        alarms.append([bool(found[name]) for name in names])
    print(json.dumps({"alarms": alarms, "cpu_s": time.process_time() - begun}))


if __name__ == "__main__":
    main()
