"""Claim 5: the known symmetries leave loss and LLC where they are, and how many there are."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from llc.settings import Settings
from llc.trajectory.symmetries import SymmetryCheck, check_symmetries
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
            **_plain(check_symmetries(task, settings=settings)),
        }
        print(f"symmetries of the {words} network", flush=True)
    return result


def _plain(check: SymmetryCheck) -> dict[str, Any]:
    """What the page needs: rows with a word each, and the count of directions."""
    rows = [{**asdict(row), "says": check.says(row)} for row in check.rows]
    d = check.directions
    directions = None if d is None else {**asdict(d), "flat": d.flat}
    return {
        "llc": check.llc, "mcse": check.mcse, "most_z": check.most_z, "rows": rows,
        "directions": directions, "seconds": check.seconds,
    }  # fmt: skip
