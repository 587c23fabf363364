"""Other formats than ONNX: made, run and compared before they are packed, and never served."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from export_runs import mlstack, packages
from litert_home import litert_python
from PIL import Image

from mlstack.config import load
from mlstack.errors import DataError, GateError, MachineError
from mlstack.export import edge
from mlstack.export import packages as within
from mlstack.export.order import Wish, check_runs, order
from mlstack.export.trial import Tried
from mlstack.records import base
from mlstack.records.edge import Edge, EdgeModel
from mlstack.records.package import GateResult

EASY = ("--set", "gates={}")
# What a person without mlstack writes: the file, a batch of images, the answers.
OPENVINO = """
import sys
import numpy
sys.modules["openvino_telemetry"] = None  # nothing is sent from a test
import openvino
compiled = openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
answers = compiled({"images": numpy.load(sys.argv[2])})
numpy.save(sys.argv[3], answers["probabilities"])
"""

LITERT = """
import sys
import numpy
from ai_edge_litert.interpreter import Interpreter
run = Interpreter(sys.argv[1]).get_signature_runner()
images = numpy.load(sys.argv[2])
rows = [run(images=images[i : i + 1])["probabilities"] for i in range(len(images))]
numpy.save(sys.argv[3], numpy.concatenate(rows))
"""


@pytest.mark.slow
def test_other_formats_answer_as_the_packed_graph_does_and_leave_it_alone(
    trained: Path, tmp_path: Path
) -> None:
    precision = ("--set", "export.quantize=int8-static")
    converter = ("--set", f"export.litert_python={litert_python()}")
    key = str(tmp_path / "key")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)

    done = mlstack(
        trained,
        "export",
        *EASY,
        *precision,
        *converter,
        "--format",
        "openvino,executorch,litert,coreml",
        "--sign",
        key,
        "--json",
    )

    assert done.code == 0, done.out + done.err
    package = trained / done.json["path"]
    models = {(m["format"], m["precision"]): m for m in done.json["edge"]}
    coreml = models.pop(("coreml", "fp32"))
    assert list(models) == [
        ("openvino", "fp32"),
        ("openvino", "int8-static"),
        ("executorch", "fp32"),
        ("litert", "fp32"),
        ("litert", "int8-static"),
    ]
    for model in models.values():
        assert model["verified"], model
        assert model["examples"] == 240
        assert model["size_bytes"] == sum((package / f).stat().st_size for f in model["files"])
        assert [t["batch"] for t in model["measured"]["times"]] == [1, 8, 32]
    assert not coreml["verified"]
    assert "only macOS" in coreml["why"]
    apple = (package / coreml["files"][0]).parent / "Data/com.apple.CoreML/model.mlmodel"
    assert all(name in apple.read_bytes() for name in (b"logits", b"probabilities"))
    assert " in f32" in models["openvino", "fp32"]["runtime"]
    assert json.loads((package / "mlstack/edge.json").read_text())["models"] == done.json["edge"]
    manifest = json.loads((package / "mlstack/manifest.json").read_text())
    assert "mlstack/edge/openvino/int8-static.bin" in manifest["files"]
    assert (
        "| openvino int8-static | `mlstack/edge/openvino/int8"
        in (package / "README.md").read_text()
    )
    assert "<h2>Other formats</h2>" in (package / "mlstack/report.html").read_text()
    images = golden_images(package)
    wanted = onnxruntime.InferenceSession(package / "model.onnx").run(
        ["probabilities"], {"images": images}
    )[0]
    found = plain_openvino(package / "mlstack/edge/openvino/int8-static.xml", images, tmp_path)
    assert np.abs(found - wanted).max() < 0.02
    full = plain_litert(package / "mlstack/edge/litert/fp32.tflite", images, tmp_path)
    wanted = plain_openvino(package / "mlstack/edge/openvino/fp32.xml", images, tmp_path)
    assert np.abs(full - wanted).max() < 1e-5
    proof = ("--key", f"{key}.pub", "--format", "openvino,litert", "--json")
    again = mlstack(trained, "export", "verify", *proof)
    assert again.code == 0, again.out + again.err
    assert again.json["formats"] == [
        "openvino fp32",
        "openvino int8-static",
        "litert fp32",
        "litert int8-static",
    ]
    assert again.json["signed_by"].startswith("SHA256:")


def plain_litert(model: Path, images: np.ndarray, folder: Path) -> np.ndarray:
    np.save(folder / "images.npy", images)
    paths = [str(model), str(folder / "images.npy"), str(folder / "answers.npy")]
    subprocess.run([sys.executable, "-c", LITERT, *paths], check=True)
    return np.load(folder / "answers.npy")


def golden_images(package: Path) -> np.ndarray:
    files = sorted((package / "mlstack/golden").iterdir())
    return np.stack(
        [np.asarray(Image.open(file).convert("L").resize((16, 16), 2)) for file in files]
    )[..., None]


def plain_openvino(graph: Path, images: np.ndarray, folder: Path) -> np.ndarray:
    np.save(folder / "images.npy", images)
    paths = [str(graph), str(folder / "images.npy"), str(folder / "answers.npy")]
    subprocess.run([sys.executable, "-c", OPENVINO, *paths], check=True, env=quiet(folder))
    return np.load(folder / "answers.npy")


def quiet(home: Path) -> dict[str, str]:
    """An environment in which what a library leaves at home is left in a test's folder."""
    return os.environ | {"HOME": str(home)}


def test_openvino_is_opened_without_its_telemetry(tmp_path: Path) -> None:
    ask = "import sys; from mlstack.export.worker import silent; silent.openvino().Core(); "
    ask += (
        "print([m for m in sys.modules if m.startswith('openvino_telemetry') and sys.modules[m]])"
    )

    done = subprocess.run(
        [sys.executable, "-c", ask], env=quiet(tmp_path), capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("openvino", "openvino"),
        ("executorch", "executorch"),
        ("coremltools", "coreml"),
        ("ai_edge_litert", "litert"),
    ],
)
def test_a_format_whose_extra_is_missing_says_what_to_type(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, library: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed

    with pytest.raises(MachineError) as caught:
        order(load(prepared / "mlstack.yaml"), Wish(formats=f"onnx,{name}"))

    assert caught.value.hint == f"pip install 'mlstack[{name}]'"
    assert packages(prepared) == []


def written(folder: Path, file: str) -> Path:
    """A package of nothing but the record of its other formats."""
    model = EdgeModel(
        format="openvino", precision="fp32", files=[file], size_bytes=1, verified=True
    )
    base.write(folder / "mlstack/edge.json", Edge(models=[model]))
    (folder / "mlstack/edge").mkdir()
    (folder / "mlstack/edge/fp32.xml").write_bytes(b"<net/>")
    return folder


@pytest.mark.parametrize(
    "file", ["mlstack/edge/../../../fp32.xml", "/etc/hosts", "model.onnx", "mlstack/edge/no.xml"]
)
def test_a_format_whose_file_lies_elsewhere_is_not_opened(tmp_path: Path, file: str) -> None:
    with pytest.raises(DataError, match="is not a file of the package"):
        within.edge(written(tmp_path, file), "openvino")


def test_a_package_without_a_format_says_how_to_get_it(tmp_path: Path) -> None:
    folder = written(tmp_path, "mlstack/edge/fp32.xml")

    assert within.edge(folder, "openvino")[0].precision == "fp32"
    with pytest.raises(DataError) as caught:
        within.edge(folder, "executorch")

    assert "--format executorch" in caught.value.hint


@pytest.mark.parametrize("name", ["fp32.xml", "fp32.tflite", "fp32.exe"])
def test_a_file_that_is_no_model_is_a_red_gate(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no model")
    ask = (
        "import sys; from pathlib import Path; from mlstack.export.worker.session import Session\n"
    )
    ask += "Session(Path(sys.argv[1]))"

    done = subprocess.run(
        [sys.executable, "-c", ask, str(tmp_path / name)],
        env=quiet(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )

    assert "GateError" in done.stderr.splitlines()[-1]


def test_core_ml_cannot_be_replayed_here() -> None:
    with pytest.raises(MachineError, match="only macOS"):
        check_runs("coreml")


def made(problem: str = "", **gates: bool) -> edge.Made:
    judged = [
        GateResult(name=name, passed=passed, detail="far off") for name, passed in gates.items()
    ]
    return edge.Made("openvino", Path(), [], Tried("fp32", gates=judged, problem=problem))


def test_a_format_that_answers_otherwise_leaves_no_package() -> None:
    edges = edge.Edges([made(parity=True), made(parity=False), made("it was ended by SIGSEGV")])

    with pytest.raises(GateError) as caught:
        edge.refuse_red(edges, model="pets")

    assert "no package of `pets`" in caught.value.problem
    assert [m.problem for m in caught.value.mistakes] == [
        "parity is red: far off",
        "it was ended by SIGSEGV",
    ]
    edge.refuse_red(edge.Edges([made(parity=True)]), model="pets")
