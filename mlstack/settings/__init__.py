"""The command `config`: what is in force and why.

Reads: mlstack.yaml, mlstack.local.yaml, the environment. Writes: `.mlstack/schema.json` (JSON
Schema for editors) and, on request, mlstack.yaml in the newest version and Feast's definitions.
"""
