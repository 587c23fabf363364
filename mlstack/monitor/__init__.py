"""Watch the served model: is the service well, do inputs and predictions look as expected.

Reads `models/NAME/live.json`, the live package's `mlstack/reference.json`, `golden.json` and
`signature.json`, the request log in `.mlstack/requests/` and late labels in `.mlstack/feedback/`.
Writes `.mlstack/reports/ID.html` and `ID.json`, and `.mlstack/alerts/ID.json`.

A column alarms when both its adjusted p-value is below 0.01 and its effect is above the limit of
mlstack.yaml: p-values alone alarm on anything at many rows, effects alone on chance at few.
"""
