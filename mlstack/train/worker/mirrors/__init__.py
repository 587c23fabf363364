"""Copies of a run: `python -m mlstack.train.worker.mirrors NAME RUN... [--follow]`.

Reads run.json, events.jsonl and system.jsonl of each run; writes `mirrors/NAME.json` beside them,
and what the tracker keeps: `.mlstack/tensorboard/RUN/`, `.mlstack/wandb/`, or rows of the MLflow
server at MLFLOW_TRACKING_URI. It imports no torch, and the ranks know nothing of it.
"""
