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

from mlstack.records.base import write
from mlstack.records.package import MANIFEST, MODEL, SIDE, Live


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


Spoil = Callable[[dict], object]


def nested(record: dict) -> None:
    record["preprocess"] = "NESTED"


def first_example(**fields: object) -> Spoil:
    return lambda golden: golden["examples"][0].update(fields)


def preprocess(**fields: object) -> Spoil:
    return lambda signature: signature["preprocess"].update(fields)


CONTRADICTIONS: dict[str, tuple[str, Spoil, str]] = {
    "too few probabilities": (
        "golden",
        first_example(probabilities=[1.0]),
        "has 1 probabilities, the package 10 classes",
    ),
    "too many probabilities": ("golden", first_example(probabilities=[0.0] * 11), "has 11"),
    "another class": ("golden", first_example(prediction="lion"), "`lion`, which is no class"),
    "classes cut off": (
        "signature",
        lambda signature: signature.update(classes=signature["classes"][:3]),
        "3 classes, and probabilities of shape [-1, 10]",
    ),
    "no height": ("signature", lambda s: s["preprocess"].pop("height"), "there is no `height`"),
    "no resize": ("signature", lambda s: s["preprocess"].pop("resize"), "there is no `resize`"),
    "height as text": ("signature", preprocess(height="16"), "Expected `int`, got `str`"),
    "no such height": ("signature", preprocess(height=-16), "are not possible"),
    "another height": (
        "signature",
        preprocess(height=17),
        "`preprocess` makes UINT8 [-1, 17, 16, 1], the input `images` is UINT8 [-1, 16, 16, 1]",
    ),
    "another kind": ("signature", preprocess(kind="sound"), "cannot preprocess"),
    "another name": (
        "signature",
        lambda signature: signature["inputs"][0].update(name="pictures"),
        "the graph's inputs are images UINT8 [-1, 16, 16, 1]",
    ),
    "another size": (
        "signature",
        lambda signature: (
            signature["inputs"][0].update(shape=[-1, 8, 8, 1]),
            signature["preprocess"].update(height=8, width=8),
        ),
        "the graph's inputs are images UINT8 [-1, 16, 16, 1]",
    ),
    "no inputs": ("signature", lambda s: s.update(inputs=[]), "names no inputs or no outputs"),
    "one output less": ("signature", lambda s: s["outputs"].pop(0), "the graph's outputs are"),
    "nested deeply": ("signature", nested, "is not a whole package.signature record"),
    "a later manifest": ("manifest", lambda record: record.update(v=99), "`int` <= 1"),
    "a later tensor": ("signature", lambda s: s["inputs"][0].update(v=2), "`int` <= 1"),
    "another run": ("lineage", lambda record: record.update(run="other"), "is that of run `other`"),
    "another model": ("lineage", lambda record: record.update(model="other"), "lineage.json"),
    "no counts": ("reference", lambda record: record.update(rows="many"), "package.reference"),
}


def seal_again(package: Path, version: int) -> None:
    """Make the manifest fit, and keep the version that a test has given it."""
    seal(package, NAME, 1)
    place = package / SIDE / "manifest.json"
    place.write_text(place.read_text().replace('"v": 1,', f'"v": {version},', 1))


def refused(root: Path, package: Path, words: str) -> None:
    """Have both commands refuse a package: exit 3, and say what to do."""
    for command in (["export", "verify", package], ["serve", "--port", "0", "--model", package]):
        done = mlstack(root, *map(str, command))

        assert done.returncode == 3, done.stderr
        assert words in " ".join(done.stderr.split())
        assert "hint: " in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_package_that_contradicts_itself_is_refused_by_verify_and_by_the_server(
    tmp_path: Path, name: str
) -> None:
    record, spoil, words = CONTRADICTIONS[name]
    (tmp_path / "mlstack.yaml").write_text(CONFIG)
    package = make_package(tmp_path)
    place = package / SIDE / f"{record}.json"
    content = json.loads(place.read_text())
    spoil(content)
    deep = "[" * 100_000 + "]" * 100_000
    place.write_text(json.dumps(content).replace('"NESTED"', f'{{"kind": {deep}}}'))
    seal_again(package, content["v"] if record == "manifest" else 1)

    refused(tmp_path, package, words)


@pytest.mark.parametrize(
    "file",
    ["README.md", *(f"{SIDE}/{n}.json" for n in ("lineage", "metrics", "parity", "reference"))],
)
def test_a_package_without_one_of_its_records_is_refused(tmp_path: Path, file: str) -> None:
    (tmp_path / "mlstack.yaml").write_text(CONFIG)
    package = make_package(tmp_path)
    (package / file).unlink()
    seal(package, NAME, 1)

    refused(tmp_path, package, f"names no `{file}`")


def test_a_package_whose_records_agree_is_verified(tmp_path: Path) -> None:
    (tmp_path / "mlstack.yaml").write_text(CONFIG)
    package = make_package(tmp_path)

    done = mlstack(tmp_path, "export", "verify", str(package))

    assert done.returncode == 0, done.stderr


def test_a_manifest_that_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "mlstack.yaml").write_text(CONFIG)
    manifest = make_package(tmp_path) / SIDE / MANIFEST
    manifest.unlink()
    os.mkfifo(manifest)

    promoted = mlstack(tmp_path, "serve", "promote", "1", timeout=20)

    assert promoted.returncode == 3, promoted.stderr
    assert "is not a model package" in promoted.stderr


def test_a_signature_that_is_no_plain_file_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "mlstack.yaml").write_text(CONFIG)
    signature = make_package(tmp_path) / SIDE / "signature.json"
    write(tmp_path / "models" / NAME / "live.json", Live(live=1))
    signature.unlink()
    os.mkfifo(signature)

    served = mlstack(tmp_path, "serve", "--port", "0", timeout=20)

    assert served.returncode == 3, served.stderr
    assert "no plain file" in served.stderr
