"""TensorRT before CUDA; here each session is on the CPU and says that it is on a GPU."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from serving import CONFIG, end, make_free_graph, make_graph, make_package, mlstack, seal, start

from mlstack import files
from mlstack.config import load as load_project
from mlstack.errors import DataError, GateError, MachineError
from mlstack.records.base import read, write
from mlstack.records.package import MODEL, Golden
from mlstack.records.server import BatchingSpec, DeviceChoice, ServerSpec
from mlstack.serve import engines
from mlstack.serve.api import _choice
from mlstack.serve.results import Load, Timing
from mlstack.serve.start import Wanted, _device
from mlstack.serve.worker import buffers, cuda, engine, offline, runner, tensorrt
from mlstack.serve.worker.answers import Refused
from mlstack.serve.worker.compare import Sample
from mlstack.serve.worker.engine import Engine, Gpus, open_engine
from mlstack.serve.worker.metrics import Metrics
from mlstack.serve.worker.model import Model, load, load_bare
from mlstack.serve.worker.reload import Deployment, _gpus
from mlstack.serve.worker.shadow import Shadow
from mlstack.serve.worker.traffic import Deployed

LOAD = Load(payload="JSON", connections=1, p50_ms=1, p99_ms=1, requests_per_s=1)
IMAGES = [np.full((1, 16, 16, 1), 3, np.uint8)]
EIGHT = BatchingSpec(max_size=8, adaptive=False)


class Pretended:
    """A session on the CPU that names other providers."""

    def __init__(self, session: Any, providers: list[str], takers: set[str]) -> None:
        self._real = session
        self.get_providers = lambda: providers
        parts = [SimpleNamespace(ep_name=name) for name in sorted(takers)]
        self.get_provider_graph_assignment_info = lambda: parts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@dataclass
class Machine:
    """A machine with GPUs, CUDA and TensorRT, and what was opened on it."""

    providers: list[list[Any]] = field(default_factory=list)
    takers: set[str] = field(default_factory=lambda: {cuda.TENSORRT, cuda.PROVIDER})
    fails: Callable[[int], None] = lambda gpu: None  # of TensorRT on a GPU

    @property
    def options(self) -> list[dict[str, Any]]:
        """Give what each session was told of TensorRT."""
        return [one[0][1] for one in self.providers if one[0][0] == cuda.TENSORRT]

    def open(self, model: Path, providers: list[Any], threads: int) -> Any:
        self.providers.append(providers)
        session = ORIGINAL(model, [runner.CPU], 1)
        names = [one if isinstance(one, str) else one[0] for one in providers]
        if cuda.TENSORRT in names:
            self.fails(providers[0][1]["device_id"])
        return Pretended(session, names, self.takers)


ORIGINAL = runner._session


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine()
    monkeypatch.setattr(runner, "_session", found.open)
    monkeypatch.setattr(buffers, "place", lambda session: ("cpu", 0))
    monkeypatch.setattr(cuda, "loads", lambda library: True)
    monkeypatch.setattr(cuda, "count_gpus", lambda: 2)
    monkeypatch.setattr(cuda, "name_of", lambda gpu: "NVIDIA RTX (48 GB)")
    monkeypatch.setattr(tensorrt, "_version", lambda: 101303)
    return found


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    make_graph(tmp_path / "model.onnx", 1)
    return tmp_path / "model.onnx"


def opened(graph: Path, *, gpus: int = 1, device: str = "auto") -> Engine:
    return open_engine(graph, device, EIGHT, Gpus(gpus, graph.parent / "engines"))


def test_tensorrt_comes_before_cuda_and_is_told_the_batches(machine: Machine, graph: Path) -> None:
    found = opened(graph)

    assert found.runner.provider == "TensorrtExecutionProvider"
    assert found.runner.on_gpu
    assert found.plan.buckets == (1, 2, 4, 8)
    assert [one if isinstance(one, str) else one[0] for one in machine.providers[-1]] == [
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ]
    (options,) = machine.options
    assert options["trt_profile_min_shapes"] == "images:1x16x16x1"
    assert options["trt_profile_opt_shapes"] == "images:8x16x16x1"
    assert options["trt_profile_max_shapes"] == "images:8x16x16x1"
    assert options["trt_engine_cache_enable"] is options["trt_timing_cache_enable"] is True


def test_the_installed_provider_knows_each_option_and_wants_these_libraries(
    machine: Machine, graph: Path
) -> None:
    library = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_tensorrt.so"
    if not library.exists():
        pytest.skip("this ONNX Runtime has no TensorRT")
    content = library.read_bytes()

    opened(graph)

    for name in (*machine.options[0], "libnvinfer.so.10", "libnvonnxparser.so.10"):
        assert name.encode() in content


def test_without_the_setting_there_is_no_tensorrt(machine: Machine, graph: Path) -> None:
    found = open_engine(graph, "auto", EIGHT)

    assert found.runner.provider == "CUDAExecutionProvider"
    assert machine.options == []


def test_a_restart_finds_the_engines_and_another_graph_gpu_or_version_does_not(
    machine: Machine, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(graph)
    opened(graph)
    make_graph(graph, 2)
    opened(graph)
    make_graph(graph, 1)
    monkeypatch.setattr(tensorrt, "_version", lambda: 101400)
    opened(graph)
    monkeypatch.setattr(cuda, "name_of", lambda gpu: "NVIDIA H")
    opened(graph)

    places = [options["trt_engine_cache_path"] for options in machine.options]
    timings = [Path(options["trt_timing_cache_path"]) for options in machine.options]
    assert places[0] == places[1]
    assert len(set(places)) == 4
    assert all(Path(place).is_dir() for place in places)
    assert timings[0] == timings[2]  # shared by graphs, not by GPUs or versions
    assert [one.parent for one in timings] == [tmp_path / "engines"] * 5
    assert timings[0].name.startswith("NVIDIA-RTX-48-GB-TensorRT-101303-ONNX-Runtime-")


def test_engines_of_graphs_that_are_no_more_go_and_kernels_times_stay(
    machine: Machine, graph: Path, tmp_path: Path
) -> None:
    opened(graph)
    make_graph(tmp_path / "other.onnx", 2)
    open_engine(tmp_path / "other.onnx", "auto", EIGHT, Gpus(1, tmp_path / "engines"))
    kept, gone = [Path(options["trt_engine_cache_path"]) for options in machine.options]
    (kept / "a.engine").write_bytes(b"kept")
    (gone / "b.engine").write_bytes(b"gone")
    (kept.parent / "kernels.timing").write_bytes(b"kept")

    engines.sweep(tmp_path / "engines")
    both = kept.is_dir() and gone.is_dir()
    (tmp_path / "other.onnx").unlink()
    engines.sweep(tmp_path / "engines")
    one = (kept / "a.engine").is_file(), gone.exists()
    make_graph(graph, 3)
    engines.sweep(tmp_path / "engines")

    assert both
    assert one == (True, False)
    assert not kept.exists()
    assert (kept.parent / "kernels.timing").is_file()


def test_a_server_that_starts_sweeps_the_engines(tmp_path: Path) -> None:
    (tmp_path / "mlstack.yaml").write_text(CONFIG)
    package = make_package(tmp_path)
    built = tmp_path / ".mlstack" / "tensorrt" / "GPU"
    kept, gone = built / f"{files.sha256(package / MODEL)}-8", built / f"{'0' * 64}-8"
    for folder in (kept, gone):
        engines.claim(folder, package / MODEL)

    end(start(tmp_path))

    assert kept.is_dir()
    assert not gone.exists()


@pytest.mark.parametrize(
    ("precision", "fp16", "int8"),
    [
        ("", False, False),
        ("fp32", False, False),
        ("fp16", True, False),
        ("int8-static-s8s8", False, True),
        ("int8-dynamic", False, False),
    ],
)
def test_only_what_export_has_rounded_is_rounded(
    machine: Machine, graph: Path, precision: str, *, fp16: bool, int8: bool
) -> None:
    model = onnx.load(graph)
    model.metadata_props.add(key="mlstack.precision", value=precision)
    onnx.save(model, graph)

    opened(graph)

    assert machine.options[0]["trt_fp16_enable"] is fp16
    assert machine.options[0]["trt_int8_enable"] is int8


def fail(gpu: int) -> None:
    raise DataError("it does not open") from RuntimeError("TensorRT EP failed to create engine")


def fail_on_the_second(gpu: int) -> None:
    if gpu == 1:
        fail(gpu)


@pytest.mark.parametrize(("fails", "gpus"), [(fail, 1), (fail_on_the_second, 2)])
def test_an_engine_that_cannot_be_built_leaves_cuda_on_all_gpus_and_is_said(
    machine: Machine,
    graph: Path,
    caplog: pytest.LogCaptureFixture,
    fails: Callable[[int], None],
    gpus: int,
) -> None:
    machine.fails = fails

    found = opened(graph, gpus=gpus)

    assert found.runner.provider == "CUDAExecutionProvider"
    assert found.plan.runners == gpus
    assert found.gpus == Gpus(gpus)  # opened anew after a fault, it is not tried again
    assert caplog.messages == ["TensorRT is not used, CUDA is: TensorRT EP failed to create engine"]


def test_an_engine_that_fails_in_its_first_call_leaves_cuda(
    machine: Machine, graph: Path, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    run = runner.Runner.run

    def call(self: runner.Runner, arrays: list[np.ndarray]) -> list[np.ndarray]:
        if self.provider == cuda.TENSORRT:
            raise RuntimeError("out of memory")
        return run(self, arrays)

    monkeypatch.setattr(runner.Runner, "run", call)
    found = opened(graph)

    assert found.runner.provider == "CUDAExecutionProvider"
    assert caplog.messages == ["TensorRT is not used, CUDA is: out of memory"]
    assert len(found.run(IMAGES)) == 2


def test_the_server_gathers_into_the_buffers_and_mends_without_what_was_refused(
    machine: Machine, graph: Path
) -> None:
    machine.fails = fail
    spec = ServerSpec(
        root=str(graph.parent), model="m", host="", port=0, url="", pid=0, started="", tensorrt=True
    )
    machine_gpus = _gpus(spec)
    model = load_bare(graph, "m", "auto", EIGHT, machine_gpus)
    tried = len(machine.options)

    async def deploy() -> Deployed:
        return Deployment(spec, SimpleNamespace(metrics=Metrics("m")))._deployed(model)

    batcher = asyncio.run(deploy()).batcher
    model.runner._session = None
    model.runner._bound.clear()
    with pytest.raises(Refused):
        batcher._run(IMAGES)

    assert machine_gpus == Gpus(1, graph.parent / ".mlstack" / "tensorrt")
    assert batcher._buffers is not None
    assert len(batcher._run(IMAGES)) == 2  # opened anew
    assert (tried, len(machine.options)) == (1, 1)


def test_tensorrt_that_takes_no_part_of_the_graph_is_not_named(
    machine: Machine, graph: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine.takers = {cuda.PROVIDER}

    found = opened(graph)

    assert found.runner.provider == "CUDAExecutionProvider"
    assert "it runs no part of" in caplog.text


def test_a_graph_with_free_sizes_stays_with_cuda(
    machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_free_graph(tmp_path / "free.onnx")

    found = opened(tmp_path / "free.onnx")

    assert found.runner.provider == "CUDAExecutionProvider"
    assert machine.options == []
    assert "leaves sizes of its inputs open" in caplog.text


def test_each_gpu_has_a_session_with_tensorrt(machine: Machine, graph: Path) -> None:
    found = opened(graph, gpus=2)

    assert [options["device_id"] for options in machine.options] == [0, 1]
    assert found.plan.runners == 2


def test_on_the_cpu_the_setting_is_of_no_account(machine: Machine, graph: Path) -> None:
    found = opened(graph, device="cpu")

    assert found.runner.provider == "CPUExecutionProvider"
    assert not (graph.parent / "engines").exists()


def test_a_library_that_is_missing_is_named_with_what_to_install(
    machine: Machine, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "loads", lambda library: "nvonnxparser" not in library)

    with pytest.raises(MachineError) as missing:
        opened(graph)

    assert "`libnvonnxparser.so.10` does not load" in missing.value.problem
    assert "pip install 'tensorrt-cu" in missing.value.hint
    assert "serve.tensorrt: false" in missing.value.hint


def test_answers_that_are_not_the_golden_ones_leave_cuda(
    machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    package = make_package(tmp_path)
    run = runner.Runner.run

    def call(self: runner.Runner, arrays: list[np.ndarray]) -> list[np.ndarray]:
        off = 0.01 if self.provider == cuda.TENSORRT else 0
        return [answer + np.float32(off) for answer in run(self, arrays)]

    monkeypatch.setattr(runner.Runner, "run", call)
    model = load(package, "m", "auto", EIGHT, Gpus(1, tmp_path / "engines"))

    assert model.runner.provider == "CUDAExecutionProvider"
    assert model.engine.gpus.engines is None
    assert "does not answer its golden example" in caplog.text


def test_a_package_that_answers_otherwise_with_cuda_too_is_refused(
    machine: Machine, tmp_path: Path
) -> None:
    package = make_package(tmp_path)
    place = package / "mlstack" / "golden.json"
    golden = read(place, Golden)
    golden.examples[0].probabilities[0] += 0.1
    write(place, golden)
    seal(package, package.parent.name, 1)

    with pytest.raises(GateError, match="golden example"):
        load(package, "m", "auto", EIGHT, Gpus(1, tmp_path / "engines"))


def test_what_bench_found_does_not_overrule_it(tmp_path: Path) -> None:
    (tmp_path / "mlstack.yaml").write_text(CONFIG + "serve: {tensorrt: true}\n")
    make_package(tmp_path)
    assert mlstack(tmp_path, "serve", "promote", "1").returncode == 0
    choice = DeviceChoice(package=1, device="cpu", rows_per_s={"cpu": 2.0, "gpu": 1.0})
    write(tmp_path / ".mlstack" / "serve-device.json", choice)

    assert _device(load_project(tmp_path / "mlstack.yaml"), Wanted()) == "auto"


def test_where_it_is_not_there_the_server_ends_with_6_and_says_what_to_type(
    tmp_path: Path,
) -> None:
    (tmp_path / "mlstack.yaml").write_text(CONFIG)
    make_package(tmp_path)
    words = ["serve", "--port", "0", "--json", "--set", "serve.tensorrt=true"]

    if cuda.count_gpus():
        pytest.skip("this machine has a GPU")
    ran = mlstack(tmp_path, *words)

    assert ran.returncode == 6
    error = json.loads(ran.stdout)["error"]
    assert "TensorRT was asked for (`serve.tensorrt`)" in error["problem"]
    assert "serve.tensorrt: false" in error["hint"]


def test_bench_compares_the_devices_each_at_its_best_size(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {
        "CUDAExecutionProvider": {1: 100, 2: 300, 4: 600},
        "CPUExecutionProvider": {1: 500, 2: 700, 4: 200},
    }

    def time(model: Model, example: list[np.ndarray], rows: int) -> Timing:
        rate = rates[model.runner.provider][rows]
        return Timing(rows=rows, p50_ms=1, p99_ms=1, rows_per_s=rate)

    monkeypatch.setattr(offline, "_time", time)
    monkeypatch.setattr(offline, "rehearse", lambda *_: [LOAD])
    *_, benched = offline.bench(make_package(tmp_path), 4, "auto", Gpus())

    assert benched.rows_per_s_by_device == {"gpu": 600, "cpu": 700}
    assert _choice(benched).device == "cpu"


def test_bench_times_on_a_gpu_the_calls_that_a_server_makes(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(np.linspace(1e-3, 1e-4, 1000))
    monkeypatch.setattr(engine, "_fastest", lambda call: (call(), float(next(seconds)))[1])
    monkeypatch.setattr(offline, "SECONDS_PER_SIZE", 0)
    bound: list[list[int]] = []

    def rehearse(package: Path, device: str, model: Model, example: list[np.ndarray]) -> list[Load]:
        bound.append(model.runner.bound_rows)
        return [LOAD]

    monkeypatch.setattr(offline, "rehearse", rehearse)
    engines = tmp_path / "engines"
    *_, benched = offline.bench(make_package(tmp_path), 4, "gpu", Gpus(1, engines))

    assert bound == [[1, 2, 4]]
    assert benched.provider == "TensorrtExecutionProvider"
    assert machine.options[0]["trt_profile_max_shapes"] == "images:4x16x16x1"


def test_a_shadow_calls_with_no_more_rows_than_the_engine_was_built_for(
    machine: Machine, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_bare(graph, "m", "auto", EIGHT, Gpus(1, graph.parent / "engines"))
    many = [np.random.default_rng(0).integers(0, 255, (19, 16, 16, 1)).astype(np.uint8)]
    sample = Sample("id", model, many, model.runner.run(many), lambda _: many, 0)
    called: list[int] = []
    run = runner.Runner.run

    def call(self: runner.Runner, arrays: list[np.ndarray]) -> list[np.ndarray]:
        called.append(len(arrays[0]))
        return run(self, arrays)

    monkeypatch.setattr(runner.Runner, "run", call)
    shadow = Shadow(1, lambda: model, Metrics("m"), lambda: False)
    shadow._ask(model, [sample])

    assert called == [8, 8, 3]
    assert (shadow.rows, shadow.agreed, shadow.failed) == (19, 19, 0)


def test_bench_of_a_graph_that_takes_one_row_a_call_times_that(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = onnx.load(graph)
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(made, graph)
    monkeypatch.setattr(offline, "load", lambda *_: load_bare(graph, "m", "cpu", EIGHT))
    monkeypatch.setattr(offline, "rehearse", lambda *_: [LOAD])

    *_, benched = offline.bench(graph.parent, 8, "cpu", Gpus())

    assert [timing.rows for timing in benched.timings] == [1]
