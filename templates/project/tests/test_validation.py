"""The newest package against the gates of mlstack.yaml."""

import json
from pathlib import Path

import pytest
from conftest import mlstack


@pytest.mark.validation
def test_every_metric_lies_within_its_gate(package: Path) -> None:
    metrics = json.loads((package / "mlstack" / "metrics.json").read_text())["values"]
    code, shown = mlstack("config", "show")
    assert code == 0, shown
    bounds = {s["key"]: s["value"] for s in shown["settings"]}

    for key, bound in bounds.items():
        if not key.startswith("gates.validation.") or bound is None:
            continue
        metric, _, side = key.removeprefix("gates.validation.").rpartition(".")
        assert metric in metrics, f"{key}: {package} has no metric {metric}"
        if side == "min":
            assert metrics[metric] >= bound, key
        if side == "max":
            assert metrics[metric] <= bound, key


@pytest.mark.validation
def test_no_gate_was_red_when_the_package_was_made(package: Path) -> None:
    gates = json.loads((package / "mlstack" / "metrics.json").read_text()).get("gates", [])

    assert [gate["name"] for gate in gates if not gate["passed"]] == []
