"""One run in the making: burn-in and production, which can be halted and gone on with."""

import math
from dataclasses import replace

from llc.errors import InputError
from llc.posterior import Posterior
from llc.sampling.chains import Report, Streams
from llc.sampling.production import Line, produce
from llc.sampling.schemes import scheme_for
from llc.sampling.walk import Start
from llc.sampling.warmup import WarmUp, warm_up
from llc.settings import Settings

__all__ = ["DEFAULT_BUDGET", "Course", "batch_size_for"]

DEFAULT_BUDGET = 100_000
FULL_BATCH_UP_TO = 4096
MINIBATCH = 512
BATCH_GROWTH = 4
MOST_ESCAPES = 4


def batch_size_for(settings: Settings, size: int | None) -> int | None:
    """Return the batch size of a run, None for all data.

    Raises:
        InputError: a minibatch for a sampler with a Metropolis test.
    """
    if size is None:
        return None
    if scheme_for(settings.sampler).exact:
        if settings.batch_size not in (None, size):
            raise InputError(
                f"batch_size is {settings.batch_size}, but {settings.sampler} accepts or refuses "
                f"by the loss over all {size} examples: leave it out, or use sampler='kinetic'"
            )
        return None
    if settings.batch_size is not None:
        return None if settings.batch_size == size else settings.batch_size
    return None if size <= FULL_BATCH_UP_TO else MINIBATCH


class Course:
    """The chains of one posterior, from their start on.

    Args:
        posterior: what to sample.
        settings: how; precision and budget may be other ones each time it is gone on with.
        start: as in `llc.sampling.run.sample`.

    Attributes:
        posterior: the same, without control variates where there is no error to correct.
        settings: the same.
        batch_size: examples a gradient, None for all; grows where it is left open.
        words: how chains run, and the memory they need.
        reached: whether the precision asked for was reached; None when ``draws`` was given.
    """

    posterior: Posterior
    warm: WarmUp
    streams: Streams
    line: Line
    reached: bool | None

    def __init__(
        self, posterior: Posterior, settings: Settings, start: Start | None = None
    ) -> None:
        self.posterior, self.settings, self._start = posterior, settings, start
        batch_size = batch_size_for(settings, posterior.surface.size)
        if start is not None and batch_size is not None:
            batch_size = start.streams.batch_size
        self.batch_size = batch_size
        self.words, self.reached = "", None
        self._spent, self._escapes, self._curvature = 0, 0, 0.0
        self._begun, self._nan_restarts = False, 0

    @property
    def nan_restarts(self) -> int:
        """How often chains met nan, and all were started again with smaller steps."""
        return self._nan_restarts + self.warm.nan_restarts

    @property
    def evaluations(self) -> int:
        """Gradients so far, all chains together."""
        return self._spent + (self.line.evaluations if self._begun else 0)

    @property
    def whole(self) -> bool:
        """Whether a run of finer precision and larger budget would have come by here."""
        return not (self.warm.cut or self.line.trimmed)

    def advance(self, settings: Settings, report: Report, patience: float = math.inf) -> None:
        """Sample until draws, precision or budget of ``settings`` are reached.

        Args:
            settings: as before, but for precision and budget, which counts from the beginning.
            report: progress callback.
            patience: see `llc.sampling.production.produce`.
        """
        budget = settings.budget or DEFAULT_BUDGET * settings.chains
        execution = self.posterior.surface.execution
        while True:
            if not self._begun:
                self._begin(budget, report)
            # Exact samplers take several gradients a draw, control variates two.
            each = settings.chains * self.warm.tuning.leaps * self.posterior.cost
            most = (budget - self._spent) // each
            self.reached = produce(self.line, settings, most, report, patience)
            spent = self.evaluations
            tried = self._escapes == MOST_ESCAPES or spent > budget // 2
            if self.line.escaped is None or tried or execution.late(0.5):
                break
            # Places far steeper than those of the warm-up exist: once more, prepared for them.
            self._escapes += 1
            self._nan_restarts += self.line.met_nan + self.warm.nan_restarts
            self._curvature = self.line.escaped
            self._spent, self._begun = spent, False

    def _begin(self, budget: int, report: Report) -> None:
        """Warm up, with batches large enough."""
        settings, chains = self.settings, self.settings.chains
        while True:
            if self.batch_size is None:
                # All data have no error to correct.
                self.posterior = replace(self.posterior, control_variate=False)
            posterior, batch_size = self.posterior, self.batch_size
            self.words = posterior.surface.plan(chains, batch_size)
            # Before anything long begins: what it will take.
            getattr(report, "say", _silent)(self.words)
            if self._start is None:
                self.streams = Streams.open(posterior, settings.seed, chains, batch_size)
            else:
                self.streams = replace(self._start.streams, batch_size=batch_size or 0)
            open_size = settings.batch_size is None
            self.warm = warm_up(
                posterior,
                scheme_for(settings.sampler),
                self.streams,
                seed=settings.seed,
                chains=chains,
                step_size=settings.step_size,
                curvature=self._curvature,
                steps=settings.burn_in,
                budget=(budget - self._spent) // 2,
                growing=open_size and batch_size not in (None, FULL_BATCH_UP_TO),
                report=report,
                start=self._start,
            )
            self._spent += self.warm.evaluations
            late = posterior.surface.execution.late(0.5)
            if not self.warm.growing or self._spent > budget // 2 or late:
                break
            self.batch_size = min(BATCH_GROWTH * (batch_size or 0), FULL_BATCH_UP_TO)
        self.line = Line(posterior, self.warm, self.streams, chains)
        self._begun = True


def _silent(_text: str) -> None:
    pass
