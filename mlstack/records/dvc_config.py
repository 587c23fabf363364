"""DVC's own settings, as far as mlstack acts on them without DVC.

Whatever is not understood here is said to be so, and DVC does the work itself.
"""

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import configobj
import platformdirs

from mlstack.errors import ConfigError

HOME = ".dvc"
LINKS = ("reflink", "copy")  # DVC's own order
KNOWN_LINKS = {"reflink", "hardlink", "copy"}
# Settings that change nothing about which bytes lie where.
HARMLESS = {
    "core": {"remote", "analytics", "check_update", "interactive", "checksum_jobs"}
    | {"site_cache_dir", "experiments", "autostage"},  # a snapshot commits its pointer itself
    "cache": {"dir", "type", "slow_link_warning"},
    "state": {"dir", "row_limit", "row_cleanup_quota"},
}
REMOTE = re.compile(r'remote "([^"]+)"')
OTHER_ROOMS = {"exp", "hydra", "plots", "studio", "dvc-studio", "parsing"}


@dataclass(frozen=True)
class DvcConfig:
    """Where DVC keeps things.

    `is_plain` is false when a setting is in force that only DVC itself acts on.
    """

    home: Path  # the folder `.dvc`
    cache: Path  # whose `xx/yyy` are objects by their MD5
    links: tuple[str, ...] = LINKS
    remote: str | None = None  # the name of the default one
    remotes: dict[str, dict[str, str]] = field(default_factory=dict)
    is_plain: bool = True

    def options_of(self, url: str | None) -> dict[str, str]:
        """Give the options of the remote with this URL, or of DVC's own choice without one.

        Returns:
            The options, `url` among them; none when there is no such choice.
        """
        if url is not None:
            wanted = url.rstrip("/")
            same = (o for o in self.remotes.values() if o.get("url", "").rstrip("/") == wanted)
            return {**next(same, {}), "url": url}
        return self.remotes.get(self.remote or "", {})

    @property
    def lock(self) -> Path:
        """What DVC itself holds while it works."""
        return self.home / "tmp" / "lock"


def find_home(root: Path) -> Path | None:
    """Find the folder `.dvc` of a project, which may lie in a folder above."""
    for folder in (root, *root.parents):
        if (folder / HOME).is_dir():
            return folder / HOME
    return None


def read_config(root: Path) -> DvcConfig | None:
    """Read DVC's settings for a project: system, user, repository, this machine; later wins.

    Returns:
        None when no DVC repository holds the project.

    Raises:
        ConfigError: a file cannot be read.
    """
    home = find_home(root.resolve())
    if home is None:
        return None
    merged: dict[str, dict[str, str]] = {}
    for path in (*_shared(), home / "config", home / "config.local"):
        for name, options in _sections(path).items():
            merged.setdefault(name, {}).update(options)
    core, cache = merged.get("core", {}), merged.get("cache", {})
    links = tuple(word.strip() for word in cache.get("type", ",".join(LINKS)).split(","))
    remotes = {named[1]: merged[name] for name in merged if (named := REMOTE.fullmatch(name))}
    return DvcConfig(
        home=home,
        cache=Path(cache.get("dir", home / "cache"), "files", "md5"),
        links=links,
        remote=core["remote"].lower() if "remote" in core else None,
        remotes=remotes,
        is_plain=_is_plain(merged) and KNOWN_LINKS.issuperset(links),
    )


def _shared() -> list[Path]:
    """Name the files of the machine and of the user."""
    system = os.getenv("DVC_SYSTEM_CONFIG_DIR") or platformdirs.site_config_dir("dvc", "iterative")
    own = os.getenv("DVC_GLOBAL_CONFIG_DIR") or platformdirs.user_config_dir("dvc", "iterative")
    return [Path(system, "config"), Path(own, "config")]


def _sections(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    try:
        content = configobj.ConfigObj(path.read_text(encoding="utf-8").splitlines())
    except (configobj.ConfigObjError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"`{path}` cannot be read: {error}", hint="mend the file") from error
    found: dict[str, dict[str, str]] = {}
    for title, options in content.items():
        if isinstance(options, dict):
            texts = {key.lower(): _text(value) for key, value in options.items()}
            for key in {"dir", "url", "keyfile"} & texts.keys():
                texts[key] = _from(path.parent, texts[key])
            found[title.lower()] = texts
    return found


def _text(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)


def _from(folder: Path, url: str) -> str:
    """Read a relative path as one from the folder of the file that names it."""
    if "://" in url:
        return url
    return os.path.normpath(folder / Path(url).expanduser())


def _is_plain(merged: dict[str, dict[str, str]]) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    for section, options in merged.items():
        if section in OTHER_ROOMS or REMOTE.fullmatch(section):
            continue
        if not options.keys() <= HARMLESS.get(section, set()):
            return False
    return True
