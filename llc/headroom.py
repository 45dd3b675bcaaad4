"""Memory that is free, and amounts of it in words."""

import ctypes
import math
import os
from functools import cache
from pathlib import Path

import torch

__all__ = ["free_memory", "give_back", "in_words"]

# Below this, what the C library keeps for itself is not worth fetching again.
MOST_KEPT_FREE = 2**29


def free_memory(device: torch.device) -> float:
    """Bytes free on a device; infinity where that cannot be read.

    On Linux the least of what the kernel calls available and what the control group leaves.
    """
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return math.inf
    found = [math.inf]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [float(line.split()[1]) * 1024 for line in lines if line[:12] == "MemAvailable"]
    except (OSError, ValueError, IndexError):
        pass
    try:
        group = Path("/sys/fs/cgroup")
        most = (group / "memory.max").read_text().strip()
        if most != "max":
            found.append(float(most) - float((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return max(min(found), 0.0)


def in_words(size: float) -> str:
    """Write a number of bytes in MB or GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"


class _Level:
    """Resident bytes once memory was given back last, or less if it was less since."""

    bytes = 0


def give_back() -> bool:
    """Return to the system what the C library holds free, where that is much; say whether it was.

    Vectors of a large model leave holes in the heap that small numbers kept in between pin: over
    thousands of steps the process grows, though no more is in use. Only the GNU C library tells
    and can be told.
    """
    library = _gnu()
    if library is None or library.mallinfo2().fordblks < MOST_KEPT_FREE:
        return False
    # Holes stay holes: whether they are filled with memory again, only the process's size tells.
    _Level.bytes = min(_Level.bytes, _resident())
    if _resident() < _Level.bytes + MOST_KEPT_FREE:
        return False
    library.malloc_trim(0)
    _Level.bytes = _resident()
    return True


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class _Heap(ctypes.Structure):
    """What mallinfo2 returns."""

    NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES.split()]


@cache
def _gnu() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libc.so.6")
        library.mallinfo2.restype = _Heap
        library.malloc_trim.argtypes = [ctypes.c_size_t]
    except (OSError, AttributeError):
        return None
    return library
