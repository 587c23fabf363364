"""Older files -> the version this program reads, comments kept.

Version 1 is the first; `STEPS` gets an entry with each version after it.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any

from ruamel.yaml import YAML

from mlstack.config.schema import VERSION

Step = Callable[[dict[str, Any]], None]  # changes a document of version n into one of n + 1

STEPS: Mapping[int, Step] = {}


def rewrite(text: str, steps: Mapping[int, Step] = STEPS, newest: int = VERSION) -> str:
    """Give the text of a file in the newest version; the same bytes when it is that already.

    Args:
        text: a YAML document with a `version` up to `newest`.
        steps: version -> what leads to the next one.
        newest: the version to reach.
    """
    yaml = YAML()  # round trip: comments and order stay
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.representer.add_representer(type(None), _write_null)
    document = yaml.load(text)
    if document["version"] >= newest:
        return text
    while document["version"] < newest:
        steps[document["version"]](document)
        document["version"] += 1
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def _write_null(representer: Any, _: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")
