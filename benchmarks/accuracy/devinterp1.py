"""Worker: devinterp 1.3.2's own sampling of one target at one step size, as long as it is told.

Run with the rival's interpreter, by `cost_to_accuracy.py`. What its users write, in the form that
costs it least: the SGLD optimiser, four chains one after another on one core, no progress bar, and
data sets that hand out a whole batch by one tensor indexing, without collation. Its unpaired
baseline is made as good as it can be: the loss at w* on all data, given as ``init_loss``.
"""

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import targets
import torch
from devinterp.optim.sgld import SGLD
from devinterp.slt.sampler import estimate_learning_coeff_with_summary
from torch.utils.data import DataLoader, Dataset

CHAINS = 4
PILOT_DRAWS = 100
MOST_DRAWS = 400_000


class Whole(Dataset):
    """All data as every batch, or nothing at all for a population loss."""

    def __init__(self, data: Any) -> None:
        self.data = torch.zeros(1) if data is None else data

    def __len__(self) -> int:
        return 10**9  # one epoch: no new iterator for each step

    def __getitem__(self, _index: int) -> Any:
        return self.data


class Rows(Dataset):
    """Examples, fetched a batch at a time."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data[0])

    def __getitems__(self, rows: list[int]) -> Any:
        index = torch.tensor(rows)
        return tuple(part[index] for part in self.data)


def first(items: Any) -> Any:
    return items[0]


def as_is(items: Any) -> Any:
    return items


def loader_of(target: targets.Target) -> DataLoader:
    if target.batch_size is None:
        return DataLoader(Whole(target.data), batch_size=1, collate_fn=first)
    rows = Rows(target.data)
    return DataLoader(rows, batch_size=target.batch_size, shuffle=True, collate_fn=as_is)


def clock(kind: str) -> float:
    return time.process_time() if kind == "cpu" else time.perf_counter()


def run(target: targets.Target, step: float, draws: int, seed: int) -> np.ndarray:
    """Loss trace (chains, draws) minus the loss at w*."""
    loss, settings = target.loss, {"lr": step, "nbeta": target.n_beta, "localization": target.gamma}
    with torch.no_grad():
        at_centre = loss(target.model, target.data).double().mean().item()
    # devinterp builds loaders of its own for a seed, which stack what was whole: pass it by.
    whole = target.data if target.batch_size is None else None
    summary = estimate_learning_coeff_with_summary(
        target.model,
        loader_of(target),
        evaluate=lambda model, batch: loss(model, batch if whole is None else whole).mean(),
        sampling_method=SGLD,
        optimizer_kwargs=settings,
        num_draws=draws,
        num_chains=CHAINS,
        init_loss=at_centre,
        seed=seed,
        verbose=False,
    )
    return summary["loss/trace"].astype(np.float64) - at_centre


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--step", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    target = targets.build(given.target, given.cache)
    for _ in range(2):  # the first warms torch up
        started = clock(given.clock)
        run(target, 1e-12, PILOT_DRAWS, given.seed)
        pilot = max(clock(given.clock) - started, 1e-3)
    draws = int(min(MOST_DRAWS, max(PILOT_DRAWS, given.seconds / pilot * PILOT_DRAWS)))
    started = clock(given.clock)
    try:
        trace = run(target, given.step, draws, given.seed)
    except RuntimeError as error:
        if "NaN" not in str(error):
            raise
        trace = np.full((CHAINS, draws), np.nan)
    np.savez(given.out, rise=target.n_beta * trace, seconds=clock(given.clock) - started)


if __name__ == "__main__":
    main()
