"""Parts sampled alone, against closed forms: Σ ½ s_i over the chosen eigenvalues."""

import numpy as np
import pytest
import torch
from tiny import FAST, labelled, linear, real_valued, refusal, run
from torch import nn

import llc
from llc.surface import LossSurface
from llc.symmetry import Heads

N_BETA, GAMMA = 100.0, 50.0
H = {"a": torch.tensor([1.0, 2.0, 3.0, 4.0]), "b": torch.tensor([[1.0, 0.1, 5.0], [0.2, 3.0, 1.0]])}
KNOWN = {"n_beta": N_BETA, "gamma": GAMMA, "precision": 0.04}


class Bowl(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.full((4,), 0.3))
        self.b = nn.Parameter(torch.full((2, 3), -0.2))


def bowl():
    model = Bowl()
    centre = {"a": 0.3, "b": -0.2}

    def potential(m):
        parts = [(H[n] * (getattr(m, n) - centre[n]) ** 2).sum() for n in H]
        return 0.5 * (parts[0] + parts[1])

    return llc.Task(model, potential=potential)


def exact(*curvatures):
    h = np.concatenate([np.asarray(part, float).reshape(-1) for part in curvatures])
    s = N_BETA * h / (N_BETA * h + GAMMA)
    # λ, the null Σ ½ nβh/γ, and the standard deviation of nβL.
    return s.sum() / 2, (N_BETA * h / GAMMA).sum() / 2, len(h)


@pytest.mark.parametrize(
    ("only", "curvatures"),
    [
        ("a", (H["a"],)),
        ("!a", (H["b"],)),
        ("b[0]", (H["b"][0],)),
        (["a[1:3]", "b[:, 2]"], (H["a"][1:3], H["b"][:, 2])),
        ({"b": H["b"] > 0.5}, (H["b"][H["b"] > 0.5],)),
        ({"a": None, "b": H["b"] < 0.5}, (H["a"], H["b"][H["b"] < 0.5])),
    ],
)
def test_a_part_of_a_quadratic_has_its_own_llc(only, curvatures):
    found = llc.estimate(bowl(), only=only, **KNOWN)
    value, null, dimension = exact(*curvatures)
    assert found.dimension == dimension
    assert found.ess > 200
    assert abs(found.llc - value) < 5 * found.mcse
    assert abs(found.null - null) < 5 * found.null_se
    assert abs(found.virial - 1) < 0.1
    assert llc.Settings.from_json(found.settings.to_json()) == found.settings


def test_n_eff_of_a_part_is_twice_its_llc_on_a_quadratic():
    for only, curvatures in (("a", (H["a"],)), ("b[0]", (H["b"][0],))):
        measured = llc.curvature(bowl(), n_beta=N_BETA, gamma=GAMMA, only=only)
        assert measured.dimension == exact(*curvatures)[2]
        assert measured.effective_dimension()[0] == pytest.approx(2 * exact(*curvatures)[0])


def test_parts_that_do_not_meet_in_the_hessian_add_up():
    whole = llc.estimate(bowl(), **KNOWN)
    parts = [llc.estimate(bowl(), only=only, **KNOWN) for only in ("a", "b")]
    error = np.hypot(whole.mcse, np.hypot(*(part.mcse for part in parts)))
    assert abs(whole.llc - sum(part.llc for part in parts)) < 5 * error


def test_parts_that_meet_in_the_hessian_do_not_add_up():
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    task = llc.Task(model, potential=lambda m: 4 * m.weight.sum() ** 2)
    alone = [llc.estimate(task, only=f"weight[:, {k}]", **KNOWN).llc for k in range(2)]
    # Each has the curvature 8; together one direction has 16 and the other none.
    one, both = (0.5 * N_BETA * h / (N_BETA * h + GAMMA) for h in (8.0, 16.0))
    assert alone == pytest.approx([one, one], rel=0.1)
    assert llc.estimate(task, **KNOWN).llc == pytest.approx(both, rel=0.1)


@pytest.mark.parametrize("sampler", ["kinetic", "sgld", "sgld-rmsprop", "sgnht", "devinterp-sgld"])
def test_everything_named_is_the_same_as_nothing_named_to_the_bit(sampler):
    given = {**FAST, "sampler": sampler, "step_size": 1e-3, "batch_size": 10}
    task = llc.Task(linear(), labelled(), "cross_entropy")
    plain = llc.estimate(task, **given)
    full = {"weight": torch.ones(2, 3).bool(), "bias": torch.ones(2).bool()}
    for only in ("*", ["weight[0]", "bias", "weight[1]"], full):
        found = llc.estimate(task, only=only, **given)
        assert np.array_equal(found.trace, plain.trace)
        assert (found.llc, found.null, found.mcse) == (plain.llc, plain.null, plain.mcse)


def test_what_is_not_chosen_stays_at_w_star_and_gradients_are_those_of_the_whole():
    task = llc.Task(linear(), labelled(), "cross_entropy")
    whole = LossSurface(task)
    mask = torch.tensor([[1, 0, 1], [0, 1, 0]]).bool()
    part = LossSurface(task, only=llc.Settings(only={"weight": mask, "bias": None}).only)
    flat = torch.cat([mask.reshape(-1), torch.ones(2).bool()])
    delta = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    spread = torch.zeros(3, 8)
    spread[:, flat] = delta
    assert torch.equal(part.centre, whole.centre[flat])
    index = torch.arange(12).reshape(3, 4)
    for rows in (None, index):
        small, large = part.evaluate(delta, rows), whole.evaluate(spread, rows)
        torch.testing.assert_close(small.rise, large.rise)
        torch.testing.assert_close(small.gradient, large.gradient[:, flat])


def test_frozen_by_requires_grad_and_left_out_by_only_are_the_same():
    frozen = linear()
    frozen.bias.requires_grad_(False)
    a = llc.estimate(llc.Task(frozen, labelled(), "cross_entropy"), **FAST)
    model = linear()
    b = llc.estimate(llc.Task(model, labelled(), "cross_entropy"), only="weight", **FAST)
    assert np.array_equal(a.trace, b.trace)
    assert all(p.requires_grad for p in model.parameters())
    task = llc.Task(frozen, labelled(), "cross_entropy")
    assert "bias, which is frozen" in refusal(lambda: llc.estimate(task, only="bias", **FAST))


def test_a_name_that_is_not_there_is_refused_with_what_is_near():
    task = llc.Task(linear(), labelled(), "cross_entropy")
    message = refusal(lambda: llc.estimate(task, only="wieght", **FAST))
    assert "weight" in message.split("such as")[1]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 3, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0].mean((1, 2))[:, None]


def test_declared_heads_have_names_of_their_own():
    heads = Heads.packed("attention.", 3, 6)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inputs, targets = torch.randn(20, 4, 6), torch.randn(20, 1)
        task = llc.Task(Attention(), (inputs, targets), "mse", symmetries=[heads])
    only = "attention[1]"
    # 2 of 6 rows of Q, K and V, their biases, and 2 of 6 columns of the output.
    part = LossSurface(task, only=(only,))
    assert part.layout.total == 3 * 2 * 6 + 3 * 2 + 6 * 2
    rows = [f"attention.in_proj_weight[{6 * k + 2}:{6 * k + 4}]" for k in range(3)]
    rows += [f"attention.in_proj_bias[{6 * k + 2}:{6 * k + 4}]" for k in range(3)]
    named = LossSurface(task, only=(*rows, "attention.out_proj.weight[:, 2:4]"))
    assert torch.equal(part.centre, named.centre)


def test_a_stack_of_checkpoints_refuses_parts_of_tensors():
    tasks = [llc.Task(linear(k), labelled(), "cross_entropy") for k in range(2)]
    from llc.estimator import estimate_stack

    given = llc.Settings(n_beta=10.0, step_size=0.01, only=("weight[0]",), **FAST)
    assert "only=" in refusal(lambda: estimate_stack(tasks, given))


def test_tracing_a_part_is_reused_and_another_part_is_refused(tmp_path):
    task = llc.Task(linear(), real_valued(), "mse")
    first = llc.trace(task, run(2), out=tmp_path, only="weight[0]", **FAST)
    again = llc.trace(task, run(2), out=tmp_path, only=["weight[0]"], **FAST)
    assert np.array_equal(first.llc, again.llc)
    assert first.points[0].estimate.dimension == 3
    message = refusal(lambda: llc.trace(task, run(2), out=tmp_path, only="weight[1]", **FAST))
    assert "only" in message
    assert "weight[1]" in message


def test_scale_curves_and_calibration_take_parts():
    curve = llc.scale_curve(bowl(), n_beta=N_BETA, gammas=[200.0, 50.0], only="a")
    for point, gamma in zip(curve.points, (200.0, 50.0), strict=True):
        s = N_BETA * H["a"] / (N_BETA * H["a"] + gamma)
        assert abs(point.llc - float(s.sum()) / 2) < 5 * point.mcse
        assert point.dimension == 4
    # 100·D/‖w*‖² of the part, not of the whole.
    chosen = llc.calibrate(bowl(), n_beta=N_BETA, only="a")
    assert chosen.only == ("a",)
    assert chosen.gamma == pytest.approx(100 * 4 / (4 * 0.09) / 10 ** round(
        np.log10(100 / 0.09 / chosen.gamma)))  # fmt: skip
