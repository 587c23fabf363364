"""DVC's own config files, read without importing DVC."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import configobj
import platformdirs

from mlstack.errors import ConfigError

NAMED = re.compile(r'(\w+) "([^"]+)"')  # the section `remote "storage"`


@dataclass(frozen=True)
class DvcSettings:
    """What the config files of a DVC repository say, the nearer file winning."""

    cache: Path  # whose `xx/yyy` are objects by their MD5
    default: str | None  # name of the remote that DVC takes when none is named
    remotes: dict[str, dict[str, str]]  # name -> its options, `url` among them

    def options_of(self, url: str | None) -> dict[str, str] | None:
        """Give the options of the remote with this URL, or of DVC's own choice without one.

        Returns:
            The options, at least `url`; None when there is no such choice.
        """
        if url is not None:
            wanted = url.rstrip("/")
            same = (o for o in self.remotes.values() if o.get("url", "").rstrip("/") == wanted)
            return {**next(same, {}), "url": url}
        return self.remotes.get(self.default or "")


def read(root: Path) -> DvcSettings | None:
    """Read the settings that hold in a project; None where DVC was never initialised.

    Raises:
        ConfigError: a file cannot be read.
    """
    home = next((one / ".dvc" for one in (root, *root.parents) if (one / ".dvc").is_dir()), None)
    if home is None:
        return None
    cache = home / "cache"
    core: dict[str, str] = {}
    remotes: dict[str, dict[str, str]] = {}
    for path in (*_shared(), home / "config", home / "config.local"):
        for (kind, name), options in _sections(path).items():
            if kind == "remote":
                remotes[name] = remotes.get(name, {}) | options
            elif kind == "core":
                core |= options
            elif kind == "cache" and "dir" in options:
                cache = path.parent / Path(options["dir"]).expanduser()
    default = core.get("remote")
    return DvcSettings(cache / "files" / "md5", default and default.lower(), remotes)


def _shared() -> list[Path]:
    """Name the files of the machine and of the user."""
    system = os.getenv("DVC_SYSTEM_CONFIG_DIR") or platformdirs.site_config_dir("dvc", "iterative")
    own = os.getenv("DVC_GLOBAL_CONFIG_DIR") or platformdirs.user_config_dir("dvc", "iterative")
    return [Path(system) / "config", Path(own) / "config"]


def _sections(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    if not path.is_file():
        return {}
    try:
        content = configobj.ConfigObj(path.read_text(encoding="utf-8").splitlines())
    except (configobj.ConfigObjError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"`{path}` cannot be read: {error}", hint="mend the file") from error
    found: dict[tuple[str, str], dict[str, str]] = {}
    for title, options in content.items():
        named = NAMED.fullmatch(title.lower())
        place = (named[1], named[2]) if named else (title.lower(), "")
        if isinstance(options, dict):
            found[place] = {key.lower(): _text(value) for key, value in options.items()}
    return found


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
