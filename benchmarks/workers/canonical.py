"""canonical-interp 0.2.7 at its defaults: chains in one vmap, compiled.

It asks for Python 3.12 only for the sake of `itertools.batched`, which older ones are given here.
"""

import itertools
import logging
from collections.abc import Iterable, Iterator

from cases import Case, serve
from torch.utils.data import DataLoader, TensorDataset


def _batched(items: Iterable, size: int) -> Iterator[tuple]:
    rest = iter(items)
    while part := tuple(itertools.islice(rest, size)):
        yield part


if not hasattr(itertools, "batched"):
    itertools.batched = _batched

from canonical_interp.slt import LLCEstimator  # noqa: E402


def sample(case: Case, chains: int, steps: int) -> list[float]:
    estimator = LLCEstimator(
        draws=steps,
        chains=chains,
        burnin_steps=0,
        learning_rate=case.step_size,
        localization=case.gamma,
        nbeta=case.n_beta,
    )
    # Without the ragged last batch, which would be compiled for a second time.
    loader = DataLoader(TensorDataset(*case.data), batch_size=case.batch_size, drop_last=True)
    estimator.estimate_llc(
        case.model, loader, criterion_fn=case.mean_loss, seed=0, show_progress=False
    )
    return case.rise(estimator.get_metrics()["losses"])


logging.disable(logging.WARNING)
serve(sample)
