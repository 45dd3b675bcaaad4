"""Defaults against an expert: the same number, and at what cost?

Ours: `llc.estimate(task)` with nothing given but what defines the posterior (nβ and γ for
population losses; elsewhere γ is left to the default, and what its choice cost stands in a column
of its own).

The expert knows the posterior (ours' nβ, γ and batch size) and has a grid: samplers kinetic,
sgld-lm and sgld, four half-decades of steps below the stability limit, burn-in of 100, 300 or 1,000
steps, four chains, 2,000 draws. A setting is judged with hindsight: its answer must be within 5 %
of a reference (the default sampler at precision .01, another seed), and its virial within .05 of
1, so that it is not right by chance. What counts as the expert's cost is the final run alone,
burn-in and as many draws as a standard error of 2.5 % takes by that run's own effective sample
size: no grid, no check, no proof. The cheapest is kept.

    agree    (ours − expert's)/expert's
    ratio    gradients of our run over the expert's final run; γ's choice not in it, but in *γ*
    grid     gradients of the expert's whole grid over ours with γ's choice

Machine: 2 cores of an AMD EPYC, torch 2.13 CPU
Date: 2026-11-23
Command: python benchmarks/no_knobs.py (stopped after 50 minutes, in the grid of the convolutional
net); python benchmarks/no_knobs.py --only 8 --only 7, and --only 6; the machine was busy
with other work
Result:

    case                              D gamma     ours         verdict expert agree ratio    γ grid
    quadratic in 17 directions       17    1    8.88 ± 0.22   ok        8.41 +5.5%  1.55   0.0   14
    reduced rank 5-4-5, rank 0       40    1    8.13 ± 0.17   ok        7.96 +2.2%  2.76   0.0   12
    reduced rank 20-10-20, rank 4   400    1  114.81 ± 1.01   ok      117.48 -2.3%  4.41   0.0   17
    linear net 10-10-10-10, rank 3  300    1   41.80 ± 0.55   ok      none of the grid within 5 %
    superposition 6-gon of 6         18    1    7.92 ± 0.19   ok        8.40 -5.8%  2.26   0.0   58
    glyphs, MLP                    2410 9.23   65.60 ± 0.50   ok       65.72 -0.2%  4.54  19.2   26
    glyphs, convolutional net       610 4.16   44.81 ± 0.71   ok       44.53 +0.6%  4.33  20.7   18
    transformer, addition mod 11   2299  648    6.91 ± 0.12   ok        7.15 -3.4%  1.83   5.6   64
    p = 53 network, 300 steps      4428  163  144.55 ± 0.56   warn    146.75 -1.5%  2.38   6.7   90

    Best settings: kinetic throughout, h .0012, .0027, .0016, .011, .034, .016, .07 with burn-in of
    1000 three times, then 100, and 3170, 1659, 231, 582, 47, 87, 2 draws a chain; of the
    convolutional net .03, 100 and 95. References: 8.46 ± .04, 7.97 ± .04, 114.56 ± .53, 41.09,
    8.52 ± .04, 66.52 ± .32, 44.43 ± .20, 7.11 ± .03, 145.35 ± .54.

The goal, within 5 % of the expert at no more than 1.5 times its final run, is not reached. Two of
eight are further off, 5.5 and 5.8 %: 1.9 and 3.1 of our standard errors from the reference, and the
second more than a default of ±5 % at 95 % should be. The cost is 1.6 to 4.5 times that of a run
whose settings, burn-in and length were picked with the answer known and nothing proved. The proof
costs the rest: an effective sample of 100 and a virial known to be 1. One default run costs a
twelfth to a ninetieth of the expert's grid, γ's choice included. On the net of four layers no
setting of the grid agreed with the reference at a virial of 1.
All rows but that of the convolutional net are from before runs that stop by their error bar became
10 to 35 % longer.
"""

import argparse
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import llc
from llc import truths
from llc.calibration import resolve_task
from llc.estimator import estimate_task

N_BETA = 1e5 / math.log(1e5)
SAMPLERS = {"kinetic": 2, "sgld-lm": 1, "sgld": 1}
STEPS = 4
BURN_IN = (100, 300, 1000)
DRAWS = 2000
ERROR, SPREAD = 0.05, 0.025


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[], llc.Task]
    given: dict[str, Any]


def _population(make: Callable[[], truths.Truth]) -> Case:
    return Case(make().name, lambda: make().task(), {"n_beta": N_BETA, "gamma": 1.0})


# --- networks that the suite of truths has not ------------------------------------------------


def _trained(model: nn.Module, inputs: Tensor, targets: Tensor, steps: int) -> llc.Task:
    """Train by Adam on all data; the LLC is asked for with the behavioural loss."""
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimiser.step()
    return llc.Task(model, (inputs, targets), "cross_entropy")


def _glyphs(size: int, noise: float) -> tuple[Tensor, Tensor]:
    """Ten 8 × 8 patterns, shifted by up to a pixel and noisy: stand-ins for written digits."""
    generator = torch.Generator().manual_seed(0)
    patterns = (torch.rand(10, 1, 8, 8, generator=generator) > 0.6).float()
    labels = torch.randint(10, (size,), generator=generator)
    shifts = torch.randint(-1, 2, (size, 2), generator=generator)
    images = torch.stack(
        [patterns[k].roll(tuple(s.tolist()), (1, 2)) for k, s in zip(labels, shifts, strict=True)]
    )
    return images + noise * torch.randn(images.shape, generator=generator), labels


def glyph_mlp() -> llc.Task:
    torch.manual_seed(0)
    images, labels = _glyphs(1000, 0.3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    return _trained(model, images, labels, 300)


def glyph_convolution() -> llc.Task:
    torch.manual_seed(0)
    images, labels = _glyphs(500, 0.3)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 10)
    )
    return _trained(model, images, labels, 300)


class Transformer(nn.Module):
    """One layer of attention and MLP over three tokens."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.position = nn.Parameter(0.1 * torch.randn(3, width))
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.inner, self.outer = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, tokens)

    def forward(self, sequence: Tensor) -> Tensor:
        x = self.embedding(sequence) + self.position
        scores = self.query(x) @ self.key(x).transpose(-1, -2) / x.shape[-1] ** 0.5
        x = x + scores.softmax(-1) @ self.value(x)
        x = x + self.outer(F.gelu(self.inner(x)))
        return self.head(x[:, -1])


def transformer() -> llc.Task:
    torch.manual_seed(0)
    prime = 11
    a, b = torch.meshgrid(torch.arange(prime), torch.arange(prime), indexing="ij")
    sequence = torch.stack([a.ravel(), b.ravel(), torch.zeros(prime * prime, dtype=torch.long)], 1)
    return _trained(Transformer(prime, 16), sequence, (a + b).ravel() % prime, 400)


def grokker() -> llc.Task:
    from llc.tasks import modular_addition

    task = modular_addition.task()
    inputs, targets = task.data
    return _trained(task.model, inputs, targets, 300)


CASES = [
    _population(lambda: truths.quadratic([10.0 ** (k / 4) for k in range(-8, 9)])),
    _population(lambda: truths.reduced_rank(5, 4, 5, 0)),
    _population(lambda: truths.reduced_rank(20, 10, 20, 4)),
    _population(lambda: truths.linear_net((10, 10, 10, 10), 3)),
    _population(lambda: truths.polygon(6, 6)),
    Case("glyphs, MLP", glyph_mlp, {"behavioural": True}),
    Case("glyphs, convolutional net", glyph_convolution, {"behavioural": True}),
    Case("transformer, addition mod 11", transformer, {"behavioural": True}),
    Case("p = 53 network, 300 steps", grokker, {"behavioural": True}),
]


@dataclass(frozen=True)
class Expert:
    llc: float
    cost: float
    words: str


def expert(task: llc.Task, given: dict[str, Any], reference: float, step: float) -> tuple[Any, int]:
    """The cheapest setting of the grid that lands within 5 % of the reference."""
    best, spent = None, 0
    for sampler, power in SAMPLERS.items():
        # h for kinetic; ε = h² has the same stability for first-order samplers.
        top = step * 2 if power == 2 else (step * 1.5) ** 2
        for k in range(STEPS):
            size = top * 10 ** (-k / 2 / (2 if power == 2 else 1))
            for burn_in in BURN_IN:
                e = llc.estimate(
                    task, sampler=sampler, step_size=size, burn_in=burn_in, draws=DRAWS, **given
                )
                spent += e.gradient_evaluations
                wrong = not abs(e.llc / reference - 1) <= ERROR or e.diverged
                if wrong or abs(e.virial - 1) > ERROR:
                    continue
                # Draws of all chains for a standard error of 2.5 % at this run's own ESS.
                needed = 4 * DRAWS * (e.mcse / (SPREAD * e.llc)) ** 2
                cost = 4 * burn_in + max(needed, 40)
                if best is None or cost < best.cost:
                    words = f"{sampler} {size:.2g}, {burn_in} + {needed / 4:.0f}"
                    best = Expert(e.llc, cost, words)
    return best, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", type=int, action="append", help="number of a case")
    chosen = parser.parse_args().only or range(len(CASES))
    torch.set_num_threads(1)
    print(f"{'case':<33}D    gamma     ours{'':>12}s  verdict  expert   agree   ratio    γ  grid")
    for case in (CASES[k] for k in chosen):
        task = case.make()
        settings, choice, _ = resolve_task(task, llc.Settings(**case.given))
        started = time.perf_counter()
        ours = estimate_task(task, settings)
        seconds = time.perf_counter() - started
        known = {
            "n_beta": settings.n_beta, "gamma": settings.gamma, "behavioural": settings.behavioural,
            "batch_size": ours.settings.batch_size,
        }  # fmt: skip
        reference = llc.estimate(task, precision=0.01, seed=7, budget=2_000_000, **known)
        found, grid = expert(task, known, reference.llc, ours.settings.step_size or 0.0)
        cost = ours.gradient_evaluations
        line = (
            f"{case.name:<30}{ours.dimension:>5}{settings.gamma:>9.3g}{ours.llc:>9.2f} ± "
            f"{ours.mcse:<7.2f}{seconds:>4.0f}  {ours.verdict!s:<7}"
        )
        if found is None:
            print(f"{line}  none within 5 %, reference {reference.llc:.2f}", flush=True)
            continue
        print(
            f"{line}{found.llc:>8.2f}{ours.llc / found.llc - 1:>+8.1%}{cost / found.cost:>8.2f}"
            f"{choice / found.cost:>5.1f}{grid / (cost + choice):>6.0f}   {found.words}; "
            f"reference {reference.llc:.2f} ± {reference.mcse:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
