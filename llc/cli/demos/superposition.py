"""The toy model of superposition: nothing, then a polygon, whose λ is known."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llc.cli.commands import remember
from llc.cli.demos.common import by_label, finish, train_once
from llc.settings import Settings
from llc.tasks import superposition
from llc.trajectory import trace

if TYPE_CHECKING:
    from llc.cli.options import Demo as Options

__all__ = ["run"]

N_BETA, GAMMA = 200_000.0, 3.0


def run(options: "Options", out: Path, workers: int) -> None:
    """Train the model, trace it, and chart the LLC with the exact λ of each polygon."""
    steps = options.steps or superposition.STEPS
    plan: dict[str, Any] = {
        "features": superposition.FEATURES,
        "steps": steps,
        "seed": options.seed,
        "save_at": superposition.checkpoint_steps(steps),
    }
    train_once(out, plan, superposition.train)
    task = partial(superposition.task, seed=options.seed)
    remember(out, "superposition", [out / "checkpoints"], task.keywords)
    settings = Settings(
        n_beta=N_BETA,
        gamma=GAMMA,
        behavioural=True,
        seed=options.seed,
        reasons={"n_beta": "at a tenth of it a feature left out is not always on"},
    )
    result = trace(
        task, out / "checkpoints", out=out, settings=settings, workers=workers, progress=True
    )
    note = "polygon 0: nothing represented yet; -1: columns of all lengths, λ unknown"
    finish(out, result, by_label(result, "polygon", note))
