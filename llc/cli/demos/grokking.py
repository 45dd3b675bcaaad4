"""A network that groks modular addition, with prior-only null and a random-label control."""

import multiprocessing
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llc.checkpoints import find_checkpoints
from llc.cli.commands import remember
from llc.cli.demos.common import finish, is_trained, mark_trained
from llc.errors import InputError
from llc.estimation.estimate import rounded
from llc.settings import Settings
from llc.tasks import modular_addition
from llc.trajectory import Trajectory, trace

if TYPE_CHECKING:
    from llc.cli.options import Demo as Options

__all__ = ["run"]

CHECKPOINTS = 60
CONTROL_CHECKPOINTS = 16
GAMMA = 100.0
STEPS = 40_000

_shared: dict[str, Any] = {}
"""In a worker: the array of steps done, a slot for each training run."""


def run(options: "Options", out: Path, workers: int) -> None:
    """Train network and control, trace both, and chart them over one another."""
    steps = options.steps or STEPS
    runs = {
        out: _plan(options, steps, CHECKPOINTS, random_labels=False),
        out / "control": _plan(options, steps, CONTROL_CHECKPOINTS, random_labels=True),
    }
    fresh = [folder for folder, plan in runs.items() if not is_trained(folder, plan)]
    context = multiprocessing.get_context("spawn")
    shared = context.Array("q", len(runs))
    with ProcessPoolExecutor(workers, context, _start_worker, (shared,)) as pool:
        if fresh:
            _train_all(pool, shared, {folder: runs[folder] for folder in fresh}, steps)
        trajectories = [_trace(options, folder, plan, pool) for folder, plan in runs.items()]
    main, control = trajectories
    finish(out, main, _summary(main, control), control=control)
    print(f"control  {out / 'control' / 'trajectory.csv'}")


def _plan(options: "Options", steps: int, count: int, random_labels: bool) -> dict[str, Any]:
    """Everything that decides a training run."""
    if options.prime < 5:
        raise InputError(f"--prime is {options.prime}, expected a whole number of at least 5")
    return {
        "steps": steps,
        "save_at": modular_addition.checkpoint_steps(steps, count),
        "follow_change": not random_labels,
        "prime": options.prime,
        "seed": options.seed,
        "random_labels": random_labels,
    }


def _train_all(
    pool: ProcessPoolExecutor, shared: Any, runs: dict[Path, dict[str, Any]], steps: int
) -> None:
    """Train all runs side by side, a bar each."""
    from tqdm import tqdm

    futures: list[Future[None]] = []
    bars = []
    for slot, (folder, plan) in enumerate(runs.items()):
        name = "train control (random labels)" if plan["random_labels"] else "train"
        hidden = not sys.stderr.isatty()
        bars.append(tqdm(total=steps, desc=name, unit="step", position=slot, disable=hidden))
        futures.append(pool.submit(_train_one, slot, folder, plan))
    while True:
        finished = all(future.done() for future in futures)
        for slot, bar in enumerate(bars):
            bar.update(shared[slot] - bar.n)
        if finished:
            break
        time.sleep(0.1)
    for bar, future in zip(bars, futures, strict=True):
        bar.close()
        future.result()


def _start_worker(shared: Any) -> None:
    """Give each process one thread: as many processes as cores."""
    _shared["steps"] = shared
    torch.set_num_threads(1)


def _train_one(slot: int, folder: Path, plan: dict[str, Any]) -> None:
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    for stale in checkpoints.glob("step_*.safetensors"):
        stale.unlink()

    def report(step: int) -> None:
        _shared["steps"][slot] = step

    modular_addition.train(checkpoints, **plan, report=report)
    mark_trained(folder, plan)


def _trace(
    options: "Options", folder: Path, plan: dict[str, Any], pool: ProcessPoolExecutor
) -> Trajectory:
    given = {name: plan[name] for name in ("prime", "seed", "random_labels")}
    task = modular_addition.task(**given)
    remember(folder, "modular-addition", [folder / "checkpoints"], given)
    settings = Settings(
        n_beta=float(task.size or 0),
        gamma=GAMMA,
        behavioural=True,
        seed=options.seed,
        reasons={"n_beta": "n", "gamma": "local, and in equilibrium, all along this run"},
    )
    return trace(
        task, find_checkpoints(folder / "checkpoints"), out=folder, settings=settings,
        executor=pool, progress=True,
    )  # fmt: skip


def _summary(main: Trajectory, control: Trajectory) -> str:
    """What was seen, in words, with the settings it was seen at."""
    lines = ["settings", *("  " + line for line in str(main.settings).splitlines()), ""]
    counts = dict.fromkeys(("ok", "warn", "fail"), 0)
    for point in (*main.points, *control.points):
        counts[point.estimate.verdict.status] += 1
    total = len(main.points) + len(control.points)
    lines.append(
        f"{len(main.points)} checkpoints and {len(control.points)} of the control, "
        f"{main.points[0].estimate.dimension:,} parameters; verdicts: "
        + ", ".join(f"{count} {status}" for status, count in counts.items())
        + f" of {total}"
    )
    for run in (main, control):
        lines.append(f"{run.name}: LLC {_fall(run, 'llc')}; prior-only null {_fall(run, 'null')}")
    accuracy = main.column("test_accuracy")
    grokked = main.steps[accuracy >= 0.99]
    if len(grokked):
        lines.append(f"held-out accuracy reached 99 % by step {grokked[0]:,.0f}")
    else:
        lines.append(
            f"this seed did not grok within {main.steps[-1]:,.0f} steps (held-out accuracy "
            f"{accuracy[-1]:.0%}): try another --seed or more --steps"
        )
    return "\n".join(lines)


def _fall(run: Trajectory, name: str) -> str:
    values = run.column(name)
    errors = run.column("mcse" if name == "llc" else "null_se")
    top, last = int(values.argmax()), len(values) - 1
    high, low = (" ± ".join(rounded(values[i], errors[i])) for i in (top, last))
    ratio = values[top] / values[last]
    return (
        f"{high} at its peak (step {run.steps[top]:,.0f}) → {low} at the end, a factor {ratio:.1f}"
    )
