"""n, and which examples: those that an epoch of a loader yields, held against an epoch itself."""

import collections

import pytest
import torch
from tiny import refusal, rlct
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import llc
from llc.data import materialise

COUNT = 600
X = torch.arange(COUNT * 3.0).reshape(COUNT, 3)
Y = X.sum(1, keepdim=True)
PAIRS = TensorDataset(X, Y)
EVEN = list(range(0, COUNT, 2))


def generator():
    return torch.Generator().manual_seed(3)


class Evens(Sampler):
    """Another order every epoch, the same examples."""

    def __init__(self):
        self.epochs = 0

    def __iter__(self):
        self.epochs += 1
        return iter(EVEN[self.epochs :] + EVEN[: self.epochs])

    def __len__(self):
        return len(EVEN)


class Buckets:
    """Batches of a batch sampler by another name, shuffled by its own generator."""

    def __init__(self):
        self.generator = generator()

    def __iter__(self):
        for start in torch.randperm(COUNT // 10, generator=self.generator).tolist():
            yield list(range(10 * start, 10 * start + 10))

    def __len__(self):
        return COUNT // 10


LOADERS = {
    "plain": lambda: DataLoader(PAIRS, 7),
    "shuffled": lambda: DataLoader(PAIRS, 7, shuffle=True),
    "shuffled by its own generator": lambda: DataLoader(
        PAIRS, 7, shuffle=True, generator=generator()
    ),
    "batches of a hundred of six hundred": lambda: DataLoader(
        PAIRS, batch_sampler=BatchSampler(SubsetRandomSampler(range(100)), 10, False)
    ),
    "batches over a range": lambda: DataLoader(
        PAIRS, batch_sampler=BatchSampler(range(50, 120), 8, False)
    ),
    "batches listed": lambda: DataLoader(PAIRS, batch_sampler=[[0, 5], [7], [3, 599]]),
    "batches of one's own": lambda: DataLoader(PAIRS, batch_sampler=Buckets()),
    "a sampler over a range": lambda: DataLoader(PAIRS, 9, sampler=SequentialSampler(range(100))),
    "a random sampler over a range": lambda: DataLoader(PAIRS, sampler=RandomSampler(range(100))),
    "a range": lambda: DataLoader(PAIRS, 9, sampler=range(100)),
    "a list": lambda: DataLoader(PAIRS, 9, sampler=[5, 3, 8]),
    "a tensor": lambda: DataLoader(PAIRS, 9, sampler=torch.tensor([5, 3, 8])),
    "a sampler of one's own": lambda: DataLoader(PAIRS, 9, sampler=Evens()),
    "one process alone": lambda: DataLoader(PAIRS, 9, sampler=DistributedSampler(PAIRS, 1, 0)),
    "the tail dropped": lambda: DataLoader(PAIRS, 64, drop_last=True),
    "the tail dropped of a part": lambda: DataLoader(
        PAIRS, batch_sampler=BatchSampler(range(100), 30, True)
    ),
    "nothing to drop": lambda: DataLoader(PAIRS, 60, shuffle=True, drop_last=True),
    "a list of examples": lambda: DataLoader([PAIRS[i] for i in range(COUNT)], 32, shuffle=True),
    "part of a list": lambda: DataLoader([PAIRS[i] for i in range(COUNT)], 32, sampler=EVEN),
    "without batches": lambda: DataLoader(PAIRS, batch_size=None),
    "batches by the data set": lambda: DataLoader(
        PAIRS, batch_size=None, sampler=BatchSampler(range(70), 8, True)
    ),
    "a collate for tensors": lambda: DataLoader(
        PAIRS, 7, collate_fn=lambda items: tuple(2 * torch.stack(x) for x in zip(*items, strict=1))
    ),
}


@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
def test_the_examples_are_those_of_an_epoch(make):
    batches = list(make())
    epoch = [
        (x, y) if x.ndim == 2 else (x[None], y[None]) for x, y in batches
    ]  # without a batch size single examples come
    inputs, targets = (torch.cat(parts) for parts in zip(*epoch, strict=True))
    order = inputs[:, 0].argsort()
    task = llc.Task(nn.Linear(3, 1), make(), "mse")
    assert task.size == len(inputs)
    found = task.data[0][:, 0].argsort()
    assert torch.equal(task.data[0][found], inputs[order])
    assert torch.equal(task.data[1][found], targets[order])


def test_samplers_and_generators_are_left_as_they_are():
    own, evens = generator(), Evens()
    state = torch.get_rng_state()
    inner = RandomSampler(PAIRS, generator=own)
    for loader in (
        DataLoader(PAIRS, 7, shuffle=True),
        DataLoader(PAIRS, 7, shuffle=True, generator=own),
        DataLoader(PAIRS, batch_sampler=BatchSampler(inner, 7, False)),
        DataLoader(PAIRS, 9, sampler=evens),
    ):  # fmt: skip
        materialise(loader)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(own.get_state(), generator().get_state())
    assert evens.epochs == 0


class Others(Sampler):
    """A hundred of all, others each epoch."""

    def __iter__(self):
        return iter(torch.randperm(COUNT)[:100].tolist())

    def __len__(self):
        return 100


class Forever:
    def __iter__(self):
        while True:
            yield [0, 1]


REFUSED = {
    "others each epoch": (
        lambda: DataLoader(PAIRS, 7, sampler=RandomSampler(PAIRS, num_samples=100)),
        ["RandomSampler", "100 of 600", "each epoch", "Subset(dataset, indices)"],
    ),
    "others each epoch, one's own": (
        lambda: DataLoader(PAIRS, 7, sampler=Others()),
        ["Others", "100 of 600", "Subset"],
    ),
    "more than all": (
        lambda: DataLoader(PAIRS, 7, sampler=RandomSampler(PAIRS, num_samples=700)),
        ["RandomSampler", "more than once"],
    ),
    "with replacement": (
        lambda: DataLoader(PAIRS, 7, sampler=RandomSampler(PAIRS, replacement=True)),
        ["RandomSampler with replacement", "Subset"],
    ),
    "weighted": (
        lambda: DataLoader(PAIRS, 7, sampler=WeightedRandomSampler([1.0] * COUNT, COUNT)),
        ["WeightedRandomSampler", "more often", "Subset"],
    ),
    "weighted, in batches": (
        lambda: DataLoader(
            PAIRS, batch_sampler=BatchSampler(WeightedRandomSampler([1.0] * COUNT, 9), 3, False)
        ),
        ["WeightedRandomSampler", "Subset"],
    ),
    "one process of several": (
        lambda: DataLoader(PAIRS, 7, sampler=DistributedSampler(PAIRS, 4, 1)),
        ["DistributedSampler", "one part in 4"],
    ),
    "a random rest dropped": (
        lambda: DataLoader(PAIRS, 64, shuffle=True, drop_last=True),
        ["RandomSampler with drop_last=True", "576 of 600", "leave drop_last out"],
    ),
    "one of few dropped": (
        lambda: DataLoader(PAIRS, 3, sampler=SubsetRandomSampler(range(4)), drop_last=True),
        ["SubsetRandomSampler with drop_last=True", "leave drop_last out"],
    ),
    "nothing": (lambda: DataLoader(PAIRS, 700, drop_last=True), ["no example", "batch_size"]),
    "an iterator": (
        lambda: DataLoader(PAIRS, batch_sampler=iter([[0, 1], [2]])),
        ["list_iterator", "one epoch"],
    ),
    "one example over and over": (
        lambda: DataLoader(PAIRS, batch_sampler=Forever()),
        ["Forever", "example 0 more than once"],
    ),
    "keys that do not exist": (lambda: DataLoader(PAIRS, 7, sampler=[3, 1000]), ["example 1"]),
    "items without a batch size": (
        lambda: DataLoader([(torch.zeros(3), torch.zeros(3))] * 5, batch_size=None),
        ["batch_size=None", "DataLoader(dataset, batch_size=1)", "torch.cat"],
    ),
}


@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_fixed_set_of_examples_is_refused(make, words):
    message = refusal(lambda: llc.Task(nn.Linear(3, 1), make(), "mse"))
    assert [word for word in words if word not in message] == []
    assert len(message) < 300


def test_a_random_choice_is_refused_whatever_its_luck():
    """Two epochs of three of four agree one time in four."""
    for seed in range(20):
        torch.manual_seed(seed)
        loader = DataLoader(PAIRS, 3, sampler=SubsetRandomSampler(range(4)), drop_last=True)
        assert "drop_last" in refusal(lambda loader=loader: materialise(loader))


def test_a_list_of_pairs_is_a_list_of_examples():
    """Of tensors, of numbers, of arrays; in the shape a data set would have."""
    for pairs in (
        [(x, y) for x, y in PAIRS],
        [(x.tolist(), y.item()) for x, y in PAIRS],
        [[x.numpy(), int(y)] for x, y in PAIRS],
    ):
        found = materialise(DataLoader(pairs, 32))
        assert len(found) == 2
    for pairs in ([(x, y) for x, y in PAIRS], [(x, float(y)) for x, y in PAIRS]):
        inputs, targets = materialise(pairs)
        assert torch.equal(inputs, X)
        assert torch.equal(targets.reshape(-1).float(), Y[:, 0])
    words = materialise([{"x": x, "y": y[0]} for x, y in PAIRS])
    assert torch.equal(words["x"], X)
    # Parts of every example, as ever.
    for parts in ([X, Y], [X, Y, X, Y], ((X, Y), Y), [(X, Y), (X, X)], {"x": X, "y": Y}):
        assert materialise(parts) is parts


@pytest.mark.parametrize(
    "data",
    [[(torch.zeros(3), torch.ones(3))] * 50, [torch.zeros(3)] * 600],
    ids=["pairs", "single"],
)
def test_a_list_that_may_be_both_is_asked_about(data):
    message = refusal(lambda: llc.Task(nn.Linear(3, 1), data, batch_loss=lambda m, b: b))
    assert all(word in message for word in (f"list of {len(data)}", "DataLoader(data)", "tuple"))
    assert len(materialise(DataLoader(data))[0]) in (len(data), 3)


def test_messages_are_short_however_long_the_data():
    ragged = {k: torch.zeros(k + 1, 2) for k in range(2000)}
    message = refusal(lambda: materialise(ragged))
    assert "tensors of 1 and 2 and 3 and others examples" in message
    assert len(message) < 200


# Collates that pad.


class Sentences(Dataset):
    """Whole numbers, 1 to 9, in runs of 2 to 9; the longest stands where no small batch sees it."""

    def __init__(self, count=COUNT):
        draw = generator()
        lengths = torch.randint(2, 9, (count,), generator=draw).tolist()
        lengths[count // 2 + 1] = 9
        self.rows = [torch.randint(1, 10, (k,), generator=draw) for k in lengths]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index], len(self.rows[index])


def padding(side="right", value=0, batch_first=True):
    def collate(items):
        rows, lengths = zip(*items, strict=True)
        padded = pad_sequence(rows, batch_first, value, side)
        return padded, torch.tensor(lengths)

    return collate


@pytest.mark.parametrize("count", [100, 200, 600])
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_to_the_longest_of_a_batch_becomes_that_of_all(side, count):
    sentences = Sentences(count)
    inputs, lengths = materialise(DataLoader(sentences, 8, collate_fn=padding(side, -7)))
    assert inputs.shape == (count, 9)
    for row, length, own in zip(inputs, lengths, sentences.rows, strict=True):
        there = slice(0, length) if side == "right" else slice(9 - length, None)
        assert torch.equal(row[there], own)
        assert (row == -7).sum() == 9 - length


class Counts(nn.Module):
    """Scores by which words a sentence holds; 0 is the padding."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(10, 2, padding_idx=0)
        with torch.no_grad():
            self.words.weight[1:] = torch.randn(9, 2, generator=generator())

    def forward(self, ids):
        return self.words(ids).sum(1)


def test_padded_batches_give_the_estimate_of_sentences_padded_by_hand():
    sentences, model = Sentences(), Counts()
    rows = pad_sequence(sentences.rows, True, 0)
    targets = model(rows).argmax(1)

    def collate(items):
        ids, _ = padding()(items)
        return ids, model(ids).argmax(1)

    given = {"gamma": 10.0, "draws": 40, "burn_in": 20, "step_size": 0.02}
    found = llc.estimate(
        model, DataLoader(sentences, 8, collate_fn=collate), "cross_entropy", **given
    )
    assert found.size == COUNT
    assert found.llc == llc.estimate(model, (rows, targets), "cross_entropy", **given).llc


def centred(items):
    rows = torch.stack([x for x, _ in items])
    return rows - rows.mean(0), torch.stack([y for _, y in items])


def repeated(items):
    """Pads with each sentence's own last word."""
    rows, lengths = padding(value=-1)(items)
    last = rows.gather(1, lengths[:, None] - 1)
    return torch.where(rows == -1, last, rows), lengths


COLLATES = {
    "examples that know their batch": (PAIRS, centred, ["collate_fn", "other examples"]),
    "padding that differs": (Sentences(), repeated, ["one constant", "pad all examples"]),
    "positions first": (Sentences(64), padding(batch_first=False), ["9 and 64"]),
    "positions first, alone": (
        Sentences(64),
        lambda items: padding(batch_first=False)(items)[0],
        ["9 rows of 64", "batch_first=True"],
    ),
    "some left out": (
        PAIRS,
        lambda items: tuple(torch.stack(x) for x in zip(*[i for i in items if i[1] % 2], strict=1)),
        ["rows of 256 examples", "one row per example"],
    ),
    "a mistake": (PAIRS, lambda items: items[0]["input_ids"], ["collate_fn", "TypeError"]),
    "a missing key": (
        [{"ids": 1}] * 9, lambda items: [i["x"] for i in items], ["collate_fn", "KeyError: 'x'"]
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "collate", "words"), COLLATES.values(), ids=COLLATES)
def test_collates_that_do_not_serve_are_told(data, collate, words):
    message = refusal(lambda: materialise(DataLoader(data, 8, collate_fn=collate)))
    assert [word for word in words if word not in message] == []
    assert len(message) < 300


def test_mappings_as_tokenizers_give_them():
    def collate(items):
        return collections.UserDict(x=torch.stack([x for x, _ in items]))

    assert torch.equal(materialise(DataLoader(PAIRS, 8, collate_fn=collate))["x"], X)


def test_the_command_line_says_the_same(tmp_path):
    (tmp_path / "tasks.py").write_text(
        "import torch, llc\n"
        "from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler\n"
        "x = torch.ones(40, 3)\n"
        "def weighted():\n"
        "    data = TensorDataset(x, x[:, :1])\n"
        "    draws = WeightedRandomSampler([1.0] * 40, 40)\n"
        "    return llc.Task(torch.nn.Linear(3, 1), DataLoader(data, 4, sampler=draws), 'mse')\n"
    )
    torch.save(nn.Linear(3, 1).state_dict(), tmp_path / "step_1.pt")
    done = rlct("estimate", "step_1.pt", "--task", "tasks.py:weighted", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "WeightedRandomSampler" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
