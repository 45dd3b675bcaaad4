"""Numbers that a changed token moved and no other test saw (`benchmarks/mutation.py`)."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from stationary import kernel_of, posterior_of
from targets import quadratic
from tiny import FAST, labelled, linear
from torch import nn

import llc
from llc import InputError
from llc.estimation import datatree, ranks, sketch
from llc.estimation.assembly import gradient_shift
from llc.estimation.curvature import threshold
from llc.estimation.estimate import rounded
from llc.estimation.estimators import _gamma_influence
from llc.estimation.precise import precise_objective
from llc.estimation.spectrum import leading
from llc.execution import Execution
from llc.objective import Objective
from llc.sampling.chains import Draws

F32, F64 = torch.float32, torch.float64
EPS32, EPS64 = 2.0**-23, 2.0**-52


@pytest.mark.parametrize("friction", [0.5, 4.0])
def test_kinetic_momentum_without_a_force_decays_at_the_friction(friction):
    posterior = posterior_of(quadratic([1.0]), 10.0, 1e-12)
    kernel = kernel_of(
        "kinetic", posterior, 0.2, friction, evaluate=lambda d, _: posterior.evaluate(0 * d, None)
    )
    state = kernel.init(torch.zeros(2, 1, dtype=F64))
    state = state._replace(momentum=torch.ones_like(state.momentum))
    for _ in range(3):
        state, _ = kernel.step(state, None, torch.zeros(2, 1, dtype=F64))
    assert state.momentum[0, 0].item() == pytest.approx(math.exp(-3 * 0.2 * friction), rel=1e-6)


@pytest.mark.parametrize("method", ["devinterp-sgld", "devinterp-rmsprop"])
def test_devinterps_word_about_an_n_beta_of_one_is_not_passed_on(method):
    found = llc.estimate(quadratic([1.0, 0.5]), n_beta=1.0, gamma=1.0, sampler=method,
                         step_size=0.1, draws=20, burn_in=5, chains=2)  # fmt: skip
    assert np.isfinite(found.llc)


def test_the_influence_of_gamma_does_not_depend_on_where_spread_is_counted_from():
    streams = np.random.default_rng(0)
    rise, noise, pull, spread = streams.gamma(2.0, size=(4, 3, 50))
    draws = Draws(rise, noise, pull, spread, np.ones_like(rise))
    given = _gamma_influence(draws)
    assert given.mean() == pytest.approx(-0.5 * np.cov(rise.ravel(), spread.ravel(), ddof=0)[0, 1])
    shifted = _gamma_influence(draws._replace(spread=spread + 7.0))
    np.testing.assert_allclose(shifted, given, atol=1e-12)


@pytest.mark.parametrize("error", [0.0, math.nan, math.inf, -1.0])
def test_a_number_without_a_usable_error_keeps_four_digits(error):
    assert rounded(2 / 3, error)[0] == "0.6667"


def test_gradients_of_all_data_at_the_start_are_not_counted_as_minibatches():
    posterior = posterior_of(quadratic([1.0]), 10.0, 1.0)

    class Made:
        batch_size, step_size, evaluations = None, 0.1, 0

    assert gradient_shift(posterior, Made)[1] == 0


@pytest.mark.parametrize(
    ("matrix", "given", "computed", "relative"),
    [
        ("hessian", F64, F64, 100 * EPS64),
        ("hessian", F32, F64, 10 * EPS32),
        ("ggn", F32, F64, (100 * EPS32) ** 2),
        ("ggn", F32, F32, 100 * EPS32),
    ],
)
def test_what_may_be_rounding(matrix, given, computed, relative):
    """The larger of the computation's rounding and of that which the weights brought."""
    assert threshold(matrix, 3.0, 100, given, computed) == pytest.approx(3.0 * relative)
    assert threshold(matrix, -1.0, 100, given, computed) == 0


def test_the_coarsest_of_the_weights_precisions_counts():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 2).double(), nn.Linear(2, 1)

        def forward(self, x):
            return self.b(self.a(x.double()).to(self.b.weight.dtype))

    x = torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
    task = llc.Task(Mixed(), (x, torch.zeros(10, 1)), "mse")
    assert precise_objective(task, False, Execution())[1] == F32


@pytest.mark.parametrize(("off", "refused"), [(0.01, False), (0.2, True)])
def test_a_zero_of_the_loss_is_one_beside_chance(off, refused):
    """Up to a thousandth of the loss of a guess counts as zero."""
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    model = linear()
    with torch.no_grad():
        targets = model(x)
        targets = targets + off * torch.randn(targets.shape, generator=torch.Generator())
    objective = Objective(llc.Task(model, (x, targets), "mse"))
    share = objective.baseline.mean / objective.chance
    assert (share > ranks.ZERO) == refused
    assert objective.baseline.mean > ranks.ZERO_UNKNOWN
    if refused:
        with pytest.raises(InputError, match="expected a zero of the loss"):
            ranks.rank_of_outputs(objective, F32)
    else:
        assert ranks.rank_of_outputs(objective, F32) == 8


def jacobian(objective, x):
    """Of all outputs, centred over classes, by torch's own function: ``(outputs, D)``."""
    model = copy.deepcopy(objective.module.model)
    shapes = {name: p.shape for name, p in model.named_parameters()}

    def outputs(vector):
        parts = vector.split([math.prod(s) for s in shapes.values()])
        named = {n: v.view(s) for (n, s), v in zip(shapes.items(), parts, strict=True)}
        f = torch.func.functional_call(model, named, (x,))
        return (f - f.mean(1, keepdim=True)).reshape(-1)

    return torch.autograd.functional.jacobian(outputs, objective.centre)


def test_a_sketch_in_parts_has_the_jacobians_gram_matrix(monkeypatch):
    monkeypatch.setattr(sketch, "EXAMPLES", 7)
    monkeypatch.setattr(sketch, "SPARE", 20_000)
    x, labels = labelled(17)
    model = linear().double()
    objective = Objective(llc.Task(model, (x.double(), labels), "cross_entropy"))
    exact = jacobian(objective, x.double())
    exact = exact.T @ exact
    found = sketch.outputs_sketch(objective)
    found = found.T @ found
    # Sums of 20,000 terms: an entry's standard error is 0.7-1 % of the diagonal's.
    assert (found - exact).abs().max() < 0.05 * exact.diagonal().max()
    assert torch.linalg.matrix_rank(found, rtol=1e-8) == torch.linalg.matrix_rank(exact, rtol=1e-8)


@pytest.mark.parametrize(("dtype", "close"), [(F64, 1e-8), (F32, 1e-3)])
def test_eigenvectors_are_as_good_as_their_precision_allows(dtype, close):
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(60, 60, generator=generator, dtype=F64))[0]
    values = torch.logspace(1, -2, 60, dtype=F64)
    matrix = ((basis * values) @ basis.T).to(dtype)
    calls = []

    def product(rows):
        calls.append(len(rows))
        return rows @ matrix

    found, vectors = leading(product, torch.ones(60, dtype=dtype), 4)
    np.testing.assert_allclose(found, values[:4], rtol=1e-4)
    off = 1 - (vectors.double() * basis.T[:4]).sum(1).abs()
    assert float(off.max() * 2) ** 0.5 < close
    if dtype == F32:
        assert len(calls) < 45


def test_facts_of_an_estimate_travel_as_plain_numbers_and_strict_json():
    tree = llc.estimate(quadratic([1.0]), n_beta=10.0, **FAST).to_datatree()
    attributes = tree.attrs
    assert (attributes["n_beta"], attributes["gamma"]) == (10.0, FAST["gamma"])
    assert attributes["sampler"] == "kinetic"
    assert attributes["seed"] == 0
    json.loads(attributes["estimate"], parse_constant=pytest.fail)
    assert datatree.attributes(json.loads(attributes["estimate"]))["n_beta"] == 10.0
