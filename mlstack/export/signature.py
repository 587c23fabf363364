"""Sign a package's manifest, which names every file by its hash, and check that: by `ssh-keygen`.

The keys are those that people have, agents and security keys included, and stock OpenSSH checks
what was signed (docs/formats.md).
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from mlstack import files
from mlstack.errors import ConfigError, DataError, MachineError
from mlstack.records.package import MANIFEST, SEAL, SIDE

NAMESPACE = "mlstack-package"  # a signature of something else by the same key is none of ours
SIGNER = "signer"


def check_key(key: Path) -> None:
    """Refuse a key that is not there, before anything is built.

    Raises:
        ConfigError: it is no file.
        MachineError: there is no ssh-keygen.
    """
    if not key.is_file():
        raise ConfigError(f"there is no key `{key}`", hint="make one: ssh-keygen -t ed25519 -f KEY")
    if shutil.which("ssh-keygen") is None:
        raise MachineError("signing needs ssh-keygen", hint="install the OpenSSH client")


def sign(package: Path, key: Path) -> None:
    """Write the signature of a package's manifest beside it.

    Raises:
        MachineError: the key cannot sign.
    """
    manifest = package / SIDE / MANIFEST
    done = _run("sign", "-f", str(key), content=manifest.read_bytes())
    if done.returncode:
        raise MachineError(
            f"`{key}` cannot sign: {_last(done.stderr)}",
            hint="a key with a passphrase signs through ssh-agent: ssh-add it, name its .pub",
        )
    files.write_bytes(package / SIDE / SEAL, done.stdout)


def check(package: Path, public: Path) -> str:
    """Check that the manifest is what the owner of a key signed; give the key's fingerprint.

    Raises:
        ConfigError: the key is not there, or no public key.
        DataError: there is no signature, or it is of another manifest or by another key.
    """
    check_key(public)
    seal = package / SIDE / SEAL
    if not seal.is_file():
        raise DataError(f"`{package}` is not signed", hint="export with --sign KEY")
    words = public.read_text("utf-8", "replace").split()
    if len(words) < 2 or words[0].startswith("-"):
        raise ConfigError(f"`{public}` is not a public key", hint="name the file that ends in .pub")
    with tempfile.TemporaryDirectory(prefix="mlstack-verify-") as folder:
        allowed = Path(folder) / "allowed"
        files.write_text(allowed, f"{SIGNER} {words[0]} {words[1]}\n")
        done = _run(
            *("verify", "-f", str(allowed), "-I", SIGNER, "-s", str(seal)),
            content=(package / SIDE / MANIFEST).read_bytes(),
        )
    if done.returncode:
        raise DataError(
            f"the manifest is not what `{public}` signed: {_last(done.stderr or done.stdout)}",
            hint="it was changed, or signed by somebody else; do not open the package",
            where=str(package),
        )
    return next((w for w in done.stdout.decode().split() if w.startswith("SHA256:")), "")


def _run(verb: str, *words: str, content: bytes) -> "subprocess.CompletedProcess[bytes]":
    """Ask ssh-keygen, which must never ask back."""
    return subprocess.run(
        ["ssh-keygen", "-Y", verb, *words, "-n", NAMESPACE],
        input=content,
        capture_output=True,
        env=os.environ | {"SSH_ASKPASS_REQUIRE": "never"},
        start_new_session=True,
        check=False,
    )


def _last(said: bytes) -> str:
    return (said.decode("utf-8", "replace").strip().splitlines() or ["no reason given"])[-1]
