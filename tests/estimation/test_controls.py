"""What an estimate must say when nothing moved, nothing arrived, or everything flew apart."""

import math

import numpy as np
import pytest
import torch
from targets import exact_quadratic, quadratic
from torch import nn

import llc


def regression(noise, n=300, d=5):
    """Linear regression at its least-squares solution; also the Hessian's eigenvalues."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    y = x @ torch.linspace(1, 2, d, dtype=torch.float64)[:, None]
    y = y + noise * torch.randn(n, 1, generator=generator, dtype=torch.float64)
    model = nn.Linear(d, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(x, y).solution.T)
    return model, (x, y), torch.linalg.eigvalsh(2 * x.T @ x / n).numpy()


def mean_square(outputs, targets):
    return ((outputs - targets) ** 2).mean()


@pytest.mark.parametrize("batch_size", [None, 16])
@pytest.mark.parametrize("loss", ["mse", mean_square])
def test_frozen_chains_measure_zero(loss, batch_size):
    # With noisy labels every batch has another loss: only a paired baseline gives zero.
    model, data, _ = regression(noise=1.0)
    found = llc.estimate(
        model,
        data,
        loss,
        n_beta=100.0,
        gamma=10.0,
        step_size=0.0,
        draws=40,
        burn_in=20,
        batch_size=batch_size,
    )
    assert abs(found.llc) < 1e-6
    assert abs(found.trace).max() < 1e-6
    assert found.verdict.status != "ok"


def test_minibatches_agree_with_all_data_and_with_the_exact_value():
    model, data, h = regression(noise=0.1)
    given = {"n_beta": 100.0, "gamma": 10.0, "chains": 16, "precision": 0.04}
    whole = llc.estimate(model, data, "mse", **given)
    parts = llc.estimate(model, data, "mse", batch_size=64, **given)
    truth = exact_quadratic(h, 100.0, 10.0)
    assert max(whole.mcse, parts.mcse) < 0.025 * truth
    assert whole.heat == 0
    assert 0 < parts.heat < 0.1
    assert abs(whole.llc - truth) < 5 * whole.mcse
    assert abs(parts.llc - truth) < 5 * parts.mcse + parts.heat * truth
    apart = abs(parts.llc - whole.llc)
    assert apart < 5 * math.hypot(parts.mcse, whole.mcse) + parts.heat * truth


def test_chains_too_short_to_arrive_are_called_out():
    h = np.logspace(0, -3, 8)
    found = llc.estimate(
        quadratic(h),
        n_beta=1e4,
        gamma=1.0,
        sampler="sgld-lm",
        step_size=2e-5,
        draws=50,
        burn_in=0,
        chains=16,
    )
    assert found.virial < 0.5
    assert found.llc < 0.5 * exact_quadratic(h, 1e4, 1.0)
    assert found.verdict.status == "fail"
    assert llc.Reason.NOT_IN_EQUILIBRIUM in found.verdict.reasons


def test_when_all_chains_explode_there_is_no_number():
    found = llc.estimate(
        quadratic([1.0, 0.1]), n_beta=1e4, gamma=1.0, step_size=100.0, draws=200, burn_in=50
    )
    assert math.isnan(found.llc)
    assert math.isnan(found.mcse)
    assert found.diverged == (0, 1, 2, 3)
    assert found.verdict.status == "fail"
    assert found.verdict.reasons == (llc.Reason.ALL_DIVERGED,)
    text = str(found)
    assert text.startswith("LLC not measured")
    assert "nan" not in text
    assert "±" not in text
