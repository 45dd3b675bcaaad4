"""The LLC at every checkpoint of every run, and the transitions in it.

nβ = n, γ = 100 and the behavioural loss, at which all chains arrive; one seed for all.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import llc
from llc.settings import Settings
from llc.trajectory import Trajectory
from parts import common

COLUMNS = ("llc", "mcse", "null", "null_se", "saturation", "virial", "slope_gamma", "slope_n_beta")


def compute(work: Path, workers: int) -> dict[str, Any]:
    """Trace what is missing; return the curves, their verdicts and their transitions."""
    settings = Settings(n_beta=float(common.N), gamma=common.GAMMA, behavioural=True)
    result = {}
    for name in common.chosen():
        run = llc.trace(
            common.task_of(name), common.folder_of(work, name), settings=settings,
            out=work / "p53" / name / "trace", workers=workers,
        )  # fmt: skip
        result[name] = {**describe(run), "transitions": _transitions(run, common.window(name))}
        print(f"traced {name}", flush=True)
    return result


def describe(run: Trajectory) -> dict[str, Any]:
    """Columns of a trajectory, how many verdicts of each kind, and the cost."""
    estimates = [point.estimate for point in run.points]
    status = [e.verdict.status for e in estimates]
    reasons = [reason.name for e in estimates for reason in e.verdict.reasons]
    return {
        "step": run.steps,
        **{name: run.column(name) for name in COLUMNS},
        "weight_norm": run.column("weight_norm"),
        "verdict": status,
        "reasons": {name: reasons.count(name) for name in sorted(set(reasons))},
        "gradients": sum(e.gradient_evaluations for e in estimates),
        "skipped": len(run.skipped),
    }


def _transitions(run: Trajectory, window: tuple[float, float]) -> dict[str, Any]:
    """Look in the whole run, and between memorising and understanding alone."""
    inside = [p for p in run.points if window[0] <= p.step <= window[1]]
    parts = {"all": run, "window": replace(run, points=tuple(inside))}
    result: dict[str, Any] = {"window": window, "checkpoints": len(inside)}
    for part, points in parts.items():
        found = llc.find_transitions(points)
        result[part] = {
            "verdict": found.verdict,
            "evidence": found.evidence,
            "found": [[t.step, *t.interval, t.jump, t.jump_se, t.support] for t in found],
            "curve": {key: found.curve[key] for key in ("step", "mean", "sd")},
            "jitter": found.jitter,
        }
    return result
