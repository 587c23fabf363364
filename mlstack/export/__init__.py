"""Run -> verified model package.

Reads `.mlstack/runs/ID/` and the project's own classes; builds the graph in a worker with torch,
measures it in another one without torch, and judges the figures by the gates of mlstack.yaml.
Writes `models/NAME/N/` (model.onnx, README.md, mlstack/*.json, mlstack/golden/*) as a whole and
`models/NAME/config.pbtxt`; nothing when a gate is red. Scratch files lie in `.mlstack/export/`.
`export verify` opens a package from anywhere, trusts nothing in it, and replays its examples.
`export push` puts one into an OCI registry.
"""
