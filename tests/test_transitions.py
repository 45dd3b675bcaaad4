"""Transitions: found where they are, with honest errors, and not where they are not."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from scipy.interpolate import PchipInterpolator
from tiny import FAST, linear, real_valued, refusal, rlct, run

import llc
from llc.cli.main import main
from llc.estimation import Reason, Verdict
from llc.trajectory import Point, Trajectory
from llc.transitions import Transitions, find_in_curve, find_transitions
from llc.transitions.resampling import deviations

STEPS = np.geomspace(60, 3000, 27)
GROKKING = {50: 93, 1200: 523, 1900: 487, 8000: 321, 20000: 221, 25000: 121, 26500: 75, 40000: 63}
UNITS = 32


def staircase(steps=STEPS, at=(124, 273, 1027), levels=(18.0, 22, 29, 26)):
    return np.array(levels)[np.searchsorted(at, steps)]


def noisy(clean, relative=0.01, memory=0.5, seed=0):
    """Values, errors and deviations as of 32 units whose errors go on from point to point."""
    rng = np.random.default_rng(seed)
    unit = rng.normal(size=(UNITS, len(clean)))
    for i in range(1, len(clean)):
        unit[:, i] = memory * unit[:, i - 1] + np.sqrt(1 - memory**2) * unit[:, i]
    errors = relative * np.abs(clean)
    unit *= errors * np.sqrt(UNITS)
    picked = rng.multinomial(UNITS, np.full(UNITS, 1 / UNITS), 100)
    return clean + unit.mean(0), errors, picked @ (unit - unit.mean(0)) / UNITS


@pytest.fixture(scope="module")
def estimate():
    return llc.estimate(llc.Task(linear(), real_valued(), "mse", name="toy"), **FAST)


def trajectory(estimate, values, errors, steps=STEPS, **changed):
    """A trajectory of one estimate with its numbers and traces replaced."""
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(4, 200))
    shared -= shared.mean()
    points = [
        Point(
            int(step),
            dataclasses.replace(
                estimate, llc=float(y), mcse=float(e), ess=200.0, trace=y + e * shared,
                diverged=(), verdict=Verdict("ok", (), (), ()), **changed,
            ),
        )
        for step, y, e in zip(steps, values, errors, strict=True)
    ]  # fmt: skip
    return Trajectory("made up", estimate.settings, tuple(points))


def failed(t, positions, reason=Reason.CHAINS_DISAGREE, **changed):
    points = list(t.points)
    verdict = Verdict("fail", (reason,), ("the chains disagree: somehow",), ())
    for i in positions:
        e = dataclasses.replace(points[i].estimate, verdict=verdict, **changed)
        points[i] = dataclasses.replace(points[i], estimate=e)
    return dataclasses.replace(t, points=tuple(points))


@pytest.mark.parametrize("seed", range(5))
def test_jumps_are_found_with_their_heights(seed):
    found = find_in_curve(STEPS, *noisy(staircase(), seed=seed))
    assert found.verdict == "jumps"
    assert [t.kind for t in found] == ["up", "up", "down"]
    for t, step, jump in zip(found, (124, 273, 1027), (4, 7, -3), strict=True):
        assert t.interval[0] <= t.step <= t.interval[1]
        assert t.interval[0] <= step * 1.08
        assert step / 1.08 <= t.interval[1]
        assert abs(t.jump - jump) < 5 * t.jump_se
        assert t.jump_se < 0.5
        assert t.support > 0.9
    assert [round(p.llc) for p in found.plateaus] == [18, 22, 29, 26]


def test_a_transition_may_take_several_checkpoints():
    clean = 18 + 11 / (1 + np.exp(-8 * (np.log(STEPS) - np.log(400))))
    (t,) = find_in_curve(STEPS, *noisy(clean))
    assert t.jump == pytest.approx(11, abs=5 * t.jump_se)
    assert t.step == pytest.approx(400, rel=0.1)
    assert t.interval[0] < 330
    assert t.interval[1] > 480


@pytest.mark.parametrize("count", [25, 60])
def test_a_slow_decline_has_no_jumps(count):
    # A rule on consecutive differences cries wolf: most of them exceed three standard errors.
    steps = np.geomspace(50, 40000, count)
    known = np.log(list(GROKKING)), np.log(list(GROKKING.values()))
    values, errors, moved = noisy(np.exp(PchipInterpolator(*known)(np.log(steps))), 0.007)
    wolf = np.abs(np.diff(values)) > 3 * np.hypot(errors[1:], errors[:-1])
    assert wolf.mean() > 0.5
    found = find_in_curve(steps, values, errors, moved)
    assert (found.verdict, list(found)) == ("smooth", [])
    assert found.margin < -20
    assert "no jumps: a smooth curve explains it better by" in str(found)
    directions = [s.direction for s in found.stages]
    assert directions[0] == "rising"
    assert "falling" in directions


def test_a_fall_that_is_steep_in_one_clock_alone_has_no_jumps():
    # In ln step this is a cliff between plateaus; checkpoints every 250 steps see a slope.
    steps = np.concatenate([np.geomspace(100, 16000, 20), np.arange(17000, 24000, 250), [4e4]])
    clean = 62 + 130 / (1 + np.exp((steps - 20000) / 800))
    found = find_in_curve(steps, *noisy(clean, 0.007))
    assert found.verdict == "smooth"
    assert found.margin < -5


def test_false_alarms_are_rare_on_constants_and_drifts():
    # 1 curve in 100 is what is promised; more than 2 of 60 has a chance of 2 % even then.
    alarms = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        drift = 0.02 * np.sin(np.log(STEPS) * rng.uniform(0.2, 1) + rng.uniform(0, 6))
        clean = 30 * (1 + drift * (seed % 2))
        parts = noisy(clean, (0.003, 0.01, 0.02)[seed % 3], (0, 0.5, 0.99)[seed // 3 % 3], seed)
        alarms += len(find_in_curve(STEPS, *parts)) > 0
    assert alarms <= 2


def test_a_curve_that_ends_in_transition_has_an_edge():
    clean = staircase(levels=(20.0, 20, 20, 20))
    clean[-3:] += [6, 13, 22]
    (t,) = find_in_curve(STEPS, *noisy(clean))
    assert t.kind == "plateau edge"
    assert t.jump == pytest.approx(22, abs=5 * t.jump_se)


def test_the_first_checkpoint_may_be_step_0():
    steps = np.concatenate([[0], STEPS])
    clean = np.concatenate([[18.0], staircase()])
    assert len(find_in_curve(steps, *noisy(clean))) == 3


def test_errors_of_zero_and_no_resamples():
    found = find_in_curve(STEPS, staircase(), np.zeros(27))
    assert len(found) == 3
    assert find_in_curve(STEPS, np.zeros(27), np.zeros(27)).verdict == "constant"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda s, y, e: (s[:5], y[:5], e[:5]), "at least 6"),
        (lambda s, y, e: (s[::-1], y, e), "do not rise"),
        (lambda s, y, e: (s, y * np.nan, e), "not finite"),
        (lambda s, y, e: (s, y, -e), "not finite"),
        (lambda s, y, e: (s, y[1:], e), "shapes"),
    ],
)
def test_curves_that_cannot_be_used(change, word):
    given = change(STEPS, staircase(), np.ones(27))
    assert word in refusal(lambda: find_in_curve(*given))


def test_resampling_keeps_what_checkpoints_share(estimate):
    values, errors = staircase(), np.linspace(0.1, 0.5, 27)
    t = trajectory(estimate, values, errors)
    moved = deviations([p.estimate for p in t.points], 400, seed=0)
    assert moved.shape == (400, 27)
    # Spread as the error says; all points share their noise here, so they move together.
    assert moved.std(0) == pytest.approx(errors)
    assert np.corrcoef(moved.T).min() > 0.999
    assert (deviations([p.estimate for p in t.points], 400, seed=0) == moved).all()
    # Heights then have the error of a difference, not that of two numbers: here only drift's.
    found = find_transitions(trajectory(estimate, values, np.full(27, 0.3)), resamples=50)
    drift = 0.005 * np.hypot(18, 22)
    assert found[0].jump_se == pytest.approx(drift, rel=0.01)


def test_a_diverged_chain_is_not_heard_in_resamples(estimate):
    t = trajectory(estimate, staircase(), np.full(27, 0.2))
    e = t.points[0].estimate
    broken = e.trace.copy()
    broken[2] = np.inf
    lost = dataclasses.replace(e, trace=broken, diverged=(2,))
    moved = deviations([lost, e], 100, seed=0)
    assert np.isfinite(moved).all()
    assert moved.std(0) == pytest.approx(0.2)


def test_failed_checkpoints_make_no_transition(estimate):
    values = np.full(27, 20.0) + 0.1 * np.random.default_rng(0).normal(size=27)
    values[18:] += 8
    t = trajectory(estimate, values, np.full(27, 0.2))
    assert len(find_transitions(t)) == 1
    # The upper plateau rests on nothing else: what it says may be the chains' fault.
    bad = failed(t, range(18, 27))
    doubtful = find_transitions(bad)
    assert list(doubtful) == []
    assert len(doubtful.doubted) == 9
    assert "held for uncertain" in str(doubtful)
    assert len(find_transitions(bad, keep_failed=True)) == 1
    # A few among good ones do no harm, and what means something else is not used at all.
    some = find_transitions(failed(failed(t, [20, 22]), [5], Reason.NEGATIVE, llc=-500.0))
    assert len(some) == 1
    assert list(some.left_out) == [int(STEPS[5])]


def test_checkpoints_that_are_no_minimum_make_no_transition(estimate):
    """Their LLC is too low by an amount that no resampling sees."""
    values = np.full(27, 20.0) + 0.1 * np.random.default_rng(0).normal(size=27)
    values[:9] -= 8
    t = trajectory(estimate, values, np.full(27, 0.2))
    assert len(find_transitions(t)) == 1
    points = [
        dataclasses.replace(p, estimate=dataclasses.replace(p.estimate, verdict=Verdict(
            "warn", (Reason.STEP_TOO_LARGE, Reason.NOT_A_MINIMUM), ("so", "so"), ())))
        if number < 9 else p
        for number, p in enumerate(t.points)
    ]  # fmt: skip
    found = find_transitions(dataclasses.replace(t, points=tuple(points)))
    assert list(found) == []
    assert found.left_out == {}
    assert list(found.doubted) == [int(step) for step in STEPS[:9]]
    assert "too low by an unknown amount: trace with behavioural=True" in str(found)
    # Towards its own outputs every checkpoint is a minimum: what is seen is something else.
    own = [
        dataclasses.replace(p, estimate=dataclasses.replace(
            p.estimate, settings=dataclasses.replace(p.estimate.settings, behavioural=True)))
        for p in points
    ]  # fmt: skip
    own = find_transitions(dataclasses.replace(t, points=tuple(own)))
    assert (len(own), own.doubted) == (1, {})


def test_too_few_checkpoints(estimate):
    t = trajectory(estimate, np.full(6, 20.0), np.full(6, 0.2), STEPS[:6])
    assert find_transitions(t).verdict == "constant"
    bad = failed(t, [0], Reason.NEGATIVE)
    message = refusal(lambda: find_transitions(bad))
    assert "has 5 checkpoints to use, expected at least 6" in message
    assert "step 60 is left out, verdict fail: the chains disagree" in message


def test_round_trip_through_json(tmp_path):
    found = find_in_curve(
        STEPS, *noisy(staircase()), name="stairs", left_out={7: "why"}, prior_dominated=[60]
    )
    again = Transitions.load(found.save(tmp_path / "transitions.json"))
    assert list(again) == list(found)
    assert again.to_dict() == found.to_dict()
    assert str(again) == str(found)
    assert str(found).startswith("stairs: 3 transitions; jumps explain the curve better than")
    (tmp_path / "transitions.json").write_text('{"name": 1}')
    assert "rlct transitions RUN" in refusal(
        lambda: Transitions.load(tmp_path / "transitions.json")
    )


def test_command_line(tmp_path, capsys):
    checkpoints = [
        (10 * (i + 1), {"weight": run()[0][1]["weight"] * (1 + i), "bias": run()[0][1]["bias"]})
        for i in range(7)
    ]
    task = llc.Task(linear(), real_valued(), "mse", name="toy")
    llc.trace(task, checkpoints, out=tmp_path, **FAST, behavioural=True)
    assert main(["transitions", str(tmp_path), "--resamples", "20"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("toy: no jumps")
    assert "transitions.json" in said
    first = (tmp_path / "transitions.json").read_bytes()
    assert main(["transitions", str(tmp_path), "--resamples", "20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(first)
    assert (tmp_path / "transitions.json").read_bytes() == first
    assert main(["transitions", str(tmp_path), "--resamples", "0"]) == 2
    assert "--resamples is 0" in capsys.readouterr().err


def test_command_line_says_where_a_curve_is_not_the_losses_own(tmp_path, capsys):
    checkpoints = [
        (10 * (i + 1), {"weight": torch.eye(2, 3) * (1 + 0.03 * i), "bias": torch.zeros(2)})
        for i in range(7)
    ]
    task = llc.Task(linear(), real_valued(), "mse", name="toy")
    off = llc.trace(task, checkpoints, out=tmp_path / "off", **{**FAST, "draws": 400})
    marked = [p for p in off.points if Reason.NOT_A_MINIMUM in p.estimate.verdict.reasons]
    assert marked
    assert main(["transitions", str(tmp_path / "off"), "--resamples", "20"]) == 0
    said = capsys.readouterr().out
    assert "held for uncertain: step" in said
    assert "trace with behavioural=True" in said
    near = {**FAST, "draws": 400, "gamma": 1e4}
    llc.trace(task, checkpoints, out=tmp_path / "near", behavioural=True, **near)
    assert main(["transitions", str(tmp_path / "near"), "--resamples", "20"]) == 0
    said = capsys.readouterr().out
    assert "mostly flatness at radius 1/√gamma: steps 10, 20, 30, 40, 50, 60, 70 (there" in said
    assert "no minimum" not in said
    assert main(["report", str(tmp_path / "near")]) == 0
    assert "Mostly flatness at radius" in (tmp_path / "near" / "report.html").read_text()


def test_command_line_without_a_run(tmp_path):
    done = rlct("transitions", tmp_path / "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("rlct: ")
    assert done.stderr.count("\n") == 1
