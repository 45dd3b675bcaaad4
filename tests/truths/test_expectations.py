"""B of every truth against a second way to compute it, and tasks that sit where they should."""

import copy
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from targets import exact_crossing, exact_quartic, exact_zero_teacher

from llc import InputError, truths
from llc.truths import eigenvalues, quadrature

LARGE = 1e5 / math.log(1e5)


def sampled(function, dimension, n_beta, gamma, count=2_000_000):
    """B and its error from prior draws, weighted by the likelihood: slow, obvious."""
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(count, dimension, generator=generator, dtype=torch.float64) / gamma**0.5
    held = n_beta * function(w)
    weight = torch.exp(-held)
    weight = weight / weight.sum()
    mean = (weight * held).sum()
    return mean.item(), ((weight * (held - mean)) ** 2).sum().sqrt().item()


FUNCTIONS = [
    truths.quadratic([0.3, 1.0, 5.0]),
    truths.powers([2, 4, 3], [1.0, 0.5, 2.0]),
    truths.norm_power(3, 2),
    truths.monomial([1, 2]),
    truths.monomial([1, 1, 1]),
    truths.crossing(),
    truths.sum_of(truths.crossing(), truths.norm_power(2, 1)),
    truths.product_of(truths.norm_power(2, 1), truths.powers([4])),
    truths.cusp(),
]


@pytest.mark.parametrize("truth", FUNCTIONS, ids=lambda t: t.name)
@pytest.mark.parametrize(("n_beta", "gamma"), [(20.0, 1.0), (5.0, 3.0)])
def test_expectation_is_the_weighted_mean_over_the_prior(truth, n_beta, gamma):
    mean, error = sampled(truth.function, truth.dimension, n_beta, gamma)
    assert error < 0.01 * mean
    assert abs(truth.expected(n_beta, gamma) - mean) < 5 * error


@pytest.mark.parametrize(("n_beta", "gamma"), [(1e2, 1.0), (1e4, 1.0), (1e6, 10.0), (30.0, 0.1)])
def test_closed_forms_states_and_quadrature_agree(n_beta, gamma):
    crossing = exact_crossing(n_beta, gamma)
    assert truths.crossing().expected(n_beta, gamma) == pytest.approx(crossing, rel=1e-9)
    assert truths.monomial([1, 1]).expected(n_beta, gamma) == pytest.approx(crossing, rel=1e-8)
    by_rings = quadrature.expectation(lambda w: w.square().prod(-1), 2, n_beta, gamma)
    assert by_rings == pytest.approx(crossing, rel=1e-5)
    quartic = truths.powers([4])
    assert quartic.expected(n_beta, gamma) == pytest.approx(exact_quartic(n_beta, gamma), rel=1e-6)
    assert quadrature.expectation(quartic.function, 1, n_beta, gamma) == pytest.approx(
        quartic.expected(n_beta, gamma), rel=1e-7
    )


def test_a_flat_prior_makes_expectation_the_coefficient():
    for exponents in ([2], [4, 4], [2, 4, 6], [3]):
        truth = truths.powers(exponents)
        assert truth.expected(1e6, 1e-9) == pytest.approx(float(truth.llc), rel=1e-4)


def test_a_prior_with_powers_is_absorbed():
    # ∫ w⁴ e^{−nβw⁴}|w| dw / ∫ e^{−nβw⁴}|w| dw with the localisation on v = w²: w⁴ = v².
    truth = truths.monomial([2], [1])
    assert (truth.llc, truth.multiplicity) == (Fraction(1, 2), 1)
    assert truth.expected(50.0, 2.0) == pytest.approx(0.5 * 100 / 102)


@pytest.mark.parametrize(
    ("sizes", "values"),
    [
        ((1, 1, 1), (0.3614, 0.3912, 0.4112, 0.4253)),
        ((2, 1, 2), (0.8292, 0.8720, 0.8988, 0.9167)),
        ((2, 2, 2), (1.4051, 1.4572, 1.4815, 1.4923)),
        ((5, 2, 5), (4.3159, 4.4168, 4.4635, 4.4845)),
    ],
)
def test_zero_teachers_have_the_known_values(sizes, values):
    truth = truths.reduced_rank(*sizes, 0)
    for n, value in zip((1e3, 1e4, 1e5, 1e6), values, strict=True):
        assert truth.expected(n / math.log(n), 1.0) == pytest.approx(value, abs=6e-5)


@pytest.mark.parametrize(("inputs", "outputs"), [(2, 2), (5, 3), (8, 8)])
@pytest.mark.parametrize(("n_beta", "gamma"), [(100.0, 1.0), (LARGE, 5.0)])
def test_pfaffian_is_the_double_integral_over_two_eigenvalues(inputs, outputs, n_beta, gamma):
    found = eigenvalues.zero_teacher(inputs, 2, outputs, n_beta, gamma)
    assert found[1] == 0
    direct = exact_zero_teacher(inputs, outputs, n_beta, gamma)
    assert found[0] == pytest.approx(direct, rel=2e-4)  # the direct grid's own accuracy


@pytest.mark.parametrize("sizes", [(3, 3, 3), (4, 3, 2), (2, 3, 4), (5, 4, 5)])
def test_pfaffian_is_the_mean_over_weighted_draws(sizes):
    n_beta, gamma, (m, h, n) = 3.0, 2.0, sizes
    rng = np.random.default_rng(0)
    a = rng.normal(size=(400_000, h, m)) / gamma**0.5
    t = np.clip(np.linalg.eigvalsh(a @ a.transpose(0, 2, 1)), 0, None)
    held = 2 * n_beta * t
    weight = np.exp(-n / 2 * np.log1p(held / gamma).sum(1))
    value = n / 2 * (held / (held + gamma)).sum(1)
    weight /= weight.sum()
    mean = (weight * value).sum()
    error = math.sqrt(((weight * (value - mean)) ** 2).sum())
    assert error < 0.01 * mean
    assert abs(eigenvalues.zero_teacher(*sizes, n_beta, gamma)[0] - mean) < 5 * error


def test_sizes_can_change_places():
    one = eigenvalues.zero_teacher(6, 3, 2, 1e3, 1.0)[0]
    assert eigenvalues.zero_teacher(2, 3, 6, 1e3, 1.0)[0] == pytest.approx(one, rel=1e-6)


def test_walkers_agree_with_the_pfaffian():
    ensemble = eigenvalues._Ensemble(5, 4, 5, LARGE, 1.0)
    mean, error = eigenvalues._walk(ensemble)
    exact = eigenvalues.zero_teacher(5, 4, 5, LARGE, 1.0)[0]
    assert error < 0.003 * exact
    assert abs(mean - exact) < 5 * error


def test_many_hidden_units_fall_back_on_walkers():
    mean, error = truths.reduced_rank(9, 9, 9, 0).expected_with_error(LARGE, 1.0)
    assert 0 < error < 0.005 * mean
    # Between the prior's pull and λ = (2·9·18 − 81)/8 rounded up to what is odd: 30.5.
    assert 0.97 * 30.5 < mean < 30.5


@pytest.mark.parametrize("hidden", [1, 2])
def test_tanh_expectation_is_the_weighted_mean(hidden):
    truth = truths.tanh_net(hidden)
    model = truth.task().model
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(32))
    assert sum(p.numel() for p in model.parameters()) == truth.dimension

    def function(w):
        a, b = w[:, :hidden], w[:, hidden:]
        f = (a[..., None] * torch.tanh(b[..., None] * nodes)).sum(1)
        return (f**2 * weights).sum(-1) / 2

    for n_beta, gamma in ((10.0, 1.0), (40.0, 4.0)):
        mean, error = sampled(function, 2 * hidden, n_beta, gamma, 200_000)
        assert abs(truth.expected(n_beta, gamma) - mean) < 5 * error


def test_fitted_coefficients():
    for function, dimension, llc, multiplicity in (
        (lambda w: w[..., 0] ** 4, 1, 0.25, 1),
        (lambda w: w[..., 0] ** 2 * (1 + w[..., 0]) ** 2, 1, 0.5, 1),
        (lambda w: w[..., 0] ** 2 * w[..., 1] ** 4, 2, 0.25, 1),
        (lambda w: w[..., 0] ** 2 * w[..., 1] ** 2, 2, 0.5, 2),
    ):
        truth = truths.potential(function, dimension)
        assert truth.multiplicity == multiplicity
        assert truth.llc == pytest.approx(llc, rel=0.003)
        assert truth.llc_error < 0.003 * llc


@pytest.mark.slow
def test_fitted_cusp():
    cusp = truths.cusp()
    truth = truths.potential(cusp.function, 2)
    assert truth.multiplicity == 1
    assert truth.llc == pytest.approx(5 / 12, abs=3 * truth.llc_error + 0.002)


# --- tasks -----------------------------------------------------------------------------------

NETS = [
    truths.linear_net((3, 2), 1),
    truths.linear_net((4, 3, 4), 2),
    truths.linear_net((3, 2, 3, 2), 1),
    truths.reduced_rank(4, 2, 3, 1),
    truths.two_layer_local(4, 3, 4, 2, 2, 1),
    truths.two_layer_local(5, 4, 3, 3, 2, 1),
    truths.tanh_net(2),
]


class Potential(torch.nn.Module):
    def __init__(self, task):
        super().__init__()
        self.model = copy.deepcopy(task.model).double()
        self.potential = task.potential

    def forward(self):
        return self.potential(self.model)


def flat(task):
    """L as a function of one vector, and the vector at w*."""
    module = Potential(task)
    shapes = {name: p.shape for name, p in module.named_parameters()}
    start = torch.cat([p.detach().reshape(-1) for p in module.parameters()])

    def loss(w):
        parts = w.split([shape.numel() for shape in shapes.values()])
        named = {k: v.view(s) for (k, s), v in zip(shapes.items(), parts, strict=True)}
        return torch.func.functional_call(module, named, ())

    return loss, start


@pytest.mark.parametrize("truth", NETS, ids=lambda t: t.name)
def test_networks_sit_at_a_zero_and_within_the_free_bracket(truth):
    loss, start = flat(truth.task())
    assert len(start) == truth.dimension
    assert loss(start).item() == pytest.approx(0, abs=1e-9)
    # At a zero the Hessian is 2JᵀJ: rank(J)/2 ≤ λ ≤ d/2.
    hessian = torch.autograd.functional.hessian(loss, start)
    rank = int((torch.linalg.eigvalsh(hessian) > 1e-5).sum())
    assert rank / 2 <= truth.llc <= truth.dimension / 2


@pytest.mark.parametrize("truth", NETS, ids=lambda t: t.name)
def test_data_tasks_sit_at_a_zero_too(truth):
    task = truth.task(n=50)
    inputs, targets = task.data
    assert task.size == 50
    with torch.no_grad():
        assert torch.equal(task.model(inputs), targets)
    assert not torch.equal(truth.task(n=50, seed=1).data[0], inputs)


def test_layers_have_the_ranks_they_are_named_after():
    model = truths.two_layer_local(6, 5, 7, 3, 4, 2).task().model
    ranks = [int(torch.linalg.matrix_rank(w)) for w in model.layers]
    assert ranks == [3, 4]
    assert int(torch.linalg.matrix_rank(model.product(), atol=1e-5)) == 2
    deep = truths.linear_net((6, 4, 5, 6), 2).task().model.layers
    products = [deep[0], deep[1] @ deep[0], deep[2] @ deep[1], deep[2] @ deep[1] @ deep[0]]
    assert [int(torch.linalg.matrix_rank(p, atol=1e-5)) for p in products] == [2, 2, 2, 2]


@pytest.mark.parametrize(("k", "features"), [(5, 5), (6, 6), (7, 7), (8, 8), (5, 7)])
def test_polygons_are_minima_flat_in_one_rotation_and_what_they_leave_out(k, features):
    truth = truths.polygon(k, features)
    loss, start = flat(truth.task())
    assert torch.func.grad(loss)(start).abs().max() < 1e-6
    values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, start))
    assert values.min() > -1e-6
    assert int((values > 1e-4).sum()) == 3 * k - 1 == 2 * truth.llc


def test_polygon_closed_form_is_the_mean_over_data():
    truth = truths.polygon(5, 6)
    task = truth.task(n=200_000)
    x, _ = task.data
    model = truth.task().model
    with torch.no_grad():
        rows = ((model(x) - x) ** 2).sum(1)
        exact = truth.task().potential(model).item()
    assert abs(rows.mean() - exact) < 4 * rows.std() / len(rows) ** 0.5
    # The data's own minimum lies lower on the data.
    with torch.no_grad():
        assert ((task.model(x) - x) ** 2).sum(1).mean() <= rows.mean()


def test_relu_symmetries_leave_the_function_alone():
    plain = truths.relu_net((3, 5, 4, 2)).task().model
    other = truths.relu_net((3, 5, 4, 2), scale=8.0, permuted=True).task().model
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(plain(x), other(x), atol=1e-5)
    assert not torch.equal(plain.weights[0], other.weights[0])
    assert truths.relu_net((3, 5, 4, 2)).expected(10.0, 1.0) is None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: truths.quadratic([]), "eigenvalues"),
        (lambda: truths.quadratic([1.0, -1.0]), "none negative"),
        (lambda: truths.powers([1]), "exponents\\[0\\] is 1"),
        (lambda: truths.powers([2, 2], [1.0]), "expected 2 positive"),
        (lambda: truths.norm_power(2, 0.5), "half_power is 0.5"),
        (lambda: truths.monomial([1], [1]).task(), "no gradient at zero"),
        (lambda: truths.crossing().task(n=10), "without data"),
        (lambda: truths.crossing().expected(0, 1), "n_beta is 0"),
        (lambda: truths.linear_net((4, 2, 4), 3), "narrowest layer"),
        (lambda: truths.two_layer_local(4, 3, 4, 3, 3, 0), "Sylvester"),
        (lambda: truths.tanh_net(0), "hidden is 0"),
        (lambda: truths.polygon(4, 6), "k is 4"),
        (lambda: truths.polygon(6, 5), "features is 5"),
        (lambda: truths.relu_net((3, 2)), "three at least"),
        (lambda: truths.relu_net((3, 2, 3), scale=0.0), "scale is 0.0"),
        (lambda: truths.potential(lambda w: w[..., 0] ** 2 + 1, 1), "at the origin"),
        (lambda: truths.potential(lambda w: w[..., 0] ** 3, 1), "negative"),
        (lambda: truths.potential(lambda w: w[..., 0] ** 2, 3), "1 or 2"),
        (lambda: truths.sum_of(truths.tanh_net(1)), "functions of a point"),
        (truths.product_of, "functions of a point"),
    ],
)
def test_what_cannot_be_built_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()
