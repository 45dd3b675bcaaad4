"""The published transformer, p = 113: its circuits, and the LLC beside them.

Training takes about forty minutes on one core and goes on where it stopped, and so does the trace.
γ = 1000 takes 700 gradients a checkpoint to arrive, γ = 300 four times as many.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

import llc
from llc.checkpoints import Checkpoint, find_checkpoints
from llc.settings import Settings
from llc.tasks import modular_addition_transformer as transformer
from llc.tasks.modular_addition import checkpoint_steps
from llc.trajectory.circuits import circuits
from parts import common
from parts.trace import describe

STEPS = 25_000
SAVED = 150
TRACED = {1000.0: (46, 700), 300.0: (14, 3000)}
"""γ → checkpoints, gradients of each."""
N = len(transformer.make_pairs().train[1])


def compute(work: Path, workers: int) -> dict[str, Any]:
    """Train, measure frequencies at every checkpoint and the LLC at some of them."""
    folder = work / "p113" / "checkpoints"
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(_train, folder).result()
    files = find_checkpoints(folder)
    curves = {key: [c.metadata[key] for c in files] for key in files[0].metadata if key != "step"}
    found = circuits(transformer.task(), folder).to_dict()
    key = [k - 1 for k in found["frequencies"]]
    found["share"] = [sum(row[k] for k in key) for row in found["share"]]
    found["amplitudes"] = [[row[k] for k in key] for row in found["amplitudes"]]
    result: dict[str, Any] = {
        "curves": {"step": [c.step for c in files], **curves},
        "memorised": common.first_step(
            {"step": [c.step for c in files], **curves}, "train_accuracy", common.MEMORISED
        ),
        "grokked": common.first_step(
            {"step": [c.step for c in files], **curves}, "test_accuracy", common.GROKKED
        ),
        "circuits": found,
        "n": N,
        "llc": {},
    }
    for gamma, (count, budget) in TRACED.items():
        settings = Settings(
            n_beta=float(N), gamma=gamma, behavioural=True, batch_size=512, chains=2, budget=budget
        )
        run = llc.trace(
            transformer.task(), _some(files, count), settings=settings, workers=workers,
            out=work / "p113" / f"trace-{gamma:g}-{budget}",
        )  # fmt: skip
        found = llc.find_transitions(run)
        result["llc"][f"{gamma:g}"] = {
            **describe(run),
            "verdict_of_curve": found.verdict,
            "evidence": found.evidence,
            "found": [[t.step, *t.interval, t.jump, t.jump_se] for t in found],
        }
    return result


def _some(files: list[Checkpoint], count: int) -> list[Checkpoint]:
    """A third evenly spaced in ln step, the others evenly spaced where circuits form."""
    have = np.array([c.step for c in files])
    early = np.geomspace(100, 2000, count // 3)
    late = np.linspace(2500, 16_000, count - count // 3 - 2)
    wanted = [*early, *late, 20_000, STEPS]
    picks = {int(np.abs(have - step).argmin()) for step in wanted}
    return [files[i] for i in sorted(picks)]


def _train(folder: Path) -> None:
    torch.set_num_threads(1)
    if (folder / f"step_{STEPS:07d}.safetensors").exists():
        return
    save_at = sorted({0, *checkpoint_steps(STEPS, SAVED)})
    transformer.train(folder, steps=STEPS, save_at=save_at)
