"""The features of a project as Feast's definitions, for whoever moves to a feature store."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlstack import files
from mlstack.config import Project, load
from mlstack.config.data_sections import Features
from mlstack.errors import ConfigError, DataError
from mlstack.settings.api import Defined

STORE = """\
project: {name}
registry: data/registry.db
provider: local
online_store:
  type: sqlite
  path: data/online_store.db
offline_store:
  type: file
entity_key_serialization_version: 3
"""
HEAD = '''\
"""Written by `mlstack config feast`: what mlstack.yaml says under data.features."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Bool, Float32, Float64, Int32, Int64, String

{key} = Entity(name={key!r}, join_keys=[{key!r}], value_type=ValueType.{kind})
'''
VIEW = """
{name} = FeatureView(
    name={name!r},
    entities=[{key}],
    ttl={ttl},
    schema=[
{fields}
    ],
    source=FileSource(path={path!r}, timestamp_field={time!r}),
)
"""
TAIL = """
{project} = FeatureService(name={project!r}, features=[{views}])
"""


def write(path: Path, sets: tuple[str, ...], *, out: Path | None) -> Defined:
    """Give the features of a project as Feast's definitions; `out` takes the two files.

    Raises:
        ConfigError: the project has no features.
        DataError: a feature file cannot be read.
    """
    store, python = define(load(path, sets=sets))
    if out is not None:
        files.write_text(out / "feature_store.yaml", store)
        files.write_text(out / "definitions.py", python)
        (out / "data").mkdir(exist_ok=True)
    return Defined(store=store, definitions=python, written=str(out or ""))


def define(project: Project) -> tuple[str, str]:
    """Give `feature_store.yaml` and `definitions.py` of a project.

    Raises:
        ConfigError: the project has no features.
        DataError: a feature file cannot be read.
    """
    data = project.config.data
    if data.features is None:
        raise ConfigError(
            "data.features: this project has none",
            hint="write `features: {key: ..., time: ..., files: [...]}` under data",
        )
    folder = project.root.resolve() / data.folder
    schemas = {name: _schema(folder / name, data.features) for name in data.features.files}
    kinds = {str(_feast(schema.field(data.features.key).type)) for schema in schemas.values()}
    views = [_view(folder / name, schema, data.features) for name, schema in schemas.items()]
    names = ", ".join(_name(Path(name).stem) for name in schemas)
    kind = "STRING" if "String" in kinds else "INT64"
    head = HEAD.format(key=_name(data.features.key), kind=kind)
    tail = TAIL.format(project=_name(project.config.project.name), views=names)
    store = STORE.format(name=_name(project.config.project.name))
    return store, head + "".join(views) + tail


def _schema(path: Path, features: Features) -> pa.Schema:
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"data.features: `{path}` cannot be read: {error}") from error
    for column in (features.key, features.time):
        if column not in schema.names:
            raise DataError(
                f"data.features: `{path.name}` has no column `{column}`",
                hint=f"it has {', '.join(schema.names[:12])}",
            )
    return schema


def _view(path: Path, schema: pa.Schema, features: Features) -> str:
    values = [field for field in schema if field.name not in (features.key, features.time)]
    return VIEW.format(
        name=_name(path.stem),
        key=_name(features.key),
        ttl=_ttl(features.ttl),
        fields="\n".join(
            f"        Field(name={field.name!r}, dtype={_feast(field.type)})," for field in values
        ),
        path=str(path),
        time=features.time,
    )


def _feast(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "Bool"
    if pa.types.is_integer(kind):
        return "Int64" if kind.bit_width > 32 or pa.types.is_uint32(kind) else "Int32"
    if pa.types.is_floating(kind):
        return "Float64" if kind.bit_width > 32 else "Float32"
    return "String"


def _ttl(given: str | None) -> str:
    """Write `1d12h` as Python."""
    units = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
    parts = re.findall(r"([\d.]+)([dhms])", given or "")
    words = ", ".join(f"{units[unit]}={number}" for number, unit in parts)
    return f"timedelta({words})" if words else "None"


def _name(text: str) -> str:
    """Make a name that Python and Feast take."""
    plain = "".join(letter if letter.isalnum() else "_" for letter in text)
    return plain if plain.isidentifier() else f"_{plain}"
