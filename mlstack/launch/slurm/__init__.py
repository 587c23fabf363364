"""Runs as jobs of Slurm: a script in the run's folder, submitted, and followed from afar.

`script` writes job.sh, `queue` asks Slurm's own commands, `follow` reads the run's events until
its job is over. Inside the job `job` supervises the ranks that `srun` starts, as a run on one
machine is supervised.
"""
