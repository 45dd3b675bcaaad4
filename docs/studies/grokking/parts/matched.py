"""What is left of the fall when the weights' norm, or the network's confidence, is made equal.

Each checkpoint after memorising is scaled to the last one's norm (all weights by one factor), or
its logits (the unembedding by one factor) until its mean entropy on the training pairs is the last
one's. Its LLC is measured towards its own outputs, as everywhere. A fall of the LLC that comes
from norm or confidence alone is gone in these networks.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq

import llc
from llc.settings import Settings
from llc.tasks import modular_addition
from parts import common
from parts.trace import describe

COUNT = 12


def compute(work: Path, workers: int) -> dict[str, Any]:
    """Trace the scaled networks of every run that understood, and of those that never did."""
    settings = Settings(n_beta=float(common.N), gamma=common.GAMMA, behavioural=True)
    result: dict[str, Any] = {}
    for name in common.chosen():
        low, _ = common.window(name)
        have = np.array(common.steps())
        picks = {int(have[np.abs(have - s).argmin()]) for s in np.linspace(low, 40_000, COUNT)}
        own = {step: common.weights_at(work, name, step) for step in sorted(picks)}
        last = own[max(own)]
        task = common.task_of(name)
        held_out = modular_addition.make_data(common.PRIME, **common.runs()[name]).test
        matched = {
            "norm": {step: _of_norm(w, _norm(last)) for step, w in own.items()},
            "confidence": {step: _of_entropy(task, w, _entropy(task, last))
                           for step, w in own.items()},
        }  # fmt: skip
        result[name] = {}
        for kind, weights in matched.items():
            run = llc.trace(
                task, weights, settings=settings, workers=workers,
                out=work / "p53" / name / f"matched-{kind}",
                readings={"test": held_out, "weight_norm": _model_norm},
            )  # fmt: skip
            result[name][kind] = describe(run)
            result[name][kind]["test_accuracy"] = run.column("test_accuracy")
        print(f"matched {name}", flush=True)
    return result


def _model_norm(model: torch.nn.Module) -> float:
    return _norm(dict(model.named_parameters()))


def _norm(weights: dict) -> float:
    return float(sum(w.detach().double().square().sum() for w in weights.values()) ** 0.5)


def _of_norm(weights: dict, norm: float) -> dict:
    factor = norm / _norm(weights)
    return {name: value * factor for name, value in weights.items()}


@torch.no_grad()
def _entropy(task: llc.Task, weights: dict) -> float:
    logits = task.at(weights).model(task.data[0]).double()
    return float(torch.distributions.Categorical(logits=logits).entropy().mean())


def _of_entropy(task: llc.Task, weights: dict, entropy: float) -> dict:
    """Scale the unembedding, which scales the logits; entropy falls as they grow."""

    def excess(log_factor: float) -> float:
        return _entropy(task, _scaled(weights, float(np.exp(log_factor)))) - entropy

    return _scaled(weights, float(np.exp(brentq(excess, -6, 6, xtol=1e-6))))


def _scaled(weights: dict, factor: float) -> dict:
    return {**weights, "unembedding.weight": weights["unembedding.weight"] * factor}
