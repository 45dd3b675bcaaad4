"""Nets with batch norm: statistics frozen as saved, each checkpoint's own, never touched."""

import copy

import pytest
import torch
from pictures import images, residual
from torch import nn
from torch.utils.data import TensorDataset

import llc
from llc.surface import LossSurface
from llc.trajectory import trace

FAST = {"gamma": 30.0, "chains": 2, "draws": 30, "burn_in": 10, "step_size": 0.01}
DATA = images(200)


def task(net=None):
    return llc.Task(residual() if net is None else net, TensorDataset(*DATA), "cross_entropy")


def shifted(net):
    """The same net with batch norm written out as the affine map it is in eval mode."""
    found = copy.deepcopy(net).eval()

    class Affine(nn.Module):
        def __init__(self, norm):
            super().__init__()
            self.weight, self.bias = norm.weight, norm.bias
            shape = (1, -1, 1, 1)
            self.register_buffer("mean", norm.running_mean.view(shape))
            self.register_buffer("deviation", (norm.running_var + norm.eps).sqrt().view(shape))

        def forward(self, x):
            shape = (1, -1, 1, 1)
            scaled = (x - self.mean) / self.deviation
            return scaled * self.weight.view(shape) + self.bias.view(shape)

    found[1], found[3].norm = Affine(found[1]), Affine(found[3].norm)
    return found


@pytest.mark.parametrize("training", [True, False])
def test_statistics_are_neither_used_up_nor_changed(training):
    net = residual().train(training)
    before = copy.deepcopy(net.state_dict())
    first = llc.estimate(task(net), **FAST)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert net.training is training
    assert int(before["1.num_batches_tracked"]) == 5
    # In either mode of the user's net the estimate is that of the net in eval mode.
    assert first.llc == llc.estimate(task(residual().eval()), **FAST).llc


def test_frozen_statistics_make_an_affine_map():
    net = residual()
    found, expected = (llc.estimate(task(n), **FAST) for n in (net, shifted(net)))
    assert found.baseline == pytest.approx(expected.baseline, rel=1e-6)
    assert found.llc == pytest.approx(expected.llc, rel=1e-3)
    assert abs(found.llc) > 0.1


def test_chains_side_by_side_and_one_by_one_agree():
    surface = LossSurface(task())
    assert surface.vectorised, surface.why_not_vectorised
    generator = torch.Generator().manual_seed(3)
    delta = 0.05 * torch.randn(3, surface.layout.total, generator=generator)
    index = torch.randint(200, (3, 16), generator=generator)
    surface.side_by_side = 3
    stacked = surface.evaluate(delta, index)
    surface.side_by_side = 1
    for got, expected in zip(stacked, surface.evaluate(delta, index), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_each_checkpoint_has_statistics_of_its_own():
    nets = [residual(batches) for batches in (1, 20)]
    run = [(k, net.state_dict()) for k, net in enumerate(nets, 1)]
    # Weights that are equal, so that the statistics are all there is.
    assert torch.equal(run[0][1]["0.weight"], run[1][1]["0.weight"])
    found = trace(task(), run, **FAST)
    alone = [llc.estimate(task(net), **FAST) for net in nets]
    assert [p.estimate.baseline for p in found.points] == [e.baseline for e in alone]
    assert found.points[0].estimate.baseline != found.points[1].estimate.baseline
    assert list(found.llc) == [e.llc for e in alone]
