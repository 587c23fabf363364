"""A package in an OCI registry: pushed, refused, cut short, pulled back and verified."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import registry_server
from export_runs import mlstack
from oras.client import OrasClient
from registry_server import PASSWORD, USER, OciRegistry
from token_server import Signer, tokens

from mlstack.errors import BusyError, ConfigError, DataError, StepError
from mlstack.export import push as pushing
from mlstack.export.pushed import Pushed
from mlstack.export.registry import Place
from mlstack.records.package import MODEL, SIDE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(trained_once: Path) -> Path:
    """A package of the digits."""
    done = mlstack(trained_once, "export", "--precision", "fp32", "--set", "gates={}", "--json")
    assert done.code == 0, done.out
    return trained_once / done.json["path"]


@pytest.fixture
def package(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(made, tmp_path / "package")


@pytest.fixture(scope="module")
def open_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OciRegistry]:
    """A registry that asks nobody who he is."""
    with registry_server.registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


def push(package: Path, reference: str) -> Pushed:
    *_, last = pushing.push(package / "no.yaml", sets=(), reference=reference, wanted=str(package))
    assert isinstance(last, Pushed)
    return last


def pull(host: str, name: str, tag: str, folder: Path) -> dict:
    """Lay a package out as `oras pull` does: each layer under its title, hashes checked."""
    address = f"http://{host}/v2/{name}"
    kind = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    with httpx.Client(trust_env=False) as http:
        answer = http.get(f"{address}/manifests/{tag}", headers=kind)
        assert answer.status_code == 200, answer.text
        for layer in answer.json()["layers"]:
            content = http.get(f"{address}/blobs/{layer['digest']}").content
            assert layer["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
            assert layer["size"] == len(content)
            path = folder / layer["annotations"]["org.opencontainers.image.title"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return answer.json() | {"digest": f"sha256:{hashlib.sha256(answer.content).hexdigest()}"}


def test_what_is_pulled_back_is_the_package_and_verifies(
    package: Path, open_registry: OciRegistry, tmp_path: Path
) -> None:
    place = f"{open_registry.host}/models/digits"

    done = mlstack(tmp_path, "export", "push", place, str(package), "--json")

    assert done.code == 0, done.out + done.err
    manifest = pull(open_registry.host, "models/digits", "1", tmp_path / "pulled")
    assert done.json["digest"] == manifest["digest"]
    assert done.json["reference"] == f"{place}:1"
    assert manifest["artifactType"] == "application/vnd.mlstack.package.v1"
    assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    assert content(package) == content(tmp_path / "pulled")
    verified = mlstack(tmp_path, "export", "verify", str(tmp_path / "pulled"), "--json")
    assert verified.code == 0, verified.out


def stock_client() -> OrasClient:
    """Give the ORAS project's own client, which asks no proxy for this machine."""
    client = OrasClient(insecure=True)
    client.session.trust_env = False
    return client


def test_the_stock_client_pulls_what_the_push_said_to_pull(
    package: Path, open_registry: OciRegistry, tmp_path: Path
) -> None:
    (package / "mlstack" / "a name with spaces, ümlaut").write_bytes(b"\x00\xff" * 70_000)
    (package / "empty").write_bytes(b"")
    shutil.copy(package / "README.md", package / "mlstack" / "the same bytes.md")
    added = ("mlstack/a name with spaces, ümlaut", "empty", "mlstack/the same bytes.md")
    list_files(package, *added)
    done = mlstack(tmp_path, "export", "push", f"{open_registry.host}/stock/digits", str(package))
    assert done.code == 0, done.out + done.err
    named = done.out.split("oras pull ")[1].split()[0]
    by_digest, by_tag = tmp_path / "digest", tmp_path / "tag"

    stock_client().pull(named, outdir=str(by_digest))
    stock_client().pull(f"{open_registry.host}/stock/digits:1", outdir=str(by_tag))

    assert "@sha256:" in named
    assert content(by_digest) == content(by_tag) == content(package)
    verified = mlstack(tmp_path, "export", "verify", str(by_digest), "--json")
    assert verified.code == 0, verified.out


def content(folder: Path) -> dict[str, bytes]:
    """Give every file of a folder."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def list_files(package: Path, *names: str) -> None:
    """Have the package's manifest list more files."""
    path = package / SIDE / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in names:
        manifest["files"][name] = hashlib.sha256((package / name).read_bytes()).hexdigest()
    path.write_text(json.dumps(manifest))


def test_pushing_the_same_again_sends_nothing_and_other_bytes_are_refused(
    package: Path, open_registry: OciRegistry
) -> None:
    place = f"{open_registry.host}/again/digits:stable"
    first = push(package, place)

    again = push(package, place)
    (package / "README.md").write_text("another card")
    list_files(package, "README.md")
    with pytest.raises(StepError, match="stands for other bytes already") as raised:
        push(package, place)

    assert first.sent > 0
    assert (again.sent, again.digest) == (0, first.digest)
    assert "another tag" in raised.value.hint
    assert push(package, f"{open_registry.host}/again/digits:next").sent == 2  # card and manifest


def test_a_package_that_is_not_whole_is_not_sent(package: Path, open_registry: OciRegistry) -> None:
    (package / MODEL).write_bytes(b"damaged")

    with pytest.raises(DataError):
        push(package, f"{open_registry.host}/damaged/digits")

    tags = f"http://{open_registry.host}/v2/damaged/digits/tags/list"
    assert httpx.get(tags, trust_env=False).status_code == 404


def test_a_registry_that_is_down_is_try_again(package: Path, tmp_path: Path) -> None:
    with registry_server.registry(tmp_path / "down") as server:
        host = server.host

    done = mlstack(tmp_path, "export", "push", f"{host}/models/digits", str(package), "--json")

    assert done.code == BusyError.exit_code == 75
    assert f"{host} does not answer" in done.json["error"]["problem"]


def test_a_push_that_is_cut_short_leaves_no_tag_and_is_finished_by_the_next_one(
    package: Path, tmp_path: Path
) -> None:
    with registry_server.registry(tmp_path / "cut") as server:
        place = f"{server.host}/models/digits"
        records = pushing.push(package / "no.yaml", sets=(), reference=place, wanted=str(package))
        with pytest.raises(BusyError):
            for count, _ in enumerate(records):
                if count == 5:
                    server.process.kill()
    kept = len(list(server.blobs.glob("*/*")))
    with registry_server.registry(tmp_path / "cut") as server:
        tags = httpx.get(f"http://{server.host}/v2/models/digits/tags/list", trust_env=False)
        assert tags.status_code == 404, tags.text
        done = push(package, f"{server.host}/models/digits")

        pull(server.host, "models/digits", "1", tmp_path / "pulled")

    assert 0 < done.sent < done.files
    assert done.sent <= done.files - kept + 2


def test_who_is_pushing_comes_from_the_environment(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registry_server.registry(tmp_path / "asking", asks_who=True) as server:
        place = f"{server.host}/models/digits"
        monkeypatch.delenv("REGISTRY_USERNAME", raising=False)
        with pytest.raises(ConfigError, match="does not let nobody write") as raised:
            push(package, place)
        monkeypatch.setenv("REGISTRY_USERNAME", USER)
        monkeypatch.setenv("REGISTRY_PASSWORD", "wrong")
        with pytest.raises(ConfigError, match=f"does not let {USER} write"):
            push(package, place)
        monkeypatch.setenv("REGISTRY_PASSWORD", PASSWORD)

        done = push(package, place)

    assert done.sent > 0
    assert "REGISTRY_PASSWORD" in raised.value.hint
    assert "wrong" not in raised.value.problem


def test_a_password_is_changed_for_a_token_where_the_registry_wants_one(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").mkdir()
    signer = Signer(tmp_path / "token/certificate.pem")
    monkeypatch.setenv("REGISTRY_USERNAME", USER)
    with (
        tokens(signer, USER, PASSWORD) as realm,
        registry_server.registry(tmp_path / "token", realm=realm) as server,
    ):
        monkeypatch.setenv("REGISTRY_PASSWORD", "wrong")
        with pytest.raises(ConfigError, match=f"does not let {USER} write"):
            push(package, f"{server.host}/models/digits")
        monkeypatch.setenv("REGISTRY_PASSWORD", PASSWORD)

        done = push(package, f"{server.host}/models/digits")

    assert done.sent > 0


@pytest.mark.parametrize(
    ("reference", "address"),
    [
        ("localhost:5000/a/b:1", "http://localhost:5000/v2/a/b/"),
        ("127.0.0.1/a", "http://127.0.0.1/v2/a/"),
        ("[::1]:5000/a", "http://[::1]:5000/v2/a/"),
        ("ghcr.example/a/b", "https://ghcr.example/v2/a/b/"),
        ("localhost.example:5000/a", "https://localhost.example:5000/v2/a/"),
    ],
)
def test_plain_http_is_spoken_on_loopback_only(reference: str, address: str) -> None:
    assert str(Place.parse(reference, tag="7").url) == address


@pytest.mark.parametrize(
    "reference",
    [
        "digits",
        "http://localhost/a",
        "localhost:5000/A",
        "localhost/a:",
        "localhost/../a",
        "a/b:x y",
    ],
)
def test_what_names_no_place_is_refused(reference: str) -> None:
    with pytest.raises(ConfigError, match="does not name a place"):
        Place.parse(reference, tag="1")
