"""Claim 4: what added circuitry costs. Exceptions planted in grokked networks, and their LLC."""

from pathlib import Path
from typing import Any

import llc
from llc.planting import plant
from llc.settings import Settings
from parts import common
from parts.trace import describe

COUNTS = (0, 5, 10, 20, 40, 80, 150)
RECIPE = {"steps": 2000, "learning_rate": 5e-3, "weight_decay": 2e-4}
"""As in training."""
NETWORKS = 3


def compute(work: Path, workers: int) -> dict[str, Any]:
    """Plant in the first networks that understood, and trace what came of it."""
    settings = Settings(n_beta=float(common.N), gamma=common.GAMMA, behavioural=True)
    result: dict[str, Any] = {"recipe": RECIPE, "runs": {}}
    for name in common.chosen()[:NETWORKS]:
        task = common.task_of(name).at(common.weights_at(work, name, common.STEPS))
        folder = work / "p53" / name / "planted-with-decay"
        variants = plant(task, COUNTS, out=folder / "checkpoints", **RECIPE)
        run = llc.trace(task, variants, settings=settings, workers=workers, out=folder / "trace")
        names = ("planted", "exceptions_fitted", "examples_fitted", "planting_steps")
        extra = {key: run.column(key) for key in names}
        result["runs"][name] = {**describe(run), **extra}
        print(f"planted in {name}", flush=True)
    return result
