"""The skeletons of docs/extend do what their pages say: each is a working example to copy."""

import inspect
import itertools
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from gates import two_gates
from stationary import covariance, draw, kernel_of, posterior_of
from targets import exact_quadratic, quadratic, shares
from tiny import script

import llc
from llc import truths
from llc.checkpoints import find_checkpoints
from llc.cli.main import main
from llc.sampling import schemes
from llc.sampling.schemes import Scheme, scheme_for
from llc.settings import SAMPLERS

EXTEND = Path(__file__).parents[1] / "docs" / "extend"
H = np.array([1.0, 0.8, 0.5, 0.3])
N_BETA, GAMMA = 100.0, 10.0
A = N_BETA * H + GAMMA
STEP = (1.5 / A.max()) ** 0.5  # large, so that the bias can be told from none


def load(name, folder=EXTEND):
    return script(folder / f"{name}.py")


@pytest.fixture
def registered(monkeypatch):
    """The skeleton as a sampler, by the lines that its page asks for."""
    obabo = load("kernel")
    kinetic = scheme_for("kinetic")
    scheme = Scheme("obabo", lambda e, n, _: obabo.build(e, n), kinetic.step_for,
                    kinetic.relaxation, momentum=True, friction=True, power=2)  # fmt: skip
    monkeypatch.setitem(schemes.SCHEMES, "obabo", scheme)
    monkeypatch.setattr("llc.settings.SAMPLERS", (*SAMPLERS, "obabo"))


def biased():
    """B of the kernel at its step: every mode over-estimated by 1/(1 − h²a/4)."""
    return float((shares(H, N_BETA, GAMMA) / 2 / (1 - STEP**2 * A / 4)).sum())


def test_the_kernel_has_the_law_that_its_docstring_states(registered):
    posterior = posterior_of(quadratic(H), N_BETA, GAMMA)
    for friction in (0.5, 10.0):
        kernel = kernel_of("obabo", posterior, STEP, friction)
        law = covariance(kernel, len(H))
        np.testing.assert_allclose(law, np.diag(1 / (A * (1 - STEP**2 * A / 4))), atol=1e-12)
    draws = draw(kernel_of("obabo", posterior, STEP, 6.0), posterior, chains=256, draws=600)
    two_gates(draws.rise, biased(), wrong=exact_quadratic(H, N_BETA, GAMMA))


def test_the_kernel_keeps_the_contract_of_all_kernels(registered):
    conformance = load("test_conformance", Path(__file__).parent / "sampling")
    own = {"sampler": ["obabo"]}
    checked = 0
    for name, check in vars(conformance).items():
        if not name.startswith("test_") or "sampler" not in inspect.signature(check).parameters:
            continue
        marks = [
            mark.args for mark in getattr(check, "pytestmark", []) if mark.name == "parametrize"
        ]
        choices = {**own, **dict(marks)}
        for values in itertools.product(*choices.values()):
            check(**dict(zip(choices, values, strict=True)))
            checked += 1
    assert checked >= 10


def test_the_kernel_serves_an_estimate(registered):
    settings = {"n_beta": N_BETA, "gamma": GAMMA, "sampler": "obabo", "precision": 0.05}
    e = llc.estimate(quadratic(H), **settings)
    # Its own choice of a step is h²a = 1 at the stiffest mode, some of whose bias is left.
    exact = exact_quadratic(H, N_BETA, GAMMA)
    assert e.settings.sampler == "obabo"
    most = float((shares(H, N_BETA, GAMMA) / 2 / (1 - e.settings.step_size**2 * A / 4)).sum())
    assert e.llc == pytest.approx((exact + most) / 2, abs=(most - exact) / 2 + 5 * e.mcse)


def by_grid(n_beta, gamma):
    """B of (ab − 1)²/2 at (1, 1) by brute force in two dimensions."""
    axis = 1 + np.linspace(-8, 8, 1501) / gamma**0.5
    a, b = np.meshgrid(axis, axis)
    held = n_beta * (a * b - 1) ** 2 / 2
    weight = np.exp(-held - gamma / 2 * ((a - 1) ** 2 + (b - 1) ** 2))
    return float((weight * held).sum() / weight.sum())


@pytest.mark.parametrize(("n_beta", "gamma"), [(1.0, 1.0), (50.0, 2.0), (300.0, 40.0)])
def test_the_expectation_of_the_truth_is_that_of_a_grid(n_beta, gamma):
    truth = load("truth").product_of_weights()
    assert truth.expected(n_beta, gamma) == pytest.approx(by_grid(n_beta, gamma), rel=1e-6)


def test_the_truth_goes_to_its_coefficient_and_the_estimator_to_its_expectation():
    truth = load("truth").product_of_weights()
    assert truth.expected(1e8, 1.0) == pytest.approx(float(truth.llc), abs=1e-3)
    e = llc.estimate(truth.task(), n_beta=1e4, gamma=30.0)
    exact = truth.expected(1e4, 30.0)
    assert e.ess > 100
    assert abs(e.llc - exact) < 5 * e.mcse < 0.25 * exact
    with pytest.raises(llc.InputError, match="potential without data"):
        truth.task(n=5)


def test_the_truth_fills_every_field_that_the_package_s_own_do():
    own, like = load("truth").product_of_weights(), truths.tanh_net(1)
    filled = [f.name for f in fields(like) if getattr(like, f.name) is not None]
    assert [name for name in filled if getattr(own, name) is None] == []


def test_the_task_trains_and_can_be_traced(tmp_path, monkeypatch):
    task = load("task")
    state = torch.get_rng_state()
    task.train(tmp_path / "checkpoints", steps=60, saves=5)
    task.train(tmp_path / "again", steps=60, saves=5)
    assert torch.equal(torch.get_rng_state(), state)
    first, again = (find_checkpoints(tmp_path / name) for name in ("checkpoints", "again"))
    assert [c.step for c in first] == [c.step for c in again]
    assert first[0].step == 1
    assert first[-1].step == 60
    for one, two in zip(first, again, strict=True):
        assert all(torch.equal(one.weights()[name], w) for name, w in two.weights().items())
    assert first[-1].metadata["batch_loss"] < first[0].metadata["batch_loss"]
    monkeypatch.chdir(tmp_path)
    command = ["trace", "checkpoints", "--task", f"{EXTEND / 'task.py'}:task", "--out", "RUN"]
    short = ["--gamma", "10", "--draws", "60", "--burn-in", "40", "--workers", "1"]
    assert main([*command, *short, "--behavioural"]) == 0
    run = llc.Trajectory.load("RUN")
    assert list(run.steps) == [c.step for c in first]
    assert np.isfinite(run.column("test_loss")).all()
    assert np.isfinite(run.column("batch_loss")).all()


@pytest.mark.parametrize("name", ["kernel", "task", "truth"])
def test_every_page_shows_its_skeleton_and_names_what_exists(name):
    page = (EXTEND / f"{name}.md").read_text()
    assert f"```{{literalinclude}} {name}.py" in page
    root = EXTEND.parents[1]
    named = [word for word in page.split("`") if word.startswith(("llc/", "tests/", "docs/"))]
    assert len(named) >= 3
    assert [word for word in named if not (root / word).exists()] == []
