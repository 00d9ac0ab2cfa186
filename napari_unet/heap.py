"""How much memory there is, and what is kept of it while large tensors come and go."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

# Parameters of glibc's mallopt: bytes free at the end of the heap that are given back, bytes of a
# block that becomes a mapping of its own, and how many such mappings there may be.
TRIMMED, MAPPED, MAPPINGS = -1, -3, -4
KEPT = {TRIMMED: 2**31 - 1, MAPPINGS: 0}
# What glibc comes to by itself once a block of 32 MB was freed.
USUAL = {TRIMMED: 2**26, MAPPED: 2**25, MAPPINGS: 2**16}

_lock = Lock()
_inside = 0


def installed() -> int | None:
    """Bytes of memory of this machine; None where it does not say."""
    if sys.platform == "win32":
        kilobytes = ctypes.c_ulonglong()
        found = ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes))
        return 1024 * kilobytes.value if found else None
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


@contextmanager
def kept() -> Iterator[None]:
    """While anyone is inside, memory that is freed serves what is asked for next.

    By itself glibc hands every large block back to the system, and touching fresh memory took a
    sixth to a third of the time of a prediction. In threads other than the main one, glibc still
    does so with the largest blocks.
    """
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(more: int) -> None:
    global _inside
    with _lock:
        before, _inside = _inside, _inside + more
        if not before:
            _set(KEPT)
        elif not _inside:
            _set(USUAL)


def _set(parameters: dict[int, int]) -> None:
    libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt"):  # another system, or another library such as musl
        return
    for parameter, value in parameters.items():
        libc.mallopt(parameter, value)
    if parameters is USUAL:
        libc.malloc_trim(0)
