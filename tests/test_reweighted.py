"""A module called at other weights: all names of a weight follow, and the module's own stay."""

import pytest
import torch
from test_models import Twice
from torch import nn
from torch.func import grad, vmap

from llc.reweighted import Reweighted


def by_hand(x, weights):
    first, offset = weights["first.weight"], weights["first.bias"]
    x = torch.tanh(torch.tanh(x @ first.T + offset) @ first.T + offset)
    head = weights["reader.weight"]
    return x @ head.T + weights["head.bias"] - 2 * x @ head.T - weights["reader.bias"]


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Twice().double()


def other(model):
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(p.shape, generator=generator, dtype=p.dtype)
        for name, p in model.named_parameters()
    }


def test_tied_weights_and_layers_used_twice_follow(model):
    x, weights = torch.randn(5, 4, dtype=torch.float64), other(model)
    torch.testing.assert_close(Reweighted(model)(weights, x), by_hand(x, weights))


def test_the_module_keeps_its_own_weights(model):
    before = dict(model.named_parameters(remove_duplicate=False))
    values = {name: p.detach().clone() for name, p in before.items()}
    Reweighted(model)(other(model), torch.randn(5, 4, dtype=torch.float64))
    after = dict(model.named_parameters(remove_duplicate=False))
    assert list(after) == list(before)
    for name, p in after.items():
        assert p is before[name]
        assert torch.equal(p, values[name])


def test_also_where_the_call_fails(model):
    before = dict(model.named_parameters())
    with pytest.raises(RuntimeError):
        Reweighted(model)(other(model), torch.randn(5, 7, dtype=torch.float64))
    assert all(p is before[name] for name, p in model.named_parameters())


def test_weights_not_given_are_the_module_s_own(model):
    x = torch.randn(5, 4, dtype=torch.float64)
    own = {name: p.detach() for name, p in model.named_parameters()}
    given = {"first.bias": other(model)["first.bias"]}
    found = Reweighted(model)(given, x)
    torch.testing.assert_close(found, by_hand(x, own | given))


def test_gradients_under_vmap_leave_nothing_behind(model):
    x, weights = torch.randn(5, 4, dtype=torch.float64), other(model)
    call = Reweighted(model)
    stacked = {name: torch.stack([w, 2 * w]) for name, w in weights.items()}
    found = vmap(grad(lambda w: call(w, x).square().sum()))(stacked)
    leaf = {name: (2 * w).requires_grad_() for name, w in weights.items()}
    expected = torch.autograd.grad(by_hand(x, leaf).square().sum(), list(leaf.values()))
    for name, one in zip(leaf, expected, strict=True):
        torch.testing.assert_close(found[name][1], one)
    assert all(type(p) is nn.Parameter for p in model.parameters())
