"""Label images in the browser; export the labels that `train` reads.

A label is an event in `.mlstack/labels.db` (SQLite, append-only, synced before it is
acknowledged); what a person currently says is derived from the events.
Reads: mlstack.yaml, data/NAME/ (files, labels.parquet or labels.csv).
Writes: .mlstack/labels.db, .mlstack/label-session.json, data/NAME/labels.parquet.
`store` keeps events, `items` finds files and classes, `board` deals items to annotators,
`quality` judges labels, `formats` speaks CSV, JSON lines and Label Studio, `worker` is the server
and `web` the page.
"""
