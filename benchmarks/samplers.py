"""Every sampler on the same targets, settings automatic: gradients until the estimate stands.

An estimate stands when the 95 % interval is within ±5 %, a hundred effective draws are behind
it, R-hat is at most 1.05 and the virial within .05 of 1; "-" means not within the budget. Errors
are against a long kinetic run on all data (± .3 %), so that a sampler's own bias shows: Euler's
step, a preconditioner that adapts, minibatch heat.

Machine: 2 cores of an AMD EPYC, torch 2.13 CPU, one thread
Date: 2026-11-22
Command: python benchmarks/samplers.py
Result (seconds are of a machine busy with other work: compare gradients):

    target          sampler               gradients     LLC   error   mcse  virial     s
    16-4-16         kinetic                   3,684    57.1   +2.3%   1.2%   0.989     1
    16-4-16         sgld-lm                 164,264    56.0   +0.4%   0.2%   1.015    13
    16-4-16         sgld                    164,264    57.1   +2.2%   0.4%   0.963    11
    16-4-16         sgld-rmsprop            164,264    58.3   +4.5%   0.4%   0.984    12
    16-4-16         sgld-rmsprop-frozen     164,264    57.1   +2.2%   0.4%   0.964    11
    16-4-16         sgnht                    11,620    57.4   +2.8%   1.6%   1.021     2
    16-4-16         mala                    170,412    56.1   +0.5%   0.2%   0.998    11
    16-4-16         hmc                      65,756    56.8   +1.7%   1.2%   1.040     2
    16-4-16         malt                     46,556    55.8   -0.0%   1.1%   1.041     3
    16-4-16         devinterp-sgld          164,264    57.1   +2.2%   0.4%   0.951    26
    16-4-16         devinterp-rmsprop       164,264    58.2   +4.2%   0.4%   0.969    51
    20-10-20        kinetic                   5,716   114.1   -0.7%   0.9%   1.004     2
    20-10-20        sgld-lm                 164,264   114.5   -0.3%   0.4%   0.977    22
    20-10-20        sgld                          -   116.2   +1.2%   1.1%   0.915    23
    20-10-20        sgld-rmsprop                  -   118.5   +3.2%   1.1%   0.933    33
    20-10-20        sgld-rmsprop-frozen           -   116.3   +1.3%   1.1%   0.917    32
    20-10-20        sgnht                    19,220   116.0   +1.0%   0.9%   1.015     2
    20-10-20        mala                    170,412   114.5   -0.3%   0.3%   0.981    11
    20-10-20        hmc                      46,556   116.6   +1.6%   0.9%   1.007     1
    20-10-20        malt                     46,556   114.9   +0.1%   0.8%   1.002     2
    20-10-20        devinterp-sgld                -   113.9   -0.8%   1.2%   0.869    32
    20-10-20        devinterp-rmsprop             -   116.1   +1.1%   1.2%   0.882    39
    10-10-10-10     kinetic                  12,388    39.7   +0.6%   1.5%   1.014     1
    10-10-10-10     sgld-lm                       -    39.2   -0.7%   2.5%   0.870    12
    10-10-10-10     sgld                          -    37.2   -5.8%   2.9%   0.604    12
    10-10-10-10     sgld-rmsprop                  -    38.1   -3.6%   2.8%   0.622    16
    10-10-10-10     sgld-rmsprop-frozen           -    37.4   -5.4%   2.8%   0.614    17
    10-10-10-10     sgnht                    19,544    38.9   -1.4%   1.3%   1.024     2
    10-10-10-10     mala                          -    37.8   -4.2%   1.5%   0.838    13
    10-10-10-10     hmc                      46,556    39.2   -0.6%   1.4%   1.031     2
    10-10-10-10     malt                     56,828    39.6   +0.2%   1.1%   1.029     3
    10-10-10-10     devinterp-sgld                -    37.7   -4.4%   2.1%   0.618    35
    10-10-10-10     devinterp-rmsprop             -    38.7   -2.1%   2.1%   0.636    39
    p53@1200        kinetic                   1,912   510.9   +0.4%   0.3%   0.998     5
    p53@1200        sgld-lm                   4,384   509.6   +0.2%   0.3%   0.995     5
    p53@1200        sgld                     19,504   512.5   +0.7%   0.3%   0.993    18
    p53@1200        sgld-rmsprop             11,336   519.1   +2.0%   0.3%   0.999    16
    p53@1200        sgld-rmsprop-frozen      11,336   513.2   +0.9%   0.3%   0.993    25
    p53@1200        sgnht                     2,844   508.9   +0.0%   0.3%   0.997    10
    p53@1200        mala                      7,256   514.1   +1.1%   0.3%   1.004    18
    p53@1200        hmc                      15,856   513.3   +0.9%   0.3%   1.003    20
    p53@1200        malt                     13,656   512.2   +0.7%   0.3%   1.000    14
    p53@1200        devinterp-sgld                -   513.0   +0.9%   0.3%   0.998    52
    p53@1200        devinterp-rmsprop             -   520.8   +2.4%   0.3%   1.006    34
    p53@40000       kinetic                   1,048    62.3   +1.1%   0.8%   1.003     2
    p53@40000       sgld-lm                   1,048    62.6   +1.6%   0.8%   1.002     2
    p53@40000       sgld                      4,208    62.7   +1.7%   0.8%   1.007     8
    p53@40000       sgld-rmsprop              6,368    63.7   +3.2%   0.8%   1.012     9
    p53@40000       sgld-rmsprop-frozen       3,020    63.1   +2.3%   0.9%   1.008     3
    p53@40000       sgnht                     1,588    61.4   -0.5%   0.7%   0.998     3
    p53@40000       mala                      3,056    61.6   -0.2%   0.7%   1.000     3
    p53@40000       hmc                      11,920    62.2   +0.9%   0.6%   1.001    10
    p53@40000       malt                      7,140    63.0   +2.2%   0.7%   1.000     7
    p53@40000       devinterp-sgld            2,500    63.2   +2.5%   0.7%   1.007     3
    p53@40000       devinterp-rmsprop         2,500    63.4   +2.8%   0.7%   1.008     3
    p53@1200/128    kinetic                   3,656   523.3   +2.9%   0.6%   1.005     2
    p53@1200/128    sgld-lm                   3,452   520.8   +2.4%   0.8%   1.003     2
    p53@1200/128    sgld                      8,124   515.5   +1.3%   0.6%   0.989     3
    p53@1200/128    sgld-rmsprop              6,036   520.3   +2.3%   0.4%   0.990     3
    p53@1200/128    sgld-rmsprop-frozen       6,036   517.0   +1.6%   0.4%   0.987     3
    p53@1200/128    sgnht                     1,368   555.3   +9.2%   0.9%   0.993     2
    p53@1200/128    devinterp-sgld            8,124   518.2   +1.9%   0.8%   1.001     4
    p53@1200/128    devinterp-rmsprop         7,728   522.7   +2.8%   0.7%   1.005     5
    p53@40000/128   kinetic                   2,432    61.6   -0.1%   1.5%   0.998     2
    p53@40000/128   sgld-lm                   1,644    61.0   -1.2%   1.7%   1.000     1
    p53@40000/128   sgld                      2,088    63.8   +3.3%   1.8%   1.007     2
    p53@40000/128   sgld-rmsprop              1,604    62.1   +0.7%   1.2%   1.008     1
    p53@40000/128   sgld-rmsprop-frozen       1,604    61.2   -0.7%   1.4%   1.005     2
    p53@40000/128   sgnht                     1,080    65.9   +6.9%   1.4%   0.998     1
    p53@40000/128   devinterp-sgld            1,840    63.6   +3.0%   1.0%   0.996     1
    p53@40000/128   devinterp-rmsprop         1,464    64.3   +4.2%   1.1%   1.001     1
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
    parser.add_argument("--targets", default="", help="targets whose name contains this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = options.cache or Path(tempfile.mkdtemp())
    references: dict[str, float] = {}
    print(f"{'target':<16}{'sampler':<21}{'gradients':>10}{'LLC':>8}{'error':>8}{'mcse':>7}"
          f"{'virial':>8}{'s':>6}")  # fmt: skip
    for name, (task, law, budget) in targets(folder).items():
        if options.targets not in name:
            continue
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
