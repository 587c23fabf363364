"""What the folders of DVC's cache looked like when every object of a version was there."""

from mlstack.records.base import Record


class CacheState(Record, frozen=True, kw_only=True, tag="cache.state"):
    """A version whose objects were all in the cache, and the cache's folders at that moment."""

    md5: str  # of the version: 32 digits and `.dir`
    home: str  # the cache's folder `files/md5`
    folders: dict[str, int]  # folder `xx` -> time of its last change, ns
