"""A package that may be anybody's: what `export verify` refuses, the server does not open."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto
from serving import CONFIG, NAME, make_package, mlstack, seal

from mlstack.records.package import MANIFEST, MODEL, SIDE


def golden_above(package: Path) -> None:
    place = package / SIDE / "golden.json"
    golden = json.loads(place.read_text())
    shutil.move(package / SIDE / "golden" / "0.png", package.with_name("stolen.png"))
    golden["examples"][0]["file"] = "../../../stolen.png"
    place.write_text(json.dumps(golden))


def weights_elsewhere(package: Path) -> None:
    graph = onnx.load(package / MODEL)
    (weights,) = [one for one in graph.graph.initializer if one.name == "weights"]
    (package / "weights.bin").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="weights.bin")
    (package / MODEL).write_bytes(graph.SerializeToString())


def link(package: Path) -> None:
    shutil.move(package / MODEL, package.with_name("outside.onnx"))
    (package / MODEL).symlink_to(package.with_name("outside.onnx"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (golden_above, "is not a file of the package"),
        (weights_elsewhere, "keeps weights in other files"),
        (link, "is a link or a device"),
    ],
)
def test_a_package_whose_manifest_fits_and_that_leads_elsewhere_is_not_served(
    tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    (tmp_path / "mlstack.yaml").write_text(CONFIG)
    package = make_package(tmp_path)
    spoil(package)
    seal(package, NAME, 1)

    served = mlstack(tmp_path, "serve", "--port", "0")

    assert served.returncode == 3, served.stderr
    assert words in served.stderr
    assert "Traceback" not in served.stderr


def test_a_manifest_that_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "mlstack.yaml").write_text(CONFIG)
    manifest = make_package(tmp_path) / SIDE / MANIFEST
    manifest.unlink()
    os.mkfifo(manifest)

    promoted = mlstack(tmp_path, "serve", "promote", "1", timeout=20)

    assert promoted.returncode == 3, promoted.stderr
    assert "is not a model package" in promoted.stderr
