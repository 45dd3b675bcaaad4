"""Linear nets from small weights: what is saved is exact, and ranks come one by one."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from tiny import refusal

import llc
from llc.checkpoints import find_checkpoints
from llc.tasks import builtin, linear_net


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("linear-net")
    linear_net.train(place)
    return place


def test_published_increments_of_lambda():
    assert [linear_net.exact_llc((10, 4, 10), r) for r in range(5)] == [
        18,
        22,
        Fraction(51, 2),
        29,
        32,
    ]
    assert [linear_net.exact_llc((16, 4, 4, 16), r) for r in range(5)] == [8, 20, 32, 44, 56]
    steps = [linear_net.exact_llc((20, 5, 5, 20), r) for r in range(5)]
    assert set(np.diff(steps)) == {15}
    assert {linear_net.exact_llc((5, 10, 5), r) for r in range(6)} == {Fraction(25, 2)}


def test_ranks_are_learned_one_by_one():
    times = linear_net.rank_times()
    assert [t.rank for t in times] == [1, 2, 3, 4]
    ends = [t.end for t in times]
    assert all(a < t.start for a, t in zip(ends, times[1:], strict=False))
    assert all(t.start < t.half < t.end for t in times)
    assert (times[0].before, times[0].after) == (18, 22)
    # Cut short, the last rank has begun and not ended.
    cut = linear_net.rank_times(steps=times[1].half)
    assert (cut[1].half, cut[1].end) == (times[1].half, None)


def test_checkpoints_say_what_they_hold(folder):
    found = find_checkpoints(folder)
    assert [c.step for c in found] == linear_net.checkpoint_steps()
    ranks = [c.metadata["rank"] for c in found]
    assert ranks == sorted(ranks)
    assert {ranks[0], ranks[-1]} == {0, 4}
    task = linear_net.task()
    for c in found[::7]:
        weights = c.weights()
        rank = int(c.metadata["rank"])
        assert linear_net.rank_of(weights) == rank
        assert c.metadata["exact_llc"] == float(linear_net.exact_llc((10, 4, 10), rank))
        # The loss saved beside the weights is the task's own.
        at = task.at(weights)
        loss = ((at.model(at.data[0]) - at.data[1]) ** 2).mean().item()
        assert loss == pytest.approx(c.metadata["train_loss"], rel=1e-4, abs=1e-9)
        norm = sum((w**2).sum() for w in weights.values()) ** 0.5
        assert c.metadata["weight_norm"] == pytest.approx(float(norm))


def test_the_inputs_are_the_population(folder):
    x, y = linear_net.task(examples=50).data
    assert torch.allclose(x.T @ x / 50, torch.eye(10), atol=1e-5)
    assert y.shape == (50, 10)


def test_training_is_deterministic_and_leaves_random_state_alone(tmp_path, folder):
    state = torch.get_rng_state()
    said = []
    linear_net.train(tmp_path, save_at=[50], steps=250, report=said.append)
    assert torch.equal(torch.get_rng_state(), state)
    assert said == [200, 250]
    (again,), first = find_checkpoints(tmp_path), find_checkpoints(folder)[0]
    assert again.metadata == first.metadata
    for name, weight in again.weights().items():
        assert torch.equal(weight, first.weights()[name])


def test_estimates_agree_with_the_exact_coefficient(folder):
    rested = find_checkpoints(folder)[-1]
    task = builtin("linear-net")(examples=10).at(rested.weights())
    e = llc.estimate(task, n_beta=1000.0, gamma=3.0, behavioural=True, draws=800)
    assert e.ess > 100
    # The prior takes less than 3 % off at this temperature.
    assert 0.97 * 32 - 5 * e.mcse < e.llc < 32 + 5 * e.mcse


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: linear_net.task((10, 10)), "hidden widths"),
        (lambda: linear_net.task((10, 0, 10)), "widths[1]"),
        (lambda: linear_net.task((3, 2, 3), [1.0, 2.0]), "largest first"),
        (lambda: linear_net.task((3, 2, 3), [3.0, 2.0, 1.0]), "at most 2"),
        (lambda: linear_net.task(examples=9), "examples"),
        (lambda: linear_net.rank_times((3, 2, 3), [1e4, 1.0]), "ran away"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_cannot_be_built(call, word):
    assert word in refusal(call)
