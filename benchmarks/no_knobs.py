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
Command: python benchmarks/no_knobs.py
Result:
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
