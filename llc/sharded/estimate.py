"""The one call for models larger than a device: every choice given, every rank calls it."""

import hashlib
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist

import llc
from llc.diagnostics import diverged
from llc.errors import InputError
from llc.estimation import Estimate
from llc.estimation.assembly import assemble
from llc.execution import Execution
from llc.isolation import undisturbed
from llc.params import Layout
from llc.posterior import Posterior
from llc.progress import Bar
from llc.sampling.chains import Draws, Report
from llc.sampling.kernel import Tuning
from llc.sampling.run import Samples, minibatch_heat
from llc.sampling.schemes import WARM_FRICTION
from llc.settings import Settings
from llc.sharded.loss import CHUNK, ShardedLoss
from llc.sharded.run import PROBES, Chain, gradient_shift, prior_only, run_chain
from llc.sharded.shards import Shards, copied
from llc.task import Task
from llc.trajectory.fingerprints import fingerprint_parts, fingerprint_values

__all__ = ["estimate"]

NULL_DRAWS = 32
MOST_FOR_SHIFT = 0.1


@dataclass(frozen=True)
class _Known:
    """What `assemble` asks of a posterior's surface; and of the posterior itself."""

    layout: Layout
    baseline: float
    chance: float | None
    task_chance: float | None
    alike: tuple[float, str]
    size: int
    n_beta: float
    gamma: float
    dimension: int
    execution: Execution = field(default_factory=Execution)
    vectorised: bool = False

    @property
    def surface(self) -> "_Known":
        """Itself: nothing else of a surface is asked for."""
        return self


def estimate(
    model: nn.Module | Task,
    data: Any = None,
    loss: str | Callable[[Any, Any], Tensor] | None = None,
    *,
    batch_loss: Callable[[nn.Module, Any], Tensor] | None = None,
    gamma: float,
    step_size: float,
    draws: int,
    burn_in: int,
    n_beta: float | None = None,
    chains: int = 4,
    batch_size: int | None = None,
    friction: float | None = None,
    behavioural: bool = False,
    seed: int = 0,
    at_once: int | None = None,
    out: str | Path | None = None,
    progress: bool | Report | None = None,
) -> Estimate:
    """Estimate the LLC of a model whose weights are sharded over ranks; every rank calls it alike.

    λ̂ = nβ(E[L(w)] − L(w*)) as `llc.estimate`, by kinetic Langevin (BAOAB) on each rank's own
    shards. Gradients, momenta and noise exist as shards only; weights are gathered block by block
    by FSDP2 (`torch.distributed.fsdp.fully_shard`) while they are needed. Ranks share the examples
    of a batch. Noise belongs to entries of tensors, not to ranks, so that the draws do not depend
    on how many ranks there are, but for the rounding of sums. Chains run one after another; chain c
    of 4 is chain c of 1.

    Args:
        model: an ``nn.Module`` at w*, or a `Task`. A sharded one (`llc.sharded.shard`, or
            ``fully_shard`` over one dimension of ranks) is sampled itself, since there may be no
            room for another, and has its weights, gradients and modes back in the end, whatever
            happens; a plain one is copied, and untouched.
        data: as for `llc.estimate`; the same on all ranks.
        loss: as for `llc.estimate`, one value per example.
        batch_loss: instead, a function of (model, batch), one value per example.
        gamma: γ.
        step_size: h; nothing is calibrated here. h²a of 1 for the largest curvature a of U is a
            quarter of the stability limit; the verdict says where it is too large.
        draws: kept draws a chain.
        burn_in: discarded steps a chain.
        n_beta: nβ; n/ln n unless given.
        chains: number of chains, started at w*.
        batch_size: examples a gradient, of all ranks together; all unless given.
        friction: Γ; 2√γ, critical for the prior's own directions, unless given.
        behavioural: measure towards the model's own outputs at w*.
        seed: seeds every random stream.
        at_once: most examples a rank passes through the model at once; no limit for a batch, 4096
            for all data, unless given.
        out: folder for finished chains, from which the same call goes on; nothing is kept
            unless given.
        progress: True for a bar on the first rank, or a function of (phase, done, total).

    Returns:
        The estimate, the same on every rank.

    Raises:
        InputError: no process group, weights that are not sharded, half-precision shards, a loss
            without one value per example, or a setting out of its range.
    """
    started = time.perf_counter()
    task = Task.of(model, data, loss, batch_loss, None)
    size = task.size
    if size is None:
        raise InputError("a sharded estimate needs data that ranks can share: a potential has none")
    settings = Settings(
        n_beta if n_beta is not None else size / math.log(size) if size > 1 else 1.0,
        gamma, "kinetic", step_size, chains, draws, burn_in,
        None if batch_size == size else batch_size, behavioural=behavioural, seed=seed,
    )  # fmt: skip
    if at_once is not None and at_once < 1:
        raise InputError(f"at_once is {at_once!r}, expected a whole number of at least 1")
    if friction is not None and not friction > 0:
        raise InputError(f"friction is {friction!r}, expected a number above 0")
    if not dist.is_initialized():
        raise InputError(
            "a sharded estimate needs a process group: start the script under torchrun and call "
            "torch.distributed.init_process_group() first"
        )
    task = replace(task, model=copied(task.model))
    shown = progress is True and dist.get_rank() == 0
    with (
        undisturbed(),
        Bar(task.label) if shown else nullcontext(_report(progress)) as report,
    ):
        shards = Shards(task.model)
        with shards.borrowed():
            found = _measured(task, shards, settings, friction, at_once, out, report)
    return replace(found, seconds=time.perf_counter() - started)


def _report(progress: bool | Report | None) -> Report:
    return progress if callable(progress) and dist.get_rank() == 0 else _silent


def _measured(
    task: Task,
    shards: Shards,
    settings: Settings,
    friction: float | None,
    at_once: int | None,
    out: str | Path | None,
    report: Report,
) -> Estimate:
    assert settings.n_beta is not None
    assert settings.gamma is not None
    assert settings.step_size is not None
    friction = friction if friction is not None else WARM_FRICTION * settings.gamma**0.5
    tuning = Tuning(settings.n_beta, settings.gamma, settings.step_size, friction)
    keep = None if out is None else (Path(out), _fingerprint(task, shards, settings, friction))
    most = at_once or settings.batch_size or CHUNK
    loss = ShardedLoss(task, shards, settings.n_beta, settings.behavioural, most)
    parts = [run_chain(loss, settings, tuning, c, report, keep) for c in range(settings.chains)]
    null = prior_only(loss, settings, settings.gamma, NULL_DRAWS)
    evaluations = sum(part.rows.shape[1] + 2 * PROBES for part in parts)
    # In gradients of a batch, of which all data take so many.
    passes = 1 if settings.batch_size is None else math.ceil(loss.size / settings.batch_size)
    shift = math.nan
    if 2 * passes <= MOST_FOR_SHIFT * evaluations:
        shift = gradient_shift(loss, settings.gamma, settings.step_size)
        evaluations += 2 * passes
    known = _Known(
        Layout(
            tuple(piece.name for piece in shards.pieces),
            tuple(piece.parameter.shape for piece in shards.pieces),
            tuple(piece.parameter.dtype for piece in shards.pieces),
        ),
        loss.baseline, loss.chance, loss.task_chance, loss.alike, loss.size,
        settings.n_beta, settings.gamma, shards.total,
    )  # fmt: skip
    samples = _samples(settings, tuning, shards, parts, evaluations)
    # It reads what a `_Known` has, and nothing else of a posterior.
    return assemble(cast(Posterior, known), settings, samples, 0, null, shift, 0.0)


def _samples(
    settings: Settings, tuning: Tuning, shards: Shards, parts: list[Chain], evaluations: int
) -> Samples:
    """Chains side by side, as `llc.sampling.run` returns them."""
    burn_in, h = settings.burn_in or 0, tuning.step_size
    draws = _side_by_side([part.draws(burn_in) for part in parts])
    before = _side_by_side([part.draws(0, burn_in) for part in parts]).rise
    gone = diverged(draws.rise, draws.spread, shards.total)
    stiffness, heat = math.nan, 0.0
    if not gone.any():
        stiffness = max(float(part.largest) for part in parts) * h**2
        noise = float(np.mean([part.noise for part in parts]))
        heat = minibatch_heat(h, tuning.friction, noise, float(draws.rise.mean()))
    readings = [part.virials for part, out in zip(parts, gone, strict=True) if not out]
    virials = np.concatenate(readings) if readings else np.full((0, len(shards.pieces)), np.nan)
    nothing = np.full(len(shards.pieces), np.nan)
    count = len(virials)
    return Samples(
        draws=draws,
        diverged=gone,
        dimension=shards.total,
        step_size=h,
        friction=tuning.friction,
        burn_in=burn_in,
        batch_size=settings.batch_size,
        evaluations=evaluations,
        reached=None,
        heat=heat,
        heat_bound=heat,
        discretisation=0.0,
        stiffness=stiffness,
        stiffness_aim=1.0,
        acceptance=math.nan,
        tensor_virials=(
            virials.mean(0) if count else nothing,
            virials.std(0, ddof=1) / count**0.5 if count > 1 else nothing,
        ),
        burn_in_rise=before,
        execution=f"weights sharded over {shards.ranks} ranks, chains one after another",
        end=cast(Any, None),
    )


def _side_by_side(parts: list[Draws]) -> Draws:
    return Draws(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _fingerprint(task: Task, shards: Shards, settings: Settings, friction: float) -> str:
    """Hash weights, data, loss, settings and version; the number of chains does not decide one."""
    digest = hashlib.sha256(f"{llc.__version__} {torch.__version__} {friction}".encode())
    kept = {k: v for k, v in settings.to_dict().items() if k not in ("chains", "reasons")}
    digest.update(repr(sorted(kept.items())).encode())
    parts = fingerprint_parts(task)
    digest.update(f"{parts['data']} {parts['loss']}".encode())
    for name, tensor in shards.gathered():
        digest.update(f"{name} {fingerprint_values(tensor)}".encode())
    return digest.hexdigest()


def _silent(*_: object) -> None:
    pass
