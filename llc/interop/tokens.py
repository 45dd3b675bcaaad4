"""Losses by token along our chains, for devinterp's influence functions and susceptibilities."""

import inspect
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llc.calibration import resolve
from llc.errors import InputError
from llc.estimation import Estimate
from llc.estimator import measure
from llc.execution import Execution
from llc.interop.draws import TokenDraws
from llc.interop.layout import draws_tree, observable
from llc.isolation import undisturbed
from llc.objective import one_attention_path
from llc.params import stream_seed
from llc.private import private_copy
from llc.progress import Bar
from llc.reweighted import Reweighted
from llc.sampling.chains import Report, advance
from llc.sampling.walk import Start
from llc.settings import Settings
from llc.surface import LossSurface
from llc.task import Task

__all__ = ["next_token_losses", "token_draws"]

TokenLoss = Callable[[nn.Module, Tensor], Tensor]
TOGETHER = 32


def next_token_losses(model: nn.Module, tokens: Tensor) -> Tensor:
    """Return cross-entropy of every next token, ``(sequence, token + 1)`` → ``(sequence, token)``.

    The model returns logits ``(sequence, token + 1, vocabulary)``, or an object that has them as
    ``.logits``, as models of Hugging Face do.
    """
    forward = inspect.signature(model.forward).parameters
    found = model(tokens, **({"use_cache": False} if "use_cache" in forward else {}))
    logits = found if isinstance(found, Tensor) else found.logits
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")


def token_draws(
    model: nn.Module,
    tokens: Tensor,
    observables: Mapping[str, Tensor] | None = None,
    *,
    token_loss: TokenLoss = next_token_losses,
    settings: Settings | None = None,
    looks: int = 100,
    sequences: int = 256,
    execution: Execution | None = None,
    progress: bool | Report | None = None,
    **given: Any,
) -> TokenDraws:
    """Sample around w*, and keep the loss of every token at draws of the posterior.

    An estimate is made first, with warm-up, diagnostics and verdict; its chains then go on, and at
    positions about one effective draw apart every token's loss is evaluated. devinterp's
    ``compute_llc``, ``compute_bif`` (influence functions: Kreer et al. 2025, arXiv 2509.26544) and
    ``compute_susceptibilities`` (Baker et al. 2025, arXiv 2504.18274) take the ``tree`` of what is
    returned. For a restriction of weights, give a model whose other weights have
    ``requires_grad=False``.

    Args:
        model: at w*; copied, never touched.
        tokens: the sampling data, ``(n, token + 1)``; the loss is the mean over all tokens.
        observables: name → sequences of the same length, whose tokens' losses are followed.
        token_loss: (model, tokens ``(batch, token + 1)``) → losses ``(batch, token)``.
        settings: as for `llc.estimate`.
        looks: draws a chain at which losses are looked at.
        sequences: of the sampling data followed at most, drawn at random. Their loss at w* is kept
            with them: the baseline is paired.
        execution: where and how to compute.
        progress: True for a bar, or a function of (phase, done, total).
        **given: single settings, instead of ``settings``.

    Raises:
        InputError: sequences of other shapes, a loss of another shape, all chains diverged, or
            whatever `llc.estimate` refuses.
    """
    for name, count in (("looks", looks), ("sequences", sequences)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 2:
            raise InputError(f"{name} is {count!r}, expected a whole number of at least 2")
    probes = _named(observables or {}, tokens)
    # The sampler asks for a value an example: that of a sequence is the mean over its tokens.
    task = Task(model, tokens, batch_loss=lambda m, ids: _checked(token_loss(m, ids), ids).mean(1))
    wanted = replace(settings or Settings(), **given)
    shown = Bar(task.label) if progress is True else nullcontext(progress or _silent)
    with undisturbed(), shown as report:
        begun = (execution or Execution()).begun()
        surface = LossSurface(task, execution=begun)
        chosen, spent, _ = resolve(surface, wanted, report)
        estimate, start = measure(surface, chosen, report, spent=spent)
        if len(estimate.diverged) == chosen.chains:
            raise InputError(f"nothing to look at: {estimate.verdict.sentences[0]}")
        sampled = tokens[_choose(len(tokens), sequences, chosen.seed).to(tokens.device)]
        eye = _Eye(surface, model, token_loss)
        baseline = eye.look(torch.zeros_like(surface.centre), sampled).mean(0)
        sets = [sampled, *probes.values()]
        losses = _follow(eye, start, estimate, sets, looks, report)
    found = {
        name: (values, ids.cpu().numpy())
        for (name, ids), values in zip(probes.items(), losses[1:], strict=True)
    }
    ids = sampled.cpu().numpy()
    return TokenDraws(draws_tree(estimate, baseline, losses[0], ids, found))


class _Eye:
    """Every token's loss at any weights, on a private copy of the model."""

    def __init__(self, surface: LossSurface, model: nn.Module, token_loss: TokenLoss) -> None:
        self.surface = surface
        whole = _Whole(private_copy(model).eval().to(surface.device), token_loss)
        self._at = Reweighted(whole)

    @torch.no_grad()
    def look(self, displacement: Tensor, tokens: Tensor) -> np.ndarray:
        """Return losses at w* + displacement, ``(sequence, token)``."""
        weights = self.surface.layout.unflatten(self.surface.centre + displacement)
        parts = tokens.to(self.surface.device).split(TOGETHER)
        with one_attention_path():
            found = [self._at(weights, part) for part in parts]
        losses = torch.cat(found)
        half = losses.dtype.itemsize < 4
        return (losses.float() if half else losses).cpu().numpy()


class _Whole(nn.Module):
    """The loss as a module whose weights have the names of a surface's layout."""

    def __init__(self, model: nn.Module, token_loss: TokenLoss) -> None:
        super().__init__()
        self.model, self.token_loss = model, token_loss

    def forward(self, tokens: Tensor) -> Tensor:
        return self.token_loss(self.model, tokens)


def _follow(
    eye: _Eye, start: Start, estimate: Estimate, sets: list[Tensor], looks: int, report: Report
) -> list[np.ndarray]:
    """Go on from where the chains are; for each set its losses, ``(chain, look, sequence, token)``.

    Chains that leave for infinity on the way are left out.
    """
    chains = len(start.state.displacement)
    kept = [c for c in range(chains) if c not in estimate.diverged]
    apart = max(1, math.ceil(estimate.trace[kept].size / max(estimate.ess, 1.0)))
    kernel = start.stepper.kernel(start.tuning, chains)
    state = start.state
    found: list[list[list[np.ndarray]]] = [[[] for _ in kept] for _ in sets]
    for look in range(looks):
        state, _ = advance(kernel, state, start.streams, apart)
        for row, chain in enumerate(kept):
            for number, tokens in enumerate(sets):
                found[number][row].append(eye.look(state.displacement[chain], tokens))
        report("token losses", look + 1, looks)
    stacked = [np.stack([np.stack(chain) for chain in rows]) for rows in found]
    stayed = np.logical_and.reduce([np.isfinite(part).all((1, 2, 3)) for part in stacked])
    if not stayed.any():
        raise InputError("all chains left for infinity while tokens were followed: raise gamma")
    return [part[stayed] for part in stacked]


def _named(observables: Mapping[str, Tensor], tokens: Tensor) -> dict[str, Tensor]:
    """Check sequences, and give observables the names that devinterp gives them."""
    found: dict[str, Tensor] = {}
    for name, ids in {
        "tokens": tokens,
        **{f"observable {k!r}": v for k, v in observables.items()},
    }.items():
        if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.is_floating_point():
            shape = tuple(ids.shape) if isinstance(ids, Tensor) else type(ids).__name__
            raise InputError(
                f"{name} is {shape}, expected a tensor of whole numbers (sequences, tokens)"
            )
        if ids.shape[1] != tokens.shape[1] or ids.shape[1] < 2 or len(ids) < 1:
            raise InputError(
                f"{name} has shape {tuple(ids.shape)}, expected sequences of one length of at "
                f"least 2 everywhere, as tokens of shape {tuple(tokens.shape)}: cut or fill them"
            )
    for name, ids in observables.items():
        found[observable(str(name), found)] = ids
    return found


def _checked(losses: Tensor, tokens: Tensor) -> Tensor:
    if losses.shape != (len(tokens), tokens.shape[1] - 1):
        raise InputError(
            f"token_loss returned shape {tuple(losses.shape)} for tokens of shape "
            f"{tuple(tokens.shape)}, expected ({len(tokens)}, {tokens.shape[1] - 1})"
        )
    return losses


def _choose(size: int, most: int, seed: int) -> Tensor:
    if size <= most:
        return torch.arange(size)
    generator = torch.Generator().manual_seed(stream_seed(seed, "sequences", 0))
    return torch.randperm(size, generator=generator)[:most].sort().values


def _silent(*_: object) -> None:
    pass
