"""Every mistake a caller can make is told in one sentence, before any sampling."""

import random

import pytest
import torch
import torch.nn.functional as F
from tiny import FAST, labelled, linear, real_valued, refusal
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import llc

DATA = labelled()


def estimate(model=None, data=DATA, loss="cross_entropy", **given):
    if given.keys() & {"batch_loss", "potential"} and loss == "cross_entropy":
        loss = None
    return llc.estimate(linear() if model is None else model, data, loss, **{**FAST, **given})


def squares(model):
    return (model.weight**2).sum()


def per_example(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")


class Items(Dataset):
    """Examples by number, from a function."""

    def __init__(self, get, count=20):
        self.get, self.count = get, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.get(index)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(*DATA, strict=True))


class AlwaysDropping(nn.Module):
    """Dropout written as a function call: eval mode does not reach it."""

    def __init__(self):
        super().__init__()
        self.layer = linear()

    def forward(self, inputs):
        return F.dropout(self.layer(inputs), 0.5, training=True)


class Broken(nn.Linear):
    def forward(self, inputs):
        raise RuntimeError("first line\nsecond line")


def with_nan():
    model = linear()
    with torch.no_grad():
        model.weight[0, 0] = torch.nan
    return model


def with_complex():
    model = linear()
    model.weight = nn.Parameter(model.weight.detach().to(torch.complex64))
    return model


def frozen():
    return linear().requires_grad_(False)


TASKS = {
    "not a module": (lambda: estimate("resnet50"), ["str", "nn.Module"]),
    "no loss": (lambda: estimate(loss=None), ["no loss", "batch_loss", "potential"]),
    "two losses": (
        lambda: estimate(loss=per_example, batch_loss=lambda m, b: 0),
        ["loss and batch_loss", "exactly one"],
    ),
    "unknown loss": (lambda: estimate(loss="hinge"), ["'hinge'", "cross_entropy", "mse"]),
    "loss of another type": (lambda: estimate(loss=3), ["int", "function"]),
    "batch_loss no function": (lambda: estimate(batch_loss=0.5), ["batch_loss", "float"]),
    "potential no function": (
        lambda: estimate(data=None, potential=torch.zeros(())),
        ["potential", "Tensor", "function"],
    ),
    "loss without data": (lambda: estimate(data=None), ["loss needs data", "Dataset"]),
    "batch_loss without data": (
        lambda: estimate(data=None, batch_loss=lambda m, b: 0),
        ["batch_loss needs data"],
    ),
    "potential with data": (lambda: estimate(potential=squares), ["potential", "no data"]),
    "potential without n_beta": (
        lambda: estimate(data=None, potential=squares),
        ["potential", "n_beta"],
    ),
    "a Task and data": (
        lambda: llc.estimate(llc.Task(linear(), DATA, "cross_entropy"), DATA),
        ["Task", "drop data"],
    ),
    "loss of pairs, data single": (
        lambda: estimate(data=DATA[0]),
        ["one tensor of shape (40, 3)", "pairs (inputs, targets)", "batch_loss"],
    ),
    "loss of pairs, data in dictionaries": (
        lambda: estimate(data={"image": DATA[0], "label": DATA[1]}),
        ["dictionaries of 'image', 'label'", "pairs (inputs, targets)", "batch_loss(model, batch)"],
    ),
    "loss of pairs, data of three": (
        lambda: estimate(data=(*DATA, DATA[1])),
        ["3 things", "pairs (inputs, targets)"],
    ),
    "classes last or in dimension 1": (
        lambda: estimate(
            nn.Embedding(5, 5), torch.zeros(2, 7, 5).long().unbind(), loss="cross_entropy"
        ),
        ["(7, 5, 5)", "(7, 5)", "dimension 1 or last", "functional.cross_entropy", ".movedim"],
    ),
}
DATA_SETS = {
    "empty": (lambda: (torch.zeros(0, 3), torch.zeros(0).long()), ["0 examples", "at least one"]),
    "empty data set": (lambda: Items(None, 0), ["empty", "at least one"]),
    "unequal lengths": (lambda: (DATA[0], DATA[1][:7]), ["40 and 7", "equal"]),
    "no tensors": (lambda: (DATA[0].tolist(), DATA[1].tolist()), ["float", "expected tensors"]),
    "arrays": (lambda: (DATA[0].numpy(), DATA[1].numpy()), ["ndarray", "expected tensors"]),
    "nothing": (lambda: (), ["nothing", "expected tensors"]),
    "scalars": (lambda: (torch.tensor(1.0), torch.tensor(1)), ["without dimensions"]),
    "augmented": (
        lambda: Items(lambda i: (DATA[0][i] + random.random(), DATA[1][i])),
        ["augmentation", "read twice"],
    ),
    "iterable": (Stream, ["Stream", "map-style"]),
    "loader of an iterable": (lambda: DataLoader(Stream(), 4), ["Stream", "map-style"]),
    "text": (lambda: Items(lambda i: (DATA[0][i], "cat")), ["str", "expected tensors"]),
    "ragged": (lambda: Items(lambda i: (torch.zeros(i + 1), DATA[1][i])), ["one shape", "pad"]),
}
LOSSES = {
    "two values an example": (
        lambda: estimate(loss=lambda outputs, _: outputs**2),
        ["shape (40, 2)", "(40,)"],
    ),
    "values for other examples": (
        lambda: estimate(loss=lambda outputs, _: outputs[:5, 0] ** 2),
        ["shape (5,)", "(40,)"],
    ),
    "a potential of shape (1,)": (
        lambda: estimate(data=None, n_beta=50.0, potential=lambda m: squares(m).reshape(1)),
        ["shape (1,)", "scalar"],
    ),
    "a sum": (
        lambda: estimate(loss=lambda o, t: per_example(o, t).sum()),
        ["adds up", "mean", "divide"],
    ),
    "a sum in batch_loss": (
        lambda: estimate(batch_loss=lambda m, b: per_example(m(b[0]), b[1]).sum()),
        ["adds up", "mean"],
    ),
    "a module that sums": (
        lambda: estimate(loss=nn.CrossEntropyLoss(reduction="sum")),
        ["reduction='sum'", "mean"],
    ),
    "a number, no tensor": (
        lambda: estimate(loss=lambda o, t: per_example(o, t).mean().item()),
        ["float", "tensor"],
    ),
    "whole numbers": (
        lambda: estimate(loss=lambda o, t: (o.argmax(1) != t).long()),
        ["int64", "floating-point"],
    ),
    "shapes that would broadcast": (
        lambda: estimate(nn.Linear(3, 1), (DATA[0], torch.zeros(40)), "mse"),
        ["(40, 1)", "(40,)", "reshape"],
    ),
    "a class out of range": (
        lambda: estimate(data=(DATA[0], DATA[1] + 5)),
        ["5, 6", "2 classes, 0 to 1"],
    ),
    "a constant": (lambda: estimate(loss=lambda o, t: torch.zeros(len(o))), ["gradient"]),
    "cut off from the weights": (
        lambda: estimate(loss=lambda o, t: per_example(o.detach(), t)),
        ["gradient"],
    ),
    "an error rate": (
        lambda: estimate(loss=lambda o, t: (o.argmax(1) != t).float()),
        ["gradient"],
    ),
    "nan at w*": (lambda: estimate(data=(DATA[0] * torch.nan, DATA[1])), ["nan", "at w*"]),
    "infinity at w*": (
        lambda: estimate(loss=lambda o, t: per_example(o, t) + torch.inf),
        ["inf", "at w*"],
    ),
    "behavioural, custom": (
        lambda: estimate(loss=per_example, behavioural=True),
        ["behavioural", "per_example", "cross_entropy", "mse"],
    ),
    "behavioural potential": (
        lambda: estimate(data=None, potential=squares, n_beta=50.0, behavioural=True),
        ["behavioural", "cross_entropy", "mse"],
    ),
}
MODELS = {
    "nan in a weight": (with_nan, ["nan", "weight", "earlier"]),
    "nothing to sample": (frozen, ["requires_grad", "Linear"]),
    "no parameters": (nn.Flatten, ["requires_grad", "Flatten"]),
    "random in eval mode": (AlwaysDropping, ["dropout", "batch norm", "augmentation"]),
    "inputs of another width": (lambda: nn.Linear(5, 2), ["failed on a batch", "check that"]),
    "not initialised": (lambda: nn.LazyLinear(2), ["initialised", "LazyLinear"]),
    "without values": (lambda: linear().to("meta"), ["meta"]),
    "complex weights": (with_complex, ["complex"]),
    "an error of two lines": (lambda: Broken(3, 2), ["first line second line"]),
}


@pytest.mark.parametrize(("call", "words"), TASKS.values(), ids=TASKS)
def test_task(call, words):
    message = refusal(call)
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(("make", "words"), DATA_SETS.values(), ids=DATA_SETS)
def test_data(make, words):
    message = refusal(lambda: estimate(data=make()))
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(("call", "words"), LOSSES.values(), ids=LOSSES)
def test_loss(call, words):
    message = refusal(call)
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(("make", "words"), MODELS.values(), ids=MODELS)
def test_model(make, words):
    message = refusal(lambda: estimate(make()))
    assert [word for word in words if word not in message] == []


def test_batch_larger_than_the_data():
    message = refusal(lambda: estimate(batch_size=41))
    assert all(word in message for word in ("batch_size", "41", "40"))


def test_too_few_examples_for_the_default_n_beta():
    message = refusal(lambda: estimate(data=(DATA[0][:1], DATA[1][:1])))
    assert "n_beta" in message


def test_unknown_device():
    assert "warp drive" in refusal(lambda: estimate(device="warp drive"))


@pytest.mark.parametrize("probability", [0, 1, 1.5, -0.1])
def test_interval_outside_of_zero_to_one(probability):
    estimated = estimate(draws=20, burn_in=0)
    assert "between 0 and 1" in refusal(lambda: estimated.interval(probability))


def test_what_is_refused_is_not_what_is_usual():
    # Guards against the checks above passing because everything is refused.
    pairs = TensorDataset(*DATA)
    for data in (DATA, pairs, DataLoader(pairs, 8, shuffle=True), list(DATA)):
        assert estimate(data=data, draws=20, burn_in=0).settings.n_beta > 10
    assert estimate(data=real_valued(), loss="mse", draws=20, burn_in=0).dimension == 8
    assert estimate(data=real_valued(), loss=nn.MSELoss(), behavioural=True, draws=20).llc > 0
    assert estimate(data=None, potential=squares, n_beta=50.0, draws=20).chance is None


def test_what_is_nearly_right_is_told_what_to_write():
    inputs = DATA[0]
    message = refusal(lambda: estimate(data=(inputs, torch.zeros(len(inputs)).double())))
    assert "float64 of shape (40,)" in message
    assert message.endswith("give targets.long()")
    message = refusal(lambda: llc.estimate(nn.Linear, DATA, "cross_entropy"))
    assert message == "model is the class Linear, expected an instance: write Linear(...)"
