"""Losses by token of transformers as Hugging Face builds them."""

import pytest
import torch
from devinterp.slt.lm_loss import compute_per_token_loss
from transformers import GPT2Config, GPT2LMHeadModel

from llc import interop

IDS = torch.randint(11, (24, 6), generator=torch.Generator().manual_seed(0))
FEW = {"gamma": 100.0, "n_beta": 20.0, "chains": 2, "draws": 20, "burn_in": 10, "step_size": 1e-3}


@pytest.fixture(scope="module")
def gpt2():
    config = GPT2Config(
        vocab_size=11, n_positions=6, n_embd=8, n_layer=1, n_head=2, attn_pdrop=0.5,
        resid_pdrop=0.5, embd_pdrop=0.5, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GPT2LMHeadModel(config)


def test_next_token_losses_are_those_of_devinterp(gpt2):
    gpt2.eval()
    with torch.no_grad():
        ours, theirs = interop.next_token_losses(gpt2, IDS), compute_per_token_loss(gpt2, IDS)
    assert ours.shape == (24, 5)
    torch.testing.assert_close(ours, theirs)
    # A model that returns its logits bare gives the same.
    bare = torch.nn.Sequential(torch.nn.Embedding(11, 4), torch.nn.Linear(4, 11))
    with torch.no_grad():
        pair = interop.next_token_losses(bare, IDS), compute_per_token_loss(bare, IDS)
    torch.testing.assert_close(*pair)


def test_a_gpt2_in_training_mode_is_sampled_without_its_dropout_and_left_as_it_is(gpt2):
    gpt2.train()
    draws = interop.token_draws(gpt2, IDS, {"probe": IDS[:3]}, looks=3, sequences=8, **FEW)
    assert gpt2.training
    assert draws.losses("probe").shape == (2, 3, 3, 5)
    gpt2.eval()
    with torch.no_grad():
        found = interop.next_token_losses(gpt2, torch.from_numpy(draws.tree[
            "sampling_input_ids_micro"].values[0, 0].copy()))  # fmt: skip
    assert draws.baseline == pytest.approx(float(found.mean()), rel=1e-6)
    # Tied weights are one tensor: embedding and output together move.
    assert draws.estimate.dimension == sum(p.numel() for p in gpt2.parameters())


def test_devinterps_own_loss_serves_as_well(gpt2):
    own = interop.token_draws(gpt2, IDS, looks=2, token_loss=compute_per_token_loss, **FEW)
    ours = interop.token_draws(gpt2, IDS, looks=2, **FEW)
    torch.testing.assert_close(torch.tensor(own.llc), torch.tensor(ours.llc), rtol=1e-3, atol=1e-4)
