"""Write docs/commands.md and docs/config.md from the code; `--check` only compares.

Run it as `make docs`. A test fails when the files on disk are not what this writes.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import typer.main
from pydantic import BaseModel

from mlstack.call import DEFAULT
from mlstack.cli import assemble
from mlstack.config.schema import Config

DOCS = Path(__file__).parent


def commands() -> str:
    """Give docs/commands.md: the help of every command as the user sees it."""
    os.environ["COLUMNS"] = "90"
    parts = [
        "# Commands",
        "",
        "Generated from the code by `make docs`; do not edit. Exit codes and the options that",
        "every command has are explained in [architecture.md](architecture.md).",
        "",
    ]
    for path, text in _helps(typer.main.get_command(assemble()), "mlstack"):
        level = "##" if path.count(" ") <= 1 else "###"
        parts += [f"{level} `{path}`", "", "```text", text.rstrip(), "```", ""]
    return "\n".join(parts)


def _helps(command: Any, path: str, parent: Any = None) -> Iterator[tuple[str, str]]:
    context = command.make_context(path.split()[-1], [], parent=parent, resilient_parsing=True)
    yield path, command.get_help(context)
    children = getattr(command, "commands", {})
    for name in command.list_commands(context) if children else ():
        child = children[name]
        if name != DEFAULT and not child.hidden:
            yield from _helps(child, f"{path} {name}", context)


def config() -> str:
    """Give docs/config.md: every setting with its type, default and meaning."""
    parts = [
        "# Settings of mlstack.yaml",
        "",
        "Generated from `mlstack/config/` by `make docs`; do not edit.",
        "Order: defaults < mlstack.yaml < mlstack.local.yaml < `MLSTACK_A__B` < `--set a.b=value`.",
        "",
    ]
    for name, field in Config.model_fields.items():
        if not _is_section(field.annotation):
            parts += [f"## `{name}`", "", field.description or "", ""]
            continue
        parts += [f"## `{name}`", "", field.description or "", ""]
        parts += ["| setting | type | default | meaning |", "|---|---|---|---|"]
        parts += list(_rows(field.annotation, name))
        parts += [""]
    return "\n".join(parts)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _rows(section: Any, prefix: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        key = f"{prefix}.{field.alias or name}"
        if _is_section(field.annotation):
            yield from _rows(field.annotation, key)
            continue
        kind = _type(section, field.alias or name)
        yield f"| `{key}` | {kind} | {_default(field)} | {field.description} |"
        for one in get_args(field.annotation):  # a section that may be left out
            if _is_section(one) and type(None) in get_args(field.annotation):
                yield from _rows(one, key)


def _type(section: Any, name: str) -> str:
    schema = section.model_json_schema(by_alias=True)
    return _words(schema["properties"][name], schema.get("$defs", {})).replace("|", "\\|")


def _words(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        target = definitions[name]
        return _words(target, definitions) if "enum" in target else f"{name}"
    if "enum" in schema:
        return ", ".join(f"`{v}`" for v in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        return " or ".join(_words(s, definitions) for s in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_words(schema.get('items', {}), definitions)}"
    return {"null": "null", "object": "mapping"}.get(
        schema.get("type", ""), schema.get("type", "any")
    )


def _default(field: Any) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "`null`"
    return f"`{value}`" if not isinstance(value, bool) else f"`{str(value).lower()}`"


def main() -> int:
    """Write both files, or with `--check` say which one is stale."""
    stale = []
    for name, text in (("commands.md", commands()), ("config.md", config())):
        path = DOCS / name
        if "--check" in sys.argv:
            if not path.is_file() or path.read_text() != text:
                stale.append(name)
        else:
            path.write_text(text)
    if stale:
        sys.stderr.write(f"stale: {', '.join(stale)}; type `make docs`\n")
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
