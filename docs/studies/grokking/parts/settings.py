"""Two temperatures, two localisations: which part of the story depends on them.

nβ = n and n/ln n (the theory's), γ = 100 and 10, at nine checkpoints of four runs.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

import llc
from llc.checkpoints import find_checkpoints
from llc.settings import Settings
from parts import common
from parts.trace import describe

COUNT = 9
BUDGET = 16_000
TEMPERATURES = {"n": float(common.N), "n/ln n": common.N / math.log(common.N)}
GAMMAS = (100.0, 10.0)


def compute(work: Path, workers: int) -> dict[str, Any]:
    """Trace a few checkpoints of four runs at each of the four settings."""
    result: dict[str, Any] = {}
    for name in common.four():
        steps = _steps(name)
        files = [c for c in find_checkpoints(common.folder_of(work, name)) if c.step in steps]
        for words, n_beta in TEMPERATURES.items():
            for gamma in GAMMAS:
                key = f"{words}, {gamma:g}"
                settings = Settings(n_beta=n_beta, gamma=gamma, behavioural=True, budget=BUDGET)
                run = llc.trace(
                    common.task_of(name), files, settings=settings, workers=workers,
                    out=work / "p53" / name / f"settings-{n_beta:.0f}-{gamma:g}",
                )  # fmt: skip
                result.setdefault(name, {})[key] = describe(run)
                print(f"{name} at {key}", flush=True)
    return result


def _steps(name: str) -> set[int]:
    """Evenly spaced in ln step until the memorised network, then evenly spaced."""
    low = common.window(name)[0]
    have = np.array(common.steps())
    early, late = np.geomspace(100, low, 3), np.linspace(low, common.STEPS, COUNT - 2)
    return {int(have[np.abs(have - s).argmin()]) for s in (*early, *late)}
