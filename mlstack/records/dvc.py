"""Stock DVC's files as mlstack reads them: `NAME.dvc` and the list of a folder's files."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mlstack.errors import DataError

T = TypeVar("T")


class Entry(msgspec.Struct):
    """One file in DVC's list of a folder's files; what else DVC may note there is passed over."""

    md5: str
    relpath: str


class _Content(msgspec.Struct):
    """The same, when its path does not matter."""

    md5: str


_LISTING = msgspec.json.Decoder(list[Entry])
_CONTENTS = msgspec.json.Decoder(list[_Content])


# What DVC keeps of a dataset folder NAME: itself, or a folder made of it.
SUFFIXES = {"files": "", "packs": ".packs", "chunks": ".chunks"}


@dataclass(frozen=True)
class Pointer:
    """What `NAME.dvc` says of a dataset: as it is as a folder of files, however it is kept."""

    md5: str
    files: int
    size_bytes: int
    stored: "Pointer | None" = None  # the folder that DVC keeps instead
    name: str = ""  # of that folder, e.g. NAME.packs

    @property
    def kept(self) -> "Pointer":
        """What DVC keeps: the dataset's own files, or those made of them."""
        return self.stored or self


def pointer_path(source: Path) -> Path:
    """Give the `.dvc` file of a dataset folder; the plain one where there is none yet."""
    paths = [source.with_name(f"{source.name}{suffix}.dvc") for suffix in SUFFIXES.values()]
    return next((path for path in paths if path.is_file()), paths[0])


def read_pointer(path: Path) -> Pointer | None:
    """Read a `.dvc` file; None when there is none.

    Raises:
        DataError: it is not a `.dvc` file of one output.
    """
    if not path.is_file():
        return None
    return parse_pointer(path.read_text(), where=str(path))


def parse_pointer(content: str, *, where: str) -> Pointer:
    """Read the text of a `.dvc` file.

    Raises:
        DataError: it is not a `.dvc` file of one output.
    """
    if plain := _PLAIN_POINTER.fullmatch(content):
        return Pointer(plain["md5"], int(plain["files"]), int(plain["size"]))
    try:
        document = load_document(content)
        (output,) = document["outs"]
        kept = _numbers(output)
        made_of = document.get("meta", {}).get("mlstack")
        if not made_of:
            return kept
        return replace(_numbers(made_of), stored=replace(kept, name=output["path"]))
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise DataError(
            f"`{where}` is not a .dvc file of one folder",
            hint="type `mlstack version snapshot -m MESSAGE` to write it anew",
        ) from error


def _numbers(said: dict[str, str]) -> Pointer:
    return Pointer(said["md5"], int(said.get("nfiles", 1)), int(said.get("size", 0)))


def only_output(content: str) -> dict[str, Any]:
    """Read what the text of a `.dvc` file says of its one output.

    Raises:
        ValueError: it is no YAML, or has several outputs.
        TypeError, KeyError: it is something else.
    """
    (output,) = load_document(content)["outs"]
    return dict(output)


def load_document(content: str) -> Any:
    """Read the text of a `.dvc` file.

    Raises:
        ValueError: it is no YAML.
    """
    from ruamel.yaml import YAML  # noqa: PLC0415  most pointers are plain: 20 ms
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    try:
        return YAML(typ="safe", pure=True).load(content)
    except YAMLError as error:
        raise ValueError(str(error)) from error


def is_plain_pointer(content: str) -> bool:
    """Tell whether the text of a `.dvc` file is what `plain_pointer` writes."""
    return _PLAIN_POINTER.fullmatch(content) is not None


def plain_pointer(name: str, pointer: Pointer) -> str:
    """Write the text of a `.dvc` file of one folder, byte for byte as DVC does.

    Args:
        name: of the folder that DVC keeps; one that `is_plain_name`.
        pointer: what it says.
    """
    kept = pointer.kept
    text = (
        f"outs:\n- md5: {kept.md5}\n  size: {kept.size_bytes}\n"
        f"  nfiles: {kept.files}\n  hash: md5\n  path: {name}\n"
    )
    if pointer.stored is None:
        return text
    return (
        f"{text}meta:\n  mlstack:\n    md5: {pointer.md5}\n    size: {pointer.size_bytes}\n"
        f"    nfiles: {pointer.files}\n"
    )


def is_plain_name(name: str) -> bool:
    """Tell whether YAML writes a name as it is, whatever reads it."""
    return bool(_PLAIN.fullmatch(name)) and name.lower() not in _YAML_WORDS


_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_PLAIN_POINTER = re.compile(
    r"outs:\n- md5: (?P<md5>[0-9a-f]{32}\.dir)\n  size: (?P<size>\d+)\n"
    rf"  nfiles: (?P<files>\d+)\n  hash: md5\n  path: {_PLAIN.pattern}\n"
)
_YAML_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}


def parse_listing(content: bytes, *, where: str) -> dict[str, str]:
    """Read a `.dir` object of DVC's cache: the MD5 of each file by its path in the folder.

    Raises:
        DataError: it is cut off or something else.
    """
    return {entry.relpath: entry.md5 for entry in _decode(_LISTING, content, where)}


def parse_contents(content: bytes, *, where: str) -> set[str]:
    """Read of a `.dir` object only the MD5s, in a third of the time.

    Raises:
        DataError: it is cut off or something else.
    """
    return {entry.md5 for entry in _decode(_CONTENTS, content, where)}


def _decode(decoder: msgspec.json.Decoder[list[T]], content: bytes, where: str) -> list[T]:
    try:
        return decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"`{where}` is not a list of files as DVC writes it",
            hint="remove it, then type `mlstack version pull`",
        ) from error


def is_gone(folder: Path) -> bool:
    """Tell whether a dataset folder is missing or empty."""
    return not folder.is_dir() or not any(folder.iterdir())


def bring_back(folder: Path) -> str:
    """Say how to get a dataset folder that is gone."""
    if pointer_path(folder).is_file():
        return "type `mlstack version checkout HEAD`, or `mlstack version pull` in a new clone"
    return "put the data there, or name the right folder in mlstack.yaml"


def is_cached(root: Path, md5: str) -> bool:
    """Tell whether every file of a version lies in the project's own cache, DVC's usual place."""
    home = next((one for one in (root, *root.parents) if (one / ".dvc").is_dir()), root)
    cache = home / ".dvc" / "cache" / "files" / "md5"
    listing = cache / md5[:2] / md5[2:]
    if not listing.is_file():
        return False
    entries = parse_listing(listing.read_bytes(), where=str(listing))
    return all((cache / one[:2] / one[2:]).is_file() for one in set(entries.values()))
