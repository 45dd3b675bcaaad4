"""Small landscapes whose barriers are known by hand."""

import torch
from torch import nn

import llc


class Plane(nn.Module):
    """Two weights."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2))


def potential(function):
    return llc.Task(Plane(), potential=function, name="plane")


def at(x, y):
    return {"w": torch.tensor([float(x), float(y)])}


def ring():
    """The unit circle is the valley: loss 1 at its centre, 0 on it."""
    return potential(lambda model: (model.w.square().sum() - 1) ** 2)


def cross():
    """Two valleys that cross: the axes."""
    return potential(lambda model: model.w.prod() ** 2)


def network(seed=0, hidden=4, inputs=3, outputs=2):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def permuted(state, order, scales):
    """The same function from other weights: ReLU units in another order, rescaled."""
    s = torch.tensor(scales)
    return {
        "0.weight": (s[:, None] * state["0.weight"])[order],
        "0.bias": (s * state["0.bias"])[order],
        "2.weight": (state["2.weight"] / s)[:, order],
        "2.bias": state["2.bias"],
    }
