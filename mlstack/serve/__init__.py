"""Serve the live model package over HTTP, and say which package is live.

`api.serve` checks the package and the port, writes `.mlstack/serve.json` and replaces its own
process by `mlstack.serve.worker`: one process, HTTP of our own, ONNX Runtime, no torch.

Reads models/NAME/N/ and models/NAME/live.json (watched while serving). Writes
models/NAME/live.json (promote, rollback, canary, shadow; a canary that has
failed is ended by the server), .mlstack/serve.json, .mlstack/requests/ (the
request log, see records/requests.py), .mlstack/feedback/ (late labels),
.mlstack/proven/ (packages that a process with limits has opened, see proof.py)
and .mlstack/tensorrt/ (engines that TensorRT has built).

SIGTERM or Ctrl-C: no new connections, what is queued and what open connections send within a
second is answered (`Connection: close`), the log is closed, exit 0; a second signal ends it at
once with 143 or 130.
"""
