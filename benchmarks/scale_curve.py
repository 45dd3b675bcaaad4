"""One annealed run against separate runs: λ̂ at each γ, and gradients.

Population losses of deep linear nets as in known_targets.py, nβ = n/ln n at n = 1e5, default
settings. Seeds of the two kinds of run differ, so that they are independent; z is the difference
of a pair in its own standard errors.

Machine: 2 shared cores of an AMD EPYC, torch 2.13.0+cpu, one thread. Date: 2026-11-23.
Command: python benchmarks/scale_curve.py
Result:

    (20, 10, 20), rank 4, λ = 115.5, 6 seeds, means and their s.e.
      gamma       annealed       separate            gradients   rms z  worst
       1000    77.99 ± 0.41    78.48 ± 0.46     1,229     1,313    1.57    2.9
        300    95.07 ± 0.73    96.18 ± 0.47     1,204     1,836    1.75    4.0
        100   107.20 ± 0.34   107.21 ± 0.33     1,956     1,924    1.13    2.1
         30   112.52 ± 0.32   113.03 ± 0.25     4,044     3,626    0.89    1.9
         10   114.50 ± 0.30   114.13 ± 0.40     3,766     4,348    1.02    1.8
          3   113.98 ± 0.64   116.04 ± 0.34    11,516    11,361    1.91    3.5
          1   115.76 ± 0.39   116.30 ± 0.65    22,124    22,827    1.33    2.7
    gradients: annealed 45,839, separate 47,235 together and 22,827 for the last alone;
    ratios 0.97 and 2.01; rms z 1.42

    (10, 10, 10, 10), rank 3, λ = 42, 2 seeds, means and their s.e.
      gamma       annealed       separate            gradients   rms z  worst
       1000    24.80 ± 0.32    25.57 ± 0.42     1,538     1,656    1.27    1.4
        300    25.50 ± 0.05    26.16 ± 0.08     1,488     1,876    1.05    1.3
        100    30.27 ± 1.12    30.59 ± 0.01     3,760     3,500    1.80    2.1
         30    36.87 ± 0.53    36.50 ± 0.21     7,282     4,750    0.68    1.0
         10    39.34 ± 0.56    40.15 ± 0.30     7,172     8,420    1.11    1.4
          3    40.24 ± 0.90    40.44 ± 0.01    22,818    57,238    1.18    1.4
          1    40.07 ± 0.13    41.14 ± 0.74   134,872   165,080    1.67    2.3
    gradients: annealed 178,930, separate 242,520 together and 165,080 for the last alone;
    ratios 0.74 and 1.08; rms z 1.30

The large z come from short runs whose error bars are too small, alike in both kinds: over 24 seeds
of (20, 10, 20) against long runs (8 chains, precision .006: 77.93 95.96 107.67 113.10 ± .3 at
γ = 1000, 300, 100, 30) the rms z is 1.18 1.62 1.01 1.04 annealed and 1.42 1.44 1.40 1.11 separate,
the means 77.68 95.68 107.35 112.57 ± .2 and 77.67 95.68 106.99 112.55 ± .2; over 27 seeds at
γ = 10, 3 the means are 114.43 115.33 ± .2 annealed, 114.24 115.18 ± .2 separate.
"""

import math

import numpy as np
import torch
from known_targets import LinearNet, population_loss

import llc

GAMMAS = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
CASES = (((20, 10, 20), 4, 115.5, 6), ((10, 10, 10, 10), 3, 42.0, 2))


def main() -> None:
    torch.set_num_threads(1)
    n_beta = 1e5 / math.log(1e5)
    for widths, rank, truth, seeds in CASES:
        task = llc.Task(LinearNet(widths, rank), potential=population_loss)
        annealed, separate = [], []
        for seed in range(seeds):
            curve = llc.scale_curve(task, n_beta=n_beta, gammas=GAMMAS, seed=seed)
            assert not curve.stopped, curve.stopped
            annealed.append(curve.points)
            separate.append(
                [llc.estimate(task, n_beta=n_beta, gamma=g, seed=100 + seed) for g in GAMMAS]
            )
        print(f"{widths}, rank {rank}, λ = {truth:g}, {seeds} seeds, means and their s.e.")
        print(f"{'gamma':>7} {'annealed':>14} {'separate':>14} {'gradients':>20}   rms z  worst")
        a, s = (
            np.array([[(p.llc, p.mcse, p.gradient_evaluations) for p in run] for run in runs])
            for runs in (annealed, separate)
        )
        z = (a[..., 0] - s[..., 0]) / np.hypot(a[..., 1], s[..., 1])
        for k, gamma in enumerate(GAMMAS):
            means = [
                f"{x[:, k, 0].mean():8.2f} ± {x[:, k, 0].std(ddof=1) / seeds**0.5:.2f}"
                for x in (a, s)
            ]
            print(
                f"{gamma:>7g} {means[0]:>14} {means[1]:>14} {a[:, k, 2].mean():>9,.0f} "
                f"{s[:, k, 2].mean():>9,.0f} {(z[:, k] ** 2).mean() ** 0.5:>7.2f} "
                f"{abs(z[:, k]).max():>6.1f}"
            )
        total, apart, last = a[..., 2].sum(1).mean(), s[..., 2].sum(1).mean(), s[:, -1, 2].mean()
        print(
            f"gradients: annealed {total:,.0f}, separate {apart:,.0f} together and {last:,.0f} for "
            f"the last alone; ratios {total / apart:.2f} and {total / last:.2f}; "
            f"rms z {(z**2).mean() ** 0.5:.2f}\n",
            flush=True,
        )


if __name__ == "__main__":
    main()
