"""Signed packages: real keys, real ssh-keygen, and what must not pass."""

import shutil
import subprocess
from pathlib import Path

import pytest
from export_runs import mlstack
from package_sides import write_sides
from planted import sign as make_true
from test_export_safety import package as written
from test_export_safety import plain

from mlstack.errors import ConfigError, DataError, MachineError, MlstackError
from mlstack.export import api, signature
from mlstack.records import base
from mlstack.records.package import MANIFEST, SEAL, SIDE, Manifest


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name, passphrase in (("ours", ""), ("theirs", ""), ("locked", "secret")):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(folder / name)]
        subprocess.run(make, check=True)
    return folder


@pytest.fixture
def signed(tmp_path: Path, keys: Path) -> Path:
    """A small package that `ours` signed."""
    folder = tmp_path / "1"
    folder.mkdir()
    written(plain(), folder)
    write_sides(folder / SIDE, "m", 1, "r")
    empty = Manifest(model="m", number=1, run="r", created="", mlstack="0", files={})
    base.write(folder / SIDE / MANIFEST, empty)
    make_true(folder)
    signature.sign(folder, keys / "ours")
    return folder


def verified(folder: Path, key: Path | None) -> api.Verified:
    *_, answer = api.verify(Path("mlstack.yaml"), sets=(), wanted=str(folder), doubt=api.Doubt(key))
    assert isinstance(answer, api.Verified)
    return answer


def test_a_signed_package_opens_with_its_key_and_without_one(signed: Path, keys: Path) -> None:
    known = subprocess.run(
        ["ssh-keygen", "-l", "-f", keys / "ours.pub"], capture_output=True, text=True, check=True
    )

    assert verified(signed, keys / "ours.pub").signed_by == known.stdout.split()[1]
    assert verified(signed, None).signed_by == ""


def test_stock_ssh_keygen_checks_a_signature(signed: Path, keys: Path, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.write_text("me@example.org " + (keys / "ours.pub").read_text())
    manifest = signed / SIDE / MANIFEST
    check = ["ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "me@example.org"]
    check += ["-n", "mlstack-package", "-s", signed / SIDE / SEAL]

    done = subprocess.run(check, input=manifest.read_bytes(), capture_output=True, check=False)

    assert done.returncode == 0, done.stderr


def test_a_package_that_was_changed_and_given_a_manifest_that_fits_is_refused(
    signed: Path, keys: Path
) -> None:
    (signed / "README.md").write_text("better than ever")
    make_true(signed)

    assert verified(signed, None).files == 9  # its own manifest has nothing against it
    with pytest.raises(DataError, match=r"is not what `.*ours\.pub` signed"):
        verified(signed, keys / "ours.pub")


def test_a_signature_of_something_else_is_none(signed: Path, keys: Path) -> None:
    (signed / SIDE / SEAL).unlink()
    manifest = signed / SIDE / MANIFEST
    other = ["ssh-keygen", "-Y", "sign", "-n", "file", "-f", keys / "ours", manifest]
    subprocess.run(other, check=True, capture_output=True)
    assert (signed / SIDE / SEAL).is_file()

    with pytest.raises(DataError, match="signed: "):
        verified(signed, keys / "ours.pub")


def cut(seal: Path, keys: Path) -> None:
    seal.write_bytes(seal.read_bytes()[:120])


def by_another(seal: Path, keys: Path) -> None:
    signature.sign(seal.parents[1], keys / "theirs")


def gone(seal: Path, keys: Path) -> None:
    seal.unlink()


@pytest.mark.parametrize("change", [cut, by_another, gone])
def test_a_signature_that_is_cut_of_another_key_or_gone_is_refused(
    signed: Path, keys: Path, change
) -> None:
    change(signed / SIDE / SEAL, keys)

    with pytest.raises(DataError):
        verified(signed, keys / "ours.pub")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("nobody.pub", ConfigError), ("ours", ConfigError), ("theirs.pub", DataError)],
)
def test_a_wrong_key_is_named(
    signed: Path, keys: Path, name: str, kind: type[MlstackError]
) -> None:
    with pytest.raises(kind, match=name):
        verified(signed, keys / name)


def test_a_key_that_wants_a_passphrase_is_refused_and_not_asked_for(
    signed: Path, keys: Path
) -> None:
    with pytest.raises(MachineError) as caught:
        signature.sign(signed, keys / "locked")

    assert "ssh-agent" in caught.value.hint


def test_export_asks_for_the_key_before_anything_is_built(prepared: Path) -> None:
    done = mlstack(prepared, "export", "--sign", "nobody")

    assert done.code == 2
    assert "there is no key `nobody`" in done.err


def test_without_ssh_keygen_nothing_can_be_signed(
    keys: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("ssh-keygen") is None

    with pytest.raises(MachineError, match="needs ssh-keygen"):
        signature.check_key(keys / "ours")
