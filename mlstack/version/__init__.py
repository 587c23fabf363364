"""Versions of data and models: what stock DVC and git know, in the words of mlstack.

Reads: `data/NAME/`, its pointer `data/NAME.dvc` (in the working tree and in git's history), DVC's
cache, `.mlstack/runs/ID/run.json`, `models/NAME/N/mlstack/lineage.json`, `models/NAME/live.json`,
the metadata of ONNX files, `.mlstack/requests/`.
Writes: the pointer, DVC's cache and config, the trash beside the cache, one git commit for each
snapshot, `.gitattributes` and git's setting of the merge driver, and scratch folders in
`.mlstack/reproduce/`. Only `dvc_bridge` imports dvc, and stock `dvc` always agrees.
"""
