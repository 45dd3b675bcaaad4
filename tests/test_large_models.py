"""What large models take instead: gradients in place and in parts, steps in blocks, oneDNN.

Small models stand in for large ones, by limits set low; every number is held against the way that
small models go.
"""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from tiny import labelled, refusal
from torch import nn

import llc
from llc import memory, objective, onednn, params
from llc.execution import Execution
from llc.losses import resolve
from llc.params import NoiseStreams
from llc.posterior import Posterior
from llc.sampling import audit, blocks
from llc.sampling.chains import Streams
from llc.sampling.kernel import Tuning
from llc.sampling.schemes import scheme_for
from llc.surface import LossSurface

SIZE = 60


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 17), nn.Tanh(), nn.Linear(17, 3))


def task(loss="cross_entropy"):
    return llc.Task(network(), labelled(SIZE), loss)


@pytest.fixture
def large(monkeypatch):
    """Models of more than ten weights count as large; blocks are short, and the last one odd."""

    def switch(on=True):
        monkeypatch.setattr(objective, "LARGE", 10 if on else 2**40)

    # Rows of noise are drawn one at a time, as rows as long as a large model's are.
    monkeypatch.setattr(params, "BLOCK", 64)
    monkeypatch.setattr(blocks, "BLOCK", 32)
    switch()
    return switch


def planned(given, part=None, **execution):
    surface = LossSurface(given, execution=Execution(compile="off", **execution))
    surface.plan(2, 20)
    surface.part = part
    return surface


def mean_loss(outputs, targets):
    return F.cross_entropy(outputs, targets)


@pytest.mark.parametrize("part", [None, 1, 7])
@pytest.mark.parametrize("rows", [None, 20])
@pytest.mark.parametrize("loss", ["cross_entropy", mean_loss])
def test_gradients_in_place_are_those_of_copies(large, part, rows, loss):
    if loss is mean_loss and part is not None:
        pytest.skip("a mean cannot be cut into examples")
    generator = torch.Generator().manual_seed(1)
    index = None if rows is None else torch.randint(SIZE, (2, rows), generator=generator)
    direct = planned(task(loss), part)
    delta = 0.1 * torch.randn(2, direct.layout.total, generator=generator)
    large(False)
    plain = planned(task(loss))
    assert direct.lends
    assert not plain.lends
    expected = plain.evaluate(delta, index)
    close = {"rtol": 2e-5, "atol": 1e-6, "equal_nan": True}
    for got, want in zip(direct.evaluate(delta, index), expected, strict=True):
        torch.testing.assert_close(got, want, **close)
    for chain in range(2):
        lent = direct.lend(delta[chain], None if index is None else index[chain])
        for got, want in zip(lent, expected, strict=True):
            torch.testing.assert_close(got[0], want[chain], **close)
    torch.testing.assert_close(direct.rise(delta, index), expected.rise, **close)
    torch.testing.assert_close(direct.full_gradient(), plain.full_gradient(), **close)
    torch.testing.assert_close(
        direct.gradient_in_parts(delta[:1], 13), plain.gradient_in_parts(delta[:1], 60), **close
    )


def test_a_lent_gradient_is_overwritten_and_an_evaluated_one_is_not(large):
    surface = planned(task())
    delta = torch.full((1, surface.layout.total), 0.1)
    kept = surface.evaluate(delta, None).gradient
    before = kept.clone()
    lent = surface.lend(delta[0], None).gradient
    torch.testing.assert_close(lent, kept)
    surface.lend(3 * delta[0], None)
    assert torch.equal(kept, before)
    assert not torch.allclose(lent, before)


@pytest.mark.parametrize("part", [None, 6])
@pytest.mark.parametrize("sampler", ["sgld", "sgld-lm", "sgld-rmsprop", "kinetic"])
def test_blocks_are_the_kernel_to_the_bit(large, sampler, part):
    scheme, posterior = scheme_for(sampler), Posterior(planned(task(), part), 30.0, 100.0)
    tuning = Tuning(30.0, 100.0, 1e-2, 3.0)
    found = []
    for kernel in (scheme.build(posterior.evaluate, tuning.numbers, tuning),
                   blocks.in_blocks(posterior, scheme, tuning)):  # fmt: skip
        streams = Streams.open(posterior, 5, 2, 20)
        state, infos = kernel.init(posterior.start(2)), []
        for _ in range(6):
            state, info = kernel.step(state, streams.batch(), streams.step_noise(kernel))
            infos.append(info)
        found.append((state, infos))
    (plain, slow), (cut, fast) = found
    assert all(torch.equal(a, b) for a, b in zip(plain, cut, strict=True))
    assert plain.displacement.std() > 0.01
    for a, b in zip(slow, fast, strict=True):
        torch.testing.assert_close(tuple(a), tuple(b), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("part", [None, 6])
@pytest.mark.parametrize("sampler", ["sgld", "sgld-lm", "sgld-rmsprop", "kinetic", "sgnht", "mala"])
def test_estimates_are_those_of_small_models(large, sampler, part):
    batch = None if sampler == "mala" else 20
    given = {"n_beta": 30.0, "gamma": 100.0, "sampler": sampler, "step_size": 1e-3, "chains": 3,
             "draws": 40, "burn_in": 10, "batch_size": batch, "compile": "off"}  # fmt: skip
    found = llc.estimate(task(), **given)
    assert "so large a model" in found.execution
    large(False)
    expected = llc.estimate(task(), **given)
    assert found.trace == pytest.approx(expected.trace, rel=1e-3, abs=1e-4)
    assert expected.trace.std() > 0.01
    # Curvature is looked at from another direction, by other batches.
    for name in ("stiffness", "heat", "discretisation"):
        got, want = getattr(found, name), getattr(expected, name)
        assert got == pytest.approx(want, rel=0.7, abs=0.05, nan_ok=True), name


def test_a_step_that_is_chosen_is_chosen_as_for_small_models(large):
    given = {"n_beta": 30.0, "gamma": 100.0, "chains": 2, "draws": 30, "burn_in": 60,
             "batch_size": 20, "compile": "off"}  # fmt: skip
    found = llc.estimate(task(), **given)
    large(False)
    expected = llc.estimate(task(), **given)
    assert found.settings.step_size == expected.settings.step_size
    assert found.trace == pytest.approx(expected.trace, rel=1e-2, abs=1e-3)


def test_one_chain_after_another_reads_curvature_and_gradient_noise(large):
    """Against the gradients it saw, and against the largest eigenvalue of a known Hessian."""
    x = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    net = nn.Linear(30, 1, bias=False)
    surface = planned(llc.Task(net, (x, torch.zeros(40, 1)), "mse"))
    posterior, seen = Posterior(surface, 30.0, 5.0), []

    def lend(place, row):
        found = posterior.lend(place, row)
        seen.append(found.gradient[0].clone())
        return found

    watched = SimpleNamespace(
        surface=surface, gamma=5.0, n_beta=30.0, dimension=posterior.dimension, lend=lend
    )
    iteration = audit._Iteration(watched, 0)
    start = 0.1 * torch.ones_like(surface.centre)
    squares = iteration.run(start, list(torch.arange(40).split(8)))
    gradients = torch.stack(seen[::2])
    assert squares == pytest.approx(float((gradients - gradients.mean(0)).square().sum()), rel=1e-4)
    torch.testing.assert_close(iteration.mean, gradients.mean(0))
    iteration.run(start, [None] * 100)
    largest = 30.0 * 2 * torch.linalg.eigvalsh(x.T @ x / 40)[-1] + 5.0
    assert iteration.largest == pytest.approx(float(largest), rel=0.02)


@pytest.mark.parametrize("size", [17, 64, 64 + 15, 64 + 16, 2309])
def test_noise_in_pieces_is_the_row(monkeypatch, size):
    monkeypatch.setattr(params, "BLOCK", 1)
    monkeypatch.setattr(blocks, "BLOCK", 32)
    whole, pieces = NoiseStreams(3, "noise", 2), NoiseStreams(3, "noise", 2)
    for _ in range(3):
        row = whole.normal(size)
        for chain in range(2):
            found = torch.empty(size)
            for piece in blocks._pieces(size):
                pieces.fill(chain, found[piece])
            assert torch.equal(found, row[chain])


def test_large_gradients_are_cut_where_they_keep_much(large, monkeypatch):
    surface = LossSurface(task(), execution=Execution(compile="off"))
    assert "parts" not in surface.plan(2, 40)
    _, kept = memory.chain_bytes(surface._objective, 40)
    monkeypatch.setattr(memory, "WORTH_OF_A_PART", 0)
    monkeypatch.setattr(memory, "MOST_KEPT_OF_LARGE", kept / memory.BACKWARD / 4)
    words = surface.plan(2, 40)
    assert f"gradients of 40 examples summed over parts of {surface.part}" in words
    assert surface.part is not None
    assert 5 <= surface.part <= 10


def test_the_users_model_keeps_its_own_memory(large):
    model = network()
    given = llc.Task(model, labelled(SIZE), "cross_entropy")
    before = {k: (v.data_ptr(), v.clone()) for k, v in model.state_dict().items()}
    surface = planned(given)
    surface.lend(torch.ones(surface.layout.total), None)
    assert all(v.data_ptr() == before[k][0] for k, v in model.state_dict().items())
    assert all(torch.equal(v, before[k][1]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    # The private copy's weights, though, are w* itself.
    assert sum(p.numel() for p in surface._objective.module.parameters()) == len(surface.centre)
    ours = next(surface._objective.module.parameters())
    assert ours.untyped_storage().data_ptr() == surface.centre.untyped_storage().data_ptr()


def test_a_loss_without_a_gradient_is_refused(large):
    def errors(outputs, targets):
        return (outputs.argmax(1) != targets).float()

    assert "no gradient" in refusal(lambda: planned(task(errors)))


def test_control_variates_go_their_own_way(large):
    posterior = Posterior(planned(task()), 30.0, 100.0, control_variate=True)
    assert not blocks.suits(posterior, scheme_for("sgld"))
    given = {"n_beta": 30.0, "gamma": 100.0, "step_size": 1e-3, "burn_in": 5, "draws": 20,
             "batch_size": 20, "compile": "off", "control_variate": True}  # fmt: skip
    found = llc.estimate(task(), **given)
    large(False)
    assert found.trace == pytest.approx(llc.estimate(task(), **given).trace, rel=1e-3, abs=1e-4)


def test_language_models_losses_do_not_depend_on_the_order_in_memory():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 6, 11, generator=generator, requires_grad=True)
    targets = torch.randint(11, (4, 6), generator=generator)
    targets[1, 2:] = -100
    seen = logits.transpose(1, 2)
    assert seen.stride(1) == 1
    for view in (seen, seen.contiguous()):
        expected = F.cross_entropy(view, targets, reduction="none").mean(1)
        found = resolve("cross_entropy").function(view, targets)
        torch.testing.assert_close(found, expected)
    (slow,) = torch.autograd.grad(expected.sum(), logits, retain_graph=True)
    (fast,) = torch.autograd.grad(resolve("cross_entropy").function(seen, targets).sum(), logits)
    torch.testing.assert_close(fast, slow)


@pytest.fixture
def products(monkeypatch):
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(onednn, "LEAST", 1)
    calls = []
    product = onednn._product
    monkeypatch.setattr(onednn, "_product", lambda *a: calls.append(1) or product(*a))
    return calls


@pytest.mark.parametrize("shape", [(9,), (2, 9), (3, 2, 9)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["linear", "addmm"])
def test_products_by_onednn_are_those_of_float64(products, shape, bias, kind):
    if kind == "addmm" and (not bias or len(shape) != 2):
        pytest.skip("addmm has a bias and matrices")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, generator=generator, requires_grad=True)
    w = torch.randn(5, 9, generator=generator, requires_grad=True)
    b = torch.randn(5, generator=generator, requires_grad=True) if bias else None
    leaves = [x, w, b] if bias else [x, w]
    with onednn.linear_layers():
        y = F.linear(x, w, b) if kind == "linear" else torch.addmm(b, x, w.t())
    found = [y, *torch.autograd.grad(y.sin().sum(), leaves)]
    assert len(products) == 3
    doubles = [leaf.detach().double().requires_grad_() for leaf in leaves]
    y = F.linear(*doubles)
    expected = [y, *torch.autograd.grad(y.sin().sum(), doubles)]
    for got, want in zip(found, expected, strict=True):
        assert got.shape == want.shape
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)


def test_only_what_onednn_is_faster_at_is_given_to_it(products):
    with onednn.linear_layers():
        assert F.linear(torch.ones(2, 3).double(), torch.ones(4, 3).double()).dtype is torch.double
        with torch.autocast("cpu", torch.bfloat16):
            assert F.linear(torch.ones(2, 3), torch.ones(4, 3)).dtype is torch.bfloat16
        weights = torch.ones(2, 4, 3)
        stacked = torch.func.vmap(lambda w: F.linear(torch.ones(2, 3), w))(weights)
        assert torch.equal(stacked, torch.full((2, 2, 4), 3.0))
    assert not products
    F.linear(torch.ones(2, 3), torch.ones(4, 3))
    assert not products


def test_a_large_model_uses_them_unless_told_not_to(large, products, monkeypatch):
    monkeypatch.setattr(onednn, "is_faster", lambda: True)
    plain = planned(task())
    delta = torch.full((plain.layout.total,), 0.1)
    expected = plain.lend(delta, None)
    assert not products
    surface = LossSurface(task())
    surface.plan(2, 20)
    products.clear()
    found = surface.lend(delta, None)
    assert products
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


def test_gradients_of_gradients_are_right(products):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, generator=generator, requires_grad=True)
    w = torch.randn(4, 3, generator=generator, requires_grad=True)

    def penalty():
        (slope,) = torch.autograd.grad(F.linear(x, w).sin().sum(), x, create_graph=True)
        return torch.autograd.grad((slope**2).sum(), (x, w))

    with onednn.linear_layers():
        found = penalty()
    assert products
    for got, want in zip(found, penalty(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
