"""Runs on a cluster of Ray: a driver asks Ray Train for as many workers as the run has ranks.

`ranks` starts the driver for the supervisor of this machine and never imports ray. `driver` does,
in a process of its own; `hosts` is what it sends to the cluster: each worker there starts one rank,
the same process as everywhere.
"""
