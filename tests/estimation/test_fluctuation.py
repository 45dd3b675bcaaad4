"""The singular fluctuation against its exact value on linear regression."""

import math

import pytest
import torch
from torch import nn

import llc

GAMMA, N = 2.0, 400


def regression(n=N, width=6, noise=1.0):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(n, width, generator=generator, dtype=torch.float64)
    y = x.sum(1, keepdim=True) + noise * torch.randn(n, 1, generator=generator, dtype=torch.float64)
    model = nn.Linear(width, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(x, y).solution.T)
    return model, (x, y)


def half_square(outputs, targets):
    return ((outputs - targets) ** 2).sum(1) / 2


def exact(model, data, n_beta):
    """(β/2)Σᵢ Var(rᵢu + u²/2) with u ~ N(0, xᵢᵀSxᵢ): (β/2)Σᵢ (rᵢ²sᵢ + sᵢ²/2)."""
    x, y = data
    r = (y - model(x).detach())[:, 0]
    width = x.shape[1]
    s = torch.linalg.inv(n_beta / len(x) * x.T @ x + GAMMA * torch.eye(width, dtype=x.dtype))
    each = torch.einsum("ni,ij,nj->n", x, s, x)
    return float(n_beta / len(x) / 2 * (r**2 * each + each**2 / 2).sum())


@pytest.mark.parametrize("batch_size", [None, 100])
def test_exact_on_linear_regression(batch_size):
    model, data = regression()
    found = llc.singular_fluctuation(
        model, data, half_square, n_beta=float(N), gamma=GAMMA, batch_size=batch_size,
        control_variate=batch_size is not None,
    )  # fmt: skip
    truth = exact(model, data, float(N))
    assert truth == pytest.approx(3, rel=0.1)  # d/2, nearly
    assert found.mcse < 0.1 * truth
    assert abs(found.nu - truth) < 5 * found.mcse
    assert found.nu == pytest.approx(found.functional_variance / 2)
    assert (found.draws, found.examples) == (400, N)
    assert str(found).startswith("singular fluctuation ")


def test_some_examples_stand_for_all():
    model, data = regression()
    given = {"n_beta": N / math.log(N), "gamma": GAMMA}
    found = llc.singular_fluctuation(model, data, half_square, examples=100, **given)
    truth = exact(model, data, given["n_beta"])
    assert found.examples == 100
    assert abs(found.nu - truth) < 4 * found.mcse
    whole = llc.singular_fluctuation(model, data, half_square, **given)
    assert found.mcse > 1.5 * whole.mcse


def test_a_loss_without_values_by_example_is_refused():
    model, data = regression()
    mean = lambda outputs, targets: half_square(outputs, targets).mean()
    with pytest.raises(llc.InputError, match="one value per example"):
        llc.singular_fluctuation(model, data, mean, n_beta=10.0, gamma=GAMMA)
    with pytest.raises(llc.InputError, match="looks is 1"):
        llc.singular_fluctuation(model, data, half_square, looks=1)
