"""Networks scaled to one norm and one confidence."""

import math

import pytest
import torch

from llc.errors import InputError
from llc.planting import of_entropy, of_norm, output_entropy, weight_norm
from llc.task import Task


@pytest.fixture
def task():
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))
    for value in model.parameters():
        torch.nn.init.normal_(value, generator=generator)
    inputs = torch.randn(40, 3, generator=generator)
    return Task(model, (inputs, torch.zeros(40, dtype=torch.long)), "cross_entropy", name="small")


def test_norm_is_that_of_the_flat_vector(task):
    weights = task.model.state_dict()
    flat = torch.cat([w.flatten() for w in weights.values()])
    assert weight_norm(weights) == pytest.approx(flat.norm().item(), rel=1e-6)
    scaled = of_norm({**weights, "count": torch.tensor(7)}, 2.5)
    assert scaled["count"] == 7
    assert weight_norm({k: v for k, v in scaled.items() if k in weights}) == pytest.approx(2.5)
    ratios = torch.cat([(scaled[k] / weights[k]).flatten() for k in weights])
    assert ratios.std() < 1e-6 * ratios.mean()


def test_entropy_is_reached_by_temperature_alone(task):
    weights = task.model.state_dict()
    scaled = of_entropy(task, weights, 0.5, ["2.weight", "2.bias"])
    assert output_entropy(task, scaled) == pytest.approx(0.5, abs=1e-5)
    before, after = task.model(task.data[0]), task.at(scaled).model(task.data[0])
    factor = (after / before).detach()
    torch.testing.assert_close(factor, factor.mean().expand_as(factor), rtol=1e-4, atol=0)
    flat = of_entropy(task, weights, 0.999 * math.log(4), ["2.weight", "2.bias"])
    assert output_entropy(task, flat) == pytest.approx(0.999 * math.log(4), abs=1e-5)


def test_what_cannot_be_matched_is_refused(task):
    weights = task.model.state_dict()
    with pytest.raises(InputError, match="no factor"):
        of_entropy(task, weights, math.log(4) + 1, ["2.weight", "2.bias"])
    with pytest.raises(InputError, match="names holds"):
        of_entropy(task, weights, 0.5, ["3.weight"])
    with pytest.raises(InputError, match="positive"):
        of_norm(weights, 0.0)
    with pytest.raises(InputError, match="all zero"):
        of_norm({"w": torch.zeros(3)}, 1.0)
    line = Task(torch.nn.Linear(1, 1), potential=lambda m: m.weight.square().sum())
    with pytest.raises(InputError, match="no pairs"):
        output_entropy(line, line.model.state_dict())
