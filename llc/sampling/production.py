"""Draws for the estimate: a frozen step, watched; until a number, a precision, or the budget."""

from collections.abc import Callable
from dataclasses import dataclass

from llc.diagnostics import diverged, ess, mcse_when_stopped, rhat
from llc.posterior import Posterior
from llc.sampling.balance import Balance
from llc.sampling.chains import Draws, Report, Streams, advance
from llc.sampling.warmup import VIRIAL_TOLERANCE, WarmUp
from llc.settings import Settings

__all__ = ["Production", "produce"]

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
        evaluations: gradient evaluations, all chains together.
        reached: whether the precision was reached; None when a number of draws was given.
        escaped: None, or the curvature to assume next time: chains left for infinity although
            the step was chosen here.
        balance: the virial tensor by tensor, read wherever curvature was looked at.
    """

    draws: Draws
    discarded: list[Draws]
    evaluations: int
    reached: bool | None
    escaped: float | None
    balance: Balance


class _Watched:
    """Chains under a frozen step, with curvature looked at where they go.

    One power iteration each 25 steps. Where step times curvature exceeds twice its aim the draws
    so far may be biased: the step is lowered in place, and they count as burn-in.
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
        self._build()

    def _build(self) -> None:
        self.kernel = self.warm.stepper.kernel(self.warm.tuning, self.chains)

    @property
    def length(self) -> int:
        return sum(part.length for part in self.parts)

    def discard(self, count: int) -> None:
        """Move the oldest draws to burn-in."""
        draws = Draws.join(self.parts)
        self.parts = [draws.window(count)]
        self.discarded.append(draws.window(0, count))
        self.balance.forget(count)

    def take(self, steps: int, over: Callable[[], bool] | None = None) -> None:
        """Draw, then look at divergence and curvature."""
        self.warm.state, part = advance(self.kernel, self.warm.state, self.streams, steps, over)
        self.parts.append(part)
        self.evaluations += part.length * self.chains * self.kernel.gradients * self.posterior.cost
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


def produce(
    posterior: Posterior,
    warm: WarmUp,
    streams: Streams,
    settings: Settings,
    most: int,
    report: Report,
) -> Production:
    """Draw ``settings.draws``, or until the precision is reached, or ``most`` steps."""
    line = _Watched(posterior, warm, streams, settings.chains)
    if settings.draws is None:
        reached = _until(line, most, settings.precision, report)
    else:
        reached = None
        _fixed(line, settings.draws, report)
    draws = Draws.join(line.parts)
    return Production(draws, line.discarded, line.evaluations, reached, line.escaped, line.balance)


def _fixed(line: _Watched, count: int, report: Report) -> None:
    while line.length < count and line.escaped is None:
        line.take(min(CHUNK, count - line.length))
        report("draws", line.length, count)


def _until(line: _Watched, most: int, precision: float, report: Report) -> bool:
    """Draw until the 95 % interval is narrow enough *and* the virial is 1.

    A narrow interval counts only with a hundred effective draws and chains that agree: its own
    width is not known otherwise. A virial still off 1 by then says that burn-in ended too early:
    the older half of the draws is moved to it. Production is at least half as long as the
    warm-up was, so that a slow mode had time to show itself.
    """
    dimension = line.posterior.dimension
    check = first = max(FIRST_CHECK, line.warm.steps // 2)
    while line.escaped is None:
        left = most - sum(part.length for part in line.discarded) - line.length
        late = line.posterior.surface.execution.late()
        if line.parts and (left <= 0 or late):
            break
        line.take(max(1, min(CHUNK, left)), line.posterior.surface.execution.late)
        report("draws", line.length, None)
        if not line.parts:
            check = first
        if line.length < check:
            continue
        draws = Draws.join(line.parts)
        gone = diverged(draws.rise, draws.spread, dimension)
        if gone.all():
            return False
        kept = draws.chains(~gone)
        # A share of a number near zero would take for ever: half a standard deviation stands in.
        size = max(abs(kept.rise.mean()), kept.rise.std() / 2)
        narrow = mcse_when_stopped(kept.rise) <= precision / 2 * size
        narrow = narrow and ess(kept.rise) >= LEAST_ESS and not rhat(kept.rise) > MOST_RHAT
        balanced = abs(kept.virial(dimension).mean() - 1) <= VIRIAL_TOLERANCE
        if narrow and balanced:
            return True
        if narrow and draws.length >= 2 * FIRST_CHECK:
            line.discard(draws.length // 2)
        check = max(FIRST_CHECK, int(CHECK_GROWTH * line.length))
    return False
