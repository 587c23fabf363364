"""LiteRT's converter in an environment of its own: found, asked, started, and allowed no more."""

import ast
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from export_runs import mlstack, packages
from litert_home import litert_python

from mlstack.config import load
from mlstack.errors import MachineError
from mlstack.export import apart
from mlstack.export.order import Wish, order
from mlstack.export.worker import elsewhere

# A module that takes numbers of 64 bits, as those of texts do, and what it answers.
TOKENS = """
import sys
import numpy
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(100, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens):
        logits = self.head(self.embed(tokens).mean(1))
        return logits, torch.softmax(logits, -1)

torch.manual_seed(0)
net = Net().eval()
tokens = torch.randint(100, (5, 12))
torch.export.save(torch.export.export(net, (tokens[:1],)), sys.argv[1])
numpy.savez(sys.argv[2], tokens=tokens, answers=net(tokens)[1].detach())
"""
ANSWER = """
import sys
from pathlib import Path
import numpy
from mlstack.export.worker.session import Session
given = numpy.load(sys.argv[2])
found = Session(Path(sys.argv[1])).answer(given["tokens"])[1]
print(numpy.abs(found - given["answers"]).max())
"""


def environment(folder: Path, **versions: str) -> Path:
    """A real environment, in which distributions of these versions say that they are there."""
    venv.create(folder, symlinks=True)
    for name, version in versions.items():
        info = site(folder) / f"{name}-{version}.dist-info"
        info.mkdir()
        named = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
        (info / "METADATA").write_text(named)
    return folder / "bin" / "python"


def site(folder: Path) -> Path:
    return next((folder / "lib").glob("python*/site-packages"))


def job(folder: Path) -> elsewhere.Job:
    return elsewhere.Job(
        program=str(folder / "program.pt2"),
        folder=str(folder),
        input="input",
        outputs=["logits", "probabilities"],
        precisions={"fp32": None},
    )


def refused(project: Path, python: Path) -> MachineError:
    config = load(project / "mlstack.yaml", sets=(f"export.litert_python={python}",))
    with pytest.raises(MachineError) as caught:
        order(config, Wish(formats="onnx,litert"))
    return caught.value


def test_without_the_converters_environment_the_whole_command_is_named(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared)
    torch = apart.metadata.version("torch").split("+")[0]

    with pytest.raises(MachineError) as caught:
        order(load(prepared / "mlstack.yaml"), Wish(formats="litert"))

    assert caught.value.hint == (
        "type `python3 -m venv .mlstack/litert && "
        f".mlstack/litert/bin/pip install torch=={torch} litert-torch==0.10.0`"
    )
    assert "venv tools &&" in refused(prepared, Path("tools/bin/python")).hint
    assert f"venv '{tmp_path}/my own'" in refused(prepared, tmp_path / "my own/bin/python").hint
    assert packages(prepared) == []


def test_an_environment_with_another_torch_is_refused_before_anything_starts(
    prepared: Path, tmp_path: Path
) -> None:
    python = environment(tmp_path / "there", torch="2.9.1", litert_torch="0.10.0")

    error = refused(prepared, python)

    assert f"`{python}` has torch 2.9.1" in error.problem
    assert f"{python.parent}/pip install torch==" in error.hint


def test_an_environment_without_the_converter_is_named(prepared: Path, tmp_path: Path) -> None:
    empty = environment(tmp_path / "empty")
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'no libpython here' >&2\nexit 127\n")
    broken.chmod(0o755)

    assert "has no litert-torch" in refused(prepared, empty).problem
    assert "does not run: no libpython here" in refused(prepared, broken).problem


@pytest.mark.parametrize(
    ("code", "limit_s", "problem"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 60, "was ended by SIGSEGV"),
        ("import os; os._exit(3)", 60, "ended with exit code 3"),
        ("raise NotImplementedError('aten.fft\\nmore')", 60, "NotImplementedError: aten.fft"),
        ("import nothing_there", 60, "ModuleNotFoundError: No module named 'nothing_there'"),
        ("bytearray(60 << 30)", 60, "MemoryError: "),
        ("import time; time.sleep(60)", 1, "LiteRT's converter took more than 1 s"),
    ],
)
def test_a_converter_that_dies_is_a_problem_of_its_format(
    tmp_path: Path, code: str, limit_s: int, problem: str
) -> None:
    python = environment(tmp_path / "there")
    (site(tmp_path / "there") / "litert_torch.py").write_text(code)
    (tmp_path / "program.pt2").write_bytes(b"a program")

    found = elsewhere.convert(str(python), job(tmp_path), limit_s)

    assert found.endswith(problem)
    assert not (tmp_path / "fp32.tflite").exists()


def test_the_converter_ends_with_the_worker_that_started_it(tmp_path: Path) -> None:
    python = environment(tmp_path / "there")
    pid = tmp_path / "pid"
    hangs = f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)"
    (site(tmp_path / "there") / "litert_torch.py").write_text(hangs)
    (tmp_path / "program.pt2").write_bytes(b"a program")
    work = f"from mlstack.export.worker.elsewhere import *; convert({str(python)!r}, {{}}, 60)"
    worker = subprocess.Popen([sys.executable, "-c", work.format(job(tmp_path))])
    until(lambda: pid.is_file() and pid.read_text())

    worker.kill()
    worker.wait()

    until(lambda: not Path(f"/proc/{pid.read_text()}").exists())


def until(condition: Callable[[], object]) -> None:
    """Wait for what must come."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_a_converter_that_refuses_leaves_no_package_and_says_why(
    trained: Path, tmp_path: Path
) -> None:
    torch = apart.metadata.version("torch")
    python = environment(tmp_path / "there", torch=torch, litert_torch="0.10.0")
    refuses = "raise NotImplementedError('no lowering for aten.fft')"
    (site(tmp_path / "there") / "litert_torch.py").write_text(refuses)
    setting = f"export.litert_python={python}"

    done = mlstack(trained, "export", "--set", setting, "--set", "gates={}", "--format", "litert")

    assert done.code == 4
    assert "litert fp32 did not pass" in done.err
    assert "it cannot be made: NotImplementedError: no lowering for aten.fft" in done.err
    assert "Traceback" not in done.err
    assert not [name for name in packages(trained) if name.endswith("model.onnx")]


def test_what_runs_elsewhere_needs_nothing_of_mlstack() -> None:
    nodes = list(ast.walk(ast.parse(elsewhere.SCRIPT.read_text())))

    found = {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}
    found |= {name.name for n in nodes if isinstance(n, ast.Import) for name in n.names}

    theirs = {name.split(".")[0] for name in found} - set(sys.stdlib_module_names)
    assert theirs == {"torch", "numpy", "litert_torch", "ai_edge_litert", "ai_edge_quantizer"}


@pytest.mark.slow
def test_numbers_of_64_bits_are_given_as_32(tmp_path: Path) -> None:
    given = str(tmp_path / "given.npz")
    program = str(tmp_path / "program.pt2")
    subprocess.run([sys.executable, "-c", TOKENS, program, given], check=True)

    assert elsewhere.convert(str(litert_python()), job(tmp_path), 120) == ""

    done = subprocess.run(
        [sys.executable, "-c", ANSWER, tmp_path / "fp32.tflite", given],
        check=True,
        capture_output=True,
        text=True,
    )
    assert np.load(given)["tokens"].dtype == np.int64
    assert float(done.stdout) < 1e-6
