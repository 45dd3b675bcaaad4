"""Curves as they might have come out: the same chains and stretches drawn again everywhere.

Chains share noise and batches across checkpoints, so their errors are correlated from one
checkpoint to the next, and a height or a boundary is known better, or worse, than independent
errors would say. A resample keeps that: it draws units (a chain's stretch of draws) with
replacement, the same ones at every checkpoint. Stretches are several autocorrelation times long; at
each checkpoint the spread of the resampled means is brought to the Monte-Carlo standard error,
which knows better how long the chains remember.
"""

from collections.abc import Sequence

import numpy as np

from llc.diagnostics import Array
from llc.estimation import Estimate

__all__ = ["deviations"]

LONG = 4.0
FEWEST = 2
MOST = 16


def deviations(estimates: Sequence[Estimate], count: int, seed: int) -> Array:
    """Return what resampling adds to each estimate, shape ``(count, estimates)``, in LLC units.

    Estimates without traces get independent normal deviations.

    Args:
        estimates: in the order of the trajectory.
        count: resamples.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    # Estimates of a run folder read their traces from disk each time they are asked for them.
    traces = [e.trace for e in estimates]
    chains = max(len(trace) for trace in traces)
    stretches = _stretches(estimates, traces)
    picked = rng.multinomial(
        chains * stretches, np.full(chains * stretches, 1 / chains / stretches), count
    )
    picked = picked.reshape(count, chains, stretches).astype(float)
    columns = []
    for e, trace in zip(estimates, traces, strict=True):
        means = _unit_means(trace, e.diverged, stretches)
        if means is None:
            columns.append(e.mcse * rng.standard_normal(count))
            continue
        # A chain that diverged here is missing here alone.
        heard = picked[:, : len(means)] * np.isfinite(means)
        total = heard.sum((1, 2))
        off = np.nan_to_num(means - np.nanmean(means))
        column = (heard * off).sum((1, 2)) / np.maximum(total, 1)
        column -= column.mean()
        spread = column.std()
        columns.append(column * (e.mcse / spread) if spread > 0 else column)
    return np.stack(columns, axis=1)


def _stretches(estimates: Sequence[Estimate], traces: Sequence[Array]) -> int:
    """Stretches a chain, one number for all checkpoints: that of the median memory."""
    ratios = [
        e.ess / len(trace) / LONG
        for e, trace in zip(estimates, traces, strict=True)
        if trace.shape[1] > MOST and np.isfinite(e.ess)
    ]
    return int(np.clip(np.median(ratios), FEWEST, MOST)) if ratios else FEWEST


def _unit_means(trace: Array, diverged: Sequence[int], stretches: int) -> Array | None:
    """Mean of each chain's stretches, (chains, stretches); nan for chains that diverged."""
    if trace.shape[1] < stretches:
        return None
    parts = np.array_split(trace, stretches, axis=1)
    means = np.stack([part.mean(1) for part in parts], axis=1).astype(float)
    means[list(diverged)] = np.nan
    return means
