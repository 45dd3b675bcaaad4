"""The toy model of superposition: labels by geometry, λ where it is known."""

from fractions import Fraction

import pytest
import torch
from tiny import refusal

import llc
from llc import truths
from llc.checkpoints import find_checkpoints
from llc.tasks import builtin, superposition
from llc.truths.polygons import population_loss


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    place = tmp_path_factory.mktemp("superposition")
    superposition.train(place, steps=900, save_at=[5, 20, 90, 150, 600, 900])
    return find_checkpoints(place)


def test_from_nothing_to_a_pentagon(checkpoints):
    labels = [int(c.metadata["polygon"]) for c in checkpoints]
    assert labels[:2] == [0, 0]
    assert labels[-2:] == [5, 5]
    assert -1 in labels
    losses = [c.metadata["train_loss"] for c in checkpoints]
    assert losses == sorted(losses, reverse=True)
    exact = [c.metadata.get("exact_llc") for c in checkpoints]
    # Five corners, and one feature left out with its bias above zero.
    assert exact[0] == 6
    assert exact[-1] == 7 + 1.5
    assert exact[2] is None


def test_labels_of_known_polygons():
    for k, features in ((5, 5), (6, 6), (5, 7), (8, 8)):
        truth = truths.polygon(k, features)
        weights = truth.task().model.state_dict()
        assert superposition.label(weights) == k
        # Those left out have negative biases there, and cost nothing.
        assert superposition.exact_llc(weights) == truth.llc
    uneven = dict(weights, w=weights["w"] * torch.linspace(0.9, 1.1, 8))
    assert superposition.label(uneven) == -1
    assert superposition.exact_llc(uneven) is None
    dead = {"w": torch.zeros(2, 6), "b": -torch.ones(6)}
    assert superposition.label(dead) == 0
    assert superposition.exact_llc(dead) is None


def test_the_task_s_loss_is_the_population_s():
    task = superposition.task(levels=256)
    model = task.model
    with torch.no_grad():
        model.w.mul_(500)
        loss = ((model(task.data[0]) - task.data[1]) ** 2).mean().item()
    assert loss == pytest.approx(population_loss(model).item() / 6, rel=1e-3)


def test_coefficients_are_half_the_jacobian_s_rank(checkpoints):
    model = superposition.task().model.double()
    model.load_state_dict(checkpoints[-1].weights())
    x = superposition.task().data[0].double()

    def outputs(flat):
        w, b = flat[:12].view(2, 6), flat[12:]
        return torch.relu(x @ w.T @ w + b)

    flat = torch.cat([model.w.detach().reshape(-1), model.b.detach()])
    jacobian = torch.autograd.functional.jacobian(outputs, flat).reshape(-1, 18)
    values = torch.linalg.svdvals(jacobian)
    rank = int((values > 1e-4 * values[0]).sum())
    assert Fraction(rank, 2) == superposition.exact_llc(checkpoints[-1].weights())


def test_estimates_agree_at_both_ends(checkpoints):
    for c in (checkpoints[0], checkpoints[-1]):
        task = builtin("superposition")().at(c.weights())
        e = llc.estimate(task, n_beta=2e5, gamma=20.0, behavioural=True, draws=600)
        assert e.ess > 50
        assert e.llc == pytest.approx(c.metadata["exact_llc"], rel=0.03, abs=5 * e.mcse)


def test_training_is_deterministic_and_leaves_random_state_alone(tmp_path, checkpoints):
    state = torch.get_rng_state()
    superposition.train(tmp_path, steps=20, save_at=[20])
    assert torch.equal(torch.get_rng_state(), state)
    (again,) = find_checkpoints(tmp_path)
    assert again.metadata == checkpoints[1].metadata
    for name, weight in again.weights().items():
        assert torch.equal(weight, checkpoints[1].weights()[name])


def test_too_few_features():
    assert "features is 4" in refusal(lambda: superposition.task(4))
    assert "levels" in refusal(lambda: superposition.task(5, levels=0))
