"""Config -> processes on this machine: plan, supervise, the user's code and its version."""
