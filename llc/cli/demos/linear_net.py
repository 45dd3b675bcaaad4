"""A linear net through a bottleneck: ranks learned one by one, λ known at each."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llc.cli.demos.common import finish, is_trained, mark_trained
from llc.progress import Bar
from llc.settings import Settings
from llc.tasks import linear_net
from llc.trajectory import Trajectory, trace

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
    if not is_trained(out, plan):
        with Bar("train") as report:
            linear_net.train(
                out / "checkpoints", **plan, report=lambda done: report("train", done, steps)
            )
        mark_trained(out, plan)
    # As many examples as inputs: their second moment is the identity all the same.
    task = partial(linear_net.task, seed=options.seed, examples=linear_net.WIDTHS[0])
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
    finish(out, result, _summary(result))


def _summary(result: Trajectory) -> str:
    """Each rank's exact λ beside the mean of the estimates made while it lasted."""
    lines = ["settings", *("  " + line for line in str(result.settings).splitlines()), ""]
    lines.append("rank  exact λ  mean LLC  checkpoints")
    ranks, exact = result.column("rank"), result.column("exact_llc")
    for rank in sorted(set(ranks)):
        here = ranks == rank
        lines.append(
            f"{rank:4.0f}{exact[here][0]:9.4g}{result.llc[here].mean():10.4g}{here.sum():13d}"
        )
    lines.append("(a rank counts from half its singular value on; at this nβ λ̂ moves before that)")
    return "\n".join(lines)
