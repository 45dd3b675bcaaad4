"""A transformer that learns linear regression in context: stages in loss and LLC."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llc import plot
from llc.checkpoints import find_checkpoints
from llc.cli.demos.common import finish, train_once
from llc.cli.runs import transitions_of
from llc.estimation.estimate import rounded
from llc.settings import Settings
from llc.tasks import in_context_regression
from llc.trajectory import Trajectory, trace
from llc.transitions import Transitions, find_stages

if TYPE_CHECKING:
    from llc.cli.options import Demo as Options

__all__ = ["run"]

GAMMA, BATCH, DRAWS, EVERY = 1000.0, 32, 150, 2


def run(options: "Options", out: Path, workers: int) -> None:
    """Train the transformer, trace every second checkpoint, and chart loss and LLC by stages."""
    steps = options.steps or in_context_regression.STEPS
    plan: dict[str, Any] = {
        "steps": steps,
        "seed": options.seed,
        "save_at": in_context_regression.checkpoint_steps(steps),
    }
    train_once(out, plan, in_context_regression.train)
    settings = Settings(
        gamma=GAMMA,
        draws=DRAWS,
        batch_size=BATCH,
        behavioural=True,
        seed=options.seed,
        reasons={
            "gamma": "local, and in equilibrium, all along this run",
            "batch_size": "towards the model's own outputs small batches heat little",
        },
    )
    # Counted from the end, so that the last is among them.
    chosen = find_checkpoints(out / "checkpoints")[::-1][::EVERY][::-1]
    result = trace(
        partial(in_context_regression.task, seed=options.seed), chosen, out=out,
        settings=settings, workers=workers, progress=True,
    )  # fmt: skip
    finish(out, result, _summary(result, options.seed))
    found = transitions_of(out, result)
    if found is not None:
        _draw_stages(out, result, found)


def _draw_stages(out: Path, result: Trajectory, found: Transitions) -> None:
    """Print the stages of the smooth curve, and chart them."""
    stages = find_stages(result)
    print("\nstages of a smooth curve in ln step, by its slope ± two standard deviations")
    for stage in stages.stages:
        print(f"  {stage.direction}, steps {stage.start:,.0f} to {stage.end:,.0f}")
    losses = ("train_loss", "loss_at_1", f"loss_at_{in_context_regression.PAIRS}")
    figure = plot.stages(result, stages, transitions=found, losses=losses)
    files = plot.save(figure, out / "figures" / "stages")
    print("figures  " + "\n         ".join(map(str, files)))


def _summary(result: Trajectory, seed: int) -> str:
    """What was seen, in words, with the settings it was seen at."""
    lines = ["settings", *("  " + line for line in str(result.settings).splitlines()), ""]
    statuses = [point.estimate.verdict.status for point in result.points]
    counts = ", ".join(f"{statuses.count(s)} {s}" for s in ("ok", "warn", "fail"))
    lines.append(
        f"{len(result.points)} checkpoints, {result.points[0].estimate.dimension:,} parameters; "
        f"verdicts: {counts}"
    )
    for name, error in (("llc", "mcse"), ("null", "null_se")):
        values, errors = result.column(name), result.column(error)
        places = sorted({0, int(np.nanargmax(values)), len(values) - 1})
        shown = [
            f"{' ± '.join(rounded(values[i], errors[i]))} at step {result.steps[i]:,.0f}"
            for i in places
        ]
        lines.append(f"{'LLC' if name == 'llc' else 'prior-only null'}: {'; '.join(shown)}")
    loss = result.column("train_loss")
    best = in_context_regression.ridge_loss(seed)
    lines.append(
        f"loss: {loss[0]:.3f} at first, {loss[-1]:.3f} at the end; ridge regression, which no "
        f"predictor beats, has {best:.3f}"
    )
    return "\n".join(lines)
