"""Similarity of representations, against naive formulas, scipy, and networks built by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group
from tiny import labelled, linear, refusal
from torch import nn
from valleys import network, permuted, ring

import llc
from llc.trajectory.basins import activations, cka, procrustes
from llc.trajectory.basins import similarity as similarity_function
from llc.trajectory.basins.activations import Recorder


def blobs(features, seed, count=30):
    return np.random.default_rng(seed).normal(size=(count, features)) + seed


def hsic(k, m):
    centre = np.eye(len(k)) - 1 / len(k)
    return np.trace(k @ centre @ m @ centre)


@pytest.mark.parametrize(("p", "q"), [(4, 7), (45, 3), (50, 60)])
def test_cka_is_the_ratio_of_hsic(p, q):
    x, y = blobs(p, 1), blobs(q, 2)
    k, m = x @ x.T, y @ y.T
    truth = hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
    assert cka(x, y) == pytest.approx(truth, rel=1e-10)


@pytest.mark.parametrize(("p", "q"), [(5, 5), (4, 7), (45, 40)])
def test_procrustes_is_the_distance_after_the_best_rotation(p, q):
    x, y = blobs(p, 1), blobs(q, 2)
    width = max(p, q)
    a, b = (np.pad(z - z.mean(0), ((0, 0), (0, width - z.shape[1]))) for z in (x, y))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    turn, scale = orthogonal_procrustes(a, b)
    assert procrustes(x, y) == pytest.approx(scale, rel=1e-10)
    assert procrustes(x, y) == pytest.approx(1 - np.linalg.norm(a @ turn - b) ** 2 / 2, rel=1e-10)


@pytest.mark.parametrize("measure", [cka, procrustes])
@pytest.mark.parametrize("p", [6, 50])
def test_blind_to_rotation_scale_and_origin_but_not_to_stretching(measure, p):
    x = blobs(p, 3)
    turned = 5 * x @ ortho_group.rvs(p, random_state=0) + 7
    assert measure(x, turned) == pytest.approx(1, abs=1e-10)
    stretched = x * np.linspace(0.1, 4, p)
    assert measure(x, stretched) < 0.99
    assert measure(x, blobs(3, 9)) == pytest.approx(measure(blobs(3, 9), turned), rel=1e-9)
    assert np.isnan(measure(x, np.full((30, 4), 0.1)))
    assert "expected (examples, features)" in refusal(lambda: measure(x, x[:5]))


class Everything(nn.Module):
    """In-place activations, a module called twice, dropout, an unused part, work in between."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 4)
        self.body = nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(5, 2)

    def forward(self, inputs):
        both = self.embed(inputs) + self.embed(inputs**2)
        return self.head(torch.tanh(self.body(both)))


def test_layers_give_what_they_compute():
    torch.manual_seed(0)
    model = Everything()
    inputs, targets = labelled(40)
    task = llc.Task(model, (inputs, targets), "cross_entropy")
    index = torch.arange(3, 30)
    recorder = Recorder(task, index)
    names = [probe.name for probe in recorder.choose(None)]
    assert names == ["embed", "body.0", "body.1", "head.input", "head"]
    found = recorder.record(task, [*names, "body", "whole"])
    x = inputs[index]
    one, two = model.embed(x), model.embed(x**2)
    pre = model.body[0](one + two)
    truth = {
        "embed": torch.cat([one, two], 1), "body.0": pre, "body.1": pre.relu(),
        "body": pre.relu(), "head.input": torch.tanh(pre.relu()),
    }  # fmt: skip
    truth["head"] = truth["whole"] = model.head(truth["head.input"])
    for name, value in truth.items():
        torch.testing.assert_close(found[name], value.detach(), msg=name)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_modules_without_rows_of_examples_are_no_layers_and_parts_may_be_silent():
    class Sequences(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.memory = nn.LSTM(4, 4)
            self.last = nn.Linear(4, 2)

        def forward(self, inputs):
            mixed = self.attention(inputs, inputs, inputs)[0]
            return self.last(self.memory(mixed.transpose(0, 1))[0][-1])

    data = torch.randn(20, 3, 4), torch.randint(2, (20,))
    task = llc.Task(Sequences(), data, "cross_entropy")
    names = [probe.name for probe in Recorder(task, torch.arange(20)).choose(None)]
    assert names == ["attention", "last.input", "last"]


def test_the_same_function_in_other_units_is_the_same_representation():
    one = network(0).state_dict()
    inputs, targets = labelled(60)
    other = permuted(one, [2, 0, 3, 1], [1.0] * 4)
    third = network(7).state_dict()
    task = llc.Task(network(), (inputs, targets), "cross_entropy")
    found = llc.similarity(task, [one, other, third], examples=50)
    assert found.layers == ("0", "1", "2")
    assert (found.hidden, found.examples) == ("1", 50)
    for matrices in (found.cka, found.procrustes):
        for matrix in matrices.values():
            np.testing.assert_array_equal(matrix, matrix.T)
            np.testing.assert_array_equal(np.diag(matrix), 1)
            assert matrix[0, 1] == pytest.approx(1, abs=1e-5)
            assert matrix[0, 2] < 0.999


def test_it_is_the_similarity_of_the_activations_themselves(monkeypatch):
    states = [network(seed).state_dict() for seed in (0, 1)]
    inputs, targets = labelled(40)
    task = llc.Task(network(), (inputs, targets), "cross_entropy")
    found = llc.similarity(task, states)
    first, second = (F.linear(inputs, s["0.weight"], s["0.bias"]) for s in states)
    assert found.examples == 40
    assert found.cka["0"][0, 1] == pytest.approx(cka(first, second), rel=1e-6)
    assert found.procrustes["0"][0, 1] == pytest.approx(procrustes(first, second), rel=1e-6)
    # In parts, and each layer in passes of its own: the same.
    monkeypatch.setattr(activations, "CHUNK", 7)
    monkeypatch.setattr("llc.trajectory.basins.similarities.GROUP_BYTES", 1)
    again = llc.similarity(task, states)
    for layer, matrix in found.cka.items():
        np.testing.assert_allclose(again.cka[layer], matrix, rtol=1e-5)


def test_examples_are_drawn_by_seed():
    states = [network(seed).state_dict() for seed in (0, 1)]
    task = llc.Task(network(), labelled(60), "cross_entropy")
    state = torch.get_rng_state()
    found = [llc.similarity(task, states, ["0"], 20, seed=s).cka["0"][0, 1] for s in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_a_loss_of_model_and_batch_is_called_as_it_is():
    def batch_loss(model, batch):
        return F.cross_entropy(model(batch["x"]), batch["y"])

    inputs, targets = labelled(30)
    task = llc.Task(network(), {"x": inputs, "y": targets}, batch_loss=batch_loss)
    states = [network(seed).state_dict() for seed in (0, 1)]
    found = llc.similarity(task, states, ["0"]).cka["0"]
    pair = llc.Task(network(), (inputs, targets), "cross_entropy")
    np.testing.assert_array_equal(found, llc.similarity(pair, states, ["0"]).cka["0"])
    other = {"x": inputs * 3 + 1, "y": targets}
    assert not np.array_equal(found, llc.similarity(task, states, ["0"], data=other).cka["0"])


def test_what_is_too_wide_is_left_out_and_said(monkeypatch):
    task = llc.Task(network(hidden=16), labelled(), "cross_entropy")
    states = [network(seed, hidden=16).state_dict() for seed in (0, 1)]
    monkeypatch.setattr("llc.trajectory.basins.similarities.MOST_BYTES", 10_000)
    found = llc.similarity(task, states)
    assert found.layers == ("2",)
    assert "fewer examples" in found.left_out["0"]
    assert "no layer" in refusal(lambda: llc.similarity(task, states, ["0"]))


def test_mistakes_are_told():
    task, state = llc.Task(linear(), labelled(), "cross_entropy"), linear().state_dict()
    assert "at least 2" in refusal(lambda: llc.similarity(task, [state]))
    assert "examples is 1" in refusal(lambda: llc.similarity(task, [state, state], examples=1))
    message = refusal(lambda: llc.similarity(task, [state, state], ["first"]))
    assert "'first'" in message
    assert "whole" in message
    plane = ring()
    point = plane.model.state_dict()
    assert "potential" in refusal(lambda: similarity_function(plane, [point, point]))
