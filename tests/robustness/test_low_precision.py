"""Weights in half precision: right numbers, or rounding that is measured and named."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import llc
from llc.estimation.verdict import Reason
from llc.objective import Objective
from llc.surface import LossSurface

N, GAMMA = 4000, 1.0
GIVEN = {"gamma": GAMMA, "budget": 8000, "chains": 4}
HALVES = [torch.bfloat16, torch.float16]


def inputs(dtype=torch.float32, count=N):
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(0)).to(dtype)


def line(scale=20.0, dtype=torch.float32, kind=nn.Linear):
    """A linear model whose weights are so large that half precision rounds them coarsely."""
    model = kind(3, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, -0.5, 0.75]]) * scale
    return model.to(dtype)


def exact(x, n_beta):
    """½ Σ nβh/(nβh + γ) over the eigenvalues h of the loss's second derivative, 2xᵀx/n."""
    h = torch.linalg.eigvalsh(2 * x.double().T @ x.double() / len(x))
    return float((n_beta * h / (n_beta * h + GAMMA)).sum()) / 2


class Casting(nn.Linear):
    """Insists on bfloat16, whatever its weights are."""

    def forward(self, x):
        return F.linear(x.to(torch.bfloat16), self.weight.to(torch.bfloat16)).float()


class CastingInputs(nn.Linear):
    """Runs only with weights in bfloat16."""

    def forward(self, x):
        return super().forward(x.to(torch.bfloat16)).float()


class Autocasting(nn.Linear):
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x).float()


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_evaluated_in_float32(dtype):
    x, model = inputs(dtype), line(dtype=dtype)
    e = llc.estimate(model, (x, model(x).detach()), "mse", **GIVEN)
    assert abs(e.llc - exact(x, e.settings.n_beta)) < 5 * e.mcse < 0.4
    assert Reason.ROUNDED not in e.verdict.reasons
    assert Reason.NOT_IN_EQUILIBRIUM not in e.verdict.reasons
    assert model.weight.dtype is x.dtype is dtype, "the user's own stay as they are"
    wide = llc.estimate(line(), (x.float(), model(x).detach().float()), "mse", **GIVEN)
    assert e.trace.tobytes() == wide.trace.tobytes()


def test_the_centre_is_what_the_file_holds():
    held = torch.tensor([[20.125, -10.0625, 15.0]]).to(torch.bfloat16)
    x = inputs(count=40)
    for model in (line(dtype=torch.bfloat16), line()):
        task = llc.Task(model, (x, x[:, :1]), "mse").at({"weight": held})
        assert torch.equal(LossSurface(task).centre, held.float()[0])


class Beyond(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 1e4 * 1e-4


def test_numbers_beyond_float16_on_the_way():
    x, model = inputs(torch.float16), line(dtype=torch.float16, kind=Beyond)
    assert not model(x).isfinite().all()
    e = llc.estimate(model, (x, line()(x.float()).detach()), "mse", **GIVEN)
    assert abs(e.llc - exact(x, e.settings.n_beta)) < 5 * e.mcse < 0.4


def test_other_parts_of_a_mixed_model_keep_their_precision():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[0].bfloat16()
    model[1].half()
    model[2].double()
    model[1].register_forward_hook(lambda module, given, out: out.double())
    model[0].register_forward_hook(lambda module, given, out: out.to(module.weight.dtype))
    model[0].plain = torch.ones(2, dtype=torch.bfloat16)
    whole = Objective(llc.Task(model, (inputs(count=40), inputs(count=40)[:, :2]), "mse")).module
    kinds = {name: t.dtype for name, t in whole.model.state_dict().items()}
    assert kinds["0.weight"] is kinds["1.weight"] is kinds["1.running_var"] is torch.float32
    assert kinds["2.weight"] is torch.float64
    assert whole.model[0].plain.dtype is torch.float32
    assert model[0].plain.dtype is torch.bfloat16


def test_weights_of_classes_are_raised_too():
    x, model = inputs(torch.bfloat16, 60), nn.Linear(3, 2).bfloat16()
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0], dtype=torch.bfloat16))
    surface = LossSurface(llc.Task(model, (x, torch.arange(60) % 2), loss))
    assert set(surface.layout.dtypes) == {torch.float32}
    assert loss.weight.dtype is torch.bfloat16
    wide = F.cross_entropy(
        model.float()(x.float()).detach(), torch.arange(60) % 2, weight=torch.tensor([1.0, 3.0])
    )
    assert surface.baseline == pytest.approx(float(wide), rel=1e-5)


def test_large_models_in_half_precision_go_the_direct_way(monkeypatch):
    monkeypatch.setattr("llc.objective.LARGE", 1)
    x = inputs(torch.bfloat16, 40)
    model = line(dtype=torch.bfloat16)
    surface = LossSurface(llc.Task(model, (x, model(x).detach()), "mse"))
    surface.plan(2, None)
    assert surface.lends, "the direct way needs weights of one precision"
    assert not surface.rounds


@pytest.mark.parametrize(
    ("model", "more"),
    [
        pytest.param(line(kind=Casting), {}, id="casts both"),
        pytest.param(line(dtype=torch.bfloat16, kind=CastingInputs), {}, id="casts inputs"),
        pytest.param(line(kind=Autocasting), {}, id="autocast inside"),
        pytest.param(line(), {"autocast": True}, id="autocast=True"),
    ],
)
def test_rounding_that_is_insisted_on_is_measured_and_named(model, more):
    x = inputs()
    with torch.no_grad():
        y = model(x)
    e = llc.estimate(model, (x, y), "mse", **GIVEN, **more)
    off = e.llc - exact(x, e.settings.n_beta)
    assert off > 0.5, "otherwise there is nothing to measure"
    assert 0 < e.errors.rounding == e.rounding < 2 * off
    assert off < 4 * e.errors.total
    assert Reason.ROUNDED in e.verdict.reasons
    assert Reason.NOT_A_MINIMUM not in e.verdict.reasons, "its cause is another"
    (sentence,) = (s for s in e.verdict.sentences if s.startswith("rounding"))
    assert "half precision" in sentence
    assert "float32" in sentence


def test_rounding_where_nothing_else_runs_has_a_size():
    """A constant that no one can raise: only differences along lines can tell."""
    constant = [torch.eye(3, dtype=torch.bfloat16)]

    class Stubborn(Casting):
        def forward(self, x):
            return F.linear(
                x.to(torch.bfloat16) @ constant[0], self.weight.to(torch.bfloat16)
            ).float()

    model = line(kind=Stubborn)
    x = inputs(count=500)
    with torch.no_grad():
        y = model(x)
    e = llc.estimate(model, (x, y), "mse", gamma=GAMMA, draws=300, burn_in=100)
    assert Reason.ROUNDED in e.verdict.reasons
    assert 0.05 < e.rounding < 20


def test_rounding_below_the_spread_raises_no_alarm():
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    x = torch.randn(300, 3, generator=generator)
    given = {"gamma": 10.0, "draws": 400, "burn_in": 200, "behavioural": True}
    e = llc.estimate(net, (x, torch.arange(300) % 2), "cross_entropy", autocast=True, **given)
    assert 0 < abs(e.rounding) < 0.05 * e.llc
    assert Reason.ROUNDED not in e.verdict.reasons


def test_float32_is_measured_against_float64():
    """Weights of 10⁶ round float32 as weights of 20 round bfloat16."""
    x, model = inputs(), line(1.3e6)
    truth = exact(x, N / math.log(N))
    e = llc.estimate(model, (x, model(x).detach()), "mse", **GIVEN)
    assert e.llc > truth + 1
    assert Reason.ROUNDED in e.verdict.reasons
    assert any("float64" in s and "half" not in s for s in e.verdict.sentences)
    wide = model.double()
    e = llc.estimate(wide, (x.double(), wide(x.double()).detach()), "mse", **GIVEN)
    assert abs(e.llc - truth) < 5 * e.mcse < 0.4
    assert e.rounding == 0
    model = line(1.0)
    e = llc.estimate(model, (x, model(x).detach()), "mse", **GIVEN)
    assert e.rounding == 0


def test_a_loss_far_above_its_rise():
    """Losses of 10¹⁰ leave float32 no digits for a rise of 1/nβ; that is not a bad centre."""
    x = inputs().double()
    y = 1e5 * torch.sign(torch.randn(N, 1, generator=torch.Generator().manual_seed(1))).double()
    model = line()
    model.weight.data = torch.linalg.lstsq(x, y).solution.T.float()
    e = llc.estimate(model, (x.float(), y.float()), "mse", **GIVEN)
    assert abs(e.llc - exact(x, e.settings.n_beta)) > 5
    assert e.verdict.status == "fail"
    assert Reason.ROUNDED in e.verdict.reasons
    assert Reason.NEGATIVE not in e.verdict.reasons
