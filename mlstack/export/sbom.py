"""What a package is made of, as CycloneDX 1.6: the model, its data, and the libraries."""

import json
from typing import Any
from urllib.parse import quote

from mlstack import __version__
from mlstack.records.lineage import Lineage

# What answers the graph; the others only made it.
RUNTIME = ("onnxruntime", "onnxruntime-gpu", "numpy", "pillow")


def render(lineage: Lineage, graph_sha256: str, parameters: int) -> bytes:
    """Give the bill of materials: the same run, the same bytes."""
    model = f"model:{lineage.model}"
    data = f"data:{lineage.dataset.name}"
    packages = sorted(lineage.environment.packages.items())
    references = [_reference(name, version) for name, version in packages]
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {
                "components": [{"type": "application", "name": "mlstack", "version": __version__}]
            },
            "component": _model(model, lineage, graph_sha256, parameters),
        },
        "components": [
            {
                "type": "data",
                "bom-ref": data,
                "name": lineage.dataset.name,
                "version": lineage.dataset.revision or lineage.dataset.md5,
                "data": [{"type": "dataset", "name": lineage.dataset.source}],
                "properties": [_property("md5", lineage.dataset.md5)],
            },
            *(_library(name, version) for name, version in packages),
        ],
        "dependencies": [
            {"ref": model, "dependsOn": [data, *references]},
            *({"ref": ref} for ref in (data, *references)),
        ],
    }
    return json.dumps(bill, indent=2, ensure_ascii=False).encode() + b"\n"


def _model(reference: str, lineage: Lineage, sha256: str, parameters: int) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": reference,
        "name": lineage.model,
        "version": lineage.run,
        "hashes": [{"alg": "SHA-256", "content": sha256}],
        "modelCard": {
            "modelParameters": {
                "task": lineage.config["project"]["task"],
                "datasets": [{"ref": f"data:{lineage.dataset.name}"}],
            }
        },
        "properties": [
            _property("parameters", str(parameters)),
            _property("checkpoint-sha256", lineage.checkpoint_sha256),
            _property("code-commit", lineage.code.commit or "none"),
        ],
    }


def _library(name: str, version: str) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": _reference(name, version),
        "name": name,
        "version": version,
        "purl": _reference(name, version),
        "scope": "required" if name.lower() in RUNTIME else "excluded",
    }


def _reference(name: str, version: str) -> str:
    return f"pkg:pypi/{quote(name.lower().replace('_', '-'))}@{quote(version)}"


def _property(name: str, value: str) -> dict[str, str]:
    return {"name": f"mlstack:{name}", "value": value}
