"""The loss on B under the posterior of A, against ½·nβ·tr(H_B (nβH_A + γ)⁻¹)."""

import torch
from tiny import FAST, labelled, linear, refusal
from torch import nn

import llc

N_BETA, GAMMA = 60.0, 20.0


def task_and_sets():
    generator = torch.Generator().manual_seed(0)
    model = nn.Linear(3, 1, bias=False)
    nn.init.constant_(model.weight, 0.5)
    scales = {"A": [2.0, 1.0, 0.3], "B": [0.2, 1.0, 2.0]}
    inputs = {
        name: torch.randn(200, 3, generator=generator) * torch.tensor(scale)
        for name, scale in scales.items()
    }
    with torch.no_grad():
        sets = {name: (x, model(x)) for name, x in inputs.items()}
    hessians = {name: 2 * (x.T @ x / len(x)).double() for name, x in inputs.items()}
    return llc.Task(model, sets["A"], "mse"), sets, hessians


def exact(hessians, on, rows=slice(None)):
    a, b = hessians["A"][rows, rows], hessians[on][rows, rows]
    inverse = torch.linalg.inv(N_BETA * a + GAMMA * torch.eye(len(a), dtype=torch.float64))
    return float(N_BETA / 2 * torch.trace(b @ inverse))


def test_quadratic_losses_rise_as_they_must():
    task, sets, hessians = task_and_sets()
    found = llc.data_refined(
        task, on=sets, n_beta=N_BETA, gamma=GAMMA, precision=0.03, looks=300
    )  # fmt: skip
    assert found.draws == 1200
    for name in sets:
        assert found.mcse[name] < 0.1 * exact(hessians, name)
        assert abs(found.llc[name] - exact(hessians, name)) < 5 * found.mcse[name]
    # On its own data it is the estimate itself.
    assert abs(found.llc["A"] - found.estimate.llc) < 5 * found.mcse["A"]
    assert abs(exact(hessians, "A") - exact(hessians, "B")) > 10 * found.mcse["B"]


def test_it_is_refined_by_weights_too():
    task, sets, hessians = task_and_sets()
    found = llc.data_refined(
        task, on={"B": sets["B"]}, n_beta=N_BETA, gamma=GAMMA, only="weight[:, 1:3]", looks=200
    )
    rows = slice(1, 3)
    assert found.estimate.dimension == 2
    assert abs(found.llc["B"] - exact(hessians, "B", rows)) < 5 * found.mcse["B"]


def test_some_examples_stand_for_all_with_a_larger_error():
    task, sets, hessians = task_and_sets()
    given = {"n_beta": N_BETA, "gamma": GAMMA, "looks": 200}
    few = llc.data_refined(task, on={"B": sets["B"]}, examples=50, **given)
    every = llc.data_refined(task, on={"B": sets["B"]}, **given)
    assert few.mcse["B"] > every.mcse["B"]
    assert abs(few.llc["B"] - exact(hessians, "B")) < 5 * few.mcse["B"]


def test_what_cannot_be_measured_is_refused():
    task, sets, _ = task_and_sets()
    assert "is empty" in refusal(lambda: llc.data_refined(task, on={}))
    assert "a tuple" in refusal(lambda: llc.data_refined(task, on=sets["B"]))
    wrong = {"B": (torch.ones(4, 7), torch.ones(4, 1))}
    assert "data 'B'" in refusal(lambda: llc.data_refined(task, on=wrong))
    potential = llc.Task(linear(), potential=lambda m: m.weight.sum() ** 2)
    assert "one value per example" in refusal(lambda: llc.data_refined(potential, on=sets))
    labels = llc.Task(linear(), labelled(), "cross_entropy")
    for name in ("looks", "examples"):
        assert name in refusal(
            lambda name=name: llc.data_refined(labels, on={"B": labelled()}, **FAST, **{name: 1})
        )


def test_it_says_what_it_found():
    task, sets, _ = task_and_sets()
    text = str(llc.data_refined(task, on={"B": sets["B"]}, n_beta=N_BETA, gamma=GAMMA))
    assert " ± " in text.splitlines()[1]
    assert text.splitlines()[1].startswith("on B: ")
