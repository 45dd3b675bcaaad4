"""Mixtures and splices against what they are by definition; what cannot be mixed is said."""

import pytest
import torch
from tiny import FAST, linear, real_valued, refusal
from torch import nn

import llc
from llc.checkpoints import find_checkpoints
from llc.planting import interpolants, splice


def pair():
    return linear(0).state_dict(), linear(1).state_dict()


def test_mixtures_are_straight_and_exact_at_both_ends(tmp_path):
    one, other = pair()
    variants = interpolants(one, other, [1, 0, 0.25], out=tmp_path)
    assert [v.step for v in variants] == [0, 250, 1000]
    assert [v.metadata["mixing_weight"] for v in variants] == [0, 0.25, 1]
    for name in one:
        assert torch.equal(variants[0].weights[name], one[name])
        assert torch.equal(variants[2].weights[name], other[name])
        mean = 0.75 * one[name] + 0.25 * other[name]
        assert torch.allclose(variants[1].weights[name], mean)
    assert [c.metadata["mixing_weight"] for c in find_checkpoints(tmp_path)] == [0, 0.25, 1]


def test_counters_are_not_mixed():
    norm = nn.BatchNorm1d(2)
    one = norm.state_dict()
    other = {k: v + 1 for k, v in one.items()}
    (half,) = interpolants(one, other, [0.5])
    assert half.weights["num_batches_tracked"] == one["num_batches_tracked"]
    assert torch.equal(half.weights["running_mean"], one["running_mean"] + 0.5)


def test_mixtures_are_traced_in_order_of_the_weight():
    one, other = pair()
    task = llc.Task(linear(), real_valued(), "mse", name="toy")
    result = llc.trace(task, interpolants(one, other, [0, 0.5, 1]), behavioural=True, **FAST)
    assert result.column("mixing_weight").tolist() == [0, 0.5, 1]
    # A linear model towards its own outputs is the same problem everywhere.
    assert result.llc.max() - result.llc.min() < 5 * result.mcse.max()


def test_spliced_tensors_come_from_the_other():
    one, other = pair()
    made = splice(one, other, "w*")
    assert torch.equal(made["weight"], other["weight"])
    assert torch.equal(made["bias"], one["bias"])
    made["weight"].zero_()
    assert other["weight"].any()
    whole = splice(one, other, ["weight", "bias"])
    assert all(torch.equal(whole[k], other[k]) for k in other)


@pytest.mark.parametrize("weights", [[], [0.5, 0.5], [-0.1], [1.5], [0.5, 0.5004], [float("nan")]])
def test_weights_that_cannot_be_used(weights):
    assert "from 0 to 1" in refusal(lambda: interpolants(*pair(), weights))


def test_checkpoints_that_do_not_fit():
    one, other = pair()
    assert "bias is in one" in refusal(lambda: interpolants(one, {"weight": other["weight"]}, [0]))
    wide = {**other, "weight": torch.zeros(5, 3)}
    assert "(5, 3)" in refusal(lambda: splice(one, wide, "weight"))
    assert "'layer*'" in refusal(lambda: splice(one, other, ["weight", "layer*"]))
    assert "names is empty" in refusal(lambda: splice(one, other, []))
