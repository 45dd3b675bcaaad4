"""What a user got wrong and the chains cannot feel: the verdict, or an error, has to say it."""

import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import llc
from llc import truths
from llc.estimation.verdict import _way_out_of_the_prior, judge

GAMMA = 3.0


def regression(noise=0.3, n=300, centre="best", seed=0):
    """Weights and data of a linear regression with features of spread scales."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.logspace(0, -1.5, 8, dtype=torch.float64)
    x = torch.randn(n, 8, generator=generator, dtype=torch.float64) * scales
    true = torch.linspace(1, 2, 8, dtype=torch.float64)
    y = x @ true[:, None] + noise * torch.randn(n, 1, generator=generator, dtype=torch.float64)
    model = nn.Linear(8, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(true if centre == "true" else torch.linalg.lstsq(x, y).solution[:, 0])
    return model, (x, y)


def expectation(x, n_beta):
    h = torch.linalg.eigvalsh(2 * x.T @ x / len(x))
    return float((n_beta * h / (n_beta * h + GAMMA)).sum() / 2)


class Table(nn.Module):
    """One logit a token, class 1 against class 0 at every position."""

    def __init__(self, count):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(count))

    def forward(self, tokens):
        one = self.table[tokens]
        return torch.stack([torch.zeros_like(one), one], 1)


def sequences(padding, n=200):
    """Tokens and labels, half of each to be learnt at logit 0; token 0 stands behind them."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 4, (n, 6), generator=generator)
    labels = torch.randint(0, 2, (n, 6), generator=generator)
    return F.pad(tokens, (0, padding)), F.pad(labels, (0, padding))


SHORT = {"gamma": GAMMA, "draws": 100, "burn_in": 60}


def test_padded_examples_are_called_out():
    model, (x, y) = regression()
    n_beta = len(x) / math.log(len(x))
    data = torch.cat([x, torch.zeros_like(x)]), torch.cat([y, torch.zeros_like(y)])
    found = llc.estimate(model, data, "mse", n_beta=n_beta, gamma=GAMMA)
    # Half the data say nothing: the chains feel half of nβ, and return its B, not the one wanted.
    assert expectation(x, n_beta / 2) < 0.95 * expectation(x, n_beta)
    assert abs(found.llc - expectation(x, n_beta / 2)) < 5 * found.mcse
    assert llc.Reason.PADDED in found.verdict.reasons
    assert any(s.startswith("50% of the examples are one") for s in found.verdict.sentences)


def test_padded_sequences_are_called_out():
    found = llc.estimate(Table(4), sequences(padding=6), "cross_entropy", **SHORT)
    assert llc.Reason.PADDED in found.verdict.reasons
    assert any("42% of the tokens" in sentence for sentence in found.verdict.sentences)


@pytest.mark.parametrize("data", ["continuous", "tokens", "markers", "discrete"])
def test_data_that_only_repeat_themselves_are_not(data):
    if data == "continuous":
        found = llc.estimate(*regression(), "mse", **SHORT)
    else:
        tokens, labels = sequences(padding=1 if data == "markers" else 0)
        if data == "discrete":
            # Zipf: half of all examples are one token, a quarter the next.
            tokens = torch.tensor([1, 1, 1, 1, 2, 2, 3, 0]).repeat(25)[:, None]
            labels = torch.arange(200)[:, None] // 8 % 2
        found = llc.estimate(Table(4), (tokens, labels), "cross_entropy", **SHORT)
    assert llc.Reason.PADDED not in found.verdict.reasons


def test_ignored_targets_are_not_averaged_over():
    tokens, labels = sequences(padding=6)
    masked = labels.masked_fill(tokens == 0, -100)
    given = {"n_beta": 50.0, **SHORT}
    found = llc.estimate(Table(4), (tokens, masked), "cross_entropy", **given)
    plain = llc.estimate(Table(4), sequences(padding=0), "cross_entropy", **given)
    assert found.baseline == pytest.approx(math.log(2))
    # The same law and noise: only rounding tells them apart.
    assert found.llc == pytest.approx(plain.llc, rel=0.01)
    assert llc.Reason.PADDED not in found.verdict.reasons


def test_ignored_targets_are_ignored_by_the_behavioural_loss_too():
    tokens, labels = sequences(padding=6)
    masked = labels.masked_fill(tokens == 0, -100)
    given = {"n_beta": 50.0, "behavioural": True, **SHORT}
    found = llc.estimate(Table(4), (tokens, masked), "cross_entropy", **given)
    plain = llc.estimate(Table(4), sequences(padding=0), "cross_entropy", **given)
    assert found.baseline == pytest.approx(0, abs=1e-6)
    assert found.llc == pytest.approx(plain.llc, rel=0.01)
    assert llc.Reason.PADDED not in found.verdict.reasons


@pytest.mark.parametrize("change", [lambda v: v * len(v), lambda v: v / len(v)])
def test_values_that_depend_on_the_batch_size_are_refused(change):
    model, data = regression()
    with pytest.raises(llc.InputError, match="batch size"):
        llc.estimate(model, data, lambda o, t: change(((o - t) ** 2)[:, 0]), **SHORT)


def test_minibatches_do_not_hide_that_the_centre_is_no_minimum():
    model, data = regression(noise=1.0, centre="true", seed=2)
    law = {"gamma": GAMMA, "draws": 600, "burn_in": 100}
    whole = llc.estimate(model, data, "mse", **law)
    parts = llc.estimate(model, data, "mse", batch_size=64, **law)
    assert whole.gradient_shift > 0.05 * whole.llc
    assert parts.gradient_shift == pytest.approx(whole.gradient_shift, rel=0.01)
    assert llc.Reason.NOT_A_MINIMUM in parts.verdict.reasons
    best = llc.estimate(*regression(noise=1.0, seed=2), "mse", batch_size=64, **law)
    assert best.gradient_shift < 1e-6


def test_a_look_at_all_data_is_not_taken_where_it_costs_more_than_the_run():
    model, data = regression(n=2000)
    found = llc.estimate(
        model, data, "mse", gamma=GAMMA, batch_size=1, chains=1, draws=30, burn_in=0, step_size=1e-3
    )
    assert math.isnan(found.gradient_shift)
    assert found.gradient_evaluations < 2 * len(data[0])


def test_a_thermostat_does_not_vouch_for_heat_nobody_knows():
    model, data = regression(noise=1.0)
    law = {"gamma": GAMMA, "sampler": "sgnht", "burn_in": 100, "draws": 400, "step_size": 0.05}
    hot = llc.estimate(model, data, "mse", batch_size=16, **law)
    assert math.isnan(hot.heat)
    assert llc.Reason.HEAT_UNKNOWN in hot.verdict.reasons
    cold = llc.estimate(model, data, "mse", **law)
    assert llc.Reason.HEAT_UNKNOWN not in cold.verdict.reasons


def test_above_chance_is_for_models_that_have_learnt_something():
    """A net whose outputs do not depend on the inputs yet has nothing for chains to leave."""
    model, (x, y) = regression(noise=0.0)
    short = {"gamma": 0.1, "draws": 100, "burn_in": 60, "behavioural": True}
    left = llc.estimate(model, (x, y), "mse", n_beta=0.3, **short)
    assert llc.Reason.ABOVE_CHANCE in left.verdict.reasons
    with torch.no_grad():
        model.weight.zero_()
    blank = llc.estimate(model, (x, y), "mse", n_beta=100.0, **short)
    assert blank.chance == 0
    assert blank.sampled_loss > 0
    assert llc.Reason.ABOVE_CHANCE not in blank.verdict.reasons


def test_a_prior_that_dominates_is_told_the_gamma_and_n_beta_that_end_it():
    # Equal curvatures, x = nβh/γ = 1/3: a saturation of 1/(1 + x) = ¾, and ½ at three times that.
    task = truths.quadratic([1.0] * 200).task()
    law = {"n_beta": 1000.0, "gamma": 3000.0, "precision": 0.03}
    held = llc.estimate(task, **law)
    assert held.verdict.reasons == (llc.Reason.PRIOR_DOMINATED,)
    found = re.search(r"gamma to about (\S+) or less, or raise n_beta to about (\S+) or", str(
        held.verdict.sentences[0]
    ))  # fmt: skip
    assert found is not None
    gamma, n_beta = map(float, found.groups())
    assert gamma == pytest.approx(1000, rel=0.25)
    assert n_beta == pytest.approx(3000, rel=0.25)
    for better in ({"gamma": 0.8 * gamma}, {"n_beta": 1.25 * n_beta}):
        assert llc.estimate(task, **{**law, **better}).verdict.status == "ok"


def test_named_bounds_are_lower_ones_where_curvatures_differ():
    # Saturation Σs/Σx with s = x/(1 + x), at k times the x = nβh/γ.
    x = np.logspace(-3, 1, 30)
    share = lambda k: float((k * x / (1 + k * x)).sum() / (k * x).sum())
    saturation = share(0.05)
    assert saturation > 0.5
    factor = _way_out_of_the_prior(facts(saturation=saturation, n_beta=1.0))["more_n_beta"]
    assert factor > 1
    assert share(0.05 * factor) > 0.5


def facts(**changed):
    """What a flawless estimate of 10 is judged by."""
    names = (
        "diverged_count virial rhat ess llc mcse reached saturation chance stiffness heat "
        "heat_bound alike slope_n_beta slope_n_beta_se gradient_shift below_baseline slope_gamma "
        "slope_gamma_se null null_se sampled_loss baseline distance n_beta gamma"
    )
    values = [0, 1.0, 1.0, 500.0, 10.0, 0.1, True, 0.1, None, 1.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.0,
              0.0, 0.0, 0.1, 100.0, 1.0, 0.1, 0.0, 0.5, 1e3, 1.0]  # fmt: skip
    fine = dict(zip(names.split(), values, strict=True))
    words = {"chain_virials": "1.0", "where": "", "step_advice": "leave step_size out"}
    asked = {"half_width": 0.02, "precision": 0.05}
    return {"chains": 4, "stiffness_aim": 1.0, **fine, **asked, **words, **changed}


def test_a_virial_above_1_is_not_called_chains_on_their_way():
    assert judge(facts()).status == "ok"
    (cold,) = judge(facts(virial=0.8)).sentences
    assert "not arrived" in cold
    assert "burn-in" in cold
    (hot,) = judge(facts(virial=1.2)).sentences
    assert "not arrived" not in hot
    assert "leave step_size out" in hot


def test_chains_too_hot_do_not_accuse_the_centre():
    falling = {"slope_n_beta": -3.0, "slope_n_beta_se": 0.2}
    centre = llc.Reason.NOT_A_MINIMUM
    assert centre in judge(facts(**falling)).reasons
    assert judge(facts(**falling, virial=1.2)).reasons == (llc.Reason.NOT_IN_EQUILIBRIUM,)
    lost = {"diverged_count": 1, "diverged": "3", "step_size": 0.1}
    assert judge(facts(**falling, **lost)).reasons == (llc.Reason.SOME_DIVERGED,)
    # Nobody is told to do what was done.
    (said,) = judge(facts(**falling)).sentences
    assert "use behavioural=True" in said
    (said,) = judge(facts(**falling, behavioural=True)).sentences
    assert "use behavioural=True" not in said
    assert "more budget" in said
    # What needs no slope still counts.
    assert centre in judge(facts(virial=1.2, gradient_shift=5.0)).reasons


def test_chains_that_have_not_arrived_do_not_accuse_a_centre_of_its_own_outputs():
    falling = {"slope_n_beta": -3.0, "slope_n_beta_se": 0.2, "virial": 0.5}
    centre, late = llc.Reason.NOT_A_MINIMUM, llc.Reason.NOT_IN_EQUILIBRIUM
    assert judge(facts(**falling, behavioural=True)).reasons == (late,)
    assert judge(facts(**falling)).reasons == (late, centre)


def test_few_effective_draws_warn_and_very_few_fail():
    few = llc.Reason.FEW_EFFECTIVE_DRAWS
    for ess, status in ((100.0, "ok"), (99.0, "warn"), (10.0, "warn"), (9.0, "fail")):
        found = judge(facts(ess=ess))
        assert (found.status, few in found.reasons) == (status, status != "ok")
    assert judge(facts(ess=float("nan"))).status == "fail"
