"""Memory that training frees and needs again at the next step: glibc is told to keep it.

torch has a pool of its own on a GPU and none on a CPU, where glibc hands what is freed back to the
system and has it faulted in again, zeroed page by page: a third of the time at 2,000 genes on a
virtual machine.
"""

from __future__ import annotations

import ctypes
import functools
import os


@functools.lru_cache
def keep_freed_memory() -> bool:
    """Have glibc keep what is freed, for the rest of the process, and say whether it does.

    About 512 MiB are kept, in blocks of up to 32 MiB. Thresholds that the user has set in the
    environment (MALLOC_TRIM_THRESHOLD_ and the like, mallopt(3)) stay as they are; other C
    libraries have none.
    """
    thresholds = ("trim_threshold", "mmap_threshold", "top_pad")
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    for name in thresholds:
        if f"MALLOC_{name.upper()}_" in os.environ or f"glibc.malloc.{name}" in tunables:
            return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    trim_threshold, mmap_threshold = -1, -3  # of malloc.h
    # 32 MiB is the most that it takes
    return bool(mallopt(mmap_threshold, 32 * 2**20) and mallopt(trim_threshold, 512 * 2**20))
