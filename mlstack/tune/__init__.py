"""The room `tune`: search for better settings, one run a trial.

Reads mlstack.yaml (`tune`) and everything that `train` reads; writes .mlstack/studies/NAME.journal
(an Optuna journal: `optuna` itself reads it) and one run a trial under .mlstack/runs/, whose
run.json names the study and the trial. Each `mlstack tune` is a new study, as each `mlstack train`
is a new run; `--resume` goes on with the newest one until it has the trials that were asked for.
Trials are asked, reported and told in this process alone; the runs are supervised in threads.
"""
