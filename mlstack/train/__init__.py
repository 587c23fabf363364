"""Train the user's LightningModule as a run that can be traced, stopped and gone on with.

Reads mlstack.yaml, data/NAME/ with its pointer data/NAME.dvc, and the user's code.
Writes .mlstack/runs/ID/ (run.json, examples.parquet, code.diff, events.jsonl, system.jsonl,
checkpoints/, mirrors/, logs/) and .mlstack/runs.db, an index of the runs that is made anew from
their folders when it is lost. The ranks are processes of their own (`worker/`); only they import
torch. So are the mirrors (`worker/mirrors/`), which copy a run's files for other trackers.
"""
