"""Repeated text and the transformer that learns it, against what is known of both."""

import math

import pytest
import torch
from tiny import refusal

import llc
from llc.checkpoints import find_checkpoints
from llc.refined.refine import default_parts
from llc.tasks import builtin
from llc.tasks import induction_heads as ih
from llc.tasks import repeated_text as text


def drawn(count, seed=0, chain=True):
    generator = torch.Generator().manual_seed(seed)
    return text.draw_sequences(count, generator, text.rules() if chain else None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("induction")
    ih.train(place, steps=12, save_at=[4, 8, 12], seed=1)
    return place


@pytest.mark.parametrize("chain", [True, False])
def test_sequences_repeat_their_piece(chain):
    tokens, piece = drawn(500, chain=chain)
    assert sorted(piece.unique().tolist()) == list(range(*text.PIECE))
    for row, length in zip(tokens, piece.tolist(), strict=True):
        assert torch.equal(row[length:], row[:-length])


def test_tokens_follow_the_two_rules_as_often_as_said():
    tokens, _ = drawn(60_000)
    near, far = text.rules()
    k = 6  # inside every piece, and far enough in for both rules
    by_near = tokens[:, k] == near[tokens[:, k - 1]]
    by_far = tokens[:, k] == far[tokens[:, k - 3]]
    same = near[tokens[:, k - 1]] == far[tokens[:, k - 3]]
    expected = 0.4 + 0.2 / text.TOKENS  # drawn by the rule, or by nothing and yet the same
    for found in (by_near, by_far):
        share = found[~same].double().mean().item()
        assert share == pytest.approx(expected, abs=5 * math.sqrt(0.25 / 60_000))
    # Rules are permutations: every token is as frequent as any other.
    counts = torch.bincount(tokens[:, k], minlength=text.TOKENS) / 60_000
    assert (counts - 1 / text.TOKENS).abs().max() < 5 * math.sqrt(1 / text.TOKENS / 60_000)
    alone, _ = drawn(60_000, chain=False)
    share = (alone[:, k] == near[alone[:, k - 1]]).double().mean().item()
    assert share == pytest.approx(1 / text.TOKENS, abs=5 * math.sqrt(0.04 / 60_000))


def test_losses_of_the_chain_are_those_of_its_probabilities():
    chain = text.rules()
    # Over all 24 continuations of a text the probabilities add up to one, at every place.
    for k in (1, 2, 3, 7):
        tokens = drawn(1, 3)[0].expand(text.TOKENS, -1).clone()
        tokens[:, k] = torch.arange(text.TOKENS)
        assert (-text.chain_losses(tokens, chain)[:, k - 1]).exp().sum().item() == pytest.approx(1)
    # What is drawn has the entropy that they say: by brute force over frequencies of a pair.
    tokens, _ = drawn(200_000, 4)
    near = tokens[:, 1] == chain[0][tokens[:, 0]]
    p = 0.4 + 0.6 / text.TOKENS
    entropy = -p * math.log(p) - (1 - p) * math.log((1 - p) / (text.TOKENS - 1))
    assert near.double().mean().item() == pytest.approx(p, abs=0.006)
    assert text.chain_losses(tokens, chain)[:, 0].mean().item() == pytest.approx(entropy, abs=0.01)


def test_predictions_see_nothing_later():
    model, (tokens, _) = ih.task().model, drawn(3)
    before = model(tokens[:, :-1])
    for k in (1, 15, 30):
        changed = tokens[:, :-1].clone()
        changed[:, k:] = (changed[:, k:] + 1) % text.TOKENS
        after = model(changed)
        assert torch.allclose(after[..., :k], before[..., :k], atol=1e-6)
        assert not torch.allclose(after[..., k], before[..., k], atol=1e-3)


def test_losses_leave_out_where_the_second_pass_begins():
    tokens, piece = drawn(200)

    class Copies(torch.nn.Module):
        """Knows the piece's length, and is sure of what came a piece ago."""

        def forward(self, given):
            place = torch.arange(1, text.LENGTH) - piece[:, None]
            known = tokens.gather(1, place.clamp(min=0))
            logits = torch.zeros(*given.shape, text.TOKENS)
            logits.scatter_(2, known[..., None], 50.0)
            return torch.where((place > 0)[..., None], logits, 0.0).transpose(1, 2)

    first, later = ih.losses(Copies(), tokens, piece)
    assert first == pytest.approx(math.log(text.TOKENS))
    assert later == pytest.approx(0, abs=1e-6)


def test_killed_training_goes_on_to_the_same_numbers(trained, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    plan = {"steps": 12, "save_at": [4, 8, 12], "seed": 1}
    with pytest.raises(KeyboardInterrupt):
        ih.train(tmp_path, **plan, report=lambda step: stop() if step == 10 else None)
    assert (tmp_path / ih.RESUME).exists()
    state = torch.get_rng_state()
    steps = []
    ih.train(tmp_path, **plan, report=steps.append)
    assert steps == [9, 10, 11, 12]
    assert torch.equal(torch.get_rng_state(), state)
    assert not (tmp_path / ih.RESUME).exists()
    pairs = list(zip(find_checkpoints(tmp_path), find_checkpoints(trained), strict=True))
    assert len(pairs) == 3
    for one, other in pairs:
        assert one.metadata == other.metadata
        weights = other.weights()
        assert all(torch.equal(w, weights[name]) for name, w in one.weights().items())
    losses = [c.metadata["first_loss"] for c in find_checkpoints(trained)]
    assert losses[-1] < losses[0] < 1.2 * math.log(text.TOKENS)


def test_another_plan_does_not_take_up_what_was_left(tmp_path):
    torch.save({"plan": {"steps": 9}, "step": 9}, tmp_path / ih.RESUME)
    ih.train(tmp_path, steps=1, save_at=[1])
    assert [c.step for c in find_checkpoints(tmp_path)] == [1]


def test_each_head_is_a_part_of_its_own():
    task = builtin("induction-heads")(sequences=16)
    given = {"gamma": 100.0, "chains": 2, "draws": 4, "burn_in": 2, "step_size": 1e-3}
    found = llc.estimate(task, only="layer1[2]", behavioural=True, **given)
    assert found.dimension == 4 * 12 * 48
    parts = default_parts(task)
    assert [name for name in parts if name.startswith("layer")] == [
        f"layer{k}[{h}]" for k in range(2) for h in range(4)
    ]
    assert set(parts) - {*list(parts)[:8]} == {"embedding", "position", "unembedding"}


def test_too_few_sequences():
    assert "sequences is 1" in refusal(lambda: ih.task(sequences=1))
