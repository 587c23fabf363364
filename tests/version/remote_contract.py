"""What every remote must do: a test class inherits it and gives `remote`."""

from collections.abc import Iterator

import pytest

from mlstack.version.remote import Remote

NAME = "0123456789abcdef0123456789abcdef"
LIST = "00cdefabcdefabcdefabcdefabcdefab.dir"


class RemoteContract:
    def test_what_was_put_is_read_back(self, remote: Remote):
        remote.put(NAME, [b"first, ", b"second"])

        assert b"".join(remote.read(NAME)) == b"first, second"

    def test_an_empty_object_is_an_object(self, remote: Remote):
        remote.put(NAME, [])

        assert remote.sizes([NAME]) == {NAME: 0}
        assert b"".join(remote.read(NAME)) == b""

    def test_only_what_is_there_has_a_size(self, remote: Remote):
        remote.put(LIST, [b"[]"])

        assert remote.sizes([NAME, LIST]) == {LIST: 2}

    def test_sizes_of_many_are_those_of_few(self, remote: Remote):
        names = [f"{number:032x}" for number in range(40)]
        for name in names[:7]:
            remote.put(name, [name.encode()])

        sizes = remote.sizes(names)

        assert sizes == {name: 32 for name in names[:7]}

    def test_putting_again_replaces(self, remote: Remote):
        remote.put(NAME, [b"half"])
        remote.put(NAME, [b"the whole"])

        assert b"".join(remote.read(NAME)) == b"the whole"

    def test_an_object_larger_than_any_part_survives(self, remote: Remote):
        chunks = [bytes([number]) * (3 << 20) for number in range(7)]

        remote.put(NAME, chunks)

        assert remote.sizes([NAME]) == {NAME: 7 * (3 << 20)}
        assert b"".join(remote.read(NAME)) == b"".join(chunks)

    @pytest.mark.parametrize("size", [10, 6 << 20])
    def test_a_source_that_breaks_leaves_no_object(self, remote: Remote, size: int):
        def breaking() -> Iterator[bytes]:
            yield b"x" * size
            raise OSError("the disk is gone")

        with pytest.raises(OSError, match="the disk is gone"):
            remote.put(NAME, breaking())

        assert remote.sizes([NAME]) == {}
