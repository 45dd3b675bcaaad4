"""Pickles of older PyTorch are read; what is a whole object says at once what to do about it."""

import collections
import enum
import re

import pytest
import torch
from tiny import refusal
from torch import nn

import llc
from llc import formats
from llc.checkpoints import read_checkpoint

WEIGHTS = nn.Linear(3, 1).state_dict()


class Outer:
    """What training scripts keep their settings in."""

    class Settings:
        def __init__(self):
            self.rate = 0.1

    class Mode(enum.Enum):
        FAST = 1


class Own(dict):
    """A container of a class of its own."""


class Net(nn.Module):
    """A model of a user's own."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)


def optimiser():
    made = torch.optim.Adam(nn.Linear(3, 1).parameters())
    return made, torch.optim.lr_scheduler.OneCycleLR(made, 0.1, total_steps=9)


def beside():
    """Name → what lay beside weights in a file of older PyTorch, or of a script."""
    made, scheduler = optimiser()
    anneal = torch.optim.lr_scheduler.OneCycleLR._annealing_cos
    return {
        "a scheduler's function": {**scheduler.state_dict(), "anneal_func": anneal},
        "a whole scheduler": torch.optim.lr_scheduler.StepLR(made, 3),
        "a whole optimiser": made,
        "a lambda's schedule": torch.optim.lr_scheduler.LambdaLR(made, lambda _: 1.0).state_dict(),
        "a defaultdict": collections.defaultdict(list, loss=[1.0, 2.0]),
        "a deque": collections.deque([1, 2], maxlen=4),
    }


@pytest.mark.parametrize("name", beside())
@pytest.mark.parametrize("zipped", [True, False])
def test_what_training_leaves_beside_the_weights_is_read(tmp_path, name, zipped):
    torch.save(
        {"model": WEIGHTS, "other": beside()[name], "step": 5}, tmp_path / "old.pt",
        _use_new_zipfile_serialization=zipped,
    )  # fmt: skip
    found, numbers = read_checkpoint(tmp_path / "old.pt")
    assert torch.equal(found["weight"], WEIGHTS["weight"])
    assert numbers == {"step": 5.0}


def test_weights_in_a_defaultdict_are_found(tmp_path):
    inside = collections.defaultdict(list)
    inside["model"] = WEIGHTS
    torch.save(inside, tmp_path / "x.pt")
    assert torch.equal(llc.load_weights(tmp_path / "x.pt")["weight"], WEIGHTS["weight"])


def advised(message):
    """The names after the flag that a message advises."""
    return re.search(r"--allow-globals (.*)", message)[1].split()


@pytest.mark.parametrize(
    "content",
    [Outer.Settings(), Outer.Mode.FAST, {"a": [Outer.Settings, Outer()]}, Outer.Settings.__init__],
    ids=["nested class", "nested enumeration", "classes", "method of a nested class"],
)
def test_the_advice_given_helps(tmp_path, content):
    torch.save({"model": WEIGHTS, "config": content}, tmp_path / "x.pt")
    message = refusal(lambda: llc.load_weights(tmp_path / "x.pt"))
    with formats.allowing(advised(message)):
        assert torch.equal(llc.load_weights(tmp_path / "x.pt")["weight"], WEIGHTS["weight"])


@pytest.mark.parametrize(
    "content",
    [nn.Sequential(nn.Linear(3, 1)), Net(), {"model": Net()}, {"model": nn.DataParallel(Net())}],
    ids=["torch's", "own", "in a dictionary", "wrapped"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_module_says_at_once_what_to_do(tmp_path, content, zipped):
    path = tmp_path / "x.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    message = refusal(lambda: llc.load_weights(path))
    assert "whole module" in message
    assert "--allow-globals" not in message
    place = "['model']" if zipped and isinstance(content, dict) else ""
    write = f"torch.save(torch.load('x.pt', weights_only=False){place}.state_dict(), 'weights.pt')"
    assert write in message


def test_the_advice_for_a_module_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"epoch": 3, "model": nn.Sequential(nn.Linear(3, 1))}, "x.pt")
    message = refusal(lambda: llc.load_weights("x.pt"))
    exec(re.search(r"torch\.save\(torch.*\)$", message)[0])
    assert set(llc.load_weights("weights.pt")) == {"0.weight", "0.bias"}


@pytest.mark.filterwarnings("ignore")
def test_torchscript_says_at_once_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.jit.save(torch.jit.script(nn.Linear(3, 1)), "x.pt")
    message = refusal(lambda: llc.load_weights("x.pt"))
    assert "TorchScript" in message
    exec(re.search(r"torch\.save\(torch.*\)$", message)[0])
    assert set(llc.load_weights("weights.pt")) == {"weight", "bias"}


def test_a_container_that_no_flag_helps_with_is_not_given_the_flag(tmp_path):
    torch.save({"model": WEIGHTS, "x": Own(a=1)}, tmp_path / "x.pt")
    message = refusal(lambda: llc.load_weights(tmp_path / "x.pt"))
    assert "--allow-globals" not in message
    assert "save model.state_dict() alone" in message
