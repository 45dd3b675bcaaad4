"""Barriers: to the final network, between neighbours, and between networks of other seeds.

Claims 3, 5 and 7. Within a run the loss is that of the training pairs; between seeds, whose splits
differ, that of all pairs.
"""

from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llc.symmetry import align, distance
from llc.task import Task
from llc.trajectory.basins import barrier, basins, curve, similarity
from parts import common

MATRIX = 14
TO_LAST = 24
LAYERS = ("embedding", "left", "right", "unembedding")


def compute(work: Path, workers: int) -> dict[str, Any]:
    """Measure every run, then all pairs of networks that understood."""
    result: dict[str, Any] = {"runs": {}}
    for name in common.chosen():
        result["runs"][name] = _within(work, name)
        print(f"barriers of {name}", flush=True)
    result["seeds"] = _across(work)
    result["matrix"] = _matrix(work, common.chosen()[0])
    return result


def _within(work: Path, name: str) -> dict[str, Any]:
    """To the last checkpoint, and between neighbours since memorising."""
    task = common.task_of(name)
    low, _ = common.window(name)
    have = np.array(common.steps())
    picks = np.unique([have[np.abs(have - s).argmin()] for s in _places(low)])
    last = common.weights_at(work, name, common.STEPS)
    own = [barrier(task, common.weights_at(work, name, s), last) for s in picks]
    late = have[have >= low]
    bent = curve(task, common.weights_at(work, name, int(low)), last)
    near = [
        barrier(task, common.weights_at(work, name, a), common.weights_at(work, name, b), 11)
        for a, b in pairwise(late)
    ]
    return {
        "step": picks,
        "height": [b.height for b in own],
        "curve": bent.height,
        "neighbours": {
            "step": late[1:],
            "height": [b.height for b in near],
            "rise": [b.rise for b in near],
            "loss": [b.loss[-1] for b in near],
        },
    }


def _places(low: float) -> np.ndarray:
    return np.concatenate([[500, 1000], np.linspace(low, common.STEPS - 1000, TO_LAST - 2)])


def _across(work: Path) -> list[dict[str, Any]]:
    """Between the last networks of two seeds: as they are, aligned, and along a curve."""
    names = common.understood()
    numbers = torch.arange(common.PRIME)
    pairs = torch.cartesian_prod(numbers, numbers)
    own = common.task_of(names[0])
    task = Task(own.model, (pairs, pairs.sum(1) % common.PRIME), "cross_entropy",
                symmetries=own.symmetries)  # fmt: skip
    last = {name: common.weights_at(work, name, common.STEPS) for name in names}
    found = []
    for one, other in combinations(names, 2):
        moved = align(last[other], last[one], task.symmetries)
        bent = curve(task, moved, last[other])
        alike = similarity(task, [last[one], last[other]], LAYERS)
        found.append(
            {
                "pair": [one, other],
                "straight": barrier(task, last[one], last[other]).height,
                "aligned": bent.line.height if bent.line else None,
                "curve": bent.height,
                "distance": distance(last[other], last[one]),
                "distance_aligned": distance(last[other], moved),
                "cka": {layer: float(alike.cka[layer][0, 1]) for layer in LAYERS},
            }
        )
        print(f"{one} and {other}", flush=True)
    return found


def _matrix(work: Path, name: str) -> dict[str, Any]:
    """All pairs of some checkpoints of one run: barriers and similarities."""
    low, high = common.window(name)
    have = np.array(common.steps())
    wanted = [200, 1000, *np.linspace(low, high, MATRIX - 5), 25_000, 30_000, common.STEPS]
    steps = sorted({int(have[np.abs(have - s).argmin()]) for s in wanted})
    found = basins(
        common.task_of(name), common.folder_of(work, name), steps=steps, layers=LAYERS,
        out=work / "p53" / name / "basins",
    )  # fmt: skip
    return {"run": name, **found.to_dict()}
