"""A linear net through a bottleneck: ranks learned one by one, λ known at each."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llc.cli.commands import remember
from llc.cli.demos.common import by_label, finish, train_once
from llc.settings import Settings
from llc.tasks import linear_net
from llc.trajectory import trace

if TYPE_CHECKING:
    from llc.cli.options import Demo as Options

__all__ = ["run"]

N_BETA, GAMMA, DRAWS = 100.0, 0.3, 800


def run(options: "Options", out: Path, workers: int) -> None:
    """Train the net, trace it, and chart the LLC with the exact λ of each rank."""
    steps = options.steps or linear_net.STEPS
    plan: dict[str, Any] = {
        "widths": list(linear_net.WIDTHS),
        "steps": steps,
        "seed": options.seed,
        "save_at": linear_net.checkpoint_steps(steps),
    }
    train_once(out, plan, linear_net.train)
    # As many examples as inputs: their second moment is the identity all the same.
    task = partial(linear_net.task, seed=options.seed, examples=linear_net.WIDTHS[0])
    remember(out, "linear-net", [out / "checkpoints"], task.keywords)
    settings = Settings(
        n_beta=N_BETA,
        gamma=GAMMA,
        draws=DRAWS,
        behavioural=True,
        seed=options.seed,
        reasons={"n_beta": "1/√nβ lies between the singular values that are learned"},
    )
    result = trace(
        task, out / "checkpoints", out=out, settings=settings, workers=workers, progress=True
    )
    note = "a rank counts from half its singular value on; at this nβ λ̂ moves before that"
    finish(out, result, by_label(result, "rank", note))
