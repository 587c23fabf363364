"""The command `init`: a project that runs as it lies.

Reads: a template, and a folder of images when `--data` names one. Writes: mlstack.yaml, the
user's package (model.py, data.py), `data/NAME/` with labels.parquet, `data/NAME.dvc`, tests, a CI
workflow, git and DVC repositories, `.mlstack/schema.json` and `.mlstack/origin.json`. All of it is
built in a hidden folder beside the target and renamed at the end.
"""
