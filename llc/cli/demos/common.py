"""What demos share: a folder that belongs to one training run, and how a demo ends."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from llc import plot
from llc.cli.runs import transitions_of, versions_of
from llc.errors import InputError
from llc.files import read_json, write_whole
from llc.progress import Bar
from llc.report import write_report
from llc.trajectory import Trajectory

__all__ = ["by_label", "finish", "is_trained", "mark_trained", "train_once"]

MARK = "training.json"


def is_trained(folder: Path, plan: dict[str, Any]) -> bool:
    """Whether the folder holds this training run, finished; another run is not overwritten."""
    mark = folder / "checkpoints" / MARK
    if not mark.exists():
        return False
    kept = read_json(mark)
    if kept == plan:
        return True
    changed = [name for name in plan if kept.get(name) != plan[name] and name != "save_at"]
    what = ", ".join(f"{name} {kept.get(name)} (now {plan[name]})" for name in changed)
    raise InputError(
        f"{folder} holds another run, {what or 'of another version'}: give a new folder as --out"
    )


def mark_trained(folder: Path, plan: dict[str, Any]) -> None:
    """Say that a folder's checkpoints are all there, and by which plan."""
    write_whole(folder / "checkpoints" / MARK, json.dumps(plan).encode())


def train_once(out: Path, plan: dict[str, Any], train: Callable[..., None]) -> None:
    """Train by the plan, with a bar, unless the folder holds that run already."""
    if is_trained(out, plan):
        return
    with Bar("train") as report:
        train(out / "checkpoints", **plan, report=lambda done: report("train", done, plan["steps"]))
    mark_trained(out, plan)


def by_label(result: Trajectory, label: str, note: str) -> str:
    """Settings, and for each value of a label its exact λ and the mean of the estimates."""
    lines = ["settings", *("  " + line for line in str(result.settings).splitlines()), ""]
    lines.append(f"{label:<8}  exact λ  mean LLC  checkpoints")
    labels, exact = result.column(label), result.column("exact_llc")
    for value in sorted(set(labels)):
        here = labels == value
        known = set(exact[here][np.isfinite(exact[here])])
        words = " or ".join(f"{v:.4g}" for v in sorted(known)) or "unknown"
        lines.append(f"{value:8.0f}{words:>9}{result.llc[here].mean():10.4g}{here.sum():13d}")
    return "\n".join([*lines, f"({note})"])


def finish(out: Path, result: Trajectory, words: str, *, control: Trajectory | None = None) -> None:
    """Look for transitions, draw, write the page, and say in words what was found, and where."""
    found = transitions_of(out, result)
    figure = plot.trajectory(result, control=control, transitions=found)
    figures = plot.save(figure, out / "figures" / "trajectory")
    page = write_report(
        result, out / "report.html", transitions=found, control=control, versions=versions_of(out)
    )
    print(words)
    if found is not None:
        found.save(out / "transitions.json")
        print(f"\n{found}")
    print(f"\ntable    {out / 'trajectory.csv'}")
    print("figures  " + "\n         ".join(map(str, figures)))
    print(f"page     {page}")
