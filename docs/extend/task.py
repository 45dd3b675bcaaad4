"""A task to start from: a small network learns where the points of a spiral lie.

Copy it, put your own model, data and training in, and use it as ``--task FILE.py:task``.
"""

import math
from pathlib import Path

import torch
from torch import Tensor, nn

import llc
from llc.checkpoints import save_checkpoint
from llc.params import stream_seed

__all__ = ["data", "make_model", "task", "train"]

STEPS = 400


def make_model(seed: int = 0) -> nn.Module:
    """Build the network; its weights are drawn without touching the process's random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "initialisation", 0))
        return nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))


def data(count: int = 400, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two arms of a spiral and which arm each point is of: ``(count, 2)`` and ``(count,)``."""
    generator = torch.Generator().manual_seed(stream_seed(seed, "data", 0))
    arm = torch.arange(count) % 2
    turn = torch.rand(count, generator=generator).sqrt() * 1.5 * math.pi
    angle = turn + math.pi * arm
    points = turn[:, None] * torch.stack([angle.cos(), angle.sin()], 1) / 3
    return points + 0.1 * torch.randn(count, 2, generator=generator), arm


def task() -> llc.Task:
    """Return model, data and loss, and held-out data as a reading of every checkpoint.

    `rlct` calls it without arguments, and puts each checkpoint's weights into the model.
    """
    readings = {"test": data(seed=1)}
    return llc.Task(make_model(), data(), "cross_entropy", name="spiral", readings=readings)


def train(folder: Path, steps: int = STEPS, saves: int = 12, seed: int = 0) -> None:
    """Train by Adam on all data and write checkpoints, evenly in ln step."""
    model, (inputs, targets) = make_model(seed), data()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    wanted = {round(steps ** (k / (saves - 1))) for k in range(saves)}
    for step in range(1, steps + 1):
        loss = nn.functional.cross_entropy(model(inputs), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step in wanted:
            # torch.save(model.state_dict(), folder / f"step_{step}.pt") does as well; numbers saved
            # with the weights become columns of the trajectory.
            save_checkpoint(folder, step, model.state_dict(), {"batch_loss": loss.item()})


if __name__ == "__main__":
    train(Path("checkpoints"))
