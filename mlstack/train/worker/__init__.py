"""The ranks of a run: `python -m mlstack.train.worker RUN_FOLDER [--resume]`, one process each.

Reads run.json and examples.parquet of the run, and the environment of torchelastic (RANK,
WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT; absent: one rank).
Rank 0 appends to events.jsonl and writes checkpoints/last.ckpt and best.ckpt; every rank touches
heartbeat-RANK, and any rank appends the Failed event when it is the first to fail.
Exit codes: 0 after Finished or Stopped, 1 after Failed; mlstack.launch.supervise says the rest.
"""
