"""DVC's own settings, as far as mlstack acts on them without DVC.

Whatever is not understood here is said to be so, and DVC does the work itself.
"""

import configparser
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

HOME = ".dvc"
LINKS = ("reflink", "copy")  # DVC's own order
KNOWN_LINKS = {"reflink", "hardlink", "copy"}
# Settings that change nothing about which bytes lie where.
HARMLESS = {
    "core": {"remote", "analytics", "check_update", "interactive", "checksum_jobs"}
    | {"site_cache_dir", "experiments"},
    "cache": {"dir", "type", "slow_link_warning"},
    "state": {"dir", "row_limit", "row_cleanup_quota"},
}
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
    """
    home = find_home(root.resolve())
    if home is None:
        return None
    merged: dict[str, dict[str, str]] = {}
    try:
        for path in _files(home):
            _read_into(merged, path)
    except (configparser.Error, OSError, UnicodeDecodeError):
        return DvcConfig(home=home, cache=home / "cache" / "files" / "md5", is_plain=False)
    core, cache = merged.get("core", {}), merged.get("cache", {})
    place = Path(cache.get("dir", home / "cache"))
    links = tuple(word.strip() for word in cache.get("type", ",".join(LINKS)).split(","))
    remotes = {
        name[len("remote ") :].strip('"'): options
        for name, options in merged.items()
        if name.startswith("remote ")
    }
    return DvcConfig(
        home=home,
        cache=place / "files" / "md5",
        links=links,
        remote=core.get("remote"),
        remotes=remotes,
        is_plain=_is_plain(merged) and KNOWN_LINKS.issuperset(links),
    )


def _files(home: Path) -> list[Path]:
    """List the files that DVC reads on this system, the weakest first."""
    system = os.environ.get("DVC_SYSTEM_CONFIG_DIR") or "/etc/xdg/dvc"
    above = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    user = os.environ.get("DVC_GLOBAL_CONFIG_DIR") or Path(above, "dvc")
    places = [Path(system, "config"), Path(user, "config"), home / "config", home / "config.local"]
    return [path for path in places if path.is_file()]


def _read_into(merged: dict[str, dict[str, str]], path: Path) -> None:
    parser = configparser.ConfigParser(
        interpolation=None, delimiters=("=",), comment_prefixes=("#",), default_section="\0"
    )
    parser.read_string(path.read_text())
    for section in parser.sections():
        options = {key: value.strip("'\"") for key, value in parser[section].items()}
        name = section.strip("'")
        for key in {"dir", "url"} & options.keys():
            options[key] = _from(path.parent, options[key])
        merged.setdefault(name, {}).update(options)


def _from(folder: Path, url: str) -> str:
    """Read a relative path as one from the folder of the file that names it."""
    if "://" in url:
        return url
    return os.path.normpath(folder / Path(url).expanduser())


def _is_plain(merged: dict[str, dict[str, str]]) -> bool:
    if not sys.platform.startswith("linux") or "XDG_CONFIG_DIRS" in os.environ:
        return False  # DVC may read other files there
    for section, options in merged.items():
        if section in OTHER_ROOMS or section.startswith("remote "):
            continue
        if not options.keys() <= HARMLESS.get(section, set()):
            return False
    return True
