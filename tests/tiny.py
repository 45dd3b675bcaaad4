"""A model and data so small that an estimate of them takes a tenth of a second."""

import importlib.util
import re
import subprocess
import sys

import torch
from torch import nn

import llc

FAST = {"gamma": 10.0, "chains": 2, "draws": 60, "burn_in": 40}
"""Every choice given, so that nothing is tuned: a test's time is that of 200 gradients."""


def linear(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(3, 2)


def labelled(count=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 3, generator=generator)
    return inputs, torch.randint(2, (count,), generator=generator)


def real_valued(count=40, seed=0):
    """Data on which a linear model's mean square has its minimum at finite weights."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 3, generator=generator)
    return inputs, inputs[:, :2] + 0.1 * torch.randn(count, 2, generator=generator)


def run(count=4):
    """A run of four checkpoints that nears what made the targets."""
    pairs = []
    for number in range(count):
        far = torch.randn(2, 3, generator=torch.Generator().manual_seed(number))
        weight = torch.eye(2, 3) + far * 0.2 * (1 - number / count)
        pairs.append((10 * (number + 1), {"weight": weight, "bias": torch.zeros(2)}))
    return pairs


def script(path):
    """A Python file of the docs as a module, under a name that no other module has."""
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def complaints(stderr):
    """What a command wrote on standard error but for how far it is, which a slow machine sees."""
    said = re.compile(r".+: .+[,;] [\d,]+( of [\d,]+)? (steps|checkpoints)")
    return [line for line in stderr.splitlines() if not said.fullmatch(line)]


def refusal(call):
    """The message of the InputError a call raises; it has to be one line."""
    try:
        call()
    except llc.InputError as error:
        message = str(error)
        assert message.strip() == message
        assert "\n" not in message
        assert len(message) > 20
        return message
    raise AssertionError("no InputError was raised")


def rlct(*arguments, cwd=None, env=None, timeout=120):
    """Run the command line as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "llc", *map(str, arguments)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=timeout,
        check=False,
    )


def regular():
    """A regular model of three weights at the minimum of noiseless data."""
    generator = torch.Generator().manual_seed(5)
    model = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -0.5, 2.0]]))
    inputs = torch.randn(400, 3, generator=generator)
    return llc.Task(model, (inputs, model(inputs).detach()), "mse", name="line")
