"""The stages of a project in their order, which of them are stale, and the status screen.

Reads: mlstack.yaml, the data, the user's code, `.mlstack/labels.db`, `.mlstack/runs/`, `models/`,
`.mlstack/requests/`, `.mlstack/alerts/`, `dvc.lock`. Writes: its stages in `dvc.yaml`,
`.mlstack/stages/`, `.mlstack/prepared/`, `evaluation/`, and, through DVC, `dvc.lock`.

Runs and packages are kept by mlstack, not by DVC's cache. What DVC sees as the output of a stage is
the small file `.mlstack/stages/STAGE.json` that names the run or package; so `dvc status` and
`dvc repro` tell the truth about what is stale without copying any model into a second store.
"""
