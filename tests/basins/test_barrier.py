"""Barriers along straight lines, against losses worked out by hand."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import labelled, linear, real_valued, refusal
from torch import nn
from valleys import at, potential, ring

import llc
from llc.trajectory.basins import landscape


def test_across_a_ring_the_barrier_is_its_hill():
    found = llc.barrier(ring(), at(1, 0), at(-1, 0), points=21)
    np.testing.assert_allclose(found.loss, ((1 - 2 * found.t) ** 2 - 1) ** 2, atol=1e-6)
    assert (found.height, found.rise, found.peak) == (pytest.approx(1), pytest.approx(1), 0.5)
    assert found.loss[0] == found.loss[-1] == 0
    assert "barrier 1 at t = 0.50" in str(found)


def test_height_is_above_the_line_between_the_ends_and_rise_above_the_higher():
    found = llc.barrier(ring(), at(1, 0), at(-1.5, 0), points=301)
    t = np.linspace(0, 1, 301)
    loss = ((1 - 2.5 * t) ** 2 - 1) ** 2
    assert loss[-1] == 1.5625
    np.testing.assert_allclose(found.loss, loss, atol=1e-5)
    assert found.height == pytest.approx((loss - 1.5625 * t).max(), abs=1e-5)
    assert 0.4 < found.height < 1
    assert found.rise == 0


def test_linear_regression_has_a_dip_and_no_barrier():
    inputs, targets = real_valued()
    ends = [
        {"weight": torch.randn(2, 3, generator=g), "bias": torch.randn(2, generator=g)}
        for g in map(torch.Generator().manual_seed, (1, 2))
    ]
    found = llc.barrier(llc.Task(linear(), (inputs, targets), "mse"), *ends)
    gap = inputs @ (ends[1]["weight"] - ends[0]["weight"]).T + ends[1]["bias"] - ends[0]["bias"]
    dip = -found.t * (1 - found.t) * gap.double().square().mean().item()
    np.testing.assert_allclose(found.excess, dip, atol=1e-5)
    assert found.height == found.rise == 0


def test_a_layer_that_was_frozen_lies_on_the_way_too():
    model = linear()
    model.weight.requires_grad_(False)
    data = real_valued()
    task = llc.Task(model, data, "mse")
    other = {"weight": torch.eye(2, 3), "bias": torch.zeros(2)}
    found = llc.barrier(task, model.state_dict(), other)
    truth = F.mse_loss(data[0] @ torch.eye(2, 3).T, data[1]).item()
    assert found.loss[-1] == pytest.approx(truth, rel=1e-5)


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)

    def forward(self, inputs):
        return self.last(self.norm(self.first(inputs)).relu())


def test_running_statistics_go_along_and_both_ends_are_the_checkpoints_own():
    inputs, targets = labelled()
    ends = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = Normed()
        for _ in range(3 + seed):
            model(inputs * (1 + seed) + seed)
        ends.append(model.eval().state_dict())
    task = llc.Task(Normed(), (inputs, targets), "cross_entropy")
    found = llc.barrier(task, *ends, points=5)
    middle = {
        k: 0.75 * a + 0.25 * ends[1][k] if a.is_floating_point() else a for k, a in ends[0].items()
    }
    for position, state in ((0, ends[0]), (1, middle), (4, ends[1])):
        model = Normed().eval()
        model.load_state_dict(state)
        truth = F.cross_entropy(model(inputs), targets).item()
        assert found.loss[position] == pytest.approx(truth, rel=1e-5)


def test_on_other_data_it_is_the_barrier_of_a_task_with_those():
    one, other = linear(0).state_dict(), linear(1).state_dict()
    held_out = labelled(seed=5)
    task = llc.Task(linear(), labelled(), "cross_entropy")
    found = llc.barrier(task, one, other, data=held_out)
    truth = llc.barrier(llc.Task(linear(), held_out, "cross_entropy"), one, other)
    np.testing.assert_array_equal(found.loss, truth.loss)
    assert not np.allclose(found.loss, llc.barrier(task, one, other).loss)
    assert "potential" in refusal(lambda: llc.barrier(ring(), at(1, 0), at(0, 1), data=held_out))


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_data_in_parts_count_example_by_example(monkeypatch, reduction):
    def batch_loss(model, batch):
        return F.cross_entropy(model(batch[0]), batch[1], reduction=reduction)

    task = llc.Task(linear(), labelled(), batch_loss=batch_loss)
    ends = linear(0).state_dict(), linear(1).state_dict()
    whole = llc.barrier(task, *ends)
    monkeypatch.setattr(landscape, "CHUNK", 7)
    np.testing.assert_allclose(llc.barrier(task, *ends).loss, whole.loss, rtol=1e-6)


def test_a_checkpoint_and_itself():
    state = linear().state_dict()
    found = llc.barrier(llc.Task(linear(), labelled(), "cross_entropy"), state, state)
    assert (found.excess == 0).all()
    assert "rounding" in str(found)


def test_an_infinite_hill_is_infinite_and_an_infinite_end_is_refused():
    # A task's own weights have to be of finite loss, as those of any model that was trained.
    pole = potential(lambda model: 1 / model.w[0].square()).at(at(1, 0))
    found = llc.barrier(pole, at(1, 0), at(-1, 0))
    assert (found.height, found.peak) == (math.inf, 0.5)
    assert "second checkpoint is inf" in refusal(lambda: llc.barrier(pole, at(1, 0), at(0, 0)))


def test_files_do_as_well_and_nothing_of_the_users_changes(tmp_path):
    model = linear().train()
    task = llc.Task(model, labelled(), "cross_entropy")
    before = copy.deepcopy(model.state_dict())
    torch.save(linear(3).state_dict(), tmp_path / "a.pt")
    torch.manual_seed(0)
    state = torch.get_rng_state()
    found = llc.barrier(task, tmp_path / "a.pt", before)
    again = llc.barrier(task, linear(3).state_dict(), before)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(found.loss, again.loss)
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_mistakes_are_told():
    task, state = llc.Task(linear(), labelled(), "cross_entropy"), linear().state_dict()
    assert "points is 2" in refusal(lambda: llc.barrier(task, state, state, points=2))
    wrong = {**state, "bias": torch.zeros(5)}
    assert "do not fit" in refusal(lambda: llc.barrier(task, state, wrong))
    lost = {**state, "bias": torch.full((2,), torch.nan)}
    assert "nan" in refusal(lambda: llc.barrier(task, state, lost))
    assert "state dict" in refusal(lambda: llc.barrier(task, state, linear()))
