"""What sharded estimates refuse, and noise that belongs to entries, in this one process."""

import pytest
import torch
from tiny import labelled, linear, real_valued, refusal
from torch import distributed as dist
from torch import nn

import llc.sharded
from llc.params import NoiseStreams
from llc.sharded.shards import BLOCK, Noise, Shards

GIVEN = {"gamma": 4.0, "step_size": 0.05, "draws": 4, "burn_in": 2, "chains": 1}


@pytest.fixture
def alone(tmp_path):
    """A process group of this process."""
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Part:
    """Some entries of each tensor, as a rank of several would hold them."""

    device, dtype = torch.device("cpu"), torch.float64

    def __init__(self, shards, rank, ranks):
        self.pieces = []
        for piece in shards.pieces:
            each = -(-piece.size // ranks)
            start = min(rank * each, piece.size)
            stop = min(start + each, piece.size)
            self.pieces.append(piece._replace(start=start, stop=stop))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("count", [2, 3, 7])
def test_ranks_draw_their_own_entries_of_the_same_noise(count):
    model = nn.Sequential(nn.Linear(300, 500), nn.Linear(500, 2)).double()
    shards = Shards(llc.sharded.shard(model))
    whole = Noise(shards, 5, "noise", 1)
    parts = [Part(shards, rank, count) for rank in range(count)]
    noises = [Noise(part, 5, "noise", 1) for part in parts]
    for _ in range(40):
        expected = whole.normal()[0].split([piece.size for piece in shards.pieces])
        found = [
            noise.normal()[0].split([p.stop - p.start for p in part.pieces])
            for noise, part in zip(noises, parts, strict=True)
        ]
        for tensor, pieces in zip(expected, zip(*found, strict=True), strict=True):
            assert torch.equal(tensor, torch.cat(pieces))
    # 150,000 numbers in three blocks, each a stream of the library's.
    stream = NoiseStreams(5, "noise 0.weight 2", 1, first=1)
    last = Noise(shards, 5, "noise", 1).normal()[0, 2 * BLOCK : 150_000]
    assert torch.equal(last, stream.normal(150_000 - 2 * BLOCK, torch.float64)[0])


@pytest.mark.usefixtures("alone")
def test_noise_is_standard_and_of_one_chain():
    model = nn.Linear(300, 500).double()
    shards = Shards(llc.sharded.shard(model))
    drawn = [Noise(shards, 0, "noise", chain).normal()[0] for chain in (0, 1)]
    for numbers in drawn:
        assert abs(float(numbers.mean())) < 5 / 150_500**0.5
        assert abs(float(numbers.var()) - 1) < 5 * (2 / 150_500) ** 0.5
    assert abs(float((drawn[0] * drawn[1]).mean())) < 5 / 150_500**0.5


@pytest.mark.usefixtures("alone")
def test_a_plain_model_is_not_touched():
    model, pair = linear(), real_valued()
    before = [p.clone() for p in model.parameters()]
    state = torch.get_rng_state()
    found = llc.sharded.estimate(model, pair, "mse", **GIVEN)
    assert found.trace.shape == (1, 4)
    assert found.dimension == 8
    assert found.settings.step_size == 0.05
    assert torch.equal(state, torch.get_rng_state())
    assert type(model) is nn.Linear
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.usefixtures("alone")
def test_blocks_are_gathered_one_by_one_but_for_tied_weights():
    from torch.distributed.fsdp import FSDPModule

    model = nn.Sequential(nn.Embedding(6, 4), nn.Sequential(nn.Linear(4, 4)), nn.Linear(4, 6))
    model[2].weight = model[0].weight
    llc.sharded.shard(model)
    wrapped = {name for name, m in model.named_modules() if isinstance(m, FSDPModule)}
    assert wrapped == {"", "1.0"}
    assert model[2].weight is model[0].weight
    assert Shards(model).total == 24 + 20 + 6


@pytest.mark.usefixtures("alone")
def test_no_other_loss_than_by_example_and_no_half_shards():
    model, pair = linear(), real_valued()

    def mean(outputs, targets):
        return ((outputs - targets) ** 2).mean()

    assert "one value per example" in refusal(
        lambda: llc.sharded.estimate(model, pair, mean, **GIVEN)
    )
    half = linear().bfloat16(), tuple(part.bfloat16() for part in pair)
    message = refusal(lambda: llc.sharded.estimate(*half, "mse", **GIVEN))
    assert "mp_policy" in message
    mixed = nn.Sequential(linear(), nn.Linear(2, 2))
    llc.sharded.shard(mixed[0])
    assert "not sharded" in refusal(lambda: llc.sharded.estimate(mixed, pair, "mse", **GIVEN))
    frozen = linear().requires_grad_(False)
    assert "nothing to sample" in refusal(
        lambda: llc.sharded.estimate(frozen, pair, "mse", **GIVEN)
    )
    noisy = {"batch_loss": lambda m, batch: nn.functional.dropout(m(batch[0])).square().mean(1)}
    assert "two passes" in refusal(lambda: llc.sharded.estimate(model, pair, **noisy, **GIVEN))


@pytest.mark.usefixtures("alone")
def test_outputs_are_held_against_what_the_loss_takes():
    inputs, labels = labelled()
    given = {**GIVEN, "loss": "cross_entropy"}
    soft = nn.Sequential(linear(), nn.Softmax(1))
    message = refusal(lambda: llc.sharded.estimate(soft, (inputs, labels), **given))
    assert "probabilities already" in message
    message = refusal(lambda: llc.sharded.estimate(linear(), (inputs, labels - 1), **given))
    assert "ignore_index=-1" in message
    # Logits that are one-hot at w* alone, and those of a language model.
    eye = nn.Linear(2, 2, bias=False)
    eye.weight.data = torch.eye(2)
    one_hot = nn.functional.one_hot(labels).float()
    assert llc.sharded.estimate(eye, (one_hot, labels), **given).dimension == 4
    ids = torch.arange(60).reshape(20, 3) % 5
    found, twin = (
        llc.sharded.estimate(model, (ids, ids), **given)
        for model in (nn.Sequential(words()), nn.Sequential(words(), Moved()))
    )
    assert found.llc == pytest.approx(twin.llc, rel=1e-4)


def words():
    found = nn.Embedding(5, 5)
    with torch.no_grad():
        found.weight.copy_(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))
    return found


class Moved(nn.Module):
    """Puts the classes in dimension 1."""

    def forward(self, outputs):
        return outputs.movedim(-1, 1).contiguous()


def test_without_a_process_group():
    model, pair = linear(), real_valued()
    for call in (
        lambda: llc.sharded.estimate(model, pair, "mse", **GIVEN),
        lambda: llc.sharded.shard(model),
    ):
        assert "torchrun" in refusal(call)
    assert "step_size is -1" in refusal(
        lambda: llc.sharded.estimate(model, pair, "mse", **{**GIVEN, "step_size": -1})
    )
    assert "at_once is 0" in refusal(
        lambda: llc.sharded.estimate(model, pair, "mse", **GIVEN, at_once=0)
    )
