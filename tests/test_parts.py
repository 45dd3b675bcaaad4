"""Gradients summed over parts of a batch that does not fit: the same sum, whatever the cut."""

import math

import pytest
import torch
from tiny import labelled, linear, real_valued
from torch import nn

import llc
from llc import losses, objective
from llc.execution import GIB, Execution
from llc.memory import chain_bytes
from llc.objective import Objective
from llc.surface import LossSurface


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)).double()


def task(loss="mse"):
    inputs, targets = real_valued(40)
    return llc.Task(network(), (inputs.double(), targets.double()), loss)


def looping(given, **execution):
    surface = LossSurface(given, execution=Execution(compile="off", **execution))
    surface.side_by_side = 1
    return surface


@pytest.mark.parametrize("part", [1, 3, 7, 39])
@pytest.mark.parametrize("rows", [None, 2])
def test_parts_add_up(part, rows):
    surface = looping(task())
    generator = torch.Generator().manual_seed(1)
    delta = 0.1 * torch.randn(2, surface.layout.total, generator=generator, dtype=torch.float64)
    index = None if rows is None else torch.randint(40, (rows, 17), generator=generator)
    whole, rise = surface.evaluate(delta, index), surface.rise(delta, index)
    full = surface.full_gradient()
    surface.part = part
    cut = surface.evaluate(delta, index)
    for got, expected in zip(cut, whole, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(surface.rise(delta, index), rise, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(surface.full_gradient(), full, rtol=1e-12, atol=1e-14)


def short_of(given, share, batch_size, chains=2):
    """GiB in which a share of one gradient fits beside the chains' vectors."""
    vectors, kept = chain_bytes(Objective(given), batch_size)
    return (chains * vectors + share * kept) / GIB


def test_a_plan_cuts_what_does_not_fit_and_says_so():
    given = task()
    surface = looping(given, memory=short_of(given, 0.5, 32))
    words = surface.plan(2, 32)
    assert surface.part is not None
    assert 8 <= surface.part < 32
    assert f"gradients of 32 examples summed over parts of {surface.part}" in words
    assert not surface.fits(1)
    surface = looping(given, memory=short_of(given, 8, 32))
    assert "parts" not in surface.plan(2, 32)
    assert surface.part is None


def test_an_estimate_does_not_depend_on_the_cut():
    given, fixed = task(), {"gamma": 20.0, "chains": 2, "draws": 60, "burn_in": 30}
    fixed |= {"batch_size": 32, "step_size": 0.05, "sampler": "sgld", "compile": "off"}
    whole = llc.estimate(given, **fixed)
    cut = llc.estimate(given, **fixed, memory=short_of(given, 0.5, 32))
    assert "summed over parts" not in str(whole.to_dict())
    assert "summed over parts" in str(cut.to_dict())
    assert cut.llc == pytest.approx(whole.llc, rel=1e-6)


def test_losses_that_tie_examples_together_are_not_cut():
    given = task(lambda o, t: ((o - t) ** 2).mean())
    surface = looping(given, memory=short_of(given, 0.5, 32))
    assert "cannot be cut" in surface.plan(2, 32)
    assert surface.part is None


def test_large_examples_are_passed_over_a_few_at_a_time(monkeypatch):
    whole = Objective(task())
    monkeypatch.setattr(objective, "MOST_KEPT", 2000)
    few = Objective(task())
    assert whole.chunk == objective.CHUNK
    assert 1 <= few.chunk < 40
    assert few.baseline.mean == pytest.approx(whole.baseline.mean, rel=1e-12)


@pytest.mark.parametrize("loss", ["cross_entropy", "cross_entropy_by_example"])
def test_own_outputs_too_many_to_keep(loss, monkeypatch):
    """Computed anew for each batch they give the same losses, gradients and estimate."""
    inputs, _ = labelled(40)
    targets = torch.randint(2, (40, 2), generator=torch.Generator().manual_seed(2))
    targets[::3, 1] = losses.IGNORED

    class Twice(nn.Module):
        classes_in_dimension_1 = True  # two classes, two positions

        def __init__(self):
            super().__init__()
            self.layer = linear()

        def forward(self, x):
            return torch.stack([self.layer(x), self.layer(-x)], 2)

    given = llc.Task(Twice(), (inputs, targets), loss)
    kept = LossSurface(given, behavioural=True)
    monkeypatch.setattr(objective, "MOST_OUTPUTS", 0)
    anew = LossSurface(given, behavioural=True)
    assert anew._objective.data[1].shape == targets.shape
    assert kept._objective.data[1].shape == (40, 2, 2)
    assert anew.vectorised, anew.why_not_vectorised
    delta = 0.3 * torch.randn(2, kept.layout.total, generator=torch.Generator().manual_seed(3))
    for index in (None, torch.arange(20).reshape(2, 10)):
        for got, expected in zip(
            anew.evaluate(delta, index), kept.evaluate(delta, index), strict=True
        ):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
    both = [llc.curvature(given, matrix="ggn", behavioural=True).trace]
    monkeypatch.undo()
    both.append(llc.curvature(given, matrix="ggn", behavioural=True).trace)
    assert math.isclose(*both, rel_tol=1e-4)
