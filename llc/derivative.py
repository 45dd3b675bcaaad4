"""Compare the gradient with finite differences of the loss, before sampling and where chains are.

Where a part of the loss is detached, or a backward pass is replaced (stop-gradients,
straight-through estimators, gradient reversal), chains follow a force that is not −∇L and sample
another distribution. The virial stays at 1 all the same, because stationarity alone makes it so:
only the loss itself can show the difference.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from llc.data import take
from llc.errors import InputError
from llc.objective import Objective
from llc.params import NoiseStreams

__all__ = ["SENTENCE", "Mismatch", "check_derivative", "find_mismatch"]

Gradient = Callable[[Tensor, Tensor | None], Tensor]
"""(δ, examples) → ∇L of these examples at w* + δ, shape ``(D,)``."""

SENTENCE = (
    "the gradient is not the derivative of the loss: in one direction the loss changes at a rate "
    "of {difference:.3g}, and its gradient says {slope:.3g}{where}; part of the loss is detached "
    "or has a backward pass of its own (detach, no_grad, straight-through, gradient reversal), so "
    "the chains would sample a different posterior: compute detached parts beforehand and pass "
    "them as data, and set requires_grad=False on weights that should stay fixed"
)
EXAMPLES = 256
POINTS = 2
# Displacement, in units of each tensor's own root mean square; divided by 4 up to SEARCHES times.
REACH, SEARCHES = 0.1, 8
# A difference spans this share of the rise at the point, or this many times its rounding error.
SHARE_OF_RISE, ROUNDINGS = 0.1, 300.0
TOLERANCE = 0.03
# Effects of kinks vanish as the step shrinks; those of a detached part do not.
SHRINK = (1.0, 0.25, 0.0625)
MAX_NAMED = 3


class Mismatch(NamedTuple):
    """A direction in which the gradient and differences of the loss disagree.

    Attributes:
        difference: rate of change of the loss along the direction, by finite differences.
        slope: the same rate according to the gradient.
        where: the tensors concerned, in words; "" where no tensor stands out.
    """

    difference: float
    slope: float
    where: str = ""

    def __str__(self) -> str:
        return SENTENCE.format(**self._asdict())


def check_derivative(objective: Objective, gradient: Gradient) -> None:
    """Compare the gradient with central differences at two displaced points.

    At each point three directions are tried: the gradient with each tensor's part rescaled to the
    size of its weights, the displacement itself, and a random one. A direction counts as a mismatch
    where (L(w + ηu) − L(w − ηu))/2η, and the difference to either side alone, differ from ∇L·u by
    more than 3 % and rounding for every one of three steps η.

    Args:
        objective: the loss.
        gradient: the gradient that the chains will follow.

    Raises:
        InputError: gradient and loss disagree at both points.
    """
    if objective.rounds:
        # In half precision the loss is flat between roundings, whatever its gradient.
        return
    noise = NoiseStreams(0, "derivative", 1, objective.device)
    scale = _scale(objective)
    found: Mismatch | None = None
    for _ in range(POINTS):
        direction = scale * noise.normal(len(scale), scale.dtype)[0]
        found = _near(objective, direction).mismatch(gradient, direction, scale, noise)
        if found is None:
            return
    raise InputError(str(found))


def find_mismatch(
    objective: Objective, gradient: Gradient, displacement: Tensor
) -> Mismatch | None:
    """Compare, as `check_derivative`, where a chain is, ``(D,)``, and half-way to it from w*."""
    size = displacement.norm() / math.sqrt(len(displacement))
    if objective.rounds or not 0 < size < math.inf:
        return None
    noise = NoiseStreams(0, "derivative", 1, objective.device)
    found: Mismatch | None = None
    for place in (0.5 * displacement, displacement):
        look = _Look(objective, place, 1.0)
        found = look.mismatch(gradient, displacement, size.expand_as(displacement), noise)
        if found is None:
            return None
    return found


def _near(objective: Objective, direction: Tensor) -> "_Look":
    """Look where the loss has risen no further than chains at nβ = n/ln n would let it."""
    most, length = math.inf, REACH
    if objective.local_rise is not None:
        most = objective.local_rise
    if objective.size is not None and objective.size > 2:
        most = min(most, objective.layout.total * math.log(objective.size) / (2 * objective.size))
    look = _Look(objective, length * direction, length)
    for _ in range(SEARCHES):
        if abs(look.rise) <= most:
            break
        length /= 4
        look = _Look(objective, length * direction, length)
    return look


class _Look:
    """The loss of some examples around one place.

    Args:
        objective: the loss.
        displacement: δ of the place, shape ``(D,)``.
        length: longest step along a direction.
    """

    def __init__(self, objective: Objective, displacement: Tensor, length: float) -> None:
        self._objective, self._displacement, self._length = objective, displacement, length
        self._rows = self._batch = None
        if objective.size is not None:
            count = min(objective.size, objective.chunk, EXAMPLES)
            self._rows = torch.arange(count, device=objective.device) * objective.size // count
            self._batch = take(objective.data, self._rows)
        self._here = self._losses(displacement)
        there = self._losses(torch.zeros_like(displacement))
        self.rise = float((self._here - there).mean())

    def mismatch(
        self, gradient: Gradient, radial: Tensor, scale: Tensor, noise: NoiseStreams
    ) -> Mismatch | None:
        """Compare in three directions; None where they agree, or nothing is finite."""
        if not math.isfinite(self.rise):
            return None
        slopes = gradient(self._displacement, self._rows)
        if not slopes.isfinite().all():
            return None
        rounding = self._rounding(scale, noise)
        random = scale * noise.normal(len(scale), scale.dtype)[0]
        for along in (self._by_tensor(slopes, scale), radial, random):
            found = self._compared(slopes, along, scale, rounding)
            if found is not None:
                return found._replace(where=self._where(slopes, radial, scale, rounding))
        return None

    def _losses(self, displacement: Tensor) -> Tensor:
        with torch.no_grad():
            return self._objective.values(self._objective.centre + displacement, self._batch)

    def _differences(self, along: Tensor) -> tuple[float, float]:
        """Change of the loss ahead, and from behind."""
        here = self._here.double()
        ahead = self._losses(self._displacement + along).double()
        behind = self._losses(self._displacement - along).double()
        return float((ahead - here).mean()), float((here - behind).mean())

    def _rounding(self, scale: Tensor, noise: NoiseStreams) -> float:
        """By how much the mean loss changes when its weights move by a few units of rounding."""
        kinds = (self._here.dtype, *self._objective.layout.dtypes)
        eps = max(torch.finfo(kind).eps for kind in kinds)
        moved = 4 * eps * scale * noise.normal(len(scale), scale.dtype)[0]
        changed = self._losses(self._displacement + moved).double() - self._here.double()
        # A divergence is small, and rounds as the entropies do that it is a difference of.
        size = float(self._here.abs().double().mean()) + (self._objective.chance or 0.0)
        usual = eps * size / math.sqrt(self._here.numel())
        return max(abs(float(changed.mean())), usual)

    def _compared(
        self, slopes: Tensor, along: Tensor, scale: Tensor, rounding: float
    ) -> Mismatch | None:
        parts = [float(p.double().sum()) for p in self._split(slopes * along)]
        slope = sum(parts)
        # What a slope in such a direction usually is: this one may have cancelled.
        usual = max(sum(map(abs, parts)), float((slopes * scale).double().norm()), 1e-300)
        step = max(SHARE_OF_RISE * abs(self.rise), ROUNDINGS * rounding) / usual
        step = min(step, self._length) or self._length
        difference = math.nan
        for share in SHRINK:
            reach = share * step
            sides = [change / reach for change in self._differences(reach * along)]
            difference = sum(sides) / 2
            allowed = TOLERANCE * max(usual, abs(difference)) + 4 * rounding / reach
            # At a kink the gradient is that of one side.
            if not min(abs(found - slope) for found in (difference, *sides)) > allowed:
                return None
        return Mismatch(difference, slope)

    def _where(self, slopes: Tensor, radial: Tensor, scale: Tensor, rounding: float) -> str:
        """Name tensors along which, all others fixed, loss and gradient disagree most."""
        off = []
        names, start = self._objective.layout.names, 0
        for name, size in zip(names, self._objective.layout.sizes, strict=True):
            chosen = torch.zeros_like(radial)
            chosen[start : start + size] = 1
            start += size
            found = self._compared(slopes, chosen * radial, chosen * scale, rounding)
            if found is not None:
                off.append((abs(found.difference - found.slope), name.removeprefix("model.")))
        if not off:
            return ""
        named = [name for _, name in sorted(off, reverse=True)]
        more = f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
        return f", furthest off in {', '.join(named[:MAX_NAMED])}{more}"

    def _by_tensor(self, slopes: Tensor, scale: Tensor) -> Tensor:
        """The gradient with each tensor's part as long as its weights, so that none is hidden."""
        parts = []
        for piece, size in zip(self._split(slopes), self._split(scale), strict=True):
            norm = piece.norm()
            parts.append(piece * (size.norm() / norm) if norm > 0 else piece)
        return torch.cat(parts)

    def _split(self, vector: Tensor) -> tuple[Tensor, ...]:
        return vector.split(self._objective.layout.sizes)


def _scale(objective: Objective) -> Tensor:
    """Root mean square of each tensor's weights; a tenth of the overall one for near-zero ones."""
    overall = max(_rms(objective.centre), 1e-3)
    pieces = objective.centre.split(objective.layout.sizes)
    return torch.cat([torch.full_like(p, max(_rms(p), 0.1 * overall)) for p in pieces])


def _rms(weights: Tensor) -> float:
    return float(weights.double().square().mean()) ** 0.5 if weights.numel() else 0.0
