"""Trajectories with known transitions, sampled once and kept, for benchmarks/transitions.py.

Every run is a folder under --out that `llc.trace` goes on with where it stopped. Checkpoints are
estimated by the behavioural loss with one nβ, one γ and one chain seed a run, four chains, a fixed
number of draws; that 1/√(nβ/outputs) lies between 2 and 98 % of every singular value lets λ̂ move
inside the window in which a rank is learned.
"""

import argparse
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import llc
from llc.checkpoints import find_checkpoints, save_checkpoint
from llc.tasks import linear_net, superposition

TWO_LAYERS = {"n_beta": 100.0, "gamma": 0.3, "draws": 800}
THREE_LAYERS = {"n_beta": 1000.0, "gamma": 3.0, "draws": 600}


@dataclass(frozen=True)
class Net:
    """A shape, its training and its checkpoints."""

    widths: tuple[int, ...]
    steps: int
    first: int
    count: int

    @property
    def name(self) -> str:
        return "-".join(map(str, self.widths))

    @property
    def settings(self) -> dict[str, float]:
        return TWO_LAYERS if len(self.widths) == 3 else THREE_LAYERS

    @property
    def save_at(self) -> list[int]:
        return sorted({round(s) for s in np.geomspace(self.first, self.steps, self.count)})


SUPERPOSITION = {6: {"n_beta": 2e5, "gamma": 20.0}, 8: {"n_beta": 4e5, "gamma": 30.0}}
POLYGON_STEPS = sorted({round(s) for s in np.geomspace(10, 1500, 26)})

BOTTLENECKS = (
    Net((10, 4, 10), 3000, 60, 27),
    Net((14, 4, 10), 3000, 60, 27),
    Net((12, 3, 12), 3000, 60, 27),
    Net((20, 5, 5, 20), 9000, 60, 32),
    Net((16, 4, 4, 16), 9000, 60, 32),
)
WIDE = Net((5, 10, 5), 3000, 60, 27)
RESTING = Net((10, 4, 10), 3000, 3000, 1)


def sampled(folder: Path, net: Net, seed: int, settings: dict[str, float]) -> llc.Trajectory:
    """Estimate the folder's checkpoints; what is done is reused."""
    if (folder / "trajectory.csv").exists():
        return llc.Trajectory.load(folder)
    task = linear_net.task(net.widths, examples=net.widths[0])
    given = {"behavioural": True, "seed": seed, **settings}
    return llc.trace(task, folder / "checkpoints", out=folder, **given)


def bottleneck(out: Path, net: Net, seed: int) -> llc.Trajectory:
    folder = out / net.name / str(seed)
    if not (folder / "checkpoints").exists():
        linear_net.train(
            folder / "checkpoints",
            widths=net.widths,
            steps=net.steps,
            save_at=net.save_at,
            seed=seed,
        )
    return sampled(folder, net, seed, net.settings)


def polygons(out: Path, features: int, seed: int) -> llc.Trajectory:
    """The toy model of superposition, from nothing to a polygon."""
    folder = out / f"superposition-{features}" / str(seed)
    if (folder / "trajectory.csv").exists():
        return llc.Trajectory.load(folder)
    superposition.train(
        folder / "checkpoints", features=features, steps=1500, save_at=POLYGON_STEPS, seed=seed
    )
    given = {"behavioural": True, "seed": seed, "draws": 500, **SUPERPOSITION[features]}
    return llc.trace(superposition.task(features), folder / "checkpoints", out=folder, **given)


def at_rest(out: Path, seed: int, count: int = 24) -> llc.Trajectory:
    """Continued training at the optimum: layers wander along it, B → BG, A → G⁻¹A."""
    folder = out / "at-rest" / str(seed)
    places = folder / "checkpoints"
    if not places.exists():
        linear_net.train(folder / "start", widths=RESTING.widths, save_at=[3000], seed=seed)
        weights = find_checkpoints(folder / "start")[0].weights()
        a, b = weights["layers.0"].double(), weights["layers.1"].double()
        generator = torch.Generator().manual_seed(seed)
        for step in range(count):
            turn = torch.randn(len(a), len(a), generator=generator, dtype=torch.float64) * 0.03
            turn = torch.linalg.matrix_exp(turn)
            a, b = torch.linalg.solve(turn, a), b @ turn
            moved = {"layers.0": a.float(), "layers.1": b.float()}
            save_checkpoint(places, 3000 + 1000 * step, moved, {})
        shutil.rmtree(folder / "start")
    return sampled(folder, RESTING, seed, RESTING.settings)


def all_runs(out: Path, seeds: int, nulls: int) -> Iterator[tuple[str, int, llc.Trajectory]]:
    """All runs, seed by seed, so that a run cut short still has every shape."""
    for seed in range(seeds):
        for net in BOTTLENECKS:
            yield net.name, seed, bottleneck(out, net, seed)
        if seed < nulls:
            yield WIDE.name, seed, bottleneck(out, WIDE, seed)
            yield "at-rest", seed, at_rest(out, seed)
    for seed in range(nulls):
        for features in SUPERPOSITION:
            yield f"superposition-{features}", seed, polygons(out, features, seed)


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/transitions"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--nulls", type=int, default=10, help="runs of each null")
    given = parser.parse_args()
    started = time.perf_counter()
    for name, seed, run in all_runs(given.out, given.seeds, given.nulls):
        status = [p.estimate.verdict.status for p in run.points]
        counts = " ".join(f"{status.count(s)} {s}" for s in ("ok", "warn", "fail"))
        print(f"{name:<12} seed {seed:<3} {len(run.points)} checkpoints: {counts}; "
              f"{time.perf_counter() - started:.0f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
