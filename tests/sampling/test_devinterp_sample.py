"""devinterp's own ``sample``: from its seeds and batches the same path, from others the same law.

What cannot be equal is its number: burn-in is averaged in, and L(w*) is of other batches than those
of the chain. Both are measured here to the last digit.
"""

import numpy as np
import pytest
import torch
from bigrams import GAMMA, N_BETA, Bigram, Truth, at_centre, sequences
from datasets import Dataset
from devinterp.slt.llc import compute_llc
from devinterp.slt.sampling import sample
from stationary import kernel_of, posterior_of

import llc
from llc import interop

STEP, BATCH, SEED, CHAINS, BURN_IN, DRAWS, INIT = 0.05, 6, 7, 2, 10, 40, 3
DATA = sequences(40, length=16)
DATASET = Dataset.from_dict({"input_ids": DATA.tolist()}).with_format("torch")


def theirs(path, **given):
    settings = {
        "lr": STEP, "n_beta": N_BETA, "localization": GAMMA, "num_chains": CHAINS,
        "num_draws": DRAWS, "num_burnin_steps": BURN_IN, "batch_size": BATCH, "init_seed": SEED,
        "num_init_loss_batches": INIT, "device": "cpu",
    }  # fmt: skip
    return sample(Bigram(), DATASET, {}, **(settings | given), output_path=path)


def task():
    return llc.Task(
        Bigram(), DATA, batch_loss=lambda m, ids: interop.next_token_losses(m, ids).mean(1)
    )


def rows_of(batches):
    """Which examples devinterp took, from the sequences that it writes down."""
    places = {tuple(row): number for number, row in enumerate(DATA.tolist())}
    assert len(places) == len(DATA)
    return np.apply_along_axis(lambda row: places[tuple(row)], -1, batches)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return theirs(tmp_path_factory.mktemp("devinterp") / "theirs.zarr")


@pytest.fixture(scope="module")
def path(run):
    """Our SGLD on its batches and its noise: rise and L_B(w*) of every step, ``(chain, step)``."""
    posterior = posterior_of(task(), N_BETA, GAMMA)
    kernel = kernel_of("sgld", posterior, STEP, friction=1.0)
    batches = torch.from_numpy(rows_of(run["sampling_input_ids_micro"].values))
    at_start = at_centre(DATA.numpy()).mean(1)
    rises, starts = [], []
    for chain in range(CHAINS):
        state = kernel.init(posterior.start(1))
        # devinterp seeds torch with init_seed + chain, and draws tensor by tensor.
        torch.manual_seed(SEED + chain)
        for batch in batches[chain]:
            kick = torch.stack([torch.normal(0.0, 1.0, size=()) for _ in range(2)])
            state, info = kernel.step(state, batch[None], kick[None].double())
            rises.append(float(info.rise) / N_BETA)
            starts.append(at_start[batch.numpy()].mean())
    return np.array(rises).reshape(CHAINS, -1), np.array(starts).reshape(CHAINS, -1)


def test_from_the_same_seeds_and_batches_the_paths_are_the_same(run, path):
    rise, start = path
    losses = run["sampling_loss_micro"].values.astype(float).mean((2, 3))
    assert losses.shape == (CHAINS, BURN_IN + DRAWS)
    # Theirs are stored, and their gradients begun, in single precision.
    np.testing.assert_allclose(rise + start, losses, rtol=2e-6)
    assert np.ptp(rise, axis=1).min() > 0.05


def test_what_their_number_differs_by_is_burn_in_and_the_baseline(run, path):
    rise, start = path
    ours = N_BETA * rise[:, BURN_IN:].mean()
    found = float(compute_llc(run)["llc_mean"])
    batches = rows_of(run["sampling_input_ids_micro"].values)[0]
    # With matched batches its L(w*) is that of the chain's own first batches.
    init = at_centre(DATA.numpy()[batches[:INIT]].reshape(-1, 16)).mean()
    assert float(run["init_loss"].values.mean()) == pytest.approx(init, rel=1e-6)
    burn_in = N_BETA * (rise.mean() - rise[:, BURN_IN:].mean())
    unpaired = N_BETA * (start.mean() - init)
    assert found - ours == pytest.approx(burn_in + unpaired, rel=1e-4)
    assert min(abs(burn_in), abs(unpaired)) > 0.01
    read = interop.TokenDraws(run)
    without = N_BETA * (rise[:, BURN_IN:] + start[:, BURN_IN:] - init)
    np.testing.assert_allclose(read.trace, without, atol=1e-4)
    assert (read.n_beta, read.gamma, read.paired) == (N_BETA, GAMMA, False)
    assert abs(unpaired) < 5 * read.baseline_se
    assert "unpaired" in str(read)


def test_our_draws_in_its_layout_are_laid_out_as_its_own(tmp_path):
    observed = sequences(6, length=16, seed=1)
    dataset = Dataset.from_dict({"input_ids": observed.tolist()}).with_format("torch")
    own = sample(
        Bigram(), DATASET, {"a probe": (dataset, 1)}, lr=STEP, n_beta=N_BETA, num_draws=3,
        batch_size=6, device="cpu", output_path=tmp_path / "with.zarr",
    )  # fmt: skip
    settings = {"n_beta": N_BETA, "gamma": GAMMA, "draws": 20, "burn_in": 20}
    ours = interop.token_draws(Bigram(), DATA, {"a probe": observed}, looks=3, **settings)
    ours = interop.open_zarr(ours.save(tmp_path / "ours.zarr"))
    assert set(ours.data_vars) == set(own.data_vars)
    for name in own.data_vars:
        assert ours[name].dims == own[name].dims, name
        assert ours[name].dtype.kind == own[name].dtype.kind, name
    assert ours["loss_a_probe"].shape == own["loss_a_probe"].shape
    assert ours.attrs["completed"] == own.attrs["completed"]
    found, expected = (tree.attrs["metadata"]["config"] for tree in (ours, own))
    assert set(found) == set(expected)
    assert set(found["sampler"]) == set(expected["sampler"])
    assert found["observables"] == expected["observables"]


@pytest.mark.parametrize("batch", [len(DATA), 10])
def test_from_other_seeds_the_estimates_agree(batch, tmp_path):
    long = {"num_draws": 1200, "num_burnin_steps": 100, "batch_size": batch}
    ids = DATA.numpy()
    run = theirs(tmp_path / "long.zarr", **long, num_init_loss_batches=4)
    read = interop.TokenDraws(run)
    settings = {"n_beta": N_BETA, "gamma": GAMMA, "step_size": STEP, "burn_in": 100}
    ours = llc.estimate(
        task(), **settings, sampler="sgld", batch_size=batch, draws=2500, chains=4, seed=5
    )
    assert min(read.ess, ours.ess) > 200
    # Four batches of ten are all data, and so is one of forty: L(w*) is exact here.
    assert float(run["init_loss"].values.mean()) == pytest.approx(at_centre(ids).mean(), rel=1e-6)
    assert abs(read.llc - ours.llc) < 5 * np.hypot(ours.mcse, read.mcse)
    exact = N_BETA * (Truth(ids).losses(ids).mean() - at_centre(ids).mean())
    assert abs(ours.llc - ours.discretisation - exact) < 5 * ours.mcse
    assert abs(read.llc - ours.discretisation - exact) < 5 * read.mcse


def test_chains_that_do_not_move_have_no_llc_within_the_error_we_read(tmp_path):
    scores = []
    for seed in range(8):
        still = {"lr": 0.0, "init_seed": 100 * seed, "num_init_loss_batches": 2, "num_chains": 1}
        run = theirs(tmp_path / f"{seed}.zarr", **still, num_draws=48, num_burnin_steps=0)
        read = interop.TokenDraws(run)
        assert read.llc == pytest.approx(float(compute_llc(run)["llc_mean"]), abs=1e-4)
        scores.append(read.llc / read.baseline_se)
    assert max(map(abs, scores)) < 5
    # Neither far too wide nor too narrow: two batches of the six there are.
    assert 0.4 < np.sqrt(np.mean(np.square(scores))) < 1.5
    fixed = {"n_beta": N_BETA, "gamma": GAMMA, "sampler": "sgld", "step_size": 0.0, "burn_in": 0}
    assert llc.estimate(task(), **fixed, draws=48, batch_size=BATCH).llc == 0
