"""devinterp's own functions on our draws, against quadrature; its own draws through our reader."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from bigrams import GAMMA, N_BETA, Bigram, Truth, at_centre, sequences
from devinterp.slt.bif import compute_bif
from devinterp.slt.llc import compute_llc
from devinterp.slt.susceptibilities import compute_susceptibilities
from tiny import refusal

import llc
from llc import diagnostics, interop

DATA, PROBE = sequences(40), sequences(6, seed=1, bias=0.8)
SETTINGS = llc.Settings(n_beta=N_BETA, gamma=GAMMA, chains=4, precision=0.05)
LOOKS = 400


def draw(free=("zero", "one"), **given):
    model = Bigram()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in free)
    observables = {"train": DATA, "a probe": PROBE}
    return interop.token_draws(model, DATA, observables, settings=SETTINGS, looks=LOOKS, **given)


@pytest.fixture(scope="module")
def full():
    return draw()


@pytest.fixture(scope="module")
def only_zero():
    return draw(("zero",))


def within(values, truth, sigmas=5):
    """Draws ``(chain, draw)`` of what has this expectation: enough of them, and near enough."""
    assert diagnostics.ess(values) > 200
    assert abs(values.mean() - truth) < sigmas * diagnostics.mcse(values), (values.mean(), truth)


def test_losses_of_tokens_have_their_exact_expectations(full):
    ids = DATA.numpy()
    truth = Truth(ids)
    for name, data in (("train", ids), ("a probe", PROBE.numpy())):
        losses, exact = full.losses(name), truth.losses(data)
        assert losses.shape == (4, LOOKS, *exact.shape)
        for place in np.ndindex(*exact[:4].shape):
            within(losses[:, :, *place], exact[place])
    np.testing.assert_array_equal(full.tokens("a probe"), PROBE.numpy())
    exact = N_BETA * (truth.losses(ids).mean() - at_centre(ids).mean())
    within(full.trace, exact)
    assert abs(full.estimate.llc - exact) < 5 * full.estimate.mcse
    assert full.baseline == pytest.approx(at_centre(ids).mean(), rel=1e-12)
    assert (full.paired, full.baseline_se, full.n_beta, full.gamma) == (True, 0, N_BETA, GAMMA)


def test_compute_llc_reads_our_draws(full):
    found = compute_llc(full.tree)
    assert float(found["llc_mean"]) == pytest.approx(full.llc, rel=1e-10)
    np.testing.assert_allclose(found["llc_per_chain"].values, full.trace.mean(1), rtol=1e-10)
    assert full.llc == pytest.approx(full.trace.mean())


@pytest.mark.parametrize("covariance", [True, False])
def test_influence_functions_of_our_draws_are_the_exact_ones(full, covariance):
    ids = PROBE.numpy()
    found = compute_bif(
        full.tree, loss_keys=["a_probe"], correlation_method="token",
        compute_covariance=covariance, device="cpu",
    )  # fmt: skip
    influences = found["influences"].values.transpose(0, 2, 1, 3).reshape(18, 18)
    losses = full.losses("a probe").reshape(4, LOOKS, 18)
    flat = losses.reshape(-1, 18).T
    by_hand = np.cov(flat) if covariance else np.corrcoef(flat)
    np.testing.assert_allclose(influences, by_hand, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(found["input_ids"].values, ids)
    if covariance:
        truth = Truth(DATA.numpy())
        mean = truth.losses(ids).reshape(-1)
        exact = truth.products(ids, ids) - np.outer(mean, mean)
        centred = losses - mean
        for i, j in np.ndindex(18, 18):
            within(centred[:, :, i] * centred[:, :, j], exact[i, j])
        contexts = ids[:, :-1].ravel()
        assert (np.abs(exact[contexts[:, None] != contexts]) < 1e-12).all()


def test_sequence_influences_of_our_draws(full):
    found = compute_bif(full.tree, correlation_method="sequence", device="cpu")
    both = [full.losses(name).mean(3).reshape(4 * LOOKS, -1) for name in ("a probe", "train")]
    by_hand = np.corrcoef(np.concatenate(both, 1).T)
    np.testing.assert_allclose(found["influences"].values, by_hand, atol=1e-9)


def test_susceptibilities_of_our_draws_are_the_exact_ones(full, only_zero):
    trees = {"full": full.tree, "zero": only_zero.tree}
    found = compute_susceptibilities(trees, "train", ["a probe"])["susceptibilities"]["sus"]
    ids, probe = DATA.numpy(), PROBE.numpy()
    train_r, probe_r = only_zero.losses("train").mean((2, 3)), only_zero.losses("a probe")
    phi = train_r - full.baseline
    delta = full.losses("train").mean() - full.losses("a probe").mean((0, 1))
    by_hand = (phi * train_r).mean() - (phi[:, :, None, None] * probe_r).mean((0, 1))
    by_hand = by_hand - phi.mean() * delta
    np.testing.assert_allclose(found.values[:, 0], by_hand.reshape(-1), atol=1e-9)

    everything, restricted = Truth(ids), Truth(ids, free=(0,))
    start = at_centre(ids).mean()
    square = restricted.products(ids, ids).mean() - start * restricted.losses(ids).mean()
    cross = restricted.products(ids, probe).mean(0) - start * restricted.losses(probe).reshape(-1)
    shift = everything.losses(ids).mean() - everything.losses(probe).reshape(-1)
    exact = square - cross - (restricted.losses(ids).mean() - start) * shift
    # Error of the restricted run draw by draw, and of the other one through its differences.
    single = (phi * train_r)[:, :, None] - phi[:, :, None] * (
        probe_r.reshape(4, LOOKS, -1) + delta.reshape(-1)
    )
    other = full.losses("train").mean((2, 3))[:, :, None]
    other = phi.mean() * (other - full.losses("a probe").reshape(4, LOOKS, -1))
    for place in range(len(exact)):
        error = np.hypot(
            diagnostics.mcse(single[:, :, place]), diagnostics.mcse(other[:, :, place])
        )
        assert abs(found.values[place, 0] - exact[place]) < 5 * error
    # They are no zeros: the test would see one of them missing.
    assert np.abs(exact).max() > 10 * error


def test_a_saved_file_is_a_file_of_devinterp(full, tmp_path):
    path = full.save(tmp_path / "ours.zarr")
    again = interop.TokenDraws.load(path)
    assert again.names == full.names == ("train", "a_probe")
    for name in full.names:
        np.testing.assert_array_equal(again.losses(name), full.losses(name))
        np.testing.assert_array_equal(again.tokens(name), full.tokens(name))
    assert (again.llc, again.mcse, again.baseline) == (full.llc, full.mcse, full.baseline)
    assert again.estimate.to_dict() == full.estimate.to_dict()
    assert float(compute_llc(again.tree)["llc_mean"]) == pytest.approx(full.llc, rel=1e-10)
    assert str(again) == str(full)
    assert "paired" in str(full)


def test_nothing_of_the_users_is_touched():
    model, before = Bigram().train(), torch.get_rng_state()
    weights = copy.deepcopy(model.state_dict())
    interop.token_draws(model, DATA, looks=2, gamma=GAMMA, chains=2, draws=20, burn_in=20)
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in weights.items())
    assert all(p.grad is None for p in model.parameters())


def test_a_subset_of_sequences_keeps_its_own_baseline():
    few = {"gamma": GAMMA, "chains": 2, "draws": 20, "burn_in": 20, "step_size": 1e-12}
    found = interop.token_draws(Bigram(), DATA, looks=3, sequences=7, **few)
    ids = found.tree["sampling_input_ids_micro"].values
    assert ids.shape == (2, 3, 7, 4)
    rows = {tuple(row) for row in DATA.numpy()}
    assert all(tuple(row) in rows for row in ids[0, 0])
    np.testing.assert_array_equal(ids, np.broadcast_to(ids[0, 0], ids.shape))
    assert found.baseline == pytest.approx(at_centre(ids[0, 0]).mean())
    # Chains that do not move have no LLC, whichever sequences are looked at.
    assert abs(found.llc) < 1e-6


def wrong_shape(model, ids):
    return model(ids)[:, :, 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"looks": 1}, ["looks", "at least 2"]),
        ({"sequences": True}, ["sequences"]),
        ({"tokens": DATA.double()}, ["whole numbers"]),
        ({"tokens": [[0, 1]]}, ["list", "whole numbers"]),
        ({"tokens": DATA[:, :1]}, ["at least 2"]),
        ({"observables": {"a": DATA[:, :3]}}, ["observable 'a'", "one length"]),
        ({"observables": {"a b": DATA, "a_b": DATA}}, ["'a_b'", "differ"]),
        ({"token_loss": wrong_shape}, ["token_loss", "(40, 3)"]),
        ({"n_beta": -1}, ["n_beta"]),
    ],
)
def test_what_cannot_be_is_one_sentence(change, words):
    given = {"tokens": DATA, "observables": None, "gamma": GAMMA, "looks": 2} | change
    tokens, observables = given.pop("tokens"), given.pop("observables")
    message = refusal(lambda: interop.token_draws(Bigram(), tokens, observables, **given))
    assert all(word in message for word in words), message


def test_foreign_trees_are_refused(full):
    import xarray as xr

    assert "sampling_loss_micro" in refusal(lambda: interop.TokenDraws(xr.DataTree()))
    turned = xr.DataTree(full.tree.dataset.rename({"token_pos": "place"}))
    assert "dimensions" in refusal(lambda: interop.TokenDraws(turned))
    assert "train, a_probe" in refusal(lambda: full.losses("tarin"))


def test_an_estimate_without_draws_cannot_be_written(full):
    gone = dataclasses.replace(full.estimate, diverged=(0, 1, 2, 3), trace=np.ones((4, 3)))
    assert "no draws" in refusal(lambda: interop.estimate_tree(gone))
