"""Settings that nobody gave."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from targets import exact_off_centre, quadratic
from tiny import refusal, regular
from torch import nn

import llc
from llc.calibration import freeze_task, resolve_task
from llc.estimator import estimate_task


@pytest.fixture(scope="module")
def line():
    return regular()


def test_n_beta_counts_examples_not_batches(line):
    settings = llc.calibrate(line, gamma=1.0, batch_size=20)
    assert settings.n_beta == pytest.approx(400 / math.log(400))
    assert settings.reasons["n_beta"] == "n/ln n, n = 400"


def test_a_model_with_its_data_will_do_for_a_task(line):
    model, data, loss = line.model, line.data, line.loss
    assert llc.calibrate(model, data, loss, gamma=1.0) == llc.calibrate(line, gamma=1.0)
    half = llc.Settings(gamma=1.0, precision=0.1)
    found = llc.calibrate(model, data, batch_loss=lambda m, b: ((m(b[0]) - b[1]) ** 2)[:, 0],
                          settings=half, precision=0.2)  # fmt: skip
    assert (found.gamma, found.precision) == (1.0, 0.2)
    assert "drop data" in refusal(lambda: llc.calibrate(line, data, gamma=1.0))


def test_gamma_goes_down_to_the_plateau_of_a_regular_model(line):
    found = llc.estimate(line)
    # Three parameters: 3/2, less the prior's share, which a plateau keeps below 3 % an e-fold.
    assert abs(found.llc - 1.5) < 0.05 * 1.5 + 5 * found.mcse
    assert found.mcse < 0.05 * found.llc
    assert "no longer depends" in found.settings.reasons["gamma"]


def test_settings_once_chosen_reproduce_the_estimate(line):
    chosen = llc.calibrate(line)
    free = llc.estimate(line)
    assert chosen.gamma == free.settings.gamma
    again = llc.estimate(line, n_beta=chosen.n_beta, gamma=chosen.gamma)
    assert again.llc == free.llc
    assert again.gradient_evaluations < free.gradient_evaluations  # by the cost of choosing γ


def test_a_checkpoint_that_is_no_minimum_has_no_say_in_gamma(line):
    right = line.model.state_dict()
    wrong = {"weight": torch.tensor([[-3.0, 3.0, -3.0]])}
    alone = llc.calibrate(line.at(right))
    run = llc.trace(line, [(1, wrong), (2, right)], draws=50, burn_in=50)
    assert llc.calibrate(line.at(wrong)).gamma > 10 * alone.gamma
    assert run.settings.gamma == pytest.approx(alone.gamma, rel=1e-5)  # a trace keeps six digits


def test_a_number_near_zero_does_not_take_for_ever():
    # Off its minimum by just so much that the expectation crosses zero.
    h = np.array([1.0, 0.3])
    root = brentq(lambda s: exact_off_centre(h, np.array([s, 0.0]), 1e4, 10.0), 0.005, 0.1)
    found = llc.estimate(quadratic(h, np.array([root, 0.0])), n_beta=1e4, gamma=10.0)
    assert abs(found.llc) < 5 * found.mcse
    assert found.gradient_evaluations < 50_000
    assert found.verdict.status != "ok"


def half_width(found):
    return 1.96 * found.mcse / found.llc


@pytest.mark.parametrize("given", [{}, {"sampler": "sgld"}, {"sampler": "hmc", "gamma": 1.0}])
def test_frozen_settings_reach_the_precision_asked_for(line, given):
    frozen = llc.calibrate(line, freeze=True, **given)
    for name in ("step_size", "burn_in", "draws"):
        assert getattr(frozen, name) is not None
        assert frozen.reasons[name] in str(frozen)
    assert "in doubt" not in str(frozen)
    # Another seed, so that it is not the pilot over again.
    found = estimate_task(line, replace(frozen, seed=1))
    assert found.trace.shape == (4, frozen.draws)
    assert (found.settings.step_size, found.settings.burn_in) == (frozen.step_size, frozen.burn_in)
    # Neither missed by much nor overdone; 3/2 is what a regular model of three parameters has.
    assert 0.02 < half_width(found) < 0.06
    assert abs(found.llc - 1.5) < 0.05 * 1.5 + 5 * found.mcse
    assert found.verdict.status == "ok"


def test_freezing_costs_no_run_of_its_own_where_gamma_was_chosen(line):
    assert freeze_task(line, llc.Settings()).evaluations == (
        resolve_task(line, llc.Settings()).evaluations
    )


def test_draws_follow_the_precision_and_end_with_the_budget(line):
    given = {"gamma": 1.0, "freeze": True}
    coarse, fine = (llc.calibrate(line, precision=p, **given) for p in (0.05, 0.025))
    assert 3.5 < fine.draws / coarse.draws < 4.5
    poor = llc.calibrate(line, precision=0.01, budget=8000, **given)
    assert 4 * (poor.draws + poor.burn_in) <= 8000
    assert "all that the budget allows" in poor.reasons["draws"]


def test_what_is_given_is_not_chosen_again(line):
    given = {"gamma": 2.0, "step_size": 0.03, "burn_in": 50, "draws": 70, "n_beta": 60.0}
    frozen = llc.calibrate(line, freeze=True, **given)
    assert {name: getattr(frozen, name) for name in given} == given
    assert not {"gamma", "step_size", "burn_in", "draws", "n_beta"} & set(frozen.reasons)
    part = llc.calibrate(line, freeze=True, gamma=2.0, step_size=0.03)
    assert part.step_size == 0.03
    assert set(part.reasons) >= {"burn_in", "draws"}


def test_a_pilot_that_leaves_for_infinity_says_so(line):
    message = refusal(lambda: llc.calibrate(line, freeze=True, gamma=1.0, step_size=9.0))
    assert all(word in message for word in ("4 of 4 chains", "infinity", "step_size below 9"))


def test_minibatch_noise_that_asks_for_friction_changes_the_sampler():
    # Kinetic chains would hold this noise down by a friction no frozen run is given.
    generator = torch.Generator().manual_seed(3)
    model = nn.Linear(3, 1, bias=False)
    inputs = torch.randn(3000, 3, generator=generator)
    noisy = model(inputs).detach() + torch.randn(3000, 1, generator=generator)
    task = llc.Task(model, (inputs, noisy), "mse")
    frozen = llc.calibrate(task, freeze=True, gamma=100.0, batch_size=256, precision=0.1)
    assert frozen.sampler == "sgld-lm"
    assert "friction" in frozen.reasons["sampler"]
    found = estimate_task(task, replace(frozen, seed=1))
    assert found.heat < 0.05
    assert found.verdict.status != "fail"


def test_a_trajectory_shares_frozen_settings_and_says_where_they_do_not_fit():
    # The same model on a loss a hundred times as steep: h²a grows a hundredfold.
    def scaled(model, batch):
        return ((model.weight**2).sum() * model.steepness * batch[0]).mean()

    class Valley(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2))
            self.register_buffer("steepness", torch.tensor(1.0))

    task = llc.Task(Valley(), (torch.ones(50, 1),), batch_loss=scaled)
    frozen = llc.calibrate(task, freeze=True, gamma=1.0, precision=0.1)
    weights = [
        (step, {"weight": torch.zeros(2), "steepness": torch.tensor(steep)})
        for step, steep in ((1, 1.0), (2, 2.5), (3, 100.0))
    ]
    run = llc.trace(task, weights, settings=frozen)
    for point in run.points:
        assert point.estimate.settings.step_size == frozen.step_size
        assert point.estimate.settings.draws == frozen.draws
    fits, strained, broken = (point.estimate.verdict for point in run.points)
    assert fits.status == "ok"
    assert (strained.status, strained.reasons) == ("warn", (llc.Reason.STEP_TOO_LARGE,))
    assert broken.status == "fail"
    assert broken.reasons[0] in (llc.Reason.ALL_DIVERGED, llc.Reason.STEP_TOO_LARGE)


def test_the_choice_of_gamma_keeps_to_half_of_a_budget(line, monkeypatch):
    from llc.calibration import choices

    free = llc.calibrate(line)
    spent, pilot_at = [], choices.pilot_at

    def counted(*given, **named):
        spent.append(pilot_at(*given, **named))
        return spent[-1]

    monkeypatch.setattr(choices, "pilot_at", counted)
    short = llc.calibrate(line, budget=2000)
    assert sum(pilot.evaluations for pilot in spent[:-1]) <= 1000
    assert sum(pilot.evaluations for pilot in spent) <= 2000 + 200  # a block too many
    assert short.gamma > free.gamma
    assert "the budget allowed no further one" in short.reasons["gamma"]
