"""Runs that are halted and gone on with, or given up."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from targets import Vector
from torch import nn

import llc
from llc.calibration import choices, pilot_at
from llc.estimator import estimate_task, measure
from llc.posterior import Posterior
from llc.sampling.course import Course
from llc.sampling.run import sample, samples_of
from llc.surface import LossSurface


@pytest.fixture(scope="module")
def net():
    """A small network as it is before training."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    inputs = torch.randn(300, 3)
    return llc.Task(model, (inputs, (inputs[:, :2] > 0).float()), "mse")


def silent(*_):
    pass


def posterior_of(task, settings):
    surface = LossSurface(task, behavioural=settings.behavioural)
    return Posterior(surface, settings.n_beta, settings.gamma, settings.control_variate)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"batch_size": 30},
        {"batch_size": 30, "control_variate": True},
        {"sampler": "sgld-lm"},
        {"sampler": "sgnht", "batch_size": 50},
        {"sampler": "hmc"},
    ],
)
def test_a_run_gone_on_with_is_the_run_from_the_beginning(net, given):
    law = {"n_beta": 50.0, "gamma": 5.0, "behavioural": True, "sampler": "kinetic"}
    fine = llc.Settings(**{**law, "precision": 0.03, **given})
    rough = replace(fine, precision=0.1, budget=40_000)
    whole = sample(posterior_of(net, fine), fine, silent)
    course = Course(posterior_of(net, fine), rough)
    course.advance(rough, silent)
    halted = samples_of(course, more=True)[0]
    assert course.whole
    assert halted.reached
    assert halted.draws.length < whole.draws.length
    course.advance(fine, silent)
    resumed = samples_of(course)[0]
    for old, new in zip(whole.draws, resumed.draws, strict=True):
        np.testing.assert_array_equal(old, new)
    assert resumed.burn_in == whole.burn_in
    assert resumed.evaluations == whole.evaluations
    assert (resumed.heat, resumed.stiffness) == (whole.heat, whole.stiffness)
    np.testing.assert_array_equal(resumed.tensor_virials, whole.tensor_virials)


@pytest.mark.parametrize("batch_size", [None, 60])
def test_the_pilot_at_the_gamma_chosen_is_the_beginning_of_the_estimate(
    net, batch_size, monkeypatch
):
    asked = llc.Settings(behavioural=True, batch_size=batch_size)
    surface = LossSurface(net, behavioural=True)
    chosen, choice = choices.choose(surface, asked, silent)
    assert choice.pilot.course is not None
    own = choice.pilot.course.evaluations
    found, _ = measure(
        surface, chosen, silent, spent=choice.evaluations, course=choice.pilot.course
    )
    again = estimate_task(net, chosen)
    np.testing.assert_array_equal(found.trace, again.trace)
    assert found.llc == again.llc
    assert found.gradient_evaluations == again.gradient_evaluations + choice.evaluations - own
    monkeypatch.setattr(Course, "whole", False)
    anew = estimate_task(net, asked)
    assert anew.llc == found.llc
    assert anew.gradient_evaluations == found.gradient_evaluations + own


def test_a_pilot_is_no_beginning_of_a_run_of_given_length(net):
    found = llc.estimate(net, behavioural=True, draws=70, burn_in=30)
    assert found.trace.shape == (4, 70)
    assert found.settings.burn_in == 30


def two_wells():
    """Chains that start between two wells, and do not come back."""
    model = Vector(torch.zeros(2, dtype=torch.float64))
    return llc.Task(model, potential=lambda m: ((m.w[0] ** 2 - 1) ** 2 + m.w[1] ** 2) * m.w[0] ** 2)


def test_a_pilot_that_cannot_come_through_is_given_up(monkeypatch):
    given = llc.Settings(n_beta=300.0)
    surface = LossSurface(two_wells())
    settings = choices.fill(given, None)
    tried = [pilot_at(surface, settings, 0.01, patience=p) for p in (float("inf"), 2.0)]
    words = [pilot.why_not for pilot in tried]
    assert words == [
        f"the chains {had} settled within 10000 gradients" for had in ("had not", "would not have")
    ]
    assert tried[1].evaluations < 0.6 * tried[0].evaluations
    assert tried[1].course is None


def test_a_pilot_is_not_begun_where_the_prior_would_let_go_too_late(net, monkeypatch):
    monkeypatch.setattr(choices, "PILOT_BUDGET", 1500)
    told = choices.resolve_task(net, llc.Settings(behavioural=True)).settings.reasons["gamma"]
    assert "it would take more than 1500 gradients to see" in told
    # Where the data hold all directions, γ has no say in how long it takes.
    stiff = llc.Task(Vector(torch.ones(3)), potential=lambda m: 50 * ((m.w - 1) ** 2).sum())
    settings = choices.resolve_task(stiff, llc.Settings(n_beta=100.0, sampler="sgld")).settings
    assert "it would take" not in settings.reasons["gamma"]
