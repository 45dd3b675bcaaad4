"""An estimate with a time limit ends by then, with a number and a word about it."""

import time

import numpy as np
import pytest
import torch
from targets import quadratic

import llc
from llc import InputError
from llc.calibration.choices import choose
from llc.execution import Execution
from llc.surface import LossSurface

HARD = np.logspace(0, -7, 30)


def test_the_limit_ends_an_estimate_that_would_go_on():
    started = time.perf_counter()
    e = llc.estimate(quadratic(HARD), n_beta=1e6, gamma=0.01, precision=1e-4, seconds=2.0,
                     budget=10**9)  # fmt: skip
    assert time.perf_counter() - started < 6
    assert np.isfinite(e.llc)
    reason = llc.Reason.PRECISION_NOT_REACHED
    assert reason in e.verdict.reasons
    sentence = e.verdict.sentences[e.verdict.reasons.index(reason)]
    assert "the time ended" in sentence
    assert "give more time" in sentence


def test_the_budget_is_named_where_it_ends_first():
    e = llc.estimate(quadratic(HARD), n_beta=1e6, gamma=0.01, budget=2000, seconds=600.0)
    sentence = " ".join(e.verdict.sentences)
    assert "the budget ended" in sentence


def test_a_limit_that_is_not_reached_changes_nothing():
    given = {"n_beta": 1e3, "gamma": 10.0}
    limited = llc.estimate(quadratic([1.0] * 4), seconds=600.0, **given)
    free = llc.estimate(quadratic([1.0] * 4), **given)
    assert (limited.llc, limited.gradient_evaluations) == (free.llc, free.gradient_evaluations)


def test_the_choice_of_gamma_leaves_time_to_sample(monkeypatch):
    monkeypatch.setattr(Execution, "late", lambda _self, share=1.0: 0.5 < share < 0.7)
    x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    model = torch.nn.Linear(3, 1)
    with torch.no_grad():
        y = model(x)
    e = llc.estimate(model, (x, y), "mse", seconds=60.0)
    assert "no time to go further" in e.settings.reasons["gamma"]


class Clock(torch.nn.Linear):
    """A network every look at which takes a second of a clock of its own."""

    now = 0.0

    def perf_counter(self):
        return self.now

    def forward(self, x):
        self.now += 1.0
        return super().forward(x)


def test_pilots_of_a_slow_model_end_in_half_of_the_time(monkeypatch):
    """A single pilot takes hundreds of gradients: here all the time there is, and no less."""
    x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    model = Clock(3, 1)
    with torch.no_grad():
        y = model(x)
    surface = LossSurface(llc.Task(model, (x, y), "mse"), execution=Execution(compile="off"))
    clock = surface._objective.module.model
    monkeypatch.setattr("llc.execution.time", clock)
    surface.execution = Execution(seconds=400.0, compile="off").begun()
    found = choose(surface, llc.Settings(), lambda *_: None)[1]
    assert 190 < clock.now < 260
    assert "had not settled in the time there was" in found.why
    assert surface.execution.seconds == 400.0


def test_the_clock_of_a_share_is_the_same_clock():
    whole = Execution(seconds=100.0).begun()
    half = whole.first(0.5)
    assert half.seconds == 50.0
    assert whole.deadline - half.deadline == 50.0
    assert half.first(0.5).deadline == whole.deadline - 75.0
    assert Execution().first(0.5) == Execution()


def test_the_clock_starts_once():
    begun = Execution(seconds=5.0).begun()
    assert begun.begun() == begun
    assert not begun.late()
    assert Execution().begun().deadline is None
    assert not Execution().late()


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), "long", True])
def test_a_time_that_is_none_is_refused(seconds):
    with pytest.raises(InputError, match="expected a number of seconds above 0"):
        llc.estimate(quadratic([1.0]), n_beta=1.0, seconds=seconds)


def test_a_narrow_interval_is_not_called_wide_when_the_budget_ends():
    """Production shorter than half the warm-up proves nothing about slow modes; that is said."""
    e = llc.estimate(quadratic(HARD), n_beta=1e6, gamma=0.01, budget=6000, precision=0.9)
    assert llc.Reason.PRECISION_NOT_REACHED not in e.verdict.reasons
    sentence = e.verdict.sentences[e.verdict.reasons.index(llc.Reason.CUT_SHORT)]
    assert f"ended at {e.settings.draws:,} draws a chain" in sentence
    assert "narrow enough" in sentence


def test_a_limit_ends_a_block_of_slow_steps(monkeypatch):
    """Each step takes long: neither burn-in nor draws go on to the end of their block."""
    monkeypatch.setattr(Execution, "late", lambda _self, _share=1.0: True)
    e = llc.estimate(quadratic([1.0] * 4), n_beta=1e3, gamma=10.0)
    assert e.settings.burn_in == 1
    assert e.trace.shape == (4, 10)
    assert e.verdict.status == "fail"
