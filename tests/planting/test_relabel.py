"""Relabelled data: how many, whose, nested, and reproducible."""

import pytest
import torch
from tiny import labelled, linear, real_valued, refusal
from torch import nn

import llc
from llc.planting import exceptions, relabel


class Wide(nn.Module):
    """Logits over seven classes."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 7)

    def forward(self, x):
        return self.layer(x)


def classes(count=200):
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(count, 3, generator=generator)
    return llc.Task(
        Wide(), (inputs, torch.randint(7, (count,), generator=generator)), "cross_entropy"
    )


@pytest.mark.parametrize("count", [0, 1, 37, 200])
def test_exactly_so_many_have_another_class(count):
    task = classes()
    changed = relabel(task, count)
    differ = changed.data[1] != task.data[1]
    assert int(differ.sum()) == count
    assert set(differ.nonzero().flatten().tolist()) == set(exceptions(task, count).tolist())
    assert changed.data[0] is task.data[0]
    assert changed.data[1].min() >= 0
    assert changed.data[1].max() < 7


def test_other_classes_are_uniform_over_all_others():
    task = classes(6000)
    offset = (relabel(task, 6000).data[1] - task.data[1]) % 7
    counts = torch.bincount(offset, minlength=7).double()
    assert counts[0] == 0
    # χ² with five degrees of freedom is above 25.7 once in ten thousand.
    assert ((counts[1:] - 1000) ** 2 / 1000).sum() < 25.7


@pytest.mark.parametrize("task", [classes(), llc.Task(linear(), real_valued(), "mse")])
def test_smaller_sets_lie_in_larger_ones_with_the_same_targets(task):
    few, many = relabel(task, 5), relabel(task, 20)
    chosen = exceptions(task, 5)
    assert torch.equal(chosen, exceptions(task, 20)[:5])
    assert torch.equal(few.data[1][chosen], many.data[1][chosen])
    other = relabel(task, 5, seed=1)
    assert not torch.equal(exceptions(task, 5, seed=1), chosen)
    assert not torch.equal(other.data[1], few.data[1])


def test_real_targets_are_those_of_other_examples():
    task = llc.Task(linear(), real_valued(), "mse")
    own, changed = task.data[1], relabel(task, len(task.data[1])).data[1]
    assert not (own == changed).all(1).any()
    # All relabelled, each target is somebody's, once.
    assert torch.equal(own.sort(0).values, changed.sort(0).values)


def test_examples_with_equal_targets_are_passed_over():
    inputs, _ = real_valued(12)
    targets = torch.tensor([0.0] * 6 + [1.0] * 6).unsqueeze(1).expand(12, 2).clone()
    task = llc.Task(linear(), (inputs, targets), "mse")
    assert not (relabel(task, 12).data[1] == targets).any()
    alike = llc.Task(linear(), (inputs, torch.ones(12, 2)), "mse")
    assert "all targets are alike" in refusal(lambda: relabel(alike, 1))


def test_ignored_targets_stay_and_are_no_exceptions():
    task = classes(50)
    targets = task.data[1].clone()
    targets[::2] = -100
    some = llc.Task(task.model, (task.data[0], targets), "cross_entropy")
    changed = relabel(some, 25).data[1]
    assert (changed[::2] == -100).all()
    assert (changed[1::2] != targets[1::2]).all()
    assert "from 0 to 25" in refusal(lambda: relabel(some, 26))


def test_tasks_without_targets_are_refused():
    inputs, _ = labelled()
    potential = llc.Task(linear(), potential=lambda m: m.weight.square().sum())
    assert "potential" in refusal(lambda: relabel(potential, 1))
    batches = llc.Task(linear(), inputs, batch_loss=lambda m, x: m(x).square().mean(1))
    assert "batch_loss" in refusal(lambda: relabel(batches, 1))
    assert "-1 exceptions" in refusal(lambda: relabel(classes(), -1))


def test_the_task_is_left_alone():
    task = classes()
    before, state = task.data[1].clone(), torch.get_rng_state()
    relabel(task, 9)
    assert torch.equal(task.data[1], before)
    assert torch.equal(torch.get_rng_state(), state)
