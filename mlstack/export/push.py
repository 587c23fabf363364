"""Put a package into an OCI registry: each file a layer that stock `oras pull` lays out again.

OCI image and distribution specifications 1.1. The manifest holds no time, so the same package has
the same digest everywhere.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mlstack import files
from mlstack.errors import StepError
from mlstack.export import packages
from mlstack.export.pushed import Pushed
from mlstack.export.registry import Place, Registry, Sent
from mlstack.records import trusted
from mlstack.records.base import Record
from mlstack.records.package import Manifest
from mlstack.records.worker import WorkerProgress

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
PACKAGE_TYPE = "application/vnd.mlstack.package.v1"
EMPTY_TYPE, EMPTY = "application/vnd.oci.empty.v1+json", b"{}"
TITLE = "org.opencontainers.image.title"
KINDS = {".json": "application/json", ".md": "text/markdown", ".html": "text/html"}
ANY = "application/octet-stream"


@dataclass(frozen=True)
class Layer:
    """One file of the package."""

    name: str
    sent: Sent


def push(
    config: Path, *, sets: tuple[str, ...], reference: str, wanted: str | None
) -> Iterator[Record]:
    """Check a package's files, send those that the registry lacks, then the manifest.

    A push that was cut short leaves no tag; the same again sends what is missing.

    Args:
        config: mlstack.yaml, for a package that is named by model and number.
        sets: what `--set` gave.
        reference: HOST[:PORT]/NAME[:TAG]; the tag is the package's number without.
        wanted: a folder, or NAME/N; None for the newest.

    Raises:
        ConfigError: the reference is wrong, or the registry wants other credentials.
        DataError: the package is not whole.
        StepError: the tag stands for other bytes.
        BusyError: the registry does not answer.
    """
    package = packages.find(config, sets, wanted)
    manifest = trusted.check(package)
    place = Place.parse(reference, tag=str(manifest.number))
    layers = [_layer(package, path) for path in files.walk(package)]
    content = describe(layers, manifest)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    with closing(Registry(place)) as registry:
        _refuse_other(registry.digest_of_tag(), digest, place)
        empty = Sent.of_bytes(EMPTY)
        sent = 0
        registry.send(empty)
        for number, layer in enumerate(layers, start=1):
            yield WorkerProgress(text="sending the files", done=number, total=len(layers))
            sent += registry.send(layer.sent)
        registry.tag(content, MANIFEST_TYPE)
    yield Pushed(
        path=str(package),
        reference=str(place),
        digest=digest,
        files=len(layers),
        sent=sent,
        size_bytes=sum(layer.sent.size for layer in layers),
    )


def describe(layers: list[Layer], package: Manifest) -> bytes:
    """Write the manifest; equal packages give equal bytes."""
    content = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": PACKAGE_TYPE,
        "config": _descriptor(EMPTY_TYPE, Sent.of_bytes(EMPTY)),
        "layers": [
            _descriptor(KINDS.get(Path(layer.name).suffix, ANY), layer.sent)
            | {"annotations": {TITLE: layer.name}}
            for layer in layers
        ],
        "annotations": {
            "org.opencontainers.image.version": str(package.number),
            TITLE: package.model,
            "mlstack.run": package.run,
        },
    }
    return json.dumps(content, indent=1, sort_keys=True).encode()


def _descriptor(kind: str, sent: Sent) -> dict[str, object]:
    return {"mediaType": kind, "digest": sent.digest, "size": sent.size}


def _layer(package: Path, path: Path) -> Layer:
    return Layer(path.relative_to(package).as_posix(), Sent.of_file(path))


def _refuse_other(there: str | None, digest: str, place: Place) -> None:
    if there is not None and there != digest:
        raise StepError(
            f"`{place}` stands for other bytes already ({there[:19]})",
            hint="name another tag; what was pulled by this one must not change",
        )
