"""NannyML's univariate drift, a chunk a day: python nannyml_days.py STREAM.npy REFERENCE_DAYS."""

import json
import sys
import time
import warnings

import nannyml
import numpy as np
import pandas as pd

warnings.filterwarnings("ignore")


def main() -> None:
    """Print, as JSON, which columns alarm on which day after the reference, and CPU seconds."""
    stream, first = np.load(sys.argv[1]), int(sys.argv[2])  # (days, rows, columns)
    names = [f"c{place}" for place in range(stream.shape[2])]
    tables = [
        pd.DataFrame(part.reshape(-1, len(names)), columns=names)
        for part in (stream[:first], stream[first:])
    ]
    begun = time.process_time()
    watch = nannyml.UnivariateDriftCalculator(column_names=names, chunk_size=stream.shape[1])
    watch.fit(tables[0])
    found = watch.calculate(tables[1]).filter(period="analysis").to_df()
    alarms = found.xs("alert", axis=1, level=2)[names].to_numpy().astype(bool)
    print(json.dumps({"alarms": alarms.tolist(), "cpu_s": time.process_time() - begun}))


if __name__ == "__main__":
    main()
