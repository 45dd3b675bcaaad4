"""Train the networks of the study: eight seeds of p = 53 and one of random labels."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from llc.tasks import modular_addition
from parts import common


def compute(work: Path, workers: int) -> dict[str, Any]:
    """Train what is missing; return learning curves and when each memorised and understood."""
    fresh = [name for name in common.runs() if not _done(work, name).exists()]
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for name in pool.map(_train, [work] * len(fresh), fresh):
            print(f"trained {name}", flush=True)
    result = {}
    for name in common.runs():
        curves = common.learning_curves(work, name)
        result[name] = {
            "curves": curves,
            "memorised": common.first_step(curves, "train_accuracy", common.MEMORISED),
            "grokked": common.first_step(curves, "test_accuracy", common.GROKKED),
            "test_accuracy": curves["test_accuracy"][-1],
        }
    return result


def _done(work: Path, name: str) -> Path:
    return common.folder_of(work, name).parent / "trained"


def _train(work: Path, name: str) -> str:
    torch.set_num_threads(1)
    folder = common.folder_of(work, name)
    folder.mkdir(parents=True, exist_ok=True)
    modular_addition.train(
        folder, steps=common.STEPS, save_at=common.steps(), prime=common.PRIME,
        follow_change=False, **common.runs()[name],
    )  # fmt: skip
    _done(work, name).touch()
    return name
