"""glibc's allocator: what a process keeps of freed memory for its next call (mallopt(3)).

A page that was given back and is asked for again costs a fault, 1 to 7 us on virtual machines. By
itself glibc gives back whatever is free above 128 KB at the end of a heap, and every block above a
threshold that follows what is freed, up to 32 MB. With other allocators nothing happens here.
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # in malloc.h
MOST = (1 << 31) - 1  # an int


def keep(*, spare_bytes: int, mapped_bytes: int) -> None:
    """Keep so much at the end of a heap, and map larger blocks than `mapped_bytes` by themselves.

    What is mapped by itself goes back as soon as it is freed.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, mapped_bytes)
        set_option(M_TRIM_THRESHOLD, spare_bytes)
