"""How many basins the detector would have seen, had they been there.

The smooth curve between memorising and understanding is replaced by K plateaus of the same range,
with noise of the measured size. How often are transitions found, and how many of them? K = 0 keeps
the smooth curve: what is found there is false.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from llc.transitions.find import find_in_curve
from parts import common

STAIRS = (0, 2, 3, 6, 12, 24, 48)
REPEATS = 12


def compute(work: Path, workers: int) -> dict[str, Any]:
    """Simulate every run that understood; return counts of transitions found by K."""
    traced = common.kept("trace")
    result: dict[str, Any] = {"repeats": REPEATS, "runs": {}}
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for name in common.understood():
            low, high = common.window(name)
            step = np.array(traced[name]["step"])
            inside = (step >= low) & (step <= high)
            error = np.array(traced[name]["mcse"])[inside]
            curve = traced[name]["transitions"]["window"]["curve"]
            mean = np.interp(step[inside], curve["step"], curve["mean"])
            jobs = [(step[inside], mean, error, k, REPEATS) for k in STAIRS]
            counts = pool.map(_found, jobs)
            result["runs"][name] = dict(zip(STAIRS, counts, strict=True))
    return result


def _found(job: tuple) -> list[int]:
    """Transitions found in each repetition of a staircase of K plateaus."""
    step, mean, error, plateaus, repeats = job
    values = mean if plateaus == 0 else staircase(mean, plateaus)
    rng = np.random.default_rng([plateaus, len(step)])
    return [
        len(find_in_curve(step, values + error * rng.standard_normal(len(step)), error))
        for _ in range(repeats)
    ]


def staircase(mean: np.ndarray, plateaus: int) -> np.ndarray:
    """Round a curve to K levels, evenly spaced over its range in ln λ."""
    height = np.log(mean)
    part = (height - height.min()) / np.ptp(height)
    level = np.minimum(np.floor(part * plateaus), plateaus - 1)
    return np.exp(height.min() + (level + 0.5) / plateaus * np.ptp(height))
