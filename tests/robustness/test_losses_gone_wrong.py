"""Losses that turn nan, infinite or huge on the way, and models, data and losses of all shapes."""

import math

import hypothesis.strategies as st
import pytest
import tally
import torch
from hypothesis import HealthCheck, given, settings
from torch import nn

import llc

STEADY = settings(
    max_examples=8, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
FIXED = {"gamma": 10.0, "chains": 2, "draws": 30, "burn_in": 10}
SAMPLERS = ("kinetic", "sgld", "sgld-lm", "sgld-rmsprop", "sgnht", "mala", "hmc", "malt")


def sober(found):
    """What an estimate has to be, whatever happened: a number with its error, or none, and why."""
    text = str(found)
    assert found.verdict.status in ("ok", "warn", "fail")
    assert len(text.splitlines()) == 1
    if not math.isfinite(found.llc):
        assert found.verdict.status == "fail"
        assert "not measured" in text
        assert "nan" not in text
    kept = [k for k in range(found.settings.chains) if k not in found.diverged]
    assert math.isfinite(found.llc) or not kept
    # One object of JSON without nan: it can be written and read.
    assert llc.Estimate.from_dict(found.to_dict()).to_dict() == found.to_dict()
    return found


@STEADY
@given(
    value=st.sampled_from([math.nan, math.inf, -math.inf, 1e30, -1e30, 3e38, 1e-45]),
    radius=st.floats(0.001, 2.0),
    sampler=st.sampled_from(SAMPLERS),
    step_size=st.sampled_from([None, 1e-3, 0.05]),
    seed=st.integers(0, 3),
)
def test_a_loss_that_turns_wrong_on_the_way(value, radius, sampler, step_size, seed):
    """The loss is a quadratic within a radius of w*, and outside, where chains may get, not."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 2, generator=generator)
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.zero_()

    def loss(model, batch):
        far = (model.weight**2).sum() > radius**2
        each = model(batch[0])[:, 0] ** 2
        return torch.where(far, each * 0 + value + 0 * each.sum(), each)

    believed = False
    try:
        found = sober(
            llc.estimate(
                model, (x,), batch_loss=loss, sampler=sampler, step_size=step_size, seed=seed,
                n_beta=30.0, **FIXED,
            )
        )  # fmt: skip
        # Chains that never left the radius saw a quadratic; others saw what cannot be.
        huge = not math.isfinite(value) or abs(value) > 1e20
        left = bool(found.diverged) or not abs(found.trace).max() < 1e10
        believed = huge and left and found.verdict.status == "ok" and not found.diverged
    except llc.InputError as error:
        believed = "\n" in str(error)
    finally:
        tally.count("losses", bad=believed)
    assert not believed


@STEADY
@given(
    inputs=st.integers(1, 5),
    outputs=st.integers(1, 4),
    hidden=st.integers(0, 6),
    count=st.integers(1, 70),
    loss=st.sampled_from(["cross_entropy", "mse", "own mean", "own values"]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    kind=st.sampled_from(["tensors", "list", "dataset", "loader"]),
    batch=st.one_of(st.none(), st.integers(1, 80)),
    scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e4, 1e18]),
    behavioural=st.booleans(),
)
def test_models_losses_dtypes_and_data_of_all_shapes(
    inputs, outputs, hidden, count, loss, dtype, kind, batch, scale, behavioural
):
    """An estimate with its verdict, or one sentence; nothing else, and the model as it was."""
    torch_seed = torch.Generator().manual_seed(inputs + 10 * outputs + 100 * count)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(hidden)
        model = nn.Linear(inputs, outputs)
        if hidden:
            layers = [nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs)]
            model = nn.Sequential(*layers)
    model = model.to(dtype)
    x = (scale * torch.randn(count, inputs, generator=torch_seed)).to(dtype)
    if loss == "cross_entropy":
        y = torch.randint(outputs, (count,), generator=torch_seed)
    else:
        y = torch.randn(count, outputs, generator=torch_seed).to(dtype)
    pairs = torch.utils.data.TensorDataset(x, y)
    data = {
        "tensors": (x, y), "list": list(pairs), "dataset": pairs,
        "loader": torch.utils.data.DataLoader(pairs, 7),
    }[kind]  # fmt: skip
    functions = {
        "own mean": lambda o, t: ((o - t) ** 2).mean(),
        "own values": lambda o, t: ((o - t) ** 2).sum(1),
    }
    before = {name: w.clone() for name, w in model.state_dict().items()}
    state = torch.get_rng_state()
    fine = False
    try:
        found = llc.estimate(
            model, data, functions.get(loss, loss), batch_size=batch, behavioural=behavioural,
            **FIXED,
        )  # fmt: skip
        sober(found)
        assert found.dimension == sum(w.numel() for w in before.values())
        fine = True
    except llc.InputError as error:
        fine = len(str(error)) > 20 and "\n" not in str(error)
    finally:
        tally.count("examples", bad=not fine)
    assert fine
    assert all(torch.equal(before[k], w) for k, w in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


@settings(STEADY, max_examples=25)
@given(
    values=st.dictionaries(
        st.sampled_from([
            "n_beta", "gamma", "step_size", "chains", "draws", "burn_in", "batch_size", "precision",
            "budget", "seed", "only", "sampler",
        ]),
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
            st.lists(st.text(max_size=3), max_size=2),
        ),
        max_size=5,
    )
)  # fmt: skip
def test_settings_are_refused_or_come_back_whole(values):
    fine = False
    try:
        made = llc.Settings(**values)
        assert llc.Settings.from_json(made.to_json()) == made
        fine = True
    except llc.InputError as error:
        fine = "\n" not in str(error)
    finally:
        tally.count("examples", bad=not fine)
    assert fine


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("when", ["burn-in", "draws", "once"])
def test_a_wrong_value_at_a_certain_moment(value, when):
    """By where the chain is: the loss of one narrow shell round w* alone is wrong."""
    low, high = {"burn-in": (0.0, 0.3), "draws": (0.3, 0.6), "once": (0.05, 0.06)}[when]
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.zero_()

    def potential(model):
        r = (model.weight**2).sum().clamp_min(1e-12).sqrt()
        inside = (r > low + 1e-4) & (r < high)
        return torch.where(inside, r * 0 + value, r**2)

    found = sober(
        llc.estimate(model, potential=potential, n_beta=20.0, step_size=0.1, seed=1, **FIXED)
    )
    tally.count("losses", bad=bool(found.diverged) and found.verdict.status == "ok")
    assert not (found.diverged and found.verdict.status == "ok")
    if not math.isfinite(abs(found.trace).max()):
        assert found.diverged
