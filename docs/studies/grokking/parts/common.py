"""What the parts of the study share: networks, steps, folders, and how results are kept."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llc.checkpoints import find_checkpoints, read_checkpoint
from llc.files import write_whole
from llc.task import Task
from llc.tasks import modular_addition

PRIME = 53
STEPS = 40_000
SEEDS = tuple(range(8))
CONTROL = "random-labels"
MEMORISED = GROKKED = 0.99
N = len(modular_addition.make_data(PRIME).train[1])
GAMMA = 100.0
RESULTS = Path(__file__).parents[1] / "results"


def steps() -> list[int]:
    """A log grid while the network memorises, then every 250 steps, every 1,000 at the end."""
    early = {round(float(s)) for s in np.geomspace(10, 1500, 16)}
    return sorted({*early, *range(1750, 30_001, 250), *range(31_000, STEPS + 1, 1000)})


def runs() -> dict[str, dict[str, Any]]:
    """Name and arguments of every training run."""
    found = {f"seed-{seed}": {"seed": seed, "random_labels": False} for seed in SEEDS}
    return {**found, CONTROL: {"seed": 0, "random_labels": True}}


def chosen() -> list[str]:
    """Five runs that understood, those that never did (two at most), and the control.

    By seed: nothing about their LLC has a say.
    """
    trained = kept("train")
    seeds = [name for name in runs() if name != CONTROL]
    able = [name for name in seeds if trained[name]["grokked"] is not None]
    never = [name for name in seeds if trained[name]["test_accuracy"] < 0.5]
    return [*able[:5], *never[:2], CONTROL]


def understood() -> list[str]:
    """Those of the chosen runs whose network understood."""
    trained = kept("train")
    return [name for name in chosen() if trained[name]["grokked"] is not None]


def four() -> list[str]:
    """Two that understood, one that did not, and the control: for what is dear to measure."""
    trained, names = kept("train"), chosen()
    never = [n for n in names if n != CONTROL and trained[n]["grokked"] is None]
    return [*names[:2], *never[:1], CONTROL]


def window(name: str) -> tuple[float, float]:
    """From memorising to understanding; to the end where that never came."""
    found = kept("train")[name]
    return found["memorised"] or 0.0, found["grokked"] or float(STEPS)


def task_of(name: str) -> Task:
    """The task of a run; what was measured in training lies beside the checkpoints."""
    return replace(modular_addition.task(PRIME, **runs()[name]), readings=None)


def folder_of(work: Path, name: str) -> Path:
    return work / "p53" / name / "checkpoints"


def weights_at(work: Path, name: str, step: int) -> dict:
    """Weights of a run at a saved step."""
    return dict(read_checkpoint(folder_of(work, name) / f"step_{step:07d}.safetensors")[0])


def learning_curves(work: Path, name: str) -> dict[str, list[float]]:
    """Steps and what was measured at each, from the checkpoints' own metadata."""
    found = find_checkpoints(folder_of(work, name))
    names = found[0].metadata.keys() - {"step"}
    curves = {"step": [float(c.step) for c in found]}
    return {**curves, **{key: [float(c.metadata[key]) for c in found] for key in sorted(names)}}


def first_step(curves: dict[str, list[float]], name: str, level: float) -> float | None:
    """The first step from which on a curve stays at or above a level."""
    below = [i for i, value in enumerate(curves[name]) if value < level]
    after = below[-1] + 1 if below else 0
    return curves["step"][after] if after < len(curves["step"]) else None


def keep(part: str, result: dict[str, Any]) -> None:
    """Write what a part found, six digits a number: small, and the same from run to run."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(_short(result), indent=None, separators=(",", ":"), allow_nan=False)
    write_whole(RESULTS / f"{part}.json", (text + "\n").encode())


def kept(part: str) -> dict[str, Any]:
    """Read what a part found."""
    return json.loads((RESULTS / f"{part}.json").read_text())


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _short(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_short(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
