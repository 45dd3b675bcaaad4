"""How often curves without jumps are said to have some: what set the limits of find_transitions.

Curves: *constant*; *drift*, a Gaussian process of 1 … 3 % around a constant, one e-fold of steps or
longer; *decline*, a logistic fall in ln step to .1 … .8 of its height, from 10 to 90 % in 2 … 6
e-folds and at least six checkpoints (what is faster is a transition by definition); *power*, a
power law; *grokking*, the LLC of a p = 53 network that groks (93 at step 50, 523 at 1200, 63 at
40,000), read off a run and interpolated; *hump*, a rise and a fall, each as slow. Errors of .3, 1
or 2 % of the curve are those of 4 chains × 8 stretches, each correlated from one checkpoint to the
next by 0, .5, .9 or .99: shared seeds give such errors. 15, 30 or 60 checkpoints, evenly in ln step
from 50 to 40,000.

Machine: 2 cores of an AMD EPYC, shared
Date: 2026-11-23
Command: python benchmarks/transition_nulls.py --each 5
Result (a height of four standard errors, half a percent of drift allowed for, found in half of the
resamples; the margin is in nats of evidence, and 3 is in use):

    1080 curves, 37800 checkpoints
    margin   curves with any   false per 100 checkpoints
         0             1.57%                      0.050
         1             1.11%                      0.032
         2             0.74%                      0.021
         3             0.37%                      0.011
         4             0.28%                      0.008
         5             0.19%                      0.005
         7             0.09%                      0.003

What is left are falls at the edge of a curve, of which few checkpoints are seen, and drifts of
three times the errors.
"""

import argparse
import itertools
import time

import numpy as np
from scipy.interpolate import PchipInterpolator

from llc.transitions import find

GROKKING = {50: 93, 1200: 523, 1900: 487, 8000: 321, 20000: 221, 25000: 121, 26500: 75, 40000: 63}
UNITS = 32
MARGINS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0)
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
        centre, width = rng.uniform(x[0], x[-1]), max(rng.uniform(2, 6), 6 * (x[1] - x[0]))
        return 100 * (1 - rng.uniform(0.2, 0.9) / (1 + np.exp(-4.4 * (x - centre) / width)))
    if kind == "power":
        return 50 * np.exp(rng.uniform(-0.5, 0.5) * (x - x.mean()))
    if kind == "grokking":
        known = np.log(list(GROKKING)), np.log(list(GROKKING.values()))
        return np.exp(PchipInterpolator(*known)(x))
    # A Gaussian falls from 90 to 10 % in 1.69 standard deviations.
    centre, width = rng.uniform(x[0], x[-1]), max(rng.uniform(2, 4), 6 * (x[1] - x[0]))
    return 20 + 30 * np.exp(-0.5 * ((x - centre) / (width / 1.69)) ** 2)


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
    parser.add_argument("--each", type=int, default=5, help="curves a cell")
    parser.add_argument("--resamples", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    started = time.perf_counter()
    # Everything that passes the other limits is kept, whatever its margin.
    find.MARGIN = -np.inf
    rows = []
    cells = itertools.product(KINDS, (15, 30, 60), (0.003, 0.01, 0.02), (0.0, 0.5, 0.9, 0.99))
    for cell in cells:
        kind, count, relative, memory = cell
        key = [given.seed, KINDS.index(kind), count, int(1e4 * relative), int(100 * memory)]
        rng = np.random.default_rng(key)
        for _ in range(given.each):
            found = find.find_in_curve(*sample(*cell, rng, given.resamples))
            rows.append((cell, found.margin, len(found)))
    points = sum(cell[1] for cell, _, _ in rows)
    print(f"{len(rows)} curves, {points} checkpoints, {time.perf_counter() - started:.0f} s")
    print("margin   curves with any   false per 100 checkpoints")
    for margin in MARGINS:
        alarms = np.array([count if ahead >= margin else 0 for _, ahead, count in rows])
        print(f"{margin:>6g}   {np.mean(alarms > 0):>15.2%}   {100 * alarms.sum() / points:>24.3f}")
    print("largest margins:")
    for cell, ahead, count in sorted(rows, key=lambda row: -row[1] * (row[2] > 0))[:10]:
        print(f"  {ahead:>5.1f}  {count} in {cell}")


if __name__ == "__main__":
    main()
