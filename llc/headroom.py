"""Memory that is free, and amounts of it in words."""

import math
from pathlib import Path

import torch

__all__ = ["free_memory", "in_words"]


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
