"""The scale curve: every point where it should be, plateaus, and words where it ends early."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from gates import SIGMAS, two_gates
from matplotlib.figure import Figure
from targets import Vector
from tiny import labelled, linear, refusal

import llc
from llc import truths
from llc.cli.main import main
from llc.posterior import Posterior
from llc.sampling.run import sample
from llc.scale.anneal import default_gammas
from llc.settings import Settings
from llc.surface import LossSurface

QUADRATIC = [1.0] * 10
PLAIN = {"n_beta": 1000.0, "gammas": [3000, 1000, 300, 100]}


def curve_of(task=None, **given):
    return llc.scale_curve(task or truths.quadratic(QUADRATIC).task(), **{**PLAIN, **given})


@pytest.fixture(scope="module")
def curve():
    return curve_of(precision=0.025)


def meets_truth(found, truth):
    """Each point has the exact B, and none that of the γ before, where its chains came from."""
    gammas = [4 * found.gamma[0], *found.gamma]
    for point, before in zip(found.points, gammas, strict=False):
        expected = truth.expected(found.n_beta, point.settings.gamma)
        two_gates(point.trace, expected, truth.expected(found.n_beta, float(before)))


def test_every_point_has_the_exact_expectation_of_a_quadratic(curve):
    meets_truth(curve, truths.quadratic(QUADRATIC))
    assert curve.stopped == ""
    assert list(curve.gamma) == list(curve.asked) == PLAIN["gammas"]


def test_every_point_has_the_exact_expectation_far_from_a_quadratic():
    truth = truths.powers([4] * 8)
    found = curve_of(truth.task(), n_beta=1e4, gammas=[10_000, 1000, 100], precision=0.03)
    meets_truth(found, truth)


def test_slopes_are_those_of_the_exact_curve(curve):
    for point in curve.points:
        share = PLAIN["n_beta"] / (PLAIN["n_beta"] + point.settings.gamma)
        exact = -share * (1 - share) * len(QUADRATIC) / 2
        for slope, error, truth in (
            (point.slope_gamma, point.slope_gamma_se, exact),
            (point.slope_n_beta, point.slope_n_beta_se, -exact),
        ):
            assert point.ess > 400
            assert 0 < error < 0.4
            assert abs(slope - truth) < SIGMAS * error


def test_points_agree_with_separate_estimates_of_a_singular_model():
    task = truths.linear_net((8, 4, 8), 2).task()
    given = {"n_beta": 5000.0, "precision": 0.03}
    found = curve_of(task, gammas=[1000, 100, 10], **given)
    for number, point in enumerate(found.points):
        alone = llc.estimate(task, gamma=point.settings.gamma, seed=50 + number, **given)
        assert min(point.ess, alone.ess) > 100
        error = math.hypot(point.mcse, alone.mcse)
        assert error < 0.04 * alone.llc
        assert abs(point.llc - alone.llc) < SIGMAS * error


def test_a_run_goes_on_from_where_another_ended():
    surface = LossSurface(truths.quadratic(QUADRATIC).task())
    settings = Settings(n_beta=1e3, gamma=100.0, step_size=0.01, burn_in=5, draws=7, chains=3)
    silent = lambda *_: None
    first = sample(Posterior(surface, 1e3, 100.0), settings, silent)
    here = first.end.state.displacement.clone()
    still = dataclasses.replace(settings, gamma=1.0, burn_in=0, draws=1)
    then = sample(Posterior(surface, 1e3, 1.0), still, silent, first.end)
    # What a step reports is of the place where it began.
    assert then.draws.spread[:, 0] == pytest.approx((here**2).sum(1).numpy(), rel=1e-12)
    # And noise goes on: were it the first run's again, its first step would repeat.
    again = sample(Posterior(surface, 1e3, 1.0), still, silent, first.end)
    assert (again.draws.spread == then.draws.spread).all()
    assert not torch.equal(again.end.state.displacement, then.end.state.displacement)


def test_the_probe_takes_its_knowledge_along_but_for_gamma():
    surface = LossSurface(truths.quadratic([2.0] * 4).task())
    settings = Settings(n_beta=1e3, gamma=1e4, chains=2, precision=0.2)
    end = sample(Posterior(surface, 1e3, 1e4), settings, lambda *_: None).end
    assert end.probe.largest == pytest.approx(2e3 + 1e4, rel=0.01)
    assert end.probe.at(Posterior(surface, 1e3, 1.0)).largest == pytest.approx(2e3 + 1, rel=0.06)
    assert end.probe.at(Posterior(surface, 1e3, 1.0), least=1e6).largest == 1e6


def test_the_same_seed_gives_the_same_curve_and_leaves_no_trace():
    before = torch.random.get_rng_state()
    model = linear()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    inputs = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    task = llc.Task(model, (inputs, model(inputs).detach()), "mse")
    runs = [curve_of(task, gammas=[30, 10], precision=0.3, seed=seed) for seed in (4, 4, 5)]
    assert (runs[0].llc == runs[1].llc).all()
    assert (runs[0].llc != runs[2].llc).all()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_minibatches_go_on_too():
    inputs = torch.randn(6000, 3, generator=torch.Generator().manual_seed(0))
    model = linear()
    noise = torch.randn(6000, 2, generator=torch.Generator().manual_seed(1))
    task = llc.Task(model, (inputs, model(inputs).detach() + noise), "mse")
    found = curve_of(task, n_beta=None, gammas=[100, 10], precision=0.2, budget=40_000)
    assert found.n_beta == pytest.approx(6000 / math.log(6000))
    sizes = [point.settings.batch_size for point in found.points]
    assert len(sizes) == 2
    assert 512 <= sizes[0] <= sizes[1] <= 4096


def test_default_gammas():
    task = truths.quadratic(QUADRATIC).task()
    with torch.no_grad():
        task.model.w.fill_(2.0)  # ‖w*‖² = 4 D
    gammas = default_gammas(LossSurface(task))
    assert gammas[0] == 250
    assert len(gammas) == 10
    assert np.diff(np.log10(gammas)) == pytest.approx(-0.5, abs=0.02)


def test_it_ends_with_the_budget():
    found = curve_of(gammas=[1000, 1, 0.001, 1e-4], budget=4000)
    assert found.gradient_evaluations < 1.1 * 4000 + 40
    assert len(found.points) < 4
    assert found.points[-1].verdict.status != "ok"
    assert "budget of 4,000 gradients" in found.stopped
    assert "stopped: the budget" in found.table()


def test_it_ends_where_chains_leave_the_model():
    # A sharp classifier: at small γ its weights are drowned, and it does worse than to guess.
    inputs, _ = labelled(200)
    model = linear()
    with torch.no_grad():
        model.weight.mul_(20)
    task = llc.Task(model, (inputs, model(inputs).argmax(1).detach()), "cross_entropy")
    found = curve_of(task, n_beta=1.0, gammas=[100, 1, 0.01, 1e-4], precision=0.2)
    assert "the chains have left the model" in found.stopped
    assert len(found.points) < 4
    assert found.rise_to_chance[-1] > 0.9 > found.rise_to_chance[0]


def unbounded():
    """A well of finite depth, and beyond its rim a fall without end."""
    model = Vector(torch.zeros(3))
    return llc.Task(model, potential=lambda m: (m.w**2 - m.w**4).sum())


def test_it_ends_where_chains_diverge(tmp_path):
    found = curve_of(unbounded(), gammas=[1e4, 0.3], n_beta=2.0, precision=0.2, budget=20_000)
    assert "left for infinity at γ = 0.3" in found.stopped
    assert found.points[0].verdict.status != "fail"
    assert found.points[1].verdict.status == "fail"
    assert found.plateaus == ()
    figure = llc.plot.scale_curve(found)
    assert "verdict: fail" in figure.axes[0].get_legend_handles_labels()[1]
    figure.draw_without_rendering()
    again = llc.ScaleCurve.load(found.save(tmp_path / "lost"))
    assert again.to_dict() == found.to_dict()


def made(curve, values, error=0.01, slope=0.0, **changes):
    """A curve of given λ̂ at γ = 1000, 100, …, everything else as in a good one."""
    points = [
        dataclasses.replace(
            curve.points[-1],
            llc=value,
            mcse=error,
            slope_gamma=slope,
            slope_gamma_se=10 * error,
            settings=dataclasses.replace(curve.points[-1].settings, gamma=1000 * 0.1**i),
            **changes,
        )
        for i, value in enumerate(values)
    ]
    gammas = tuple(point.settings.gamma for point in points)
    return dataclasses.replace(curve, points=tuple(points), asked=gammas)


def test_plateaus(curve):
    two = made(curve, [1.0, 4.0, 4.1, 4.05, 8.0, 16.0, 16.1])
    high, low = two.plateaus
    assert (high.gamma_high, high.count, high.lowest, high.highest) == (100, 3, 4.0, 4.1)
    assert high.gamma_low == pytest.approx(1)
    assert high.llc == pytest.approx(4.05)
    # Scattered more than their errors of 0.01: √(χ²/dof) = 5 of them.
    assert high.mcse == pytest.approx(0.01 / 3**0.5 * 5)
    assert low.count == 2
    assert str(low).startswith("LLC 16.05 ± 0.05 over γ = 0.01 … 0.001")
    # 6.9 % over an e-fold of ln 10: just below and above 3 % an e-fold.
    assert len(made(curve, [4.0, 4.25]).plateaus) == 1
    assert made(curve, [4.0, 4.35]).plateaus == ()
    assert len(made(curve, [4.0, 4.0]).plateaus) == 1


@pytest.mark.parametrize(
    "spoilt",
    [
        {"saturation": 0.6},
        {"verdict": llc.Verdict("fail", (), (), ())},
        {"error": 0.5},  # too noisy to tell
        {"llc": math.nan},
        {"sampled_loss": 10.0},  # beyond what is local
    ],
)
def test_no_plateau_without_sound_points(curve, spoilt):
    error = spoilt.pop("error", 0.01)
    local = dataclasses.replace(curve, local_rise=1.0)
    found = made(local, [4.0, 4.0, 4.0], error)
    points = tuple(dataclasses.replace(point, **spoilt) for point in found.points)
    found = dataclasses.replace(found, points=points)
    assert found.plateaus == ()
    assert "no plateau" in found.table()


def test_free_slopes_tell_what_a_noisy_difference_cannot(curve):
    noisy = made(curve, [4.0, 4.0], error=0.09)
    assert len(noisy.plateaus) == 1
    steep = tuple(
        dataclasses.replace(p, slope_gamma=-1.0, slope_gamma_se=0.01) for p in noisy.points
    )
    assert dataclasses.replace(noisy, points=steep).plateaus == ()


def test_table_save_and_load(curve, tmp_path):
    text = curve.table()
    for word in ("gamma", "LLC", "virial", "satur.", "dLLC/dlnγ", "verdict", "n_beta 1000"):
        assert word in text
    assert "to chance" not in text  # a potential knows none
    path = curve.save(tmp_path / "deep" / "curve.json")
    record = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert record["points"][0]["llc"] == curve.points[0].llc
    again = llc.ScaleCurve.load(path)
    assert again.to_dict() == curve.to_dict()
    assert again.table() == text
    assert again.points[0].trace.shape == (4, 0)
    (tmp_path / "other.json").write_text("{}")
    assert "other.json" in refusal(lambda: llc.ScaleCurve.load(tmp_path / "other.json"))
    assert "missing.json" in refusal(lambda: llc.ScaleCurve.load(tmp_path / "missing"))


def test_n_eff_beside_it(curve, tmp_path):
    def n_eff(alpha):
        return sum(h / (h + alpha) for h in QUADRATIC)

    both = curve.with_n_eff(n_eff)
    exact = [truths.quadratic(QUADRATIC).expected(1e3, float(gamma)) for gamma in curve.gamma]
    assert both.n_eff_half == pytest.approx(exact)
    assert "N_eff/2" in both.table()
    assert llc.ScaleCurve.load(both.save(tmp_path / "both")).n_eff_half == both.n_eff_half
    for figure in (
        llc.plot.scale_curve(both),
        llc.plot.scale_curve(curve, n_eff=n_eff),
        llc.plot.scale_curve(curve, n_eff=[2 * value for value in exact]),
    ):
        assert isinstance(figure, Figure)
        lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
        drawn = next(line for name, line in lines.items() if "eff" in str(name))
        assert drawn.get_ydata() == pytest.approx(exact)
    assert "one value for each" in refusal(lambda: llc.plot.scale_curve(curve, n_eff=[1.0]))


def test_figure(curve):
    flat = made(curve, [1.0, 4.0, 4.1, 4.05])
    ax = Figure().subplots()
    assert llc.plot.scale_curve(flat, ax) is ax
    assert ax.get_xscale() == "log"
    assert any("plateau" in text.get_text() for text in ax.texts)
    names = ax.get_legend_handles_labels()[1]
    assert [word for word in ("90 % band", "null") if not any(word in n for n in names)] == []
    low, high = sorted(ax.get_xlim())
    assert low < flat.gamma.min() < flat.gamma.max() < high


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"gammas": []}, "at least two"),
        ({"gammas": [1.0]}, "llc.estimate"),
        ({"gammas": [1.0, -1.0]}, "-1.0"),
        ({"gammas": [1.0, math.inf]}, "inf"),
        ({"gammas": [1.0, 1.0]}, "once"),
        ({"gammas": "10, 1"}, "positive numbers"),
        ({"gammas": 10.0}, "positive numbers"),
        ({"n_beta": None}, "give n_beta"),
        ({"n_beta": -1.0}, "n_beta"),
        ({"chains": 0}, "chains"),
        ({"precision": 0}, "precision"),
        ({"budget": 0}, "budget"),
        ({"device": "warp"}, "warp"),
        ({"task": linear()}, "llc.Task"),
    ],
)
def test_bad_input(given, word):
    assert word in refusal(lambda: curve_of(**given))


def test_bad_questions_to_a_curve(curve):
    assert "verdict" in refusal(lambda: curve.column("verdict"))
    assert "lambda" in refusal(lambda: curve.column("lambda"))
    assert "probability" in refusal(lambda: curve.interval(1.0))


TASK = """
import torch, llc

def task():
    model = torch.nn.Linear(3, 2)
    inputs = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    return llc.Task(model, (inputs, inputs[:, :2].round()), "mse", name="mine")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "scale_task.py").write_text(TASK)
    torch.save({"weight": torch.eye(2, 3), "bias": torch.zeros(2)}, tmp_path / "step_1.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMAND = ["scale", "step_1.pt", "--task", "scale_task.py:task"]


def test_command_line(folder, capsys):
    assert main([*COMMAND, "--gammas", "10,30", "--precision", "0.2", "--out", "run"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "dLLC/dlnγ" in out
    names = sorted(path.name for path in (folder / "run").iterdir())
    figure = ["scale.caption.txt", "scale.pdf", "scale.png", "scale.svg"]
    assert names == sorted([*figure, "scale.json", "scale.txt"])
    assert (folder / "run" / "scale.txt").read_text() == out
    assert list(llc.ScaleCurve.load(folder / "run" / "scale.json").gamma) == [30, 10]
    assert main([*COMMAND, "--gammas", "10,30", "--precision", "0.2", "--json"]) == 0
    record = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert record["checkpoint"] == "step_1.pt"
    assert [point["settings"]["gamma"] for point in record["points"]] == [30, 10]


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--gammas", "10,much"], "--gammas is '10,much'"),
        (["--gammas", "10"], "at least two"),
        (["--gamma", "10,3"], "did you mean --gammas"),
        (["--out", "step_1.pt"], "is a file"),
        (["--chains", "0"], "chains"),
    ],
)
def test_command_line_refuses_in_one_sentence(folder, capsys, flags, word):
    assert main([*COMMAND, *flags]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert word in err
