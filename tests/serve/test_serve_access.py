"""Who may call: keys, certificates, web pages."""

import json
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from browser import started
from certificates import make_certificate
from cryptography import x509
from playwright.sync_api import Browser
from serving import CONFIG, NAME, Server, end, eventually, make_image, make_package, mlstack, start

from mlstack.errors import ConfigError
from mlstack.records import requests
from mlstack.records.server import TlsSpec
from mlstack.serve import certificate

ENVIRONMENT_KEY = "0123456789abcdef" * 2
TLS = "serve: {tls: {cert: tls/cert.pem, key: tls/key.pem}}\n"
PAGE = "https://app.example.com"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "mlstack.yaml").write_text(CONFIG)
    make_package(tmp_path)
    return tmp_path


def add_key(root: Path, name: str) -> str:
    return mlstack(root, "serve", "keys", "add", name, "--quiet").stdout.strip()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def refused(root: Path, *arguments: str) -> dict[str, str]:
    """Start a server that must not start; give its error."""
    ran = mlstack(root, "serve", "--port", "0", "--json", *arguments)
    error = json.loads(ran.stdout)["error"]
    assert ran.returncode == error["code"] == 2, ran.stderr
    return error


# Keys


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("guarded")
    (home / "mlstack.yaml").write_text(CONFIG + f"serve: {{cors_origins: ['{PAGE}']}}\n")
    make_package(home)
    return home


@pytest.fixture(scope="module")
def key(home: Path) -> str:
    return add_key(home, "alice")


@pytest.fixture(scope="module")
def guarded(home: Path, key: str) -> Iterator[Server]:
    """A server on every address, which asks for alice's key or for the one in its environment."""
    environment = {"MLSTACK_SERVE_KEYS": f" {ENVIRONMENT_KEY}, "}
    server = start(home, "--host", "0.0.0.0", environment=environment)
    server.url = server.url.replace("0.0.0.0", "127.0.0.1")
    yield server
    end(server)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_another_address_than_loopback_needs_a_key(root: Path, host: str) -> None:
    error = refused(root, "--host", host)

    assert f"other machines reach `{host}`, and there is no API key" in error["problem"]
    assert "mlstack serve keys add" in error["hint"]
    assert "--insecure" in error["hint"]
    assert not (root / "models" / NAME / "live.json").exists()


def test_insecure_serves_every_address_without_keys_and_says_so(root: Path) -> None:
    add_key(root, "alice")

    server = start(root, "--host", "0.0.0.0", "--insecure")

    answer = httpx.get(server.url.replace("0.0.0.0", "127.0.0.1") + "/v2")
    end(server)
    assert answer.status_code == 200
    assert "everybody who reaches 0.0.0.0 may call" in (root / "stderr.txt").read_text()


def test_keys_that_were_given_out_are_asked_for_on_loopback_too(root: Path) -> None:
    key = add_key(root, "alice")

    server = start(root)

    without = httpx.get(f"{server.url}/v2").status_code
    with_key = httpx.get(f"{server.url}/v2", headers=bearer(key)).status_code
    end(server)
    assert (without, with_key) == (401, 200)


@pytest.mark.parametrize(
    ("path", "challenge"),
    [("/predict", "Bearer"), ("/v2", "Bearer"), ("/nothing", "Bearer"), ("/", "Basic"),
     ("/metrics", "Basic"), ("/openapi.json", "Basic"), (f"/v2/models/{NAME}/ready", "Bearer")],
)  # fmt: skip
def test_without_a_key_everything_but_health_is_401(
    guarded: Server, path: str, challenge: str
) -> None:
    answer = httpx.get(guarded.url + path)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith(challenge)
    assert answer.json() == {
        "error": "an API key is needed: `Authorization: Bearer KEY`",
        "field": "authorization",
    }


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/v2/health/live"])
def test_health_needs_no_key(guarded: Server, path: str) -> None:
    assert httpx.get(guarded.url + path).status_code == 200


def test_a_key_is_taken_in_each_of_its_forms(guarded: Server, key: str) -> None:
    def status(**sent: object) -> int:
        return httpx.get(f"{guarded.url}/v2", **sent).status_code

    assert status(headers=bearer(key)) == 200
    assert status(headers={"authorization": f"bearer  {key}"}) == 200
    assert status(headers={"x-api-key": key}) == 200
    assert status(auth=("anybody", key)) == 200
    assert status(headers=bearer(ENVIRONMENT_KEY)) == 200
    assert status(headers=bearer(key[:-1])) == 401
    assert status(headers=bearer(key + "0")) == 401
    assert status(headers={"authorization": "Basic !!"}) == 401
    assert status(headers={"authorization": b"Bearer \xff\xfe"}) == 401
    assert status(headers={"authorization": key}) == 401


def test_who_has_no_key_writes_nothing_into_the_request_log(
    guarded: Server, home: Path, key: str
) -> None:
    image = make_image(home / "one.png", 7)

    asked = [
        httpx.post(f"{guarded.url}/predict", content=image, headers=headers).status_code
        for headers in ({}, bearer(key))
    ]
    metrics = httpx.get(f"{guarded.url}/metrics", headers=bearer(key)).text
    (wal,) = (home / ".mlstack" / "requests" / "wal").iterdir()
    eventually(lambda: (table := requests.read_wal(wal)) is not None and table.num_rows)
    logged = requests.read_wal(wal).to_pylist()

    assert asked == [401, 200]
    assert {row["status"] for row in logged} == {200}
    assert 'mlstack_rejected_total{reason="401"}' in metrics


def test_a_revoked_key_is_refused_and_a_new_one_taken_without_a_restart(
    guarded: Server, home: Path
) -> None:
    def status(key: str) -> int:
        return httpx.get(f"{guarded.url}/v2", headers=bearer(key)).status_code

    new = add_key(home, "bob")
    eventually(lambda: status(new) == 200)
    mlstack(home, "serve", "keys", "revoke", "bob")
    eventually(lambda: status(new) == 401)

    assert status(ENVIRONMENT_KEY) == 200


def test_a_first_key_says_that_the_server_which_runs_does_not_ask_for_it(root: Path) -> None:
    server = start(root)
    told = mlstack(root, "serve", "keys", "add", "alice").stdout
    end(server)
    again = start(root)
    quiet = mlstack(root, "serve", "keys", "add", "bob").stdout
    end(again)

    assert f"warning: {server.url} goes on asking for no key until it is started again" in told
    assert "warning" not in quiet


def test_keys_stay_asked_for_when_their_file_is_deleted_or_damaged(root: Path) -> None:
    key = add_key(root, "alice")
    server = start(root)
    file = root / ".mlstack" / "keys.json"

    file.write_text("{")
    eventually(lambda: "the API keys stay as they were" in (root / "stderr.txt").read_text())
    damaged = httpx.get(f"{server.url}/v2", headers=bearer(key)).status_code
    file.unlink()
    eventually(lambda: httpx.get(f"{server.url}/v2", headers=bearer(key)).status_code == 401)

    nobody = httpx.get(f"{server.url}/v2").status_code
    end(server)
    assert (damaged, nobody) == (200, 401)


def test_a_key_is_kept_as_a_hash_that_only_its_owner_may_read(root: Path) -> None:
    key = add_key(root, "alice")
    file = root / ".mlstack" / "keys.json"

    again = mlstack(root, "serve", "keys", "add", "alice", "--json")
    listed = json.loads(mlstack(root, "serve", "keys", "--json").stdout)

    assert len(key) == 68
    assert key not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert again.returncode == 2
    assert [line["name"] for line in listed["keys"]] == ["alice"]
    assert listed["keys"][0]["id"] == key[:12]


def test_a_file_of_keys_that_others_may_read_is_refused_with_what_to_type(root: Path) -> None:
    add_key(root, "alice")
    file = root / ".mlstack" / "keys.json"
    file.chmod(0o640)

    error = refused(root)

    assert f"others may read or change `{file}` (mode 640)" in error["problem"]
    assert error["hint"] == f"type `chmod 600 {file}`"


def test_when_all_keys_are_revoked_the_door_does_not_open(root: Path) -> None:
    add_key(root, "alice")
    mlstack(root, "serve", "keys", "revoke", "alice")

    error = refused(root)

    assert "every API key" in error["problem"]


def test_a_short_key_in_the_environment_is_refused_without_being_shown(root: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "mlstack", "serve", "--port", "0"],
        cwd=root,
        capture_output=True,
        text=True,
        env={**os.environ, "MLSTACK_SERVE_KEYS": "hunter2"},
    )

    assert ran.returncode == 2
    assert "has 7 characters" in ran.stderr
    assert "hunter2" not in ran.stderr


def test_predict_and_probe_send_the_callers_own_key(guarded: Server, home: Path, key: str) -> None:
    make_image(home / "one.png", 7)
    words = {
        "predict": ["serve", "predict", "one.png", "--url", guarded.url, "--json"],
        "probe": ["monitor", "probe", "--url", guarded.url, "--count", "1", "--json"],
    }

    def ran(name: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mlstack", *words[name]]
        together = {**os.environ, **environment}
        return subprocess.run(command, cwd=home, capture_output=True, text=True, env=together)

    stranger = ran("predict", {})

    assert stranger.returncode == 2
    assert "MLSTACK_API_KEY" in json.loads(stranger.stdout)["error"]["hint"]
    assert ran("predict", {"MLSTACK_API_KEY": key}).returncode == 0
    assert ran("probe", {"MLSTACK_API_KEY": key}).returncode == 0


def test_a_browser_asks_for_the_key_as_a_password_and_the_page_works(
    guarded: Server, home: Path, key: str
) -> None:
    def tried(browser: Browser, password: str) -> int:
        context = browser.new_context(http_credentials={"username": "me", "password": password})
        page = context.new_page()
        status = page.goto(guarded.url).status
        if status == 200:
            page.set_input_files("#file", home / "models" / NAME / "1/mlstack/golden/1.png")
            page.wait_for_selector("#found:not([hidden])")
        context.close()
        return status

    for browser in started():
        statuses = [tried(browser, key), tried(browser, "wrong")]

    assert statuses == [200, 401]


# Web pages


def preflight(server: Server, origin: str) -> httpx.Response:
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    return httpx.options(f"{server.url}/predict", headers=headers)


def test_a_listed_page_may_ask_and_read(guarded: Server, key: str) -> None:
    leave = preflight(guarded, PAGE)
    answer = httpx.get(f"{guarded.url}/v2", headers={"origin": PAGE, **bearer(key)})
    without_key = httpx.get(f"{guarded.url}/v2", headers={"origin": PAGE})

    assert leave.status_code == 204
    assert "authorization" in leave.headers["access-control-allow-headers"]
    for one in (leave, answer, without_key):
        assert one.headers["access-control-allow-origin"] == PAGE
        assert one.headers["vary"] == "origin"
    assert (answer.status_code, without_key.status_code) == (200, 401)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{PAGE}.evil.example"])
def test_a_page_that_is_not_listed_is_refused_and_cannot_read_why(
    guarded: Server, key: str, origin: str
) -> None:
    leave = preflight(guarded, origin)
    answer = httpx.post(
        f"{guarded.url}/feedback", content=b"{}", headers={"origin": origin, **bearer(key)}
    )

    assert (leave.status_code, answer.status_code) == (403, 403)
    assert answer.json()["field"] == "origin"
    assert "access-control-allow-origin" not in {*leave.headers, *answer.headers}


# TLS


@pytest.fixture
def secured(root: Path) -> Path:
    (root / "mlstack.yaml").write_text(CONFIG + TLS)
    make_certificate(root / "tls")
    return root


def serial(server: Server) -> int:
    address = ("127.0.0.1", httpx.URL(server.url).port)
    return x509.load_pem_x509_certificate(
        ssl.get_server_certificate(address).encode()
    ).serial_number


def test_https_is_spoken_with_the_certificate_and_drains_like_http(secured: Path) -> None:
    server = start(secured)
    trusted = ssl.create_default_context(cafile=secured / "tls" / "cert.pem")
    image = make_image(secured / "one.png", 7)

    with httpx.Client(base_url=server.url, verify=trusted) as client:
        answer = client.post("/predict", content=image)
        status = json.loads(mlstack(secured, "serve", "status", "--json").stdout)
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{server.url}/v2")
        with pytest.raises(httpx.HTTPError):
            httpx.get(server.url.replace("https", "http") + "/v2")
        code = server.stop()

    end(server)
    assert server.url.startswith("https://127.0.0.1:")
    assert answer.status_code == 200
    assert status["ready"] is True
    assert code == 0


def test_the_server_of_the_project_is_probed_by_its_own_certificate_and_key(secured: Path) -> None:
    add_key(secured, "anna")
    server = start(secured)

    well = mlstack(secured, "monitor", "probe", "--json")
    by_url = mlstack(secured, "monitor", "probe", "--url", server.url)
    image = f"models/{NAME}/1/mlstack/golden/0.png"
    strange = mlstack(secured, "serve", "predict", image, "--url", server.url)
    plain = server.url.replace("https", "http")
    spoken = mlstack(secured, "serve", "predict", image, "--url", plain)

    end(server)
    assert well.returncode == 0, well.stdout
    assert json.loads(well.stdout)["failures"] == {}
    assert by_url.returncode == 5
    assert "the certificate of https://" in by_url.stdout
    assert strange.returncode == 2
    assert "hint: if it is yours, name its file: SSL_CERT_FILE=cert.pem" in strange.stderr
    assert spoken.returncode == 75
    assert f"type {server.url}" in spoken.stderr


def test_a_renewed_certificate_is_taken_up_and_a_wrong_one_is_not(secured: Path) -> None:
    server = start(secured)
    first = serial(server)

    renewed = make_certificate(secured / "tls")
    eventually(lambda: serial(server) == renewed)
    make_certificate(secured / "other")
    shutil.copy(secured / "other" / "cert.pem", secured / "tls" / "cert.pem")
    eventually(lambda: "the old certificate stays" in (secured / "stderr.txt").read_text())

    last = serial(server)
    end(server)
    assert first != renewed == last


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("no cert", "serve.tls.cert: there is no `"),
        ("no key", "serve.tls.key: there is no `"),
        ("expired", "cert.pem` has expired"),
        ("not yet", "cert.pem` is not valid yet"),
        ("other key", "key.pem` is not the key of `"),
        ("no pem", "cannot be read as PEM"),
        ("open key", "others may read or change `"),
    ],
)
def test_a_certificate_that_is_not_fit_is_refused(
    tmp_path: Path, damage: str, problem: str
) -> None:
    make_certificate(tmp_path)
    spec = TlsSpec(cert=str(tmp_path / "cert.pem"), key=str(tmp_path / "key.pem"))
    match damage:
        case "no cert":
            (tmp_path / "cert.pem").unlink()
        case "no key":
            (tmp_path / "key.pem").unlink()
        case "expired":
            make_certificate(tmp_path, begins_days=-9, ends_days=-1)
        case "not yet":
            make_certificate(tmp_path, begins_days=1)
        case "other key":
            make_certificate(tmp_path / "other")
            shutil.copy(tmp_path / "other" / "key.pem", tmp_path / "key.pem")
        case "no pem":
            (tmp_path / "cert.pem").write_text("hello")
        case "open key":
            (tmp_path / "key.pem").chmod(0o644)

    with pytest.raises(ConfigError) as refused:
        certificate.check(spec)

    assert problem in refused.value.problem
    assert refused.value.hint


def test_a_server_does_not_start_with_an_expired_certificate(secured: Path) -> None:
    make_certificate(secured / "tls", begins_days=-9, ends_days=-1)

    error = refused(secured)

    assert error["problem"].endswith("tls/cert.pem` has expired")


def test_a_certificate_that_expires_soon_is_warned_of(secured: Path) -> None:
    make_certificate(secured / "tls", ends_days=5)

    server = start(secured)

    end(server)
    assert "(4 days)" in (secured / "stderr.txt").read_text()
