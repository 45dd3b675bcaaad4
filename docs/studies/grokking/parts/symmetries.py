"""Claim 5: the known symmetries leave loss and LLC where they are, and how many there are."""

from pathlib import Path
from typing import Any

from llc.trajectory.symmetries import check_symmetries, count_directions

from llc.settings import Settings
from parts import common


def compute(work: Path, workers: int) -> dict[str, Any]:
    """Check a memorising and a grokked network of the first run that understood."""
    name = common.chosen()[0]
    low, _ = common.window(name)
    settings = Settings(n_beta=float(common.N), gamma=common.GAMMA, behavioural=True)
    result: dict[str, Any] = {"run": name, "networks": {}}
    for words, step in {"memorised": int(low), "grokked": common.STEPS}.items():
        task = common.task_of(name).at(common.weights_at(work, name, step))
        result["networks"][words] = {
            "step": step,
            "check": check_symmetries(task, settings=settings).to_dict(),
            "directions": count_directions(task).to_dict(),
        }
        print(f"symmetries of the {words} network", flush=True)
    return result
