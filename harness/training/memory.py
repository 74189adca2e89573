"""Memory of a step, kept for the next."""

from __future__ import annotations

import ctypes
import functools
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's malloc.h."""

LARGEST_MMAP = 32 * 2**20
"""The largest threshold that glibc takes: larger blocks always come from the kernel, and go back to it."""


@functools.cache
def keep_freed_memory() -> None:
    """Let the C library keep what a step frees. By default glibc gives free memory at the top of its heap back to the
    kernel, which has to clear it, page by page, when the next step asks for it again: a tenth of a step of four streams
    on a CPU. Nothing where the C library is another."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
