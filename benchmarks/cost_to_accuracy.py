"""Cost to accuracy: seconds until an estimate is within 5 % of B with a standard error of 2 %.

B is the exact expectation of the estimator at the nβ and γ used (`accuracy/targets.py`); target,
nβ, γ and batch are the same for every tool, one thread each, four chains each.

Ours: `llc.estimate` with nothing about the sampler given and precision=0.04, that is a standard
error of 2 %. It stops by itself; all it spends counts: set-up, compilation with an empty cache,
warm-up, curvature probes, proof of equilibrium. "miss" where |C − B| > 5 % all the same.

devinterp 1.3.2 (SGLD) and our own plain SGLD: every step of a half-decade grid runs for --limit
seconds, give or take a tenth, and the best is chosen *knowing B*: the time that counts is the first
t after which, up to the end of the run, |C − B| ≤ 5 % and MCSE ≤ 2 % of B by the draws up to t, the
first 1/4, 1/2 or 3/4 of them dropped, whichever is best in hindsight. No user can do that: neither
the other steps of the grid nor the checks that would be needed without B count; what the grid took
is in a column of its own. devinterp's loader hands out batches by one indexing, its baseline is the
loss at w* on all data (see `accuracy/devinterp1.py`). A run that never arrives counts as --limit,
"> limit".

Ratios are seconds of the rival over seconds of ours, medians over seeds; "≥" where the rival did
not arrive. Where ours misses in half of the seeds or more it counts as --limit at least. One
process a run, --workers side by side; imports and a warm-up of torch are not counted for anyone.
--clock cpu counts processor time, of compilers too, for a look while the machine is busy.

Machine: 2 cores of an AMD EPYC, torch 2.13 CPU
Date: 2026-11-22
Command: python benchmarks/cost_to_accuracy.py --devinterp1 PYTHON --limit 10 --seeds 3 --only … (all
but the ReLU net, whose reference did not converge in 40 minutes)
Result: devinterp 1.3.2 with its step known beforehand takes 1.9 times as long as ours in the geometric
mean (a lower bound: on two targets it never arrives), our own plain SGLD so chosen 1.4 times. Ours is
slower on two: the memorising network (a quarter, .26: a short run in which proof and recording cost more
than sampling) and regression in minibatches of 250 (.36: heat is kept below 2 %, where a step chosen
with the answer in hand lets errors cancel). With the grid that finds its step, devinterp takes 16 times
as long in the geometric mean, 1.5 to 54. The goal, 20 times and nowhere slower, is not
reached: with the grid counted three targets of nine pass 20.

                                      |                   ours                     |       devinterp 1.3.2 SGLD        |          own plain SGLD
    target                  D       B |     s  error  mcse   grads warm verdict     |     step            s  ratio grid |     step            s  ratio grid
    quadratic 1e6          50   23.64 |   3.0  +1.9%  2.0%     78k  21% ok          |    3e-06   > 10 (-4%) ≥3.34    32 |    1e-06   > 10 (-4%) ≥3.34    44
    8-2-8 rank 0           32    7.45 |   0.8  +1.4%  1.9%     18k  20% ok          |    3e-05          5.0  6.56    36 |    1e-05          1.8  2.36    39
    20-10-20 rank 4       400  115.00 |   0.8  +1.0%  0.9%     19k  38% ok          |    3e-06          1.8  2.37    34 |    3e-06          0.6  0.799   41
    10-10-10-10 rank 3    300   41.19 |   2.8  -1.1%  1.5%     54k  55% ok          |    1e-07  > 10 (-33%) ≥3.52    38 |    3e-07  > 10 (-12%) ≥3.52    40
    30, eight layers     6300  143.00 |   3.6  -0.2%  0.8%     13k  19% ok          |    1e-06          5.0  1.37    39 |    1e-06          2.5  0.679   39
    regression, batch 250   50   24.54 |  25.1  +1.7%  1.9%    190k  39% ok          |    1e-04          9.0  0.358   37 |    1e-04   > 10 (+6%) ≥0.398   41
    regression, all data   50   24.54 |   0.7  -1.6%  2.0%      2k  32% ok          |    3e-04          6.1  8.88    38 |    3e-04          4.2  6.12    39
    memorised            4428  420.50 |   3.1  +0.4%  0.4%      1k  31% ok          |    3e-04          0.8  0.262   41 |    3e-04          1.8  0.582   36
    grokked              4428   61.91 |   1.7  +1.1%  0.8%      1k  44% ok          |    3e-04          3.0  1.74    34 |    3e-04          1.7  1.01    33
"""  # noqa: E501

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from accuracy.targets import NAMES, NETWORKS, PRINTS, Target, build, fingerprint

HERE = Path(__file__).parent
ERROR, SPREAD = 0.05, 0.02
DROPPED = (0.25, 0.5, 0.75)
CHAINS = 4
LEAST = 100
SNAPSHOTS = {"memorised": 2_400, "grokked": 40_000}
REFERENCE_CHAINS = {True: 32, False: 8}  # without data, with data


class Ours(NamedTuple):
    seconds: float
    llc: float
    mcse: float
    burn_in: int
    draws: int
    gradients: int
    verdict: str


class Trace(NamedTuple):
    """Of a run with a given step: nβ(L − L*), shape (chains, draws), and what it took."""

    rise: np.ndarray
    seconds: float
    seconds_per_draw: float

    def within(self, limit: float) -> "Trace":
        """What had been drawn by then, where the pilot was too hopeful."""
        surplus = max(0, math.ceil((self.seconds - limit) / max(self.seconds_per_draw, 1e-9)))
        kept = max(LEAST, self.rise.shape[1] - surplus)
        cut = self.rise.shape[1] - kept
        return self._replace(
            rise=self.rise[:, :kept], seconds=self.seconds - cut * self.seconds_per_draw
        )


# --- one run each, in a process of its own ---------------------------------------------------


def task_of(target: Target) -> Any:
    import llc

    if target.data is None:
        return llc.Task(target.model, potential=lambda model: target.loss(model, None))
    return llc.Task(target.model, target.data, batch_loss=target.loss)


def settings_of(target: Target) -> dict[str, Any]:
    """What every tool is given."""
    size = None if target.data is None else len(target.data[0])
    batch_size = target.batch_size or size
    return {"n_beta": target.n_beta, "gamma": target.gamma, "batch_size": batch_size}


def start_process(folder: str) -> None:
    # Nobody finds compiled code of an earlier run.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(dir=folder)
    import torch

    torch.set_num_threads(1)


def warm_up_torch() -> None:
    """Import what is imported late, on another problem; devinterp's worker does as much."""
    import torch

    import llc

    model = torch.nn.Linear(3, 1)
    llc.estimate(model, potential=lambda m: m.weight.square().sum(), n_beta=1.0, gamma=1.0, draws=9)


def clock(kind: str) -> float:
    if kind == "cpu":
        return time.process_time() + sum(os.times()[2:4])  # with children: compilers
    return time.perf_counter()


def ours(name: str, cache: Path, kind: str, seed: int) -> Ours:
    import llc

    warm_up_torch()
    target = build(name, cache)
    task = task_of(target)
    started = clock(kind)
    e = llc.estimate(task, **settings_of(target), precision=2 * SPREAD, seed=seed)
    seconds = clock(kind) - started
    burn_in, draws = e.settings.burn_in or 0, e.settings.draws or 0
    return Ours(seconds, e.llc, e.mcse, burn_in, draws, e.gradient_evaluations, str(e.verdict))


def plain(name: str, cache: Path, kind: str, step: float, limit: float, seed: int) -> Trace:
    """Our own SGLD (Euler–Maruyama) from w*, burn-in included in the trace."""
    import llc

    warm_up_torch()
    target = build(name, cache)
    given = {"sampler": "sgld", "step_size": step, "burn_in": 0, **settings_of(target)}
    task = task_of(target)

    def timed(draws: int) -> tuple[Any, float]:
        started = clock(kind)
        return llc.estimate(task, **given, draws=draws, seed=seed), clock(kind) - started

    # Long enough that what a call takes whatever its length does not matter.
    _, start, pilot = [timed(draws)[1] for draws in (20, 20, 4_020)]
    draws = max(LEAST, int((limit - start) / max(pilot - start, 0.1) * 4_000))
    e, seconds = timed(draws)
    # Diverged chains are left out by llc; here they are a failure.
    rise = np.full((CHAINS, draws), np.nan) if e.diverged else np.asarray(e.trace)
    return Trace(rise, seconds, max(seconds - start, 0.0) / draws).within(1.1 * limit)


def rival(
    python: str, name: str, cache: Path, kind: str, step: float, limit: float, seed: int
) -> Trace:
    """devinterp 1.3.2, with its own interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "trace.npz"
        command = [python, str(HERE / "accuracy" / "devinterp1.py")]
        for flag, value in (
            ("target", name), ("cache", cache), ("clock", kind), ("step", step),
            ("seconds", limit), ("seed", seed), ("out", out),
        ):  # fmt: skip
            command += [f"--{flag}", str(value)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        kept = np.load(out)
        seconds = float(kept["seconds"])
        return Trace(kept["rise"], seconds, seconds / kept["rise"].shape[1]).within(1.1 * limit)


# --- the rule --------------------------------------------------------------------------------


def mcse(draws: np.ndarray) -> float:
    from arviz_stats.base import array_stats

    return float(array_stats.mcse(draws, chain_axis=0, draw_axis=1, method="mean"))


def accurate(draws: np.ndarray, truth: float) -> bool:
    close = abs(draws.mean() / truth - 1) <= ERROR
    return bool(close and mcse(draws) <= SPREAD * truth)


def seconds_to_accuracy(trace: Trace, truth: float) -> float:
    """The first time from which on, to the end, the estimate is accurate; infinity if none."""
    total = trace.rise.shape[1]
    count = max(2, int(math.log(total / LEAST, 1.1)))
    lengths = sorted({int(length) for length in np.geomspace(LEAST, total, count)}, reverse=True)
    first = math.inf
    for share in DROPPED:
        for length in lengths:
            if not accurate(trace.rise[:, int(share * length) : length], truth):
                break
            first = min(first, length)
    if first == math.inf:
        return math.inf
    return trace.seconds - (total - first) * trace.seconds_per_draw


class Tuned(NamedTuple):
    """The best step of a grid, in hindsight."""

    step: float
    seconds: float
    error: float
    grid_seconds: float


def tuned(traces: dict[float, Trace], truth: float) -> Tuned:
    """Earliest to arrive; if none does, nearest to B with its later half."""

    def error(trace: Trace) -> float:
        later = trace.rise[:, trace.rise.shape[1] // 2 :]
        return float(later.mean() / truth - 1)

    def rank(step: float) -> tuple[float, float]:
        off = abs(error(traces[step]))
        return seconds_to_accuracy(traces[step], truth), math.inf if math.isnan(off) else off

    best = min(traces, key=rank)
    spent = sum(trace.seconds for trace in traces.values())
    return Tuned(best, rank(best)[0], error(traces[best]), spent)


# --- all of it -------------------------------------------------------------------------------


class Row(NamedTuple):
    """Results of one target: ours by seed; rivals by name, each a best step and times by seed."""

    name: str
    ours: list[Ours]
    best: dict[str, Tuned]
    times: dict[str, list[float]]


class Bench:
    """Runs of one target, submitted together, each in a fresh process."""

    def __init__(self, given: argparse.Namespace, pool: ProcessPoolExecutor) -> None:
        self.given, self.pool = given, pool
        self.tools = ["plain"] + (["rival"] if given.devinterp1 else [])

    def submit(self, tool: str, name: str, step: float, seed: int) -> "Future[Trace]":
        g = self.given
        if tool == "plain":
            return self.pool.submit(plain, name, g.cache, g.clock, step, g.limit, seed)
        return self.pool.submit(rival, g.devinterp1, name, g.cache, g.clock, step, g.limit, seed)

    def row(self, target: Target) -> Row:
        name, seeds = target.name, range(self.given.seeds)
        given = self.given
        mine = [self.pool.submit(ours, name, given.cache, given.clock, seed) for seed in seeds]
        grid = {
            (tool, step): self.submit(tool, name, step, 0)
            for step in target.steps
            for tool in self.tools
        }
        best = {}
        for tool in self.tools:
            traces = {step: grid[tool, step].result() for step in target.steps}
            best[tool] = tuned(traces, target.truth)
            self.tell(tool, target, traces)
        more = {
            tool: [self.submit(tool, name, best[tool].step, seed) for seed in seeds if seed]
            for tool in self.tools
        }
        times = {
            tool: [best[tool].seconds]
            + [seconds_to_accuracy(run.result(), target.truth) for run in more[tool]]
            for tool in self.tools
        }
        return Row(name, [run.result() for run in mine], best, times)

    def tell(self, tool: str, target: Target, traces: dict[float, Trace]) -> None:
        """One line per step of a grid, on request."""
        if not self.given.details:
            return
        for step, trace in traces.items():
            one = tuned({step: trace}, target.truth)
            later = trace.rise[:, trace.rise.shape[1] // 2 :]
            wide = mcse(later) / target.truth if np.isfinite(later).all() else math.nan
            print(
                f"    {tool} step {step:.0e} {trace.rise.shape[1]:>7} draws a chain, "
                f"{1e6 * trace.seconds_per_draw / CHAINS:.0f} us a gradient, later half "
                f"{one.error:+.1%} ± {wide:.1%}, accurate after {one.seconds:.1f} s",
                file=sys.stderr,
                flush=True,
            )


def median(times: list[float], limit: float) -> float:
    return statistics.median(min(t, limit) for t in times)


def misses(row: Row, truth: float) -> int:
    """How often ours stopped outside of what it had to reach."""
    return sum(
        not (abs(o.llc / truth - 1) <= ERROR and o.mcse <= 1.05 * SPREAD * abs(o.llc))
        for o in row.ours
    )


def cell(row: Row, tool: str, truth: float, limit: float) -> tuple[str, float]:
    """Best step, seconds and ratio of a rival, and the ratio as a number."""
    if tool not in row.best:
        return f"{'':>33}", math.nan
    best, times = row.best[tool], row.times[tool]
    arrived = sum(t < math.inf for t in times) * 2 > len(times)
    seconds = median(times, limit)
    mine = statistics.median(o.seconds for o in row.ours)
    lost = 2 * misses(row, truth) >= len(row.ours)
    ratio = seconds / (max(mine, limit) if lost else mine)
    shown = f"{seconds:.1f}" if arrived else f"> {limit:.0f} ({best.error:+.0%})"
    text = f"{best.step:>8.0e}{shown:>13}{'' if arrived else '≥':>2}{ratio:<5.3g}"
    return f"{text}{best.grid_seconds:>5.0f}", ratio


def line(row: Row, target: Target, limit: float) -> tuple[str, dict[str, float]]:
    seconds = statistics.median(o.seconds for o in row.ours)
    errors = [o.llc / target.truth - 1 for o in row.ours]
    worst = max(errors, key=abs)
    missed = misses(row, target.truth)
    wide = max(o.mcse / target.truth for o in row.ours)
    verdicts = "/".join(sorted({o.verdict for o in row.ours}))
    warm = statistics.median(o.burn_in / (o.burn_in + o.draws) for o in row.ours)
    gradients = statistics.median(o.gradients for o in row.ours)
    cells = {tool: cell(row, tool, target.truth, limit) for tool in ("rival", "plain")}
    text = (
        f"{row.name:<20}{target.dimension:>5}{target.truth:>8.2f} |{seconds:>6.1f}{worst:>+7.1%}"
        f"{wide:>6.1%}{gradients / 1e3:>7.0f}k{warm:>5.0%} {verdicts:<5}"
        f"{f'{missed} miss' if missed else '':<7}| {cells['rival'][0]} | {cells['plain'][0]}"
    )
    return text, {tool: ratio for tool, (_, ratio) in cells.items()}


HEADER = (
    f"{'':<33} |{'ours':^43} | {'devinterp 1.3.2 SGLD':^33} | {'own plain SGLD':^33}\n"
    f"{'target':<20}{'D':>5}{'B':>8} |{'s':>6}{'error':>7}{'mcse':>6}{'grads':>8}{'warm':>5} "
    f"{'verdict':<12}| " + " | ".join([f"{'step':>8}{'s':>13}  {'ratio':<5}{'grid':>5}"] * 2)
)


def prepare(cache: Path, names: list[str]) -> None:
    """Train the modular-addition network as `rlct demo grokking` does, and keep two snapshots."""
    cache.mkdir(parents=True, exist_ok=True)
    wanted = [n for n in names if n in NETWORKS]
    if all((cache / f"{n}.pt").exists() for n in wanted):
        return
    import torch

    from llc.checkpoints import find_checkpoints
    from llc.tasks import modular_addition

    torch.set_num_threads(1)
    print("training the network (once)", file=sys.stderr)
    steps = sorted(SNAPSHOTS.values())
    modular_addition.train(
        cache / "checkpoints", steps=steps[-1], save_at=steps, follow_change=False
    )
    found = {c.step: c.weights() for c in find_checkpoints(cache / "checkpoints")}
    inputs = modular_addition.make_data().train[0]
    for name, step in SNAPSHOTS.items():
        torch.save({"weights": found[step], "inputs": inputs}, cache / f"{name}.pt")


def references(name: str, cache: Path) -> list[tuple[str, float, float, float]]:
    """(sampler, B, standard error, virial) by long runs on all data, many chains."""
    import llc

    target = build(name, cache)
    given = settings_of(target) | {"batch_size": target.data and len(target.data[0])}
    found = []
    chains = REFERENCE_CHAINS[target.data is None]
    for sampler in ("kinetic", "hmc"):
        e = llc.estimate(
            task_of(target), **given, sampler=sampler, chains=chains, precision=0.004,
            budget=10**8, seed=1,
        )  # fmt: skip
        found.append((sampler, e.llc, e.mcse, e.virial))
    return found


def pooled(found: list[tuple[str, float, float, float]]) -> tuple[float, float]:
    weights = [1 / error**2 for _, _, error, _ in found]
    mean = sum(w * f[1] for w, f in zip(weights, found, strict=True)) / sum(weights)
    return mean, sum(weights) ** -0.5


def print_references(names: list[str], cache: Path, pool: ProcessPoolExecutor) -> None:
    runs = {name: pool.submit(references, name, cache) for name in names}
    for name, run in runs.items():
        target, found = build(name, cache), run.result()
        value, error = pooled(found)
        samplers = "  ".join(f"{s} {b:.3f} ± {e:.3f} (virial {v:.3f})" for s, b, e, v in found)
        print(f"{name:<20} stored {target.truth:.3f} ± {target.error:.3f}  {samplers}")
        print(f'    "{name}": ({value:.3f}, {error:.3f}),', flush=True)
        if name in NETWORKS:
            print(f"    weights {fingerprint(target.model)}")
            (cache / f"{name}.json").write_text(json.dumps((value, error)))


def complete(names: list[str], cache: Path, pool: ProcessPoolExecutor) -> None:
    """A network trained on another machine is another network: find its B first."""
    own = [n for n in names if n in NETWORKS and fingerprint(build(n, cache).model) != PRINTS[n]]
    missing = [n for n in own if not (cache / f"{n}.json").exists()]
    if missing:
        print("long runs for the networks trained here (once)", file=sys.stderr)
        print_references(missing, cache, pool)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--devinterp1", metavar="PYTHON", help="interpreter with devinterp 1.3.2")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds per target and step")
    parser.add_argument("--only", action="append", choices=NAMES, help="a target; may be repeated")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="runs side by side")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "llc-bench")
    parser.add_argument("--references", action="store_true", help="recompute B by long runs")
    parser.add_argument("--details", action="store_true", help="every step of every grid")
    given = parser.parse_args()
    names = given.only or list(NAMES)
    prepare(given.cache, names)
    with (
        tempfile.TemporaryDirectory() as compiled,
        ProcessPoolExecutor(
            given.workers, get_context("spawn"), start_process, (compiled,), max_tasks_per_child=1
        ) as pool,
    ):
        if given.references:
            print_references(names, given.cache, pool)
            return
        complete(names, given.cache, pool)
        bench = Bench(given, pool)
        print(HEADER, flush=True)
        ratios: dict[str, list[float]] = {"rival": [], "plain": []}
        for name in names:
            target = build(name, given.cache)
            text, found = line(bench.row(target), target, given.limit)
            print(text, flush=True)
            for tool, ratio in found.items():
                ratios[tool].append(ratio)
    for tool, label in (("rival", "devinterp 1.3.2"), ("plain", "own plain SGLD")):
        logs = [math.log(r) for r in ratios[tool] if not math.isnan(r)]
        if logs:
            mean = math.exp(statistics.mean(logs))
            print(f"geometric mean of ratios, {label}: at least {mean:.2f} ({len(logs)} targets)")


if __name__ == "__main__":
    main()
