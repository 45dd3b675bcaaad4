"""Models of every common kind: chains side by side where that works, one by one where not."""

import pytest
import torch
from torch import nn

import llc
from llc.surface import LossSurface

EXAMPLES = 60


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.unembedding = nn.Linear(8, 3)

    def forward(self, tokens):
        return self.unembedding(self.encoder(self.embedding(tokens)))[:, -1]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 6, batch_first=True)
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        y = self.out(x)
        return y + y if y.sum().item() > 0 else 2 * y


class Half(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3)).to(torch.bfloat16)

    def forward(self, x):
        return self.body(x.to(torch.bfloat16)).float()


def convolution():
    return nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 4, 2), nn.Flatten(), nn.Tanh(),
                         nn.Dropout(0.5), nn.Linear(4, 3))  # fmt: skip


def own_statistics():
    norm = nn.BatchNorm1d(8, track_running_stats=False)
    return nn.Sequential(nn.Linear(4, 8), norm, nn.Tanh(), nn.Linear(8, 3))


class Twice(nn.Module):
    """A layer used twice, under two names, and a weight tied between layers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again = self.first
        self.reader = nn.Linear(4, 3)
        self.head = nn.Linear(4, 3)
        self.head.weight = self.reader.weight

    def forward(self, x):
        x = torch.tanh(self.again(torch.tanh(self.first(x))))
        return self.head(x) - self.reader(2 * x)


MODELS = {
    "layer used twice": (Twice, (4,), torch.float32, True),
    "transformer": (Transformer, (5,), torch.int64, True),
    "recurrent": (Recurrent, (5, 4), torch.float32, False),
    "branching": (Branching, (4,), torch.float32, False),
    "half precision": (Half, (4,), torch.float32, True),
    "convolution": (convolution, (4,), torch.float32, True),
    "batch norm of its own": (own_statistics, (4,), torch.float32, True),
}


@pytest.fixture(params=MODELS)
def case(request):
    build, shape, kind, vectorised = MODELS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = build()
    generator = torch.Generator().manual_seed(2)
    shape = (EXAMPLES, *shape)
    if kind == torch.int64:
        inputs = torch.randint(7, shape, generator=generator)
    else:
        inputs = torch.randn(shape, generator=generator)
    return llc.Task(model, (inputs, torch.randint(3, (EXAMPLES,), generator=generator)),
                    "cross_entropy"), vectorised  # fmt: skip


def test_chains_side_by_side_where_the_model_allows(case):
    task, vectorised = case
    surface = LossSurface(task)
    assert surface.vectorised is vectorised
    assert (surface.why_not_vectorised is None) is vectorised


def test_side_by_side_and_one_by_one_agree(case):
    task, vectorised = case
    surface = LossSurface(task)
    if not vectorised:
        assert surface.why_not_vectorised
        return
    generator = torch.Generator().manual_seed(3)
    delta = 0.05 * torch.randn(3, surface.layout.total, generator=generator)
    half = torch.bfloat16 in surface.layout.dtypes
    # bfloat16 keeps eight bits, and rounds differently when batched.
    close = {"rtol": 0.05, "atol": 0.02} if half else {"rtol": 1e-4, "atol": 1e-5}
    for index in (None, torch.randint(EXAMPLES, (3, 16), generator=generator)):
        surface.side_by_side = 3
        stacked = surface.evaluate(delta, index)
        surface.side_by_side = 1
        single = surface.evaluate(delta, index)
        for got, expected in zip(stacked, single, strict=True):
            torch.testing.assert_close(got, expected, **close)


def test_frozen_chains_return_zero(case):
    task, _ = case
    settings = {"step_size": 0.0, "draws": 8, "burn_in": 0, "gamma": 10.0, "n_beta": 100.0}
    for batch_size in (16, EXAMPLES):
        found = llc.estimate(task, batch_size=batch_size, **settings)
        assert abs(found.llc) < 1e-4


def test_an_estimate_comes_out(case):
    task, _ = case
    found = llc.estimate(task, gamma=50.0, n_beta=100.0, behavioural=True, draws=150)
    assert found.llc > 10 * found.mcse > 0
    assert found.virial == pytest.approx(1, abs=0.1)
