"""In-context regression against what is known of it: ridge regression, causality, resuming."""

import pytest
import torch
from tiny import refusal

import llc
from llc.checkpoints import find_checkpoints
from llc.tasks import builtin
from llc.tasks import in_context_regression as icl


def sequences(count, seed=0, **given):
    return icl.draw_sequences(count, torch.Generator().manual_seed(seed), **given)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("icl")
    icl.train(place, steps=12, save_at=[4, 8, 12], seed=1)
    return place


def test_predictions_see_only_the_pairs_before():
    model, (inputs, _) = icl.task().model, sequences(3)
    before = model(inputs)
    for k in range(icl.PAIRS):
        later = inputs.clone()
        later[:, k, -1] += 1  # y_k itself
        later[:, k + 1 :] += 1
        after = model(later)
        assert torch.equal(after[:, : k + 1], before[:, : k + 1])
        if k + 1 < icl.PAIRS:
            assert not torch.allclose(after[:, k + 1], before[:, k + 1])


def test_targets_are_what_the_description_says():
    inputs, targets = sequences(40_000)
    assert torch.equal(inputs[..., -1], targets)
    # E y² = D + noise; sums of squares of 320,000 correlated numbers: 1 % is six standard errors.
    assert (targets**2).mean().item() == pytest.approx(icl.DIMENSION + icl.NOISE_VARIANCE, rel=0.02)
    _, far = sequences(40_000, scale=3.0)
    expected = 9 * icl.DIMENSION + icl.NOISE_VARIANCE
    assert (far**2).mean().item() == pytest.approx(expected, rel=0.02)


def test_ridge_is_the_posterior_mean():
    inputs, targets = sequences(5)
    found = icl.ridge_predictions(inputs).double()
    assert torch.equal(found[:, 0], torch.zeros(5, dtype=found.dtype))
    # The posterior mean by conditioning the joint Gaussian of all y, another way than by normal
    # equations: Cov(y) = x xᵀ + noise.
    x, y = inputs[..., :-1].double(), targets.double()
    covariance = x @ x.transpose(1, 2)
    noisy = covariance + icl.NOISE_VARIANCE * torch.eye(icl.PAIRS)
    for k in range(1, icl.PAIRS):
        weights = torch.linalg.solve(noisy[:, :k, :k], covariance[:, :k, k])
        assert torch.allclose(found[:, k], (weights * y[:, :k]).sum(1), atol=1e-5)


def test_ridge_loss_is_the_posterior_s_variance():
    inputs, targets = sequences(20_000, 4)
    x = inputs[..., :-1].double()
    covariance = x @ x.transpose(1, 2)
    noisy = covariance + icl.NOISE_VARIANCE * torch.eye(icl.PAIRS)
    k = icl.PAIRS - 1
    explained = torch.einsum(
        "bi,bi->b",
        covariance[:, :k, k],
        torch.linalg.solve(noisy[:, :k, :k], covariance[:, :k, k]),
    )
    expected = (noisy[:, k, k] - explained).mean().item()
    measured = ((icl.ridge_predictions(inputs) - targets) ** 2)[:, k].mean().item()
    assert measured == pytest.approx(expected, rel=0.05)


def test_training_lowers_the_loss_and_measures_it(trained):
    found = find_checkpoints(trained)
    assert [c.step for c in found] == [4, 8, 12]
    losses = [c.metadata["train_loss"] for c in found]
    assert losses[-1] < losses[0]
    assert losses[-1] > icl.ridge_loss(1)  # which nothing beats
    for c in found:
        places = [c.metadata[f"loss_at_{k}"] for k in range(1, icl.PAIRS + 1)]
        assert sum(places) / icl.PAIRS == pytest.approx(c.metadata["train_loss"])
        assert c.metadata["ood_loss"] > c.metadata["train_loss"]
    assert not (trained / icl.RESUME).exists()


def test_killed_training_goes_on_to_the_same_numbers(trained, tmp_path):
    def stop(step):
        raise KeyboardInterrupt

    plan = {"save_at": [4, 8, 12], "seed": 1}
    # Stopped where the last checkpoint would be written.
    real, icl.save_checkpoint = icl.save_checkpoint, lambda *a: stop(a) if a[1] == 12 else real(*a)
    try:
        with pytest.raises(KeyboardInterrupt):
            icl.train(tmp_path, steps=12, **plan)
    finally:
        icl.save_checkpoint = real
    assert (tmp_path / icl.RESUME).exists()
    first = (tmp_path / "step_0000004.safetensors").stat().st_mtime_ns
    state = torch.get_rng_state()
    icl.train(tmp_path, steps=12, **plan)
    assert torch.equal(torch.get_rng_state(), state)
    assert (tmp_path / "step_0000004.safetensors").stat().st_mtime_ns == first
    for one, other in zip(find_checkpoints(tmp_path), find_checkpoints(trained), strict=True):
        assert one.metadata == other.metadata
        weights = other.weights()
        assert all(torch.equal(w, weights[name]) for name, w in one.weights().items())


def test_another_plan_does_not_take_up_what_was_left(tmp_path):
    # Were it taken up, no step would be left to do.
    torch.save({"plan": {"steps": 9}, "step": 9}, tmp_path / icl.RESUME)
    icl.train(tmp_path, steps=1, save_at=[1])
    assert [c.step for c in find_checkpoints(tmp_path)] == [1]


def test_steps_of_a_longer_run_hold_those_of_a_shorter_one():
    short, long = icl.checkpoint_steps(1000), icl.checkpoint_steps(10_000)
    assert set(short[:-1]) <= set(long)
    assert (short[0], short[-1], long[-1]) == (10, 1000, 10_000)
    assert icl.checkpoint_steps(3) == [3]


def test_chains_side_by_side_and_one_by_one_agree(trained):
    task = builtin("in-context-regression")(sequences=8).at(find_checkpoints(trained)[-1].weights())
    given = {
        "gamma": 1000.0,
        "step_size": 1e-3,
        "draws": 3,
        "burn_in": 2,
        "behavioural": True,
        "compile": "off",
    }
    many = llc.estimate(task, chains=2, **given)
    one = llc.estimate(task, chains=2, memory=1e-4, **given)
    assert "side by side" in many.execution
    assert many.llc == pytest.approx(one.llc, rel=1e-3)
    assert many.baseline == 0


def test_too_few_sequences():
    assert "sequences is 1" in refusal(lambda: icl.task(sequences=1))
