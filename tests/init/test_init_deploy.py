"""The files of `init --deploy`, each tried by what will read it."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).parents[1] / "serve"))

from certificates import make_certificate
from serving import CONFIG, NAME, Server, end, eventually, make_image, make_package

KUBERNETES = "1.32"
KEY = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory, run_init: Callable) -> Path:
    folder = tmp_path_factory.mktemp("deploy")
    done = run_init(folder, NAME, "--template", "bare", "--deploy", "docker,systemd,k8s", "--json")
    assert done.returncode == 0, done.stderr
    made = folder / NAME / "deploy"
    shown = json.loads(done.stdout)["files"]
    assert sorted(f"deploy/{path.name}" for path in made.iterdir()) == sorted(
        name for name in shown if name.startswith("deploy/")
    )
    return made


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A folder with what the image has: the config and a package."""
    (tmp_path / "mlstack.yaml").write_text(CONFIG)
    make_package(tmp_path)
    return tmp_path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def documents(path: Path) -> list[dict[str, Any]]:
    return list(YAML(typ="safe", pure=True).load_all(path))


# Containers


def instruction(dockerfile: str, name: str) -> str:
    """Give the arguments of a Dockerfile's instruction, lines joined."""
    joined = dockerfile.replace("\\\n", "")
    (found,) = re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)
    return found


def test_what_the_container_starts_serves_with_a_key_and_is_found_healthy(
    deploy: Path, served: Path
) -> None:
    port = free_port()
    dockerfile = (deploy / "Dockerfile").read_text().replace("8000", str(port))
    command = json.loads(instruction(dockerfile, "CMD"))
    check = json.loads(instruction(dockerfile, "HEALTHCHECK").partition("CMD")[2])
    started = [sys.executable, "-m", *command]
    environment = {**os.environ, "MLSTACK_SERVE_KEYS": KEY}

    without = subprocess.run(started, cwd=served, capture_output=True, text=True)
    process = subprocess.Popen(
        started, cwd=served, env=environment, stdout=subprocess.PIPE, text=True
    )
    server = Server(process, f"http://127.0.0.1:{port}", served, process.stdout.readline())
    healthy = subprocess.run([sys.executable, *check[1:]]).returncode
    code = server.stop(signal.SIGTERM)
    unhealthy = subprocess.run([sys.executable, *check[1:]], capture_output=True).returncode
    end(server)

    assert without.returncode == 2
    assert "there is no API key" in without.stderr
    assert (healthy, code) == (0, 0)
    assert unhealthy != 0
    assert command[:2] == ["mlstack", "serve"]
    assert "mlstack[" not in dockerfile


def test_the_image_is_built_from_the_config_and_the_packages_alone(deploy: Path) -> None:
    dockerfile = (deploy / "Dockerfile").read_text()
    copied = {shlex.split(line)[2] for line in re.findall(r"^COPY .*$", dockerfile, re.MULTILINE)}
    lines = (deploy / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if not line.startswith("#")]

    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules[1:]} == copied == {"mlstack.yaml", "models"}


# systemd


def unit(deploy: Path, folder: Path) -> Path:
    """Write the unit for a project that lies in `folder`, and the command that it starts."""
    program = folder / "opt" / ".venv" / "bin" / "mlstack"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m mlstack "$@"\n')
    program.chmod(0o755)
    text = (deploy / "mlstack.service").read_text()
    path = folder / f"{NAME}.service"
    path.write_text(text.replace(f"/opt/{NAME}", str(folder / "opt")))
    return path


def test_systemd_finds_nothing_wrong_with_the_watch(deploy: Path, tmp_path: Path) -> None:
    unit(deploy, tmp_path)  # makes the program
    paths = [tmp_path / f"{NAME}-monitor.{kind}" for kind in ("service", "timer")]
    for path in paths:
        text = (deploy / f"monitor{path.suffix}").read_text()
        path.write_text(text.replace(f"/opt/{NAME}", str(tmp_path / "opt")))

    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, paths)], capture_output=True, text=True
    )
    exposed = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=30", str(paths[0])],
        capture_output=True,
        text=True,
    )

    assert (ran.returncode, [line for line in ran.stderr.splitlines() if NAME in line]) == (0, [])
    assert exposed.returncode == 0, exposed.stdout[-300:]


def test_what_systemd_runs_to_watch_ends_well_before_anything_was_asked(
    deploy: Path, served: Path
) -> None:
    lines = (deploy / "monitor.service").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")
    command = settings["ExecStart"].split()

    ran = subprocess.run(
        [sys.executable, "-m", "mlstack", *command[1:]], cwd=served, capture_output=True, text=True
    )

    assert command[0] == f"{settings['WorkingDirectory']}/.venv/bin/mlstack"
    assert str(ran.returncode) == settings["SuccessExitStatus"], ran.stderr


def test_systemd_finds_nothing_wrong_with_the_unit(deploy: Path, tmp_path: Path) -> None:
    path = unit(deploy, tmp_path)

    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True
    )
    exposed = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=30", str(path)],
        capture_output=True,
        text=True,
    )
    path.write_text(path.read_text().replace("WatchdogSec=30", "WatchdogSeconds=30"))
    wrong = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True
    )

    assert (ran.returncode, [line for line in ran.stderr.splitlines() if NAME in line]) == (0, [])
    assert exposed.returncode == 0, exposed.stdout[-300:]
    assert "WatchdogSeconds" in wrong.stderr


def test_systemd_is_told_when_the_server_answers_lives_and_stops(served: Path) -> None:
    # a socket's path must be short
    with (
        tempfile.TemporaryDirectory() as short,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
    ):
        told.bind(f"{short}/notify")
        told.settimeout(30)
        environment = {**os.environ, "NOTIFY_SOCKET": f"{short}/notify"}
        process = subprocess.Popen(
            [sys.executable, "-m", "mlstack", "serve", "--port", "0", "--quiet"],
            cwd=served, env=environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

        ready = told.recv(100)
        server = Server(process, process.stdout.readline().strip(), served, "")
        answers = httpx.get(f"{server.url}/health/ready").status_code
        alive = told.recv(100)
        server.stop()
        stopping = told.recv(100)
        end(server)

    assert (ready, alive, stopping) == (b"READY=1", b"WATCHDOG=1", b"STOPPING=1")
    assert answers == 200


# nginx

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


@pytest.fixture
def behind_nginx(deploy: Path, served: Path) -> Iterator[Server]:
    """A server that asks for keys, and its address behind nginx with deploy/nginx.conf."""
    port, front = free_port(), free_port()
    make_certificate(served / "tls")
    site = (deploy / "nginx.conf").read_text()
    for old, new in (
        ("127.0.0.1:8000", f"127.0.0.1:{port}"),
        ("listen 443 ssl", f"listen 127.0.0.1:{front} ssl"),
        ("/etc/letsencrypt/live/api.example.com/fullchain.pem", f"{served}/tls/cert.pem"),
        ("/etc/letsencrypt/live/api.example.com/privkey.pem", f"{served}/tls/key.pem"),
    ):
        assert old in site
        site = site.replace(old, new)
    (served / "site.conf").write_text(site)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {served}/nginx-{kind};" for kind in kinds)
    (served / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {served}/nginx.pid; error_log {served}/error.log;"
        f"events {{}} http {{ access_log off; {places} include {served}/site.conf; }}"
    )
    arguments = [
        NGINX,
        "-e",
        f"{served}/error.log",
        "-p",
        str(served),
        "-c",
        f"{served}/nginx.conf",
    ]
    tested = subprocess.run([*arguments, "-t"], capture_output=True, text=True)
    assert tested.returncode == 0, tested.stderr
    process = subprocess.Popen(
        [sys.executable, "-m", "mlstack", "serve", "--port", str(port), "--quiet"],
        cwd=served, env={**os.environ, "MLSTACK_SERVE_KEYS": KEY},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    server = Server(process, process.stdout.readline().strip(), served, "")
    proxy = subprocess.Popen(arguments)
    server.url = f"https://127.0.0.1:{front}"
    try:
        yield server
    finally:
        proxy.terminate()
        proxy.wait(10)
        end(server)


def test_nginx_puts_https_in_front_and_hands_on_keys_ids_and_pages(
    behind_nginx: Server, served: Path
) -> None:
    trusted = ssl.create_default_context(cafile=served / "tls" / "cert.pem")
    image = make_image(served / "one.png", 7)
    key = {"authorization": f"Bearer {KEY}"}

    with httpx.Client(base_url=behind_nginx.url, verify=trusted, headers=key) as client:

        def answers() -> bool:
            try:
                return client.get("/health/ready").status_code == 200
            except httpx.ConnectError:
                return False

        eventually(answers)
        own = client.post("/predict", content=image, headers={"x-request-id": "mine"})
        given = client.post("/predict", content=image)
        stranger = client.post("/predict", content=image, headers={"authorization": ""})
        page = client.post("/predict", content=image, headers={"origin": behind_nginx.url})
        foreign = client.post("/predict", content=image, headers={"origin": "https://evil.test"})
        large = client.post("/predict", content=bytes(17_000_000))

    assert (own.status_code, own.headers["x-request-id"]) == (200, "mine")
    assert re.fullmatch("[0-9a-f]{32}", given.headers["x-request-id"])
    assert stranger.status_code == 401
    assert (page.status_code, foreign.status_code, large.status_code) == (200, 403, 413)


# Clusters


@pytest.mark.parametrize("number", [0, 1])
def test_kubernetes_knows_every_field_of_the_manifests(deploy: Path, number: int) -> None:
    manifest = documents(deploy / "k8s.yaml")[number]

    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)

    manifest["spec"]["replica"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_the_service_finds_the_pods_and_the_probes_find_the_server(deploy: Path) -> None:
    deployment, service = documents(deploy / "k8s.yaml")
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]

    labels = pod["metadata"]["labels"]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == container["ports"][0]["name"]


def test_kserve_gets_a_pod_that_kubernetes_knows_and_its_own_few_fields(deploy: Path) -> None:
    (manifest,) = documents(deploy / "kserve.yaml")
    predictor = dict(manifest["spec"]["predictor"])
    own = {name: predictor.pop(name) for name in ("minReplicas", "maxReplicas", "timeout")}

    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": predictor}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)

    assert (manifest["apiVersion"], manifest["kind"]) == (
        "serving.kserve.io/v1beta1",
        "InferenceService",
    )
    assert all(isinstance(value, int) for value in own.values())
    # by this name KServe knows the container that serves
    assert [one["name"] for one in predictor["containers"]] == ["kserve-container"]


def test_pods_run_the_image_as_the_user_that_owns_its_files(deploy: Path) -> None:
    deployment, _ = documents(deploy / "k8s.yaml")
    (kserve,) = documents(deploy / "kserve.yaml")

    user = int(instruction((deploy / "Dockerfile").read_text(), "USER"))

    for pod in (deployment["spec"]["template"]["spec"], kserve["spec"]["predictor"]):
        assert pod["securityContext"]["runAsUser"] == user
        assert pod["securityContext"]["runAsNonRoot"] is True
