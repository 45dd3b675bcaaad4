"""Every sampler on the same targets, settings automatic: gradients until the estimate stands.

An estimate stands when the 95 % interval is within ±5 %, a hundred effective draws are behind
it, R-hat is at most 1.05 and the virial within .05 of 1; "-" means not within the budget. Errors
are against a long kinetic run on all data (± .3 %), so that a sampler's own bias shows: Euler's
step, a preconditioner that adapts, minibatch heat.

Machine: 2 cores of an AMD EPYC, torch 2.13 CPU, one thread
Date: 2026-11-22
Command: python benchmarks/samplers.py
Result:
"""

import argparse
import math
import tempfile
import time
from pathlib import Path

import torch
from known_targets import LinearNet, population_loss

import llc
from llc.checkpoints import find_checkpoints
from llc.settings import SAMPLERS
from llc.tasks import modular_addition

LONG = 0.006
N_BETA = 1e5 / math.log(1e5)


def targets(folder: Path) -> dict[str, tuple[llc.Task, dict, int]]:
    """Name → task, law, budget in gradients."""
    found = {}
    for widths, rank in (((16, 4, 16), 4), ((20, 10, 20), 4), ((10, 10, 10, 10), 3)):
        task = llc.Task(LinearNet(widths, rank), potential=population_loss)
        name = "-".join(map(str, widths))
        found[name] = (task, {"n_beta": N_BETA, "gamma": 10.0}, 200_000)
    if not list(folder.glob("*")):
        modular_addition.train(folder, steps=40_000, save_at=[1_200, 40_000], follow_change=False)
    law = {"n_beta": 1123.0, "gamma": 100.0, "behavioural": True}
    for checkpoint in find_checkpoints(folder):
        task = modular_addition.task().at(checkpoint.weights())
        found[f"p53@{checkpoint.step}"] = (task, law, 20_000)
        found[f"p53@{checkpoint.step}/128"] = (task, {**law, "batch_size": 128}, 60_000)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, help="folder for the trained networks")
    parser.add_argument("--only", nargs="*", default=SAMPLERS[1:], help="samplers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = options.cache or Path(tempfile.mkdtemp())
    references: dict[str, float] = {}
    print(f"{'target':<16}{'sampler':<21}{'gradients':>10}{'LLC':>8}{'error':>8}{'mcse':>7}"
          f"{'virial':>8}{'s':>6}")  # fmt: skip
    for name, (task, law, budget) in targets(folder).items():
        whole = name.removesuffix("/128")
        if whole not in references:
            long = {k: v for k, v in law.items() if k != "batch_size"}
            long |= {"precision": LONG, "budget": 3_000_000, "seed": 99}
            references[whole] = llc.estimate(task, **long).llc
        for sampler in options.only:
            if "batch_size" in law and sampler in ("mala", "hmc", "malt"):
                continue
            started = time.perf_counter()
            e = llc.estimate(task, **law, sampler=sampler, budget=budget, seed=1)
            stands = not {llc.Reason.PRECISION_NOT_REACHED} & set(e.verdict.reasons)
            cost = f"{e.gradient_evaluations:,}" if stands else "-"
            error = e.llc / references[whole] - 1
            print(
                f"{name:<16}{sampler:<21}{cost:>10}{e.llc:>8.1f}{error:>+8.1%}"
                f"{e.mcse / abs(e.llc):>7.1%}{e.virial:>8.3f}{time.perf_counter() - started:>6.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
