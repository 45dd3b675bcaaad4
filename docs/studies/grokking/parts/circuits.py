"""Frequencies over training: which, when born, and the losses with and without them."""

from pathlib import Path
from typing import Any

from llc.trajectory.circuits import circuits
from parts import common


def compute(work: Path, workers: int) -> dict[str, Any]:
    """Measure every run whose network understood; seeds that did not have no key frequency."""
    result = {}
    for name in common.understood():
        found = circuits(common.task_of(name), common.folder_of(work, name)).to_dict()
        key = [k - 1 for k in found["frequencies"]]
        found["share"] = [sum(row[k] for k in key) for row in found["share"]]
        found["others"] = [
            max(v for k, v in enumerate(row) if k not in key) for row in found["amplitudes"]
        ]
        found["amplitudes"] = [[row[k] for k in key] for row in found["amplitudes"]]
        result[name] = found
    return result
