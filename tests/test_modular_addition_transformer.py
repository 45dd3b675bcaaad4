"""The published one-layer transformer: its function, its training, and going on after a stop."""

import math

import pytest
import torch
import torch.nn.functional as F

import llc
from llc.checkpoints import find_checkpoints, read_checkpoint
from llc.errors import InputError
from llc.tasks import modular_addition_transformer as transformer

PRIME = 11


def naive(weights, pairs, prime):
    """Three tokens through causal attention and the ReLU layer, position by position."""
    w = {name: value.double() for name, value in weights.items()}
    equals = torch.full_like(pairs[:, :1], prime)
    tokens = torch.cat([pairs, equals], 1)
    stream = w["embedding.weight"][tokens] + w["position.weight"]
    heads = lambda name: (stream @ w[name].T).unflatten(-1, (4, 32)).transpose(1, 2)
    query, key, value = (heads(f"{name}.weight") for name in ("query", "key", "value"))
    scores = query @ key.transpose(-1, -2) / math.sqrt(32)
    mask = torch.ones(3, 3, dtype=torch.bool).tril()
    attended = scores.masked_fill(~mask, -torch.inf).softmax(-1) @ value
    stream = stream + attended.transpose(1, 2).flatten(-2) @ w["output.weight"].T
    hidden = F.relu(stream @ w["up.weight"].T + w["up.bias"])
    stream = stream + hidden @ w["down.weight"].T + w["down.bias"]
    return (stream @ w["unembedding.weight"].T)[:, -1]


def test_is_the_function_of_a_transformer_over_three_tokens():
    model = transformer.task(PRIME).model
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.3)
    pairs = torch.cartesian_prod(torch.arange(PRIME), torch.arange(PRIME))
    torch.testing.assert_close(
        model.double()(pairs), naive(model.state_dict(), pairs, PRIME), rtol=1e-10, atol=1e-10
    )


def test_has_the_published_size_and_start():
    model = transformer.task().model
    assert sum(p.numel() for p in model.parameters()) == 226_816
    assert len(transformer.make_pairs().train[1]) == int(0.3 * 113**2)
    deviation = model.unembedding.weight.std().item() * math.sqrt(114)
    assert deviation == pytest.approx(1, abs=0.03)
    assert model.up.weight.std().item() * math.sqrt(128) == pytest.approx(1, abs=0.02)
    assert not model.up.bias.any()


def test_training_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(transformer, "KEEP_EVERY", 5)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    transformer.train(whole, steps=12, save_at=[0, 6, 12], prime=PRIME)

    def stop(step):
        if step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transformer.train(parts, steps=12, save_at=[0, 6, 12], prime=PRIME, report=stop)
    seen = []
    transformer.train(parts, steps=12, save_at=[0, 6, 12], prime=PRIME, report=seen.append)
    assert seen[0] == 6  # after what was kept at step 5
    for one, other in zip(find_checkpoints(whole), find_checkpoints(parts), strict=True):
        assert one.metadata == other.metadata
        for name, value in read_checkpoint(one.path)[0].items():
            assert torch.equal(value, read_checkpoint(other.path)[0][name])
    with pytest.raises(InputError, match="another training"):
        transformer.train(parts, steps=12, save_at=[], prime=PRIME, seed=1)


def test_loss_is_measured_in_double_precision():
    """In float32 the loss of a network this sure of itself is 0, and its gradient too."""
    task = transformer.task(PRIME)
    logits = task.model(task.data[0])
    assert logits.dtype == torch.float64


def test_can_be_estimated():
    task = transformer.task(PRIME)
    found = llc.estimate(
        task, gamma=1000.0, n_beta=100.0, behavioural=True, chains=2, draws=20, burn_in=20
    )
    assert found.dimension == sum(p.numel() for p in task.model.parameters())
    assert found.llc > 0


def test_declared_symmetries_are_symmetries():
    task = transformer.task(PRIME)
    for value in task.model.parameters():
        torch.nn.init.normal_(value, std=0.1)
    check = llc.check_symmetries(task, sample=False, count=False)
    assert not [row.broken for row in check.rows if row.broken]
    kinds = {(row.symmetry, row.part) for row in check.rows}
    assert {name for name, _ in kinds} == {s.name for s in transformer.SYMMETRIES}
