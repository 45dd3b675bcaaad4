"""Curvature against dense matrices, closed forms and truths; brackets around known coefficients."""

import copy
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import labelled, linear, real_valued, refusal
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import llc
from llc import truths
from llc.estimation.products import Products
from llc.estimation.spectrum import Spectrum, lanczos, leading
from llc.objective import Objective


def net(seed=0, inputs=3, hidden=5, outputs=2):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


def own_targets(model, count=40, inputs=3):
    x = torch.randn(count, inputs, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return x, model(x)


def flat_outputs(model, inputs):
    """Outputs as a function of one vector in float64, and the vector at w*."""
    model = copy.deepcopy(model).double().eval()
    double = {k: p.detach() for k, p in model.named_parameters()}

    def outputs(w):
        parts = w.split([p.numel() for p in double.values()])
        named = {k: v.view_as(p) for (k, p), v in zip(double.items(), parts, strict=True)}
        return torch.func.functional_call(model, named, (inputs.double(),))

    return outputs, torch.cat([p.reshape(-1) for p in double.values()])


def dense_matrices(model, data, loss):
    """Hessian and Gauss-Newton matrix by torch's own dense functions."""
    x, y = data
    outputs, w = flat_outputs(model, x)
    y = y.double() if y.is_floating_point() else y
    # Attention has second derivatives only where it is written out.
    with sdpa_kernel(SDPBackend.MATH):
        hessian = torch.autograd.functional.hessian(lambda v: loss(outputs(v), y), w)
        f = outputs(w).detach()
        jacobian = torch.autograd.functional.jacobian(outputs, w).reshape(f.numel(), -1)
    by_outputs = torch.autograd.functional.hessian(lambda v: loss(v.view_as(f), y), f.reshape(-1))
    return hessian, jacobian.T @ by_outputs @ jacobian


CASES = {
    "cross_entropy": (labelled(), F.cross_entropy),
    "mse": (real_valued(), F.mse_loss),
}


@pytest.mark.parametrize("loss", CASES)
@pytest.mark.parametrize("matrix", ["hessian", "ggn"])
@pytest.mark.parametrize("exact", [True, False])
def test_eigenvalues_and_sums_are_those_of_the_dense_matrix(loss, matrix, exact):
    data, function = CASES[loss]
    dense = dense_matrices(net(), data, function)[("hessian", "ggn").index(matrix)]
    h = torch.linalg.eigvalsh(dense).numpy()[::-1]
    found = llc.curvature(
        net(), data, loss, matrix=matrix, exact=exact, top=4, probes=200, gamma=1.0, n_beta=50.0
    )
    assert found.matrix == matrix
    assert (found.dimension, found.exact, found.dtype) == (len(h), exact, "float64")
    assert found.eigenvalues == pytest.approx(h[:4], rel=1e-8)
    # 32 parameters: 28 Lanczos steps leave no quadrature error, and the error is the probes' own.
    held = np.maximum(h, 0) / (np.maximum(h, 0) + 0.02)
    expected = {
        "trace": (found.trace, found.trace_se, h.sum()),
        "ratio": (
            found.participation_ratio,
            found.participation_ratio_se,
            h.sum() ** 2 / (h**2).sum(),
        ),
        "N_eff": (*found.effective_dimension(), held.sum()),
        "rank": (found.rank, found.rank_se, (h > found.tolerance).sum()),
    }
    for name, (value, error, truth) in expected.items():
        assert (error == 0) == exact, name
        assert abs(value - truth) < 5 * error + 1e-8, name
        assert error < 0.25 * abs(truth), name
    assert found.smallest == pytest.approx(h[-1], abs=1e-6)


def test_the_two_matrices_differ_where_residuals_do_not_vanish():
    data, function = CASES["mse"]
    hessian, ggn = dense_matrices(net(), data, function)
    assert (hessian - ggn).norm() > 0.1 * ggn.norm()
    assert llc.curvature(net(), data, "mse", matrix="hessian").smallest < -0.01
    assert llc.curvature(net(), data, "mse", matrix="ggn").smallest > -1e-12
    # A loss of (outputs, targets) has outputs, and their matrix is the default.
    assert llc.curvature(net(), data, "mse").matrix == "ggn"


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_the_two_matrices_agree_at_zero_residual(loss):
    model = net()
    data = (own_targets(model)[0], labelled()[1]) if loss != "mse" else own_targets(model)
    behavioural = loss == "cross_entropy"
    given = {"gamma": 1.0, "behavioural": behavioural, "top": 32}
    hessian, ggn = (
        llc.curvature(model, data, loss, matrix=matrix, **given) for matrix in ("hessian", "ggn")
    )
    assert hessian.eigenvalues == pytest.approx(ggn.eigenvalues, abs=1e-6 * ggn.eigenvalues[0])
    # Logits all together leave the loss alone: six of twelve last weights and all before them.
    assert ggn.rank == {"mse": 32, "cross_entropy": 26}[loss] >= hessian.rank


@pytest.mark.parametrize("matrix", ["hessian", "ggn"])
def test_chunks_and_sides_do_not_change_a_product(matrix):
    task = llc.Task(net().double(), tuple(t.double() for t in real_valued()), "mse")
    vectors = torch.randn(5, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = Products(Objective(task), matrix, 1e9)
    parts = Products(Objective(task), matrix, 1e9)
    parts.examples, parts.side = 7, 2
    tight = Products(Objective(task), matrix, 4_000)
    assert tight.examples < 40 == whole.examples
    assert tight.side < whole.side
    expected = whole(vectors)
    assert whole.count == 5
    for other in (parts, tight):
        assert torch.allclose(expected, other(vectors), atol=1e-12)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("n_beta", "gamma"), [(100.0, 1.0), (1e4, 1.0), (30.0, 10.0)])
def test_effective_dimension_of_a_quadratic_is_twice_the_exact_expectation(n_beta, gamma, exact):
    h = np.geomspace(1e-3, 1e2, 200)
    truth = truths.quadratic(h)
    found = llc.curvature(
        truth.task(), n_beta=n_beta, gamma=gamma, exact=exact, steps=100, probes=4
    )
    value, error = found.effective_dimension()
    assert abs(value / 2 - truth.expected(n_beta, gamma)) < error + 1e-9
    assert error < 0.002 * value
    assert (error == 0) == exact
    assert found.effective_dimension(gamma / n_beta) == (value, error)
    # Signs in an eigenbasis of coordinates have no variance: the trace is exact by either way.
    assert found.trace == pytest.approx(h.sum(), rel=1e-9)
    assert found.participation_ratio == pytest.approx(h.sum() ** 2 / (h**2).sum(), rel=1e-9)


def test_too_few_lanczos_steps_show_in_the_error():
    h = np.geomspace(1e-6, 1.0, 300)
    truth = truths.quadratic(h)
    found = llc.curvature(truth.task(), n_beta=1e5, gamma=1.0, exact=False, steps=12, top=2)
    value, error = found.effective_dimension()
    off = abs(value - 2 * truth.expected(1e5, 1.0))
    assert 1 < off < 3 * error < 3 * value


def rotated(h, seed=0):
    """A potential with eigenvalues h in a random basis."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(h), len(h), generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(noise)[0]
    matrix = basis @ torch.diag(torch.tensor(h, dtype=torch.float64)) @ basis.T
    point = truths.quadratic([1.0] * len(h)).task().model
    return llc.Task(point, potential=lambda m: m.w @ matrix @ m.w / 2)


@pytest.mark.slow
def test_errors_of_probes_cover():
    h = np.concatenate([np.geomspace(1e-3, 10, 120), np.zeros(80)])
    task = rotated(h)
    alpha, scores, counts = 0.02, [], []
    truth = (h / (h + alpha)).sum()
    for seed in range(24):
        found = llc.curvature(task, exact=False, seed=seed, steps=60, top=5)
        value, error = found.effective_dimension(alpha)
        scores.append(
            [
                (value - truth) / error,
                (found.trace - h.sum()) / found.trace_se,
                (found.participation_ratio - h.sum() ** 2 / (h**2).sum())
                / found.participation_ratio_se,
            ]
        )
        counts.append(abs(found.rank - 120) < 4 * found.rank_se)
        assert error < 0.05 * truth
    spread = np.square(scores).mean(0) ** 0.5
    assert (spread > 0.6).all()
    assert (spread < 1.6).all()
    assert all(counts)


def test_leading_eigenvectors_take_variance_off():
    h = np.concatenate([np.linspace(40, 60, 20), np.geomspace(1e-3, 1, 180)])
    task = rotated(h)
    few, many = (llc.curvature(task, exact=False, top=top) for top in (1, 20))
    assert many.trace_se < 0.2 * few.trace_se
    assert abs(many.trace - h.sum()) < 5 * many.trace_se


@pytest.mark.parametrize("count", [1, 3, 12])
def test_participation_ratio_and_rank_count_equal_eigenvalues(count):
    task = truths.quadratic([2.0] * count + [0.0] * 5).task()
    found = llc.curvature(task)
    assert found.participation_ratio == pytest.approx(count)
    assert (found.rank, found.trace) == (count, pytest.approx(2.0 * count))
    assert llc.curvature(task, tolerance=2.5).rank == 0


def test_a_krylov_space_that_ends_early_is_whole():
    matrix = torch.diag(torch.tensor([3.0, 3.0, 1.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    start = torch.ones((2, 6), dtype=torch.float64)
    start[1, 0] = -1
    parts = lanczos(lambda v: v @ matrix, start, 6, start.new_zeros((0, 6)))
    spectrum = Spectrum(np.zeros(0), *parts)
    assert np.isfinite(parts[1]).all()
    assert spectrum.by_probe(lambda h: h) == pytest.approx([7, 7])
    assert spectrum.by_probe(lambda h: np.sqrt(abs(h))) == pytest.approx([2 * 3**0.5 + 1] * 2)
    assert spectrum.smallest == pytest.approx(0, abs=1e-12)


def test_a_matrix_of_zeros_has_nothing_to_lead():
    values, vectors = leading(torch.zeros_like, torch.ones(50, dtype=torch.float64), 3)
    assert len(values) == len(vectors)
    assert abs(values).max(initial=0) < 1e-12
    found = llc.curvature(truths.crossing().task(), gamma=1.0, n_beta=10.0)
    assert (found.rank, found.trace, found.effective_dimension()) == (0, 0, (0.0, 0.0))
    assert math.isnan(found.participation_ratio)
    assert found.to_dict()["participation_ratio"] is None


# --- the bracket -----------------------------------------------------------------------------

MINIMALLY_SINGULAR = [
    truths.linear_net((3, 2), 1),
    truths.linear_net((4, 2, 4), 2),
    truths.linear_net((3, 2, 2, 3), 2),
    truths.two_layer_local(5, 4, 3, 3, 2, 1),
    truths.polygon(5, 5),
]
NETS = [
    *MINIMALLY_SINGULAR,
    truths.linear_net((4, 3, 4), 2),
    truths.linear_net((10, 10, 10, 10), 3),
    truths.reduced_rank(4, 3, 3, 0),
    truths.two_layer_local(4, 3, 4, 2, 2, 1),
    truths.tanh_net(2),
    truths.polygon(5, 7),
    truths.crossing(),
    truths.quadratic([3.0, 1.0, 0.0]),
]


@pytest.mark.parametrize("truth", NETS, ids=lambda t: t.name)
def test_bracket_holds_the_coefficient(truth):
    low, high = llc.bracket(truth.task())
    assert low <= truth.llc <= high == truth.dimension / 2


@pytest.mark.parametrize("truth", MINIMALLY_SINGULAR, ids=lambda t: t.name)
def test_lower_end_is_the_coefficient_where_minimally_singular(truth):
    assert llc.bracket(truth.task())[0] == truth.llc
    assert llc.curvature(truth.task(), tolerance=1e-5).rank == 2 * truth.llc


@pytest.mark.parametrize("truth", [NETS[1], NETS[3], NETS[5], NETS[9]], ids=lambda t: t.name)
def test_outputs_on_data_give_the_bracket_of_the_population(truth):
    # One by the Jacobian of the outputs over 1,200 rows, the other by the potential's Hessian.
    assert llc.bracket(truth.task(n=300)) == llc.bracket(truth.task())


def test_few_examples_lower_the_lower_end():
    truth = truths.linear_net((4, 3, 4), 2)
    low, _ = llc.bracket(truth.task(n=2))
    assert low == 2 * 4 / 2  # two examples of four outputs


def test_rank_of_a_relu_net_misses_its_rescalings():
    # Every hidden unit can be scaled up before and down after the ReLU: one flat direction each.
    truth = truths.relu_net((4, 6, 5, 3))
    low, high = llc.bracket(truth.task(n=400))
    assert (low, high) == ((truth.dimension - 11) / 2, truth.dimension / 2)


def test_logits_all_together_are_not_counted():
    # Two classes, three inputs and a bias: a logistic regression of four parameters, not eight.
    for model in (linear().double(), linear()):
        inputs, labels = labelled()
        data = inputs.to(model.weight), labels
        assert llc.bracket(model, data, "cross_entropy", behavioural=True) == (2.0, 4.0)
    assert llc.bracket(model, own_targets(model), "mse") == (4.0, 4.0)


def test_a_point_only_near_a_zero_does_not_raise_the_lower_end():
    class Product(nn.Module):
        def __init__(self, off):
            super().__init__()
            self.w = nn.Parameter(torch.tensor([off, off, 0.0], dtype=torch.float64))

        def forward(self, x):
            return x * self.w[:2].prod() + x**2 * self.w[2]

    x = torch.linspace(-1, 1, 20, dtype=torch.float64)
    for off in (0.0, 1e-4, 1e-2):
        # Zeros at xy = z = 0, λ = ½ + ½: near them the Jacobian has rank 2, the Hessian 3.
        squares = lambda m: (m(x) ** 2).mean()
        assert llc.bracket(Product(off), potential=squares)[0] <= 1
        assert llc.bracket(Product(off), (x, 0 * x), lambda y, t: (y - t) ** 2)[0] <= 1


# --- models, process, input ------------------------------------------------------------------


class Squares(torch.autograd.Function):
    """x² whose derivative torch can take twice, but not for many vectors at once."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return 2 * x * slope


class Once(Squares):
    backward = staticmethod(torch.autograd.function.once_differentiable(Squares.backward))


class Custom(nn.Linear):
    function = torch.square

    def forward(self, inputs):
        return type(self).function(super().forward(inputs))


class CustomTwice(Custom):
    function = Squares.apply


class CustomOnce(Custom):
    function = Once.apply


def test_operations_without_batching_rule_take_one_vector_after_another():
    plain, custom = Custom(3, 2), CustomTwice(3, 2)
    custom.load_state_dict(plain.state_dict())
    for matrix in ("hessian", "ggn"):
        one, other = (
            llc.curvature(model, real_valued(), "mse", matrix=matrix) for model in (plain, custom)
        )
        assert other.eigenvalues == pytest.approx(one.eigenvalues, rel=1e-9)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 4, 2)
        self.norm = nn.BatchNorm1d(4)
        self.block = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, dropout=0.3)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.block(self.norm(self.conv(x[:, None])).mT)[:, 0])


@pytest.mark.parametrize("matrix", ["hessian", "ggn"])
def test_convolution_attention_and_norms_have_their_dense_trace(matrix):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Attention()
    found = llc.curvature(model, labelled(), "cross_entropy", matrix=matrix)
    dense = dense_matrices(model.eval(), labelled(), F.cross_entropy)
    expected = dense[("hessian", "ggn").index(matrix)].trace().item()
    assert found.trace == pytest.approx(expected, rel=1e-6)


def test_model_and_process_are_left_alone():
    model = nn.Sequential(net(), nn.Dropout(0.5), nn.BatchNorm1d(2))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(5)
    np.random.seed(5)
    states = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    with torch.no_grad():
        llc.curvature(model, labelled(), "cross_entropy", exact=False, probes=2, steps=4, top=2)
        llc.bracket(model, labelled(), "cross_entropy", behavioural=True)
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.dtype == torch.float32 for p in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()


def test_the_seed_decides_the_probes():
    given = {"exact": False, "probes": 3, "steps": 8, "top": 2}
    one, same, other = (
        llc.curvature(net(), real_valued(), "mse", seed=seed, **given) for seed in (0, 0, 1)
    )
    assert one.trace == same.trace != other.trace
    assert one.eigenvalues == pytest.approx(other.eigenvalues, rel=1e-8)


def test_a_loss_that_holds_single_precision_is_computed_in_it():
    mixing = torch.eye(2)

    def loss(outputs, targets):
        return ((outputs @ mixing - targets) ** 2).mean(1)

    found = llc.curvature(net(), real_valued(), loss, n_beta=10.0, gamma=1.0)
    double = llc.curvature(net(), real_valued(), "mse", n_beta=10.0, gamma=1.0)
    assert (found.dtype, double.dtype) == ("float32", "float64")
    assert found.eigenvalues[:3] == pytest.approx(double.eigenvalues[:3], rel=1e-4)
    assert found.effective_dimension()[0] == pytest.approx(
        double.effective_dimension()[0], rel=1e-3
    )
    assert found.rank <= double.rank
    x, y = (t.bfloat16() for t in real_valued())
    mixing = mixing.bfloat16()
    assert "write model.float()" in refusal(lambda: llc.curvature(net().bfloat16(), (x, y), loss))


def test_a_result_says_what_it_found():
    found = llc.curvature(net(), real_valued(), "mse", gamma=2.0)
    assert found.n_beta == pytest.approx(40 / math.log(40))
    assert found.alpha == 2.0 / found.n_beta
    text = str(found)
    assert all(word in text for word in ("ggn", "N_eff", "trace", "participation", "of 32"))
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["effective_dimension"] == found.effective_dimension()[0]
    assert "N_eff" not in str(llc.curvature(net(), real_valued(), "mse"))


def big():
    return nn.Linear(50, 50)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda d: llc.curvature(net(), d, "mse", matrix="fisher"), "matrix is 'fisher'"),
        (lambda d: llc.curvature(net(), d, "mse", gamma=0.0), "gamma is 0.0"),
        (lambda d: llc.curvature(net(), d, "mse", n_beta=-1), "n_beta is -1"),
        (lambda d: llc.curvature(net(), d, "mse", probes=1), "probes is 1"),
        (lambda d: llc.curvature(net(), d, "mse", top=0), "top is 0"),
        (lambda d: llc.curvature(net(), d, "mse", device="nowhere"), "device is 'nowhere'"),
        (lambda d: llc.curvature(net(), d, "mse").effective_dimension(), "alpha is not given"),
        (lambda d: llc.curvature(net(), d, "mse").effective_dimension(0), "alpha is 0"),
        (lambda d: llc.curvature(llc.Task(net(), d, "mse"), d), "drop data"),
        (lambda d: llc.curvature(CustomOnce(3, 2), d, "mse"), "differentiated once only"),
        (
            lambda d: llc.curvature(CustomOnce(3, 2), d, "mse", matrix="hessian"),
            "differentiated once only",
        ),
        (
            lambda d: llc.curvature(
                net(), d, batch_loss=lambda m, b: F.mse_loss(m(b[0]), b[1]), matrix="ggn"
            ),
            "write matrix='hessian'",
        ),
        (lambda d: llc.curvature(nn.Linear(200, 150), d, "mse", exact=True), "failed on a batch"),
        (
            lambda _: llc.curvature(
                nn.Linear(200, 150), (torch.zeros(3, 200), torch.zeros(3, 150)), "mse", exact=True
            ),
            "leave exact out",
        ),
        (lambda d: llc.bracket(big(), d, "mse"), "2550 parameters, expected 2000 at most"),
        (lambda d: llc.bracket(net(), d, "mse"), "behavioural=True"),
        (lambda d: llc.bracket(net(), labelled(), "cross_entropy"), "behavioural=True"),
        (
            lambda d: llc.bracket(net(), d, batch_loss=lambda m, b: F.mse_loss(m(b[0]), b[1])),
            "no minimum",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(call, words):
    assert words in refusal(lambda: call(real_valued()))
