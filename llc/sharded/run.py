"""Chains of kinetic Langevin on local shards, one after another, each kept once it is finished."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from llc.diagnostics import Array
from llc.files import write_whole
from llc.params import NoiseStreams
from llc.sampling.chains import Draws, Recorder, Report
from llc.sampling.kernel import Tuning
from llc.sampling.kernels import kinetic
from llc.settings import Settings
from llc.sharded.loss import ShardedLoss
from llc.sharded.shards import Noise
from llc.surface import Evaluation

__all__ = ["PROBES", "Chain", "gradient_shift", "prior_only", "run_chain"]

PROBES = 15
EVERY = 25


class Chain(NamedTuple):
    """One finished chain.

    Attributes:
        rows: the fields of `Draws`, step by step, burn-in first, ``(5, steps)``.
        virials: readings of the virial, tensor by tensor, ``(readings, tensors)``.
        largest: largest curvature of U where it ended.
        noise: tr Cov(nβ∇L_B) there; 0 on all data.
    """

    rows: Array
    virials: Array
    largest: Array
    noise: Array

    def draws(self, start: int, stop: int | None = None) -> Draws:
        """Return some of its steps as the draws of one chain."""
        return Draws(*self.rows[:, None, start:stop])


def run_chain(
    loss: ShardedLoss,
    settings: Settings,
    tuning: Tuning,
    number: int,
    report: Report,
    keep: tuple[Path, str] | None,
) -> Chain:
    """Run one chain, or read it where it is kept.

    Args:
        loss: the sharded loss.
        settings: with draws and burn_in.
        tuning: γ, step and friction.
        number: of the chain.
        report: progress callback.
        keep: folder, and fingerprint of everything that decides the chain; None keeps nothing.
    """
    path = None if keep is None else keep[0] / f"chain_{number}.npz"
    found = None if keep is None or path is None else _read(path, keep[1])
    if found is not None:
        return found
    found = _run(loss, settings, tuning, number, report)
    if keep is not None and path is not None and dist.get_rank() == 0:
        buffer = io.BytesIO()
        np.savez(buffer, fingerprint=np.array(keep[1]), **found._asdict())
        write_whole(path, buffer.getvalue())
    return found


def _read(path: Path, fingerprint: str) -> Chain | None:
    """Let the first rank look, and all others believe it: disks differ between nodes."""
    found: list[Chain | None] = [None]
    if dist.get_rank() == 0:
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                if str(arrays["fingerprint"]) == fingerprint:
                    found = [Chain(*(arrays[name] for name in Chain._fields))]
        except (OSError, ValueError, LookupError, EOFError, BadZipFile):
            pass  # unfinished or foreign: computed anew
    dist.broadcast_object_list(found)
    return found[0]


def _run(
    loss: ShardedLoss, settings: Settings, tuning: Tuning, number: int, report: Report
) -> Chain:
    shards, gamma = loss.shards, tuning.gamma
    here: dict[str, Tensor] = {}

    def evaluate(displacement: Tensor, index: Tensor | None) -> Evaluation:
        found = loss.evaluate(displacement, index)
        here.update(displacement=displacement, gradient=found.gradient)
        return found

    kernel = kinetic.build(evaluate, tuning.numbers)
    batch = _batches(loss, settings, number)
    noise = Noise(shards, settings.seed, "noise", number)
    start = Noise(shards, settings.seed, "momentum", number).normal()
    state = kernel.init(torch.zeros_like(start))._replace(momentum=start)
    burn_in = settings.burn_in or 0
    steps = burn_in + (settings.draws or 0)
    recorder, virials = Recorder(steps), []
    for step in range(steps):
        rows = batch()
        state, info = kernel.step(state, rows, noise.normal())
        recorder.add(loss.whole(info, rows))
        if step >= burn_in and (step - burn_in) % EVERY == 0:
            virials.append(_by_tensor(loss, gamma, **here))
            report(f"chain {number + 1} of {settings.chains}", step + 1, steps)
    largest, trace = _probe(loss, settings, tuning, number, state.displacement, batch)
    draws = recorder.draws()
    return Chain(np.concatenate(draws), np.array(virials), np.array(largest), np.array(trace))


def _batches(loss: ShardedLoss, settings: Settings, number: int) -> Callable[[], Tensor | None]:
    """Batches of a chain, the same on every rank; None for all data."""
    size = settings.batch_size
    if size is None:
        return lambda: None
    stream = NoiseStreams(settings.seed, "batches", 1, first=number)
    return lambda: stream.integers(loss.size, size).to(loss.shards.device)


def _by_tensor(
    loss: ShardedLoss, gamma: float, displacement: Tensor, gradient: Tensor
) -> list[float]:
    """Σ δ(nβ∇L + γδ)/D_b of every tensor b, 1 in equilibrium; as `llc.sampling.balance`."""
    shards = loss.shards
    parts = (displacement * (gradient + gamma * displacement))[0].split(shards.sizes)
    sums = shards.sum(torch.stack([part.sum(dtype=torch.float64) for part in parts]))
    return [float(s) / p.size for s, p in zip(sums, shards.pieces, strict=True)]


def _probe(
    loss: ShardedLoss,
    settings: Settings,
    tuning: Tuning,
    number: int,
    place: Tensor,
    batch: Callable[[], Tensor | None],
) -> tuple[float, float]:
    """Power iteration at a chain's last position, and the noise of its gradients there."""
    shards = loss.shards
    if not math.isfinite(float(shards.norm(place))):
        return math.nan, math.nan
    direction = Noise(shards, settings.seed, "curvature", number).normal()
    direction = direction / shards.norm(direction).to(direction.dtype)
    # A step of the chain's own size: far below the scale on which curvature changes.
    reach = 0.5 * tuning.step_size if tuning.step_size > 0 else 1e-3
    largest, mean, squares = tuning.gamma, torch.zeros_like(place), 0.0
    for count in range(1, PROBES + 1):
        rows = batch()
        gradient = loss.evaluate(place, rows).gradient
        ahead = loss.evaluate(place + reach * direction, rows).gradient
        change = gradient - mean
        mean = mean + change / count
        squares += float(shards.sum((change.double() * (gradient - mean).double()).sum()))
        product = (ahead - gradient) / reach + tuning.gamma * direction
        length = shards.norm(product)
        if not float(length) > 0 or not math.isfinite(float(length)):
            break
        largest = max(largest, float(length))
        direction = product / length.to(product.dtype)
    return largest, squares / (PROBES - 1) if settings.batch_size is not None else 0.0


def prior_only(loss: ShardedLoss, settings: Settings, gamma: float, draws: int) -> Tensor:
    """Draw nβ(L − L(w*)) at w ~ N(w*, 1/γ), the prior-only null; shape ``(draws,)``."""
    noise = Noise(loss.shards, settings.seed, "prior-only", 0)
    batches = NoiseStreams(settings.seed, "prior-only batches", 1)
    found: list[Tensor] = []
    for _ in range(draws):
        rows = None
        if settings.batch_size is not None:
            rows = batches.integers(loss.size, settings.batch_size).to(loss.shards.device)
        found.append(loss.rise(noise.normal() / gamma**0.5, rows))
    return torch.cat(found)


def gradient_shift(loss: ShardedLoss, gamma: float, step_size: float) -> float:
    """At least what a gradient at w* takes off λ̂, over all data; as `llc.estimation.assembly`."""
    shards = loss.shards
    start = torch.zeros_like(shards.centre)[None]
    gradient: Any = loss.evaluate(start, None).gradient
    norm = float(shards.norm(gradient))
    if not norm > 0 or step_size == 0:
        return 0.0
    reach = 0.5 * step_size
    ahead = loss.evaluate(start + reach * gradient / norm, None).gradient
    along = shards.sum(((ahead - gradient) * gradient).double().sum())
    return 0.5 * norm**2 / (max(float(along) / (reach * norm), 0.0) + gamma)
