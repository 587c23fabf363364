"""Config -> processes on this machine: plan, supervise, the user's code and its version.

Reads the project's data (hashed as DVC does), its pointer `data/NAME.dvc` and git's state.
Writes `.mlstack/runs/ID/` (run.json, examples.parquet, code.diff, logs/, lock, the last event of a
run that could not write it itself) and the table of GPU leases in the person's state folder.
`plan` fixes everything a run depends on, `leases` holds its GPUs, `supervise` runs its ranks.
"""
