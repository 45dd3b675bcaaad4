"""Fine-tuning on exceptions: learned, resumable, comparable, and nothing of the user's touched."""

import pytest
import torch
from tiny import linear, real_valued, refusal
from torch import nn

import llc
from llc.checkpoints import find_checkpoints
from llc.planting import plant, relabel

FAST = {"steps": 100, "most_steps": 3000, "learning_rate": 0.02, "train_batch": 24}


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 32), nn.Dropout(0.5), nn.GELU(), nn.Linear(32, 4))


@pytest.fixture(scope="module")
def task():
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(24, 3, generator=generator)
    held_out = torch.randn(50, 3, generator=generator)

    def targets(x):
        return 2 * (x[:, 0] > 0).long() + (x[:, 1] > 0).long()

    readings = {"test": (held_out, targets(held_out))}
    return llc.Task(network(), (inputs, targets(inputs)), "cross_entropy", readings=readings)


@pytest.fixture(scope="module")
def planted(task, tmp_path_factory):
    place = tmp_path_factory.mktemp("planted")
    return place, plant(task, [4, 0], out=place, **FAST)


def test_everything_is_learned_exceptions_too(task, planted):
    _, variants = planted
    assert [v.step for v in variants] == [0, 4]
    for v in variants:
        model = task.at(v.weights).model.eval()
        for_it = relabel(task, v.step)
        outputs = model(for_it.data[0])
        assert (outputs.argmax(1) == for_it.data[1]).all()
        loss = nn.functional.cross_entropy(outputs, for_it.data[1]).item()
        assert v.metadata["relabelled_loss"] == pytest.approx(loss, rel=1e-4)
        assert v.metadata["train_accuracy"] == pytest.approx(1 - v.step / 24)
        assert v.metadata["planted"] == v.step
        assert v.metadata["planting_steps"] >= 100
        assert 0 < v.metadata["test_accuracy"] <= 1
    assert "exceptions_fitted" not in variants[0].metadata
    assert variants[1].metadata["exceptions_fitted"] == 1


def test_files_hold_what_was_returned_and_are_made_once(task, planted):
    place, variants = planted
    found = find_checkpoints(place)
    assert [c.step for c in found] == [0, 4]
    for c, v in zip(found, variants, strict=True):
        assert c.metadata == v.metadata
        assert all(torch.equal(w, v.weights[name]) for name, w in c.weights().items())
    before = {path: path.stat().st_mtime_ns for path in place.glob("*.safetensors")}
    found[1].path.unlink()
    again = plant(task, [0, 4], out=place, **FAST)
    assert all(torch.equal(w, variants[1].weights[k]) for k, w in again[1].weights.items())
    after = {path: path.stat().st_mtime_ns for path in place.glob("*.safetensors")}
    assert [path for path in before if before[path] == after[path]] == [found[0].path]


@pytest.mark.parametrize("changed", [{"learning_rate": 0.01}, {"seed": 1}])
def test_another_recipe_in_the_same_folder_is_refused(task, planted, changed):
    (name,) = changed
    message = refusal(lambda: plant(task, [0], out=planted[0], **{**FAST, **changed}))
    assert f"{name} {FAST.get(name, 0)}" in message


def test_another_checkpoint_in_the_same_folder_is_refused(planted, task):
    other = llc.Task(nn.Sequential(nn.Linear(3, 4)), task.data, "cross_entropy")
    assert "another checkpoint" in refusal(lambda: plant(other, [0], out=planted[0], **FAST))


def test_the_user_s_model_and_random_state_are_left_alone(task):
    model = task.model
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    with torch.no_grad():
        plant(task, [1], steps=5, most_steps=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_runs_of_different_counts_share_batches_and_frozen_weights_stay(task):
    frozen = llc.Task(network(), task.data, "cross_entropy")
    frozen.model[0].weight.requires_grad_(False)
    # Without exceptions among the first batches the runs are one and the same.
    none, all_ = plant(frozen, [0, 24], steps=3, most_steps=3, train_batch=2)
    assert torch.equal(none.weights["0.weight"], frozen.model[0].weight)
    assert torch.equal(all_.weights["0.weight"], frozen.model[0].weight)
    assert not torch.equal(none.weights["3.weight"], frozen.model[3].weight)
    assert not torch.equal(none.weights["3.weight"], all_.weights["3.weight"])


def test_a_run_that_cannot_learn_ends_and_says_so(task):
    (lost,) = plant(task, [4], steps=10, most_steps=20, learning_rate=1e-6)
    assert lost.metadata["planting_steps"] == 20
    assert lost.metadata["examples_fitted"] < 1


def test_regression_counts_as_fitted_by_its_loss():
    task = llc.Task(linear(), real_valued(), "mse")
    (control,) = plant(task, [0], steps=50, most_steps=4000, learning_rate=0.02, loss_below=0.02)
    assert control.metadata["examples_fitted"] == 1
    # A linear model cannot hold an exception: the loss over exceptions stays.
    (held,) = plant(task, [3], steps=50, most_steps=400, learning_rate=0.02, loss_below=0.02)
    assert held.metadata["exceptions_fitted"] == 0


def test_what_cannot_be_planted(task):
    assert "counts is []" in refusal(lambda: plant(task, []))
    assert "different numbers" in refusal(lambda: plant(task, [3, 3]))
    assert "99 exceptions" in refusal(lambda: plant(task, [0, 99]))
    assert "'rate'" in refusal(lambda: plant(task, [0], rate=1))
    assert "most_steps is 5" in refusal(lambda: plant(task, [0], steps=10, most_steps=5))
    assert "learning_rate is 0" in refusal(lambda: plant(task, [0], learning_rate=0))
    own = llc.Task(linear(), real_valued(), lambda o, t: ((o - t) ** 4).mean(1))
    assert "loss_below" in refusal(lambda: plant(own, [0]))
    assert "ran away" in refusal(
        lambda: plant(llc.Task(linear(), real_valued(), "mse"), [0], steps=40, learning_rate=1e30)
    )
