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

import llc
from llc.planting import of_entropy, of_norm, output_entropy, weight_norm
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
        return of_norm(weights, weight_norm(last))
    return of_entropy(task, weights, output_entropy(task, last), ["unembedding.weight"])


def _model_norm(model: torch.nn.Module) -> float:
    return weight_norm(dict(model.named_parameters()))
