"""How warm-up ends and production stops, where a changed token showed that nothing looked."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from targets import Vector

import llc
from llc.sampling import production, warmup
from llc.sampling.chains import Draws
from llc.sampling.schemes import scheme_for

N_BETA, GAMMA, BATCH = 40.0, 1.0, 4
Y = torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
NOISY = llc.Task(Vector(Y.mean(0)), Y, batch_loss=lambda m, y: ((m.w - y) ** 2).sum(1) / 2)
COLD = 3 * N_BETA / (N_BETA + GAMMA) / 2


class Line:
    """Production of chains that each stay about a place of their own."""

    escaped = None

    def __init__(self, offsets):
        late = SimpleNamespace(late=lambda: False)
        self.posterior = SimpleNamespace(dimension=4, surface=SimpleNamespace(execution=late))
        self.warm = SimpleNamespace(steps=0)
        self.parts, self.discarded, self.check = [], [], production.FIRST_CHECK
        self._offsets, self._stream = np.array(offsets)[:, None], np.random.default_rng(0)

    @property
    def length(self):
        return sum(part.length for part in self.parts)

    def discard(self, count):
        draws = Draws.join(self.parts)
        self.parts = [draws.window(count)]
        self.discarded.append(draws.window(0, count))

    def take(self, steps, _over=None):
        rise = 2 + self._offsets + self._stream.standard_normal((len(self._offsets), steps))
        # With V + R = D the virial is 1.
        self.parts.append(Draws(rise, 0 * rise, 0 * rise + 3, 0 * rise + 1, 0 * rise + 1))


@pytest.mark.parametrize(("apart", "stops"), [(0.0, True), (0.7, False)])
def test_chains_that_disagree_are_not_stopped_at_any_precision(apart, stops):
    line = Line([-apart, -apart, apart, apart])
    assert production._until(line, 2000, 10.0, lambda *_: None) is stops
    spent = line.length + sum(part.length for part in line.discarded)
    assert (spent < 200) == stops


def test_what_cooling_takes_is_kept_and_bounded(monkeypatch):
    def advance(_kernel, state, _streams, steps):
        rise = np.ones((2, steps))
        return state, Draws(rise, rise, rise, rise, rise)

    monkeypatch.setattr(warmup, "advance", advance)
    walk = SimpleNamespace(
        settle=lambda _kept: 30, too_hot=lambda _llc: True, chains=2, evaluations=0, state=None,
        stepper=SimpleNamespace(kernel=lambda *_: None), tuning=None, streams=None,
        posterior=SimpleNamespace(cost=1),
    )  # fmt: skip
    parts = warmup._cool(walk, None, 50)
    assert [part.length for part in parts] == [30, 20]
    assert walk.evaluations == 2 * 50


def test_cooling_stays_within_the_budget_of_the_warm_up():
    found = llc.estimate(NOISY, n_beta=N_BETA, gamma=0.01, batch_size=BATCH, budget=2400)
    # Half of it, a block more; four chains.
    assert found.settings.burn_in <= 2400 / 2 / 4 + 50


@pytest.mark.parametrize("sampler", ["sgld-lm", "kinetic"])
def test_heat_is_cooled_away_before_the_first_draw(sampler):
    found = llc.estimate(
        NOISY, n_beta=N_BETA, gamma=GAMMA, batch_size=BATCH, sampler=sampler, chains=32, draws=400
    )
    assert 0 < found.heat < 0.03
    assert abs(found.llc / (1 + found.heat) - COLD) < 5 * found.mcse
    early = found.trace[:, :50].mean()
    assert abs(early - found.llc) < 5 * found.trace.mean(1).std(ddof=1) / 32**0.5 * 8**0.5


def test_where_a_chain_left_nothing_is_said_of_the_step():
    steep = llc.Task(
        Vector(torch.zeros(2)), potential=lambda m: (m.w**2).sum() / 2 + 2 * (m.w**4).sum()
    )
    found = llc.estimate(steep, n_beta=N_BETA, gamma=GAMMA, sampler="sgld", step_size=0.03,
                         draws=200, burn_in=5)  # fmt: skip
    assert 0 < len(found.diverged) < 4
    assert found.heat == 0
    assert np.isnan([found.stiffness, found.discretisation]).all()


@pytest.mark.parametrize("sampler", ["hmc", "malt"])
def test_trajectories_take_as_many_leaps_as_their_span_asks_for(sampler):
    scheme = scheme_for(sampler)
    assert scheme.leaps(4.0, 0.05 * scheme.span) == round(1 / (2 * 0.05))
    assert scheme.leaps(4.0, 0.0) == 1
    assert scheme_for("kinetic").leaps(4.0, 0.1) == 1
