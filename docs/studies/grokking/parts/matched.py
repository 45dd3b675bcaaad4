"""What is left of the fall when the weights' norm, or the network's confidence, is made equal.

Each checkpoint after memorising is scaled to the last one's norm (all weights by one factor), or
its logits (the unembedding by one factor) until its mean entropy on the training pairs is the last
one's. Its LLC is measured towards its own outputs, as everywhere. A fall of the LLC that comes
from norm or confidence alone is gone in these networks. At equal norm there are checkpoints enough
to look for transitions in what is left.
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

COUNT = {"norm": 40, "confidence": 12}


def compute(work: Path, workers: int) -> dict[str, Any]:
    """Trace the scaled networks of every run that understood, and of those that never did."""
    settings = Settings(n_beta=float(common.N), gamma=common.GAMMA, behavioural=True)
    result: dict[str, Any] = {}
    for name in common.chosen():
        task = common.task_of(name)
        held_out = modular_addition.make_data(common.PRIME, **common.runs()[name]).test
        last = common.weights_at(work, name, common.STEPS)
        result[name] = {}
        for kind, count in COUNT.items():
            own = {step: common.weights_at(work, name, step) for step in _steps(name, count)}
            run = llc.trace(
                task, {step: _matched(task, kind, w, last) for step, w in own.items()},
                settings=settings, workers=workers, out=work / "p53" / name / f"matched-{kind}",
                readings={"test": held_out, "weight_norm": _model_norm},
            )  # fmt: skip
            found = llc.find_transitions(run)
            result[name][kind] = {
                **describe(run),
                "test_accuracy": run.column("test_accuracy"),
                "transitions": {
                    "verdict": found.verdict,
                    "evidence": found.evidence,
                    "found": [[t.step, *t.interval, t.jump, t.jump_se, t.support] for t in found],
                },
            }
        print(f"matched {name}", flush=True)
    return result


def _steps(name: str, count: int) -> list[int]:
    """Evenly spaced from memorising on; the control needs no more than a dozen."""
    low, _ = common.window(name)
    have = np.array(common.steps())
    count = count if name in common.understood() else 12
    return sorted({int(have[np.abs(have - s).argmin()])
                   for s in np.linspace(low, common.STEPS, count)})  # fmt: skip


def _matched(task: llc.Task, kind: str, weights: dict, last: dict) -> dict:
    if kind == "norm":
        return _of_norm(weights, _norm(last))
    return _of_entropy(task, weights, _entropy(task, last))


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
