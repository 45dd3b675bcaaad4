"""Claim 6: mixtures of two algorithms. Are they basins of their own?

Straight mixtures of the memorising network (the highest LLC after memorising) and the last one of
the same run; and, half-way through grokking, the network without its key frequencies (excluded)
and with nothing else (restricted). A mixture is a basin of its own if its training loss is low.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

import llc
from llc.planting import interpolants
from llc.settings import Settings
from llc.tasks import fourier, modular_addition
from parts import common
from parts.trace import describe

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
NETWORKS = 3


def compute(work: Path, workers: int) -> dict[str, Any]:
    """Trace mixtures and ablated networks of the first runs that understood."""
    result: dict[str, Any] = {}
    for name in common.chosen()[:NETWORKS]:
        low, high = common.window(name)
        have = np.array(common.steps())
        middle = int(have[np.abs(have - _half(name)).argmin()])
        first = common.weights_at(work, name, int(low))
        last = common.weights_at(work, name, common.STEPS)
        mixed = interpolants(first, last, SHARES)
        keys = common.kept("circuits")[name]["frequencies"]
        ablated = {}
        for step in (int(low), middle, common.STEPS):
            own = common.weights_at(work, name, step)
            ablated[3 * step] = own
            ablated[3 * step + 1] = fourier.only_frequencies(own, keys, common.PRIME)
            ablated[3 * step + 2] = fourier.without_frequencies(own, keys, common.PRIME)
        result[name] = {
            "from": low, "middle": middle, "grokked": high, "keys": keys,
            "mixed": {"share": SHARES, **_traced(work, name, mixed, workers, "mixtures")},
            "ablated": {
                "network": [["whole", "restricted", "excluded"][k % 3] for k in sorted(ablated)],
                "of_step": [k // 3 for k in sorted(ablated)],
                **_traced(work, name, ablated, workers, "ablated"),
            },
        }  # fmt: skip
        print(f"mixed {name}", flush=True)
    return result


def _traced(work: Path, name: str, weights: Any, workers: int, what: str) -> dict[str, Any]:
    task = common.task_of(name)
    test = modular_addition.make_data(common.PRIME, **common.runs()[name]).test
    settings = Settings(n_beta=float(common.N), gamma=common.GAMMA, behavioural=True)
    run = llc.trace(
        task, weights, settings=settings, workers=workers, out=work / "p53" / name / what,
        readings={"train": task.data, "test": test, "weight_norm": _norm},
    )  # fmt: skip
    readings = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    return {**describe(run), **{key: run.column(key) for key in readings}}


def _norm(model: torch.nn.Module) -> float:
    return float(sum(p.detach().double().square().sum() for p in model.parameters()) ** 0.5)


def _half(name: str) -> float:
    """The step at which half of the held-out pairs are right."""
    curves = common.kept("train")[name]["curves"]
    return common.first_step(curves, "test_accuracy", 0.5) or common.STEPS
