"""Memory of a chain against its estimate, and how time grows with chains, size, data and threads.

Memory is measured: the growth of the peak resident set of a fresh process from before the first
gradient to after twenty steps of kinetic Langevin; beside it what `llc.Estimate.execution`
announced before the run. The process is started with MALLOC_MMAP_THRESHOLD_=65536, so that freed
memory is given back: without it glibc keeps some of it, and numbers below 100 MB mean little.
Time is that of one step of all chains, as the slope between a short and a long run of fixed
settings, median of three.

Machine: 2 cores of an AMD EPYC, torch 2.13 CPU
Date: 2026-11-23
Command: python benchmarks/memory_and_scaling.py (1e8 in a loop was stopped: a step takes minutes)
Result (MB of all chains, batch 64):

    parameters chains  vmap  loop  announced
         1e+03     16     9     6          1
         1e+04     16    19    16         11
         1e+05      1    12    12          8
         1e+05      4    28    28         25
         1e+05     16    94   103        100
         1e+06      1    74    74         81
         1e+06      4   243   240        244
         1e+06     16   926   907        975
         1e+07      1   719   719        803
         1e+07      4  2410  2390       2400
         1e+08      1  7200     –       8000

Below 1e5 parameters the few megabytes of a process's own are what is seen. State and noise are what
chains take: on models like these a loop saves nothing.

Milliseconds a step of all chains, replayed steps (--scaling; quiet, in three sittings; 1e7 as one
slope of 20 steps; 1e8, whose run of 24 steps takes ten minutes, was not measured):

    chains (1e4 parameters, batch 64)   1: .40  2: .63  4: 1.0  8: 1.6  16: 2.1  32: 7.2  64: 9.5
    again, another day                  1: .35  2: .54  4: .57  8: 1.7  16: 3.2  32: 6.8  64: 12.6
    parameters (2 chains, batch 64)     1e3: .16  1e4: .45  1e5: 3.4  1e6: 31  1e7: 697
    batch (4 chains, 1e4 parameters)    16: .51  64: .71  256: 1.9  1024: 7.0  4096: 26
    data (4 chains, batch 64)           1e3: .61  1e4: .72  1e5: 1.1
    threads (4 chains, 1e6 parameters, batch 1024)   1: 246  2: 155

Time grows as parameters times batch until weights no longer fit the cache (1e7: 22 times 1e6),
data hardly matter, and a second thread gives 1.6 where matrices are large.
"""

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import time

import torch
from torch import nn

import llc

WIDTH_OF = {1e3: 20, 1e4: 68, 1e5: 220, 1e6: 704, 1e7: 2233, 1e8: 7068}
LAYERS = 2


def task(parameters: float, examples: int) -> llc.Task:
    """Square layers of equal width with tanh between; about so many parameters."""
    width = WIDTH_OF[parameters]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width, bias=False))
    inputs = torch.randn(examples, width)
    with torch.no_grad():
        targets = model(inputs)
    return llc.Task(model, (inputs, targets), "mse")


def run(the: llc.Task, chains: int, batch: int | None, draws: int, memory: float | None) -> str:
    """Sample at a step small enough for any of these models; return how it was computed."""
    return llc.estimate(
        the, n_beta=100.0, gamma=100.0, step_size=1e-4, chains=chains, draws=draws, burn_in=0,
        batch_size=batch, sampler="kinetic", memory=memory, compile="trace",
    ).execution  # fmt: skip


def seconds_a_step(the: llc.Task, chains: int, batch: int | None) -> float:
    """Median slope of three pairs of runs, each pair about two seconds, after an untimed one."""

    def timed(draws: int) -> float:
        started = time.perf_counter()
        run(the, chains, batch, draws, None)
        return time.perf_counter() - started

    timed(4)
    steps = max(4, min(1000, int(0.5 / max((timed(24) - timed(4)) / 20, 2e-4))))
    return statistics.median((timed(3 * steps) - timed(steps)) / (2 * steps) for _ in range(3))


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def measure_memory(parameters: float, chains: int, batch: int, loop: bool) -> None:
    """Child process: print measured and announced megabytes a chain."""
    the = task(parameters, max(4 * batch, 64))
    # A run of one chain on two examples loads what is loaded once, and little else.
    run(task(1e3, 64), 1, 2, 4, None)
    before = peak()
    words = run(the, chains, batch, 20, 1e-9 if loop else None)
    found = re.search(r"about ([\d.e+-]+) (MB|GB)", words)
    announced = float(found[1]) * (1e3 if found[2] == "GB" else 1) if found else float("nan")
    print(f"{(peak() - before) / 1e6:.3g} {announced:.3g}")


def memory_table(most: float) -> None:
    print("memory of all chains, MB: measured growth of the peak, and as announced")
    print(f"{'parameters':>11}{'chains':>7}{'batch':>6}{'run':>6}{'measured':>10}{'announced':>10}")
    for parameters in (p for p in WIDTH_OF if p <= most):
        for chains in (1, 4, 16):
            if parameters * chains > 1.1e8:
                continue
            for loop in (False, True):
                arguments = [parameters, chains, 64, int(loop)]
                out = subprocess.run(
                    [sys.executable, __file__, "--child", *map(str, arguments)],
                    capture_output=True, text=True, check=True,
                    env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
                ).stdout.split()  # fmt: skip
                print(
                    f"{parameters:>11.0e}{chains:>7}{64:>6}{'loop' if loop else 'vmap':>6}"
                    f"{out[0]:>10}{out[1]:>10}",
                    flush=True,
                )


def scaling_tables(most: float) -> None:
    print(
        "\nmilliseconds a step of all chains (a chain in brackets); 1e4 parameters where not said"
    )
    for chains in (1, 2, 4, 8, 16, 32, 64):
        t = seconds_a_step(task(1e4, 1024), chains, 64) * 1e3
        print(f"  chains {chains:>3}: {t:8.3f} ({t / chains:.3f})", flush=True)
    for parameters in (p for p in WIDTH_OF if p <= most):
        t = seconds_a_step(task(parameters, 256), 2, 64) * 1e3
        print(f"  parameters {parameters:.0e}, 2 chains: {t:10.3f}", flush=True)
    for batch in (16, 64, 256, 1024, 4096):
        t = seconds_a_step(task(1e4, 8192), 4, batch) * 1e3
        print(f"  batch {batch:>5}, 4 chains: {t:8.3f}", flush=True)
    for examples in (1_000, 10_000, 100_000):
        t = seconds_a_step(task(1e4, examples), 4, 64) * 1e3
        print(f"  data {examples:>7}, batch 64, 4 chains: {t:8.3f}", flush=True)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        t = seconds_a_step(task(1e6, 1024), 4, 1024) * 1e3
        print(f"  threads {threads}, 1e6 parameters, batch 1024, 4 chains: {t:8.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=float, default=1e8, help="largest model")
    parser.add_argument("--scaling", action="store_true", help="the second table alone")
    parser.add_argument("--child", nargs=4, type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.child:
        parameters, chains, batch, loop = options.child
        measure_memory(parameters, int(chains), int(batch), bool(loop))
        return
    if not options.scaling:
        memory_table(options.most)
    scaling_tables(options.most)


if __name__ == "__main__":
    main()
