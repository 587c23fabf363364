"""`mlstack serve --model` in a folder that is no project."""

from pathlib import Path

import httpx
import pytest
from serving import CONFIG, NAME, end, make_graph, make_package, mlstack, start


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A package and a graph, as somebody was handed them."""
    make_package(tmp_path, number=3, seed=1)
    (tmp_path / "models" / NAME / "3").rename(tmp_path / "handed over")
    (tmp_path / "models" / NAME).rmdir()
    (tmp_path / "models").rmdir()
    make_graph(tmp_path / "alone v2.onnx", seed=5)
    return tmp_path


def test_a_package_is_served_with_the_defaults_under_its_own_name(folder: Path) -> None:
    server = start(folder, "--model", "handed over", "--set", "serve.max_body_mb=0.001")

    ready = httpx.get(f"{server.url}/health/ready").json()
    large = httpx.post(f"{server.url}/predict", content=b"0" * 2000)

    assert ready["version"] == 3
    assert large.status_code == 413
    assert httpx.get(f"{server.url}/v2/models/{NAME}").status_code == 200
    end(server)
    assert not (folder / "mlstack.yaml").exists()
    assert (folder / ".mlstack" / "requests").is_dir()


def test_a_graph_is_served_under_the_name_of_its_file(folder: Path) -> None:
    server = start(folder, "--model", "alone v2.onnx")

    answer = httpx.get(f"{server.url}/v2/models/alone-v2")

    end(server)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "there is no `mlstack.yaml` here"),
        (("--model", "nothing"), "there is no `nothing`"),
        (("--model", "handed over", "--config", "other.yaml"), "there is no `other.yaml` here"),
        (("--model", "handed over", "--set", "serve.prt=1"), 'did you mean "port"?'),
        (("--model", "handed over", "--host", "0.0.0.0"), "set `MLSTACK_SERVE_KEYS`"),
    ],
)
def test_what_cannot_be_served_there_is_exit_2(
    folder: Path, arguments: tuple[str, ...], words: str
) -> None:
    ran = mlstack(folder, "serve", "--port", "0", *arguments)

    assert ran.returncode == 2, ran.stderr
    assert words in ran.stderr
    assert not (folder / ".mlstack" / "serve.json").exists()


def test_below_a_project_its_folder_is_named_for_its_keys_count(folder: Path) -> None:
    (folder / "mlstack.yaml").write_text(CONFIG)
    (folder / "below").mkdir()

    ran = mlstack(folder / "below", "serve", "--port", "0", "--model", "../handed over")

    assert ran.returncode == 2
    assert f"cd {folder}" in ran.stderr
