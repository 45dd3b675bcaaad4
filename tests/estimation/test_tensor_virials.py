"""Which weights have not arrived: the virial, tensor by tensor."""

import numpy as np
import pytest
import torch
from torch import nn

import llc
from llc.sampling.balance import Balance

N_BETA, GAMMA = 1000.0, 1.0


class Blocks(nn.Module):
    """A stiff tensor and one that the loss hardly feels; both at w* = 0."""

    def __init__(self):
        super().__init__()
        self.stiff = nn.Parameter(torch.zeros(30))
        self.soft = nn.Parameter(torch.zeros(5, 4))


def task():
    return llc.Task(Blocks(), potential=lambda m: (m.stiff**2).sum() / 2 + 1e-5 * (m.soft**2).sum())


def test_in_equilibrium_each_tensor_has_one():
    found = llc.estimate(task(), n_beta=N_BETA, gamma=GAMMA, precision=0.02)
    assert list(found.tensor_virials) == ["stiff", "soft"]
    assert found.virial == pytest.approx(1, abs=0.03)
    for value in found.tensor_virials.values():
        assert value == pytest.approx(1, abs=0.12)


def test_the_slow_tensor_is_named(tmp_path):
    given = {"sampler": "sgld-lm", "burn_in": 20, "draws": 100}
    found = llc.estimate(task(), n_beta=N_BETA, gamma=GAMMA, step_size=2e-3, **given)
    assert llc.Reason.NOT_IN_EQUILIBRIUM in found.verdict.reasons
    sentence = found.verdict.sentences[0]
    assert "furthest off in soft (0." in sentence
    assert "stiff" not in sentence
    again = llc.Estimate.load(found.save(tmp_path / "e.json"))
    assert again.tensor_virials == found.tensor_virials


def test_parts_add_up_to_the_whole():
    surface = llc.surface.LossSurface(task())
    posterior = llc.posterior.Posterior(surface, N_BETA, GAMMA)
    balance = Balance(posterior)
    delta = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    gradient = posterior.evaluate(delta, None).gradient
    balance.add(delta, gradient, at=10)
    mean, error = balance.by_tensor(slice(None))
    whole = ((gradient * delta).sum(1) + GAMMA * (delta**2).sum(1)).mean() / 50
    assert (30 * mean[0] + 20 * mean[1]) / 50 == pytest.approx(float(whole), rel=1e-5)
    soft = (0.02 + GAMMA) * delta[:, 30:].double().square().mean(1)
    assert mean[1] == pytest.approx(float(soft.mean()), rel=1e-5)
    assert error[1] == pytest.approx(float(soft.std()) / 2, rel=1e-5)


def test_readings_of_draws_moved_to_burn_in_go_with_them():
    posterior = llc.posterior.Posterior(llc.surface.LossSurface(task()), N_BETA, GAMMA)
    balance, ones = Balance(posterior), torch.ones(2, 50)
    balance.add(ones, 0 * ones, at=25)
    balance.add(2 * ones, 0 * ones, at=50)
    assert balance.by_tensor(slice(None))[0].tolist() == [2.5, 2.5]
    balance.forget(25)
    assert balance.by_tensor(slice(None))[0].tolist() == [4, 4]
    balance.forget(25)
    assert np.isnan(balance.by_tensor(slice(None))).all()
