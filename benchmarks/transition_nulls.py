"""How often curves without jumps are said to have some: where the limits of find_transitions come from.

Curves: *constant*; *drift*, a Gaussian process of 1 … 3 % around a constant, one e-fold of steps or
longer; *decline*, a logistic fall in ln step to .1 … .8 of its height, over .7 … 3 e-folds each way;
*power*, a power law; *grokking*, the LLC of a p = 53 network that groks (93 at step 50, 523 at 1200,
63 at 40,000), read off a run and interpolated; *hump*, a rise and a fall. Errors of .3, 1 or 2 % of
the curve are those of 4 chains × 8 stretches, each correlated from one checkpoint to the next by
0, .5, .9 or .99: shared seeds give such errors. 15, 30 or 60 checkpoints, evenly in ln step from 50
to 40,000.
"""

import argparse
import itertools
import time

import numpy as np
from scipy.interpolate import PchipInterpolator

from llc.transitions import find

GROKKING = {50: 93, 1200: 523, 1900: 487, 8000: 321, 20000: 221, 25000: 121, 26500: 75, 40000: 63}
UNITS = 32
KINDS = ("constant", "drift", "decline", "power", "grokking", "hump")


def curve(kind: str, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A curve without jumps at places x = ln step."""
    if kind == "constant":
        return np.full(len(x), 30.0)
    if kind == "drift":
        length, size = rng.uniform(1, 4), rng.uniform(0.01, 0.03)
        cov = np.exp(-0.5 * ((x[:, None] - x) / length) ** 2) + 1e-9 * np.eye(len(x))
        return 30 * (1 + size * np.linalg.cholesky(cov) @ rng.normal(size=len(x)))
    if kind == "decline":
        centre, width = rng.uniform(x[0], x[-1]), rng.uniform(0.7, 3)
        return 100 * (1 - rng.uniform(0.2, 0.9) / (1 + np.exp(-4 * (x - centre) / (2 * width))))
    if kind == "power":
        return 50 * np.exp(rng.uniform(-0.5, 0.5) * (x - x.mean()))
    if kind == "grokking":
        known = np.log(list(GROKKING)), np.log(list(GROKKING.values()))
        return np.exp(PchipInterpolator(*known)(x))
    centre, width = rng.uniform(x[0], x[-1]), rng.uniform(0.7, 2)
    return 20 + 30 * np.exp(-0.5 * ((x - centre) / width) ** 2)


def sample(
    kind: str, count: int, relative: float, memory: float, rng: np.random.Generator, resamples: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Steps, values, errors and resampled deviations of one curve."""
    x = np.linspace(np.log(50), np.log(40000), count)
    truth = curve(kind, x, rng)
    errors = relative * np.abs(truth)
    unit = np.empty((UNITS, count))
    unit[:, 0] = rng.normal(size=UNITS)
    for i in range(1, count):
        fresh = rng.normal(size=UNITS)
        unit[:, i] = memory * unit[:, i - 1] + np.sqrt(1 - memory**2) * fresh
    unit *= errors * np.sqrt(UNITS)
    picked = rng.multinomial(UNITS, np.full(UNITS, 1 / UNITS), resamples)
    off = picked @ (unit - unit.mean(0)) / UNITS
    # The estimate's own error bar, known from as many units, errs by some 12 % as well.
    said = unit.std(0, ddof=1) / np.sqrt(UNITS)
    off *= said / off.std(0)
    return np.exp(x), truth + unit.mean(0), said, off


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--each", type=int, default=4, help="curves a cell")
    parser.add_argument("--resamples", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    started = time.perf_counter()
    margins, limits = (0.0, 1.0, 2.0, 3.0, 5.0), (3.0, 4.0, 5.0)
    rows = []
    find.MARGIN, find.SIGNIFICANT = -np.inf, 0.0
    cells = itertools.product(KINDS, (15, 30, 60), (0.003, 0.01, 0.02), (0.0, 0.5, 0.9, 0.99))
    for kind, count, relative, memory in cells:
        rng = np.random.default_rng([given.seed, KINDS.index(kind), count, int(1e4 * relative), int(100 * memory)])
        for _ in range(given.each):
            parts = sample(kind, count, relative, memory, rng, given.resamples)
            for limit in limits:
                find.SIGNIFICANT = limit
                found = find.find_in_curve(*parts)
                rows.append((kind, count, relative, memory, limit, found.margin, len(found)))
    print(f"{len(rows) // len(limits)} curves, {time.perf_counter() - started:.0f} s")
    print("false alarms per 100 checkpoints / share of curves with any, by margin (across) and limit")
    for limit in limits:
        mine = [r for r in rows if r[4] == limit]
        points = sum(r[1] for r in mine)
        cells_ = []
        for margin in margins:
            alarms = [r[6] if r[5] >= margin else 0 for r in mine]
            cells_.append(f"{100 * sum(alarms) / points:.2f} / {np.mean(np.array(alarms) > 0):.1%}")
        print(f"{limit:g}σ  " + "   ".join(f"{m:g}: {c}" for m, c in zip(margins, cells_, strict=True)))
    worst = sorted((r for r in rows if r[6] and r[4] == 4.0 and r[5] > 0), key=lambda r: -r[5])
    print("largest margins at 4σ:", *worst[:12], sep="\n  ")


if __name__ == "__main__":
    main()
