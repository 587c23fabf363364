"""The command `init`: a project that runs as it lies.

Reads: a template, and what `--data` names: a folder of images or of texts, a table. Writes:
mlstack.yaml, the user's package (model.py, data.py), `data/NAME/` with labels.parquet or the table,
`data/NAME.dvc`, tests, a CI workflow, git and DVC repositories, `.mlstack/schema.json` and
`.mlstack/origin.json`. All of it is built in a hidden folder beside the target and renamed at the
end.
"""
