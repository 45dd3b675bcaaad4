"""The published recipe (nβ 2, γ 5, ε 3e-3, plain SGLD) beside the same formula without a loss.

Its chain leaves the model: its loss is far above chance, and w* + N(0, 1/γ), which has never seen
a gradient, draws the same curve.
"""

from pathlib import Path
from typing import Any

import numpy as np

import llc
from llc.checkpoints import find_checkpoints
from llc.settings import Settings
from parts import common
from parts.trace import describe

COUNT = 24


def compute(work: Path, workers: int) -> dict[str, Any]:
    """Trace the first run that understood by that recipe: 4 chains, 500 + 500 steps, batch 512."""
    name = common.chosen()[0]
    settings = Settings(
        n_beta=2.0, gamma=5.0, step_size=3e-3, sampler="sgld", burn_in=500, draws=500,
        batch_size=512,
    )  # fmt: skip
    have = np.array(common.steps())
    picks = {int(have[np.abs(np.log(have / s)).argmin()]) for s in np.geomspace(10, 40_000, COUNT)}
    picks |= set(range(20_000, 32_000, 2000)) & set(common.steps())
    files = [c for c in find_checkpoints(common.folder_of(work, name)) if c.step in picks]
    run = llc.trace(
        common.task_of(name), files, settings=settings, workers=workers,
        out=work / "p53" / name / "recipe",
    )  # fmt: skip
    found = describe(run)
    found["sampled_loss"] = run.column("sampled_loss")
    return {"run": name, "chance": float(np.log(common.PRIME)), **found}
