"""The labeling server: `python -m mlstack.label.worker SESSION`, a process of its own."""
