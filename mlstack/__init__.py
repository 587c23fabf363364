"""From a folder of raw data to a monitored model in production, from one config file."""

import os

__version__ = "0.1.0"

# Nothing is sent anywhere. These libraries would count who uses them and how, unless they are told
# otherwise before they are loaded; onnxruntime keeps a database for that in the home folder.
SILENCING = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
for _name, _value in SILENCING.items():
    os.environ.setdefault(_name, _value)
