"""An estimate leaves the caller's model, data and process exactly as they were."""

import copy
import logging
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import FAST, labelled, linear
from torch import nn

import llc


class Network(nn.Module):
    """Something of everything that has state: batch norm, dropout, hooks, a frozen layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(4, 2)
        self.last.bias.requires_grad_(False)
        self.first.register_forward_hook(lambda *_: None)
        self.last.register_forward_pre_hook(lambda *_: None)

    def forward(self, inputs):
        return self.last(self.drop(self.norm(self.first(inputs)).relu()))


class Random(nn.Module):
    """Gives another answer every time; ``draw`` says whose random numbers it uses."""

    def __init__(self, draw):
        super().__init__()
        self.layer = linear()
        self.draw = draw

    def forward(self, inputs):
        return self.layer(inputs) * (1 + self.draw())


class DrawsInVain(nn.Linear):
    """Uses up random numbers without an effect on its answer."""

    def forward(self, inputs):
        torch.rand(3)
        return super().forward(inputs)


def network(training):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Network()
        inputs, targets = labelled()
        # Running statistics that are not their defaults, and gradients on some parameters only.
        F.cross_entropy(model(inputs), targets).backward()
    model.norm.bias.grad = None
    model.norm.eval()
    model.train(training)
    model.drop.eval()
    return model


def model_state(model):
    everything = dict(model.named_parameters()) | dict(model.named_buffers())
    modules = dict(model.named_modules())
    return {
        "values": {k: t.detach().numpy().tobytes() for k, t in everything.items()},
        "where": {k: (id(t), t.data_ptr(), t.device, t.dtype) for k, t in everything.items()},
        "requires_grad": {k: t.requires_grad for k, t in everything.items()},
        "grad": {
            k: None if p.grad is None else (id(p.grad), p.grad.numpy().tobytes())
            for k, p in model.named_parameters()
        },
        "training": {k: m.training for k, m in modules.items()},
        "hooks": {
            k: [
                list(hooks.items())
                for hooks in (
                    m._forward_hooks, m._forward_pre_hooks, m._backward_hooks,
                    m._state_dict_hooks,
                )
            ]
            for k, m in modules.items()
        },
        "attributes": {k: sorted(vars(m)) for k, m in modules.items()},
    }  # fmt: skip


def process_state():
    root = logging.getLogger()
    numpy_state = np.random.get_state()
    return {
        "torch rng": torch.get_rng_state().numpy().tobytes(),
        "numpy rng": (numpy_state[1].tobytes(), numpy_state[2:]),
        "python rng": random.getstate(),
        "threads": torch.get_num_threads(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "attention": (
            torch.backends.mha.get_fastpath_enabled(),
            torch.backends.cuda.flash_sdp_enabled(),
            torch.backends.cuda.mem_efficient_sdp_enabled(),
            torch.backends.cuda.math_sdp_enabled(),
        ),
        "root": (root.level, list(root.handlers)),
        "loggers": [logging.getLogger(name).level for name in ("torch", "transformers")],
        "numpy errors": np.geterr(),
        "folder": os.getcwd(),
        # torch itself names its compiler's cache there, at the first gradient under vmap.
        "environment": {k: v for k, v in os.environ.items() if "TORCHINDUCTOR" not in k},
    }


@pytest.fixture
def data():
    return labelled()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch_size", [None, 8])
def test_success_changes_nothing(data, training, batch_size):
    model = network(training)
    before, kept = (model_state(model), process_state()), copy.deepcopy(data)
    llc.estimate(model, data, "cross_entropy", batch_size=batch_size, **FAST)
    assert (model_state(model), process_state()) == before
    assert all(torch.equal(a, b) for a, b in zip(data, kept, strict=True))


def test_tuning_changes_nothing(data):
    # gamma, step size, burn-in and length all chosen: pilots, curvature probes and audits run.
    model = network(training=True)
    before = model_state(model), process_state()
    llc.estimate(model, data, "cross_entropy", behavioural=True, budget=800)
    assert (model_state(model), process_state()) == before


@pytest.mark.parametrize(
    "bad",
    [
        {"loss": "cross_entropy", "batch_size": 41},
        {"loss": lambda outputs, _: outputs**2},
        {"loss": lambda outputs, targets: F.cross_entropy(outputs, targets).sum() * len(targets)},
        {"loss": "mse"},
        {"loss": "cross_entropy", "gamma": -1.0},
    ],
    ids=["batch", "shape", "sum", "targets", "gamma"],
)
def test_refusal_changes_nothing(data, bad):
    model = network(training=True)
    before = model_state(model), process_state()
    with pytest.raises(llc.InputError):
        llc.estimate(model, data, **{**FAST, **bad})
    assert (model_state(model), process_state()) == before


@pytest.mark.parametrize(
    "draw",
    [lambda: torch.rand(()), lambda: np.random.rand(1)[0], lambda: random.uniform(0, 1)],
    ids=["torch", "numpy", "python"],
)
def test_refused_random_model_leaves_the_generators_alone(data, draw):
    model = Random(draw)
    before = model_state(model), process_state()
    with pytest.raises(llc.InputError):
        llc.estimate(model, data, "cross_entropy", **FAST)
    assert (model_state(model), process_state()) == before


def test_accepted_model_that_draws_leaves_the_generator_alone(data):
    model = DrawsInVain(3, 2)
    before = process_state()
    llc.estimate(model, data, "cross_entropy", **FAST)
    assert process_state() == before


def test_choosing_settings_leaves_the_generator_alone(data):
    # γ is chosen outside any estimate, by runs of its own.
    task = llc.Task(DrawsInVain(3, 2), data, "cross_entropy")
    states = [(step, copy.deepcopy(task.model.state_dict())) for step in (1, 2)]
    before = process_state()
    llc.calibrate(task, budget=400)
    llc.trace(task, states, budget=400, draws=20, burn_in=20)
    assert process_state() == before


def test_an_error_in_the_callers_code_changes_nothing(data):
    model = network(training=True)
    before = model_state(model), process_state()

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        llc.estimate(model, data, "cross_entropy", progress=stop, **FAST)
    assert (model_state(model), process_state()) == before


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradient_modes_of_the_caller_make_no_difference(data, mode, vectorised):
    def loss(outputs, targets):
        values = F.cross_entropy(outputs, targets, reduction="none")
        if not vectorised:
            values.mean().item()  # not possible under vmap: sends chains one by one
        return values

    model = network(training=True)
    outside = llc.estimate(model, data, loss, **FAST)
    before = model_state(model)
    with mode():
        modes = process_state()
        inside = llc.estimate(model, data, loss, **FAST)
        assert process_state() == modes
    assert inside.llc == outside.llc
    assert model_state(model) == before


def test_the_callers_generators_make_no_difference(data):
    numbers = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        numbers.append(llc.estimate(network(True), data, "cross_entropy", **FAST).llc)
    assert numbers[0] == numbers[1]


def test_default_dtype_of_the_caller_makes_no_difference(data):
    model = linear()
    usual = llc.estimate(model, data, "cross_entropy", **FAST)
    torch.set_default_dtype(torch.float64)
    try:
        assert llc.estimate(model, data, "cross_entropy", **FAST).llc == usual.llc
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_trace_and_plot_change_nothing(data, tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    model = network(training=True)
    task = llc.Task(model, data, "cross_entropy")
    settings = {**FAST, "draws": 20}
    before = model_state(model), process_state(), dict(matplotlib.rcParams)
    states = [(1, model.state_dict()), (2, copy.deepcopy(model.state_dict()))]
    result = llc.trace(task, states, **settings)
    llc.plot.save(llc.plot.trajectory(result), tmp_path / "figure")
    assert (model_state(model), process_state(), dict(matplotlib.rcParams)) == before


FRESH = """
import sys
import matplotlib
import tiny
from test_no_side_effects import process_state
# tiny names llc; nothing of it is loaded before its first use.
assert "llc.estimator" not in sys.modules
before = process_state(), dict(matplotlib.rcParams), sys.path[:]
data = tiny.labelled()
task = llc.Task(tiny.linear(), data, "cross_entropy")
result = llc.trace(task, [(1, tiny.linear().state_dict())], **{**tiny.FAST, "draws": 20})
llc.plot.trajectory(result)
after = process_state(), dict(matplotlib.rcParams), sys.path[:]
for first, second in zip(before, after):
    assert first == second, (first, second)
assert sys.stdout is sys.__stdout__
"""


def test_first_use_changes_nothing():
    # Imports have effects too, and in this process they are long done.
    folder = os.path.dirname(__file__)
    done = subprocess.run(
        [sys.executable, "-c", "import llc" + FRESH],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert (done.returncode, done.stdout) == (0, "")
