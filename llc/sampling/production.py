"""Draws for the estimate: a frozen step, watched; until a number, a precision, or the budget."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from llc.diagnostics import diverged, ess, mcse_when_stopped, rhat
from llc.posterior import Posterior
from llc.sampling.balance import Balance
from llc.sampling.chains import Draws, Report, Streams, advance
from llc.sampling.nonfinite import check_batches, met_nan
from llc.sampling.warmup import VIRIAL_TOLERANCE, WarmUp
from llc.settings import Settings

__all__ = ["Line", "Production", "produce"]

CHUNK = 25
FIRST_CHECK = 100
CHECK_GROWTH = 1.25
LEAST_ESS = 100
MOST_RHAT = 1.05
MOST_STIFFNESS = 2.0
ESCAPE = 4.0


@dataclass(frozen=True)
class Production:
    """What production left.

    Attributes:
        draws: kept draws, every chain.
        discarded: draws moved to burn-in, in order.
        reached: whether the precision was reached; None when a number of draws was given.
        balance: the virial tensor by tensor, read wherever curvature was looked at.
    """

    draws: Draws
    discarded: list[Draws]
    reached: bool | None
    balance: Balance


class Line:
    """Chains under a frozen step, with curvature looked at where they go.

    One power iteration each 25 steps. Where step times curvature exceeds twice its aim the draws
    so far may be biased: the step is lowered in place, and they count as burn-in.

    Attributes:
        evaluations: gradient evaluations, all chains together.
        escaped: None, or the curvature to assume next time: chains left for infinity although
            the step was chosen here.
        check: how many draws a chain there are when precision is looked at next.
        trimmed: whether draws were moved to burn-in since, at the precision asked for, the virial
            was still off; at a finer one more draws would have been taken instead.
        given_up: whether it ended since the precision would have taken far too many draws.
        met_nan: whether a chain met nan where it should be.
    """

    def __init__(self, posterior: Posterior, warm: WarmUp, streams: Streams, chains: int) -> None:
        self.posterior, self.warm, self.streams = posterior, warm, streams
        self.scheme = warm.stepper.scheme
        self.chains = chains
        self.parts: list[Draws] = []
        self.discarded: list[Draws] = []
        self.evaluations = 0
        self.escaped: float | None = None
        self.balance = Balance(posterior)
        self._first = self.check = max(FIRST_CHECK, warm.steps // 2)
        self.trimmed = self.given_up = self.met_nan = False
        self._build()

    def _build(self) -> None:
        self.kernel = self.warm.stepper.kernel(self.warm.tuning, self.chains)

    @property
    def length(self) -> int:
        """Draws a chain so far, discarded ones left out."""
        return sum(part.length for part in self.parts)

    def made(self, reached: bool | None) -> Production:
        """Return what there is so far."""
        return Production(Draws.join(self.parts), self.discarded, reached, self.balance)

    def discard(self, count: int) -> None:
        """Move the oldest draws to burn-in."""
        draws = Draws.join(self.parts)
        self.parts = [draws.window(count)]
        self.discarded.append(draws.window(0, count))
        self.balance.forget(count)

    def take(self, steps: int, over: Callable[[], bool] | None = None) -> None:
        """Draw, then look at divergence and curvature."""
        before = [*self.warm.draws, *self.discarded, *self.parts][-1:]
        self.warm.state, part = advance(self.kernel, self.warm.state, self.streams, steps, over)
        self.parts.append(part)
        self.evaluations += part.length * self.chains * self.kernel.gradients * self.posterior.cost
        lately = Draws.join([*before, part])
        if met_nan(lately, self.posterior.dimension, at_first=False).any():
            check_batches(self.posterior, self.streams, self.evaluations)
            self.met_nan = True
        probe = self.warm.curvature
        if probe is None:
            return
        if diverged(part.rise, part.spread, self.posterior.dimension).any():
            self.escaped = ESCAPE * probe.largest
            return
        if self.scheme.exact:
            return  # refused steps bias nothing
        scale = None if self.scheme.scale is None else self.scheme.scale(self.warm.state)
        displacement = self.warm.state.displacement
        here = probe.iterate(displacement, self.streams.batch(), scale)
        self.balance.add(displacement, here.gradient, self.length)
        self.evaluations += 2 * self.chains * self.posterior.cost
        aim = self.scheme.step_for(probe.largest)
        if self.warm.tuning.step_size > MOST_STIFFNESS ** (1 / self.scheme.power) * aim:
            self.warm.tuning = self.warm.tuning._replace(step_size=aim)
            self._build()
            self.balance.forget(self.length)
            self.discarded += self.parts
            self.parts = []
            self.check = self._first


def produce(
    line: Line, settings: Settings, most: int, report: Report, patience: float = math.inf
) -> bool | None:
    """Draw ``settings.draws``, or until the precision is reached, or ``most`` steps.

    A line that has draws already is gone on with: two calls, the second of finer precision, give
    what one of that precision would.

    Args:
        line: the chains.
        settings: draws and precision.
        most: steps a chain, discarded ones included.
        report: progress callback.
        patience: end, the precision not reached, where it would take so many times ``most``.

    Returns:
        Whether the precision was reached; None when a number of draws was given.
    """
    if settings.draws is None:
        return _until(line, most, settings.precision, report, patience)
    _fixed(line, settings.draws, report)
    return None


def _fixed(line: Line, count: int, report: Report) -> None:
    while line.length < count and line.escaped is None:
        line.take(min(CHUNK, count - line.length))
        report("draws", line.length, count)


def _until(
    line: Line, most: int, precision: float, report: Report, patience: float = math.inf
) -> bool:
    """Draw until the 95 % interval is narrow enough *and* the virial is 1.

    A narrow interval counts only with a hundred effective draws and chains that agree: its own
    width is not known otherwise. A virial still off 1 by then says that burn-in ended too early:
    the older half of the draws is moved to it. Production is at least half as long as the
    warm-up was, so that a slow mode had time to show itself.
    """
    dimension = line.posterior.dimension
    while line.escaped is None:
        if line.parts and line.length >= line.check:
            draws = Draws.join(line.parts)
            gone = diverged(draws.rise, draws.spread, dimension)
            if gone.all():
                return False
            kept = draws.chains(~gone)
            narrow = _share_missing(kept, precision) <= 1 and not rhat(kept.rise) > MOST_RHAT
            balanced = abs(kept.virial(dimension).mean() - 1) <= VIRIAL_TOLERANCE
            if narrow and balanced:
                return True
            if narrow and draws.length >= 2 * FIRST_CHECK:
                line.discard(draws.length // 2)
                line.trimmed = True
            line.check = max(FIRST_CHECK, int(CHECK_GROWTH * line.length))
        left = most - sum(part.length for part in line.discarded) - line.length
        late = line.posterior.surface.execution.late()
        line.given_up = _hopeless(line, left, precision, patience)
        if line.parts and (left <= 0 or late or line.given_up):
            break
        line.take(max(1, min(CHUNK, left)), line.posterior.surface.execution.late)
        report("draws", line.length, None)
    return False


def _share_missing(draws: Draws, precision: float) -> float:
    """How many times as many draws the precision takes, and a hundred effective ones."""
    rise = draws.rise
    # A share of a number near zero would take for ever: half a standard deviation stands in.
    aim = precision / 2 * max(abs(rise.mean()), rise.std() / 2)
    error, effective = mcse_when_stopped(rise), ess(rise)
    if not (aim > 0 and effective > 0 and error >= 0):
        return math.inf  # nan among them: chains that do not move know no error
    return max((error / aim) ** 2, LEAST_ESS / effective)


def _hopeless(line: Line, left: int, precision: float, patience: float) -> bool:
    """Whether the precision would take far more draws than there may be: error² ~ 1/draws."""
    if line.length < FIRST_CHECK or patience == math.inf:
        return False
    draws = Draws.join(line.parts)
    if diverged(draws.rise, draws.spread, line.posterior.dimension).any():
        return False
    return line.length * _share_missing(draws, precision) > patience * (line.length + left)
