"""Default settings against known coefficients: error, in percent and in standard errors, and cost.

Population losses ‖P(w) − P*‖² of deep linear nets at rank-exact teachers, where the local λ is
Aoyagi's (2024); nβ = n/ln n at n = 1e5. At γ = 1 the exact expectation is within about 1 % of λ; at
γ = 10 the prior takes a few percent off, which is why both stand here.

Machine: 2 cores of an AMD EPYC, torch 2.13 CPU, one thread. Date: 2026-11-22.
Command: python benchmarks/known_targets.py
Result: see the end of this file.
"""

import math
import time
from itertools import pairwise

import torch
from torch import nn

import llc

CASES = (
    ((16, 4, 16), 4, 56.0),
    ((20, 10, 20), 4, 115.5),
    ((10, 10, 10, 10), 3, 42.0),
)


class LinearNet(nn.Module):
    """Layers Q_s diag(σ, 0) Q_{s−1}ᵀ with shared orthogonal Q: every partial product has rank r."""

    def __init__(self, widths: tuple[int, ...], rank: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        bases = [torch.linalg.qr(torch.randn(w, w, generator=generator))[0] for w in widths]
        layers = []
        for before, after in pairwise(bases):
            core = torch.zeros(len(after), len(before))
            core[range(rank), range(rank)] = 1 + 0.2 * torch.arange(rank)
            layers.append(nn.Parameter(after @ core @ before.T))
        self.layers = nn.ParameterList(layers)
        self.register_buffer("teacher", self.product().detach().clone())

    def product(self) -> torch.Tensor:
        result = self.layers[0]
        for layer in list(self.layers)[1:]:
            result = layer @ result
        return result


def population_loss(model: LinearNet) -> torch.Tensor:
    return ((model.product() - model.teacher) ** 2).sum()


def main() -> None:
    torch.set_num_threads(1)
    n_beta = 1e5 / math.log(1e5)
    print(
        "widths            rank gamma seed  lambda     LLC  error      z  virial  gradients     s"
    )
    for widths, rank, truth in CASES:
        for gamma in (10.0, 1.0):
            for seed in range(3):
                started = time.perf_counter()
                task = llc.Task(LinearNet(widths, rank), potential=population_loss)
                e = llc.estimate(task, n_beta=n_beta, gamma=gamma, seed=seed)
                print(
                    f"{widths!s:<18}{rank:>4}{gamma:>6.0f}{seed:>5}{truth:>8.1f}{e.llc:>8.2f}"
                    f"{e.llc / truth - 1:>+7.1%}{(e.llc - truth) / e.mcse:>+7.1f}{e.virial:>8.3f}"
                    f"{e.gradient_evaluations:>11,}{time.perf_counter() - started:>6.0f}"
                    f"  {e.verdict}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
