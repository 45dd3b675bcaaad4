"""Checks of symmetries: what holds, what is broken, λ̂ before and after, directions counted."""

import itertools
import json
import math
from dataclasses import replace

import pytest
import torch
from tiny import refusal
from torch import nn

import llc
from llc.cli.main import main
from llc.estimation.precise import precise_objective
from llc.estimation.products import output_factors
from llc.estimation.sketch import outputs_sketch
from llc.execution import Execution
from llc.symmetry import Offset, Units
from llc.tasks import linear_net, superposition
from llc.trajectory.symmetries import Directions, Invariance, SymmetryCheck
from llc.trajectory.symmetries.check import _seed, check_symmetries
from llc.truths.linear import LinearNet

QUICK = llc.Settings(n_beta=100.0, gamma=10.0, chains=2, draws=40, burn_in=30)
SOUND = replace(QUICK, n_beta=3e4, gamma=100.0, chains=4, draws=700, burn_in=200)
HIDDEN = ["0.weight", "0.bias"]


def task(activation, hidden=4, symmetries=None, loss="mse", outputs=2):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, hidden), activation, nn.Linear(hidden, outputs))
        x = torch.randn(60, 3)
        y = model(x).detach() if loss == "mse" else torch.randint(outputs, (60,))
    return llc.Task(model, (x, y), loss, name="toy", symmetries=symmetries)


def linear_task(widths, seed=0, rank=None):
    """A linear net at its own outputs, of full rank or with layers of a given rank."""
    generator = torch.Generator().manual_seed(seed)
    layers = [
        torch.randn(out, into, generator=generator, dtype=torch.float64)
        for into, out in itertools.pairwise(widths)
    ]
    if rank is not None:
        frames = [
            torch.linalg.qr(torch.randn(w, w, generator=generator, dtype=torch.float64))[0]
            for w in widths
        ]
        layers = [frames[i + 1][:, :rank] @ frames[i][:, :rank].T for i in range(len(layers))]
    model = LinearNet(layers)
    x = torch.randn(50, widths[0], generator=generator, dtype=torch.float64)
    with torch.no_grad():
        y = model(x)
    symmetries = [
        Units([f"layers.{i}"], [f"layers.{i + 1}"], "linear") for i in range(len(layers) - 1)
    ]
    return llc.Task(model, (x, y), "mse", symmetries=symmetries)


def test_what_holds_is_said_to_hold():
    check = check_symmetries(task(nn.ReLU()), settings=SOUND)
    assert [row.part for row in check.rows] == ["permutation", "rescaling"]
    assert all(row.holds and 0 <= row.outputs_change < 1e-12 for row in check.rows)
    assert check.rows[0].isometry
    assert not check.rows[1].isometry
    assert check.rows[0].price == 0 < check.rows[1].price
    assert 0 < check.rows[1].stretch <= math.log(2)
    assert check.passed
    assert check.gamma == 100.0
    # Noise of its own: a move that changes nothing still gives another number.
    assert all(row.llc != check.llc and abs(row.z) < 6 for row in check.rows)
    assert check.directions is not None
    assert check.directions.known == 4
    text = str(check)
    for word in ("permutation", "rescaling", "same λ̂", "LLC before", "d − rank(J)", "24"):
        assert word in text


@pytest.mark.parametrize(
    ("activation", "broken", "word"),
    [
        (nn.GELU(), Units(HIDDEN, ["2.weight"], "relu"), "rescaling changes the outputs"),
        (nn.ReLU(), Units(HIDDEN, ["2.weight"], "odd"), "signs changes the outputs"),
        (nn.ReLU(), Units(HIDDEN), "permutation changes the outputs"),
        (nn.ReLU(), Units(["0.weight"], ["2.weight"]), "permutation changes the outputs"),
        (nn.ReLU(), Units(["0.weight", ("2.weight", 1)]), "permutation changes the outputs"),
        (nn.Tanh(), Offset("2.bias", preserves="loss"), "shift changes the loss"),
    ],
)
def test_what_is_broken_is_told_in_a_sentence_and_not_sampled(activation, broken, word):
    good = Units(HIDDEN, ["2.weight"])
    check = check_symmetries(task(activation), [good, broken], settings=QUICK, count=False)
    bad = [row for row in check.rows if not row.holds]
    assert len(bad) == 1
    assert word in bad[0].broken
    assert bad[0].broken in str(check)
    assert math.isnan(bad[0].llc)
    assert not check.passed
    assert check.says(bad[0]) == "broken"
    assert check.rows[0].status


def test_an_axis_that_counts_other_units_is_refused():
    wrong = Units(HIDDEN, [("2.weight", 0)])
    assert "count the same units" in refusal(lambda: check_symmetries(task(nn.ReLU()), [wrong]))


def test_a_symmetry_of_the_loss_may_change_outputs():
    shift = Offset(("2.weight", 1), preserves="loss")
    check = check_symmetries(
        task(nn.GELU(), loss="cross_entropy", outputs=3), [shift], sample=False
    )
    assert check.rows[0].outputs_change > 1e-2
    assert check.rows[0].loss_change < 1e-12
    assert check.passed
    assert check.directions is not None
    assert check.directions.known == 4
    assert check.directions.leak < 1e-12
    assert "LLC" not in str(check)


def test_declared_nowhere_they_are_read_off_the_model():
    found = check_symmetries(task(nn.Tanh()), sample=False, count=False)
    assert [row.part for row in found.rows] == ["permutation", "signs"]
    words = refusal(lambda: llc.check_symmetries(llc.Task(nn.Linear(3, 2), task(nn.Tanh()).data,
                                                          "mse"), sample=False))  # fmt: skip
    assert "no symmetries are known" in words


def test_a_gauge_moves_the_estimate_as_curvature_says_and_a_rotation_does_not():
    """B = ½Σ s with s = nβh/(nβh + γ), h the moved net's own curvatures: nearly quadratic here."""
    toy = linear_task((3, 2, 3))
    settings = llc.Settings(n_beta=1e6, gamma=3e5, chains=4, precision=0.02)
    check = check_symmetries(toy, settings=settings, strength=2.5, seed=3, count=False)
    rotation, gauge = check.rows
    weights = toy.model.state_dict()
    part = toy.symmetries[0].parts(weights)[1]
    generator = torch.Generator().manual_seed(_seed(3, "move", 1))
    there = part.move(weights, generator, 2.5).weights
    expected = []
    for at in (toy, toy.at(there)):
        curvature = llc.curvature(at, n_beta=1e6, gamma=3e5)
        expected.append(curvature.effective_dimension()[0] / 2)
    assert abs(expected[1] - expected[0]) > 8 * gauge.mcse
    assert abs(check.llc - expected[0]) < 5 * check.mcse + 0.01 * expected[0]
    assert abs(gauge.llc - expected[1]) < 5 * gauge.mcse + 0.01 * expected[1]
    assert abs(rotation.z) < 5
    assert check.says(rotation) == "same λ̂"
    assert check.says(gauge).startswith("λ̂ moved")
    assert check.passed


@pytest.mark.parametrize(
    ("widths", "rank", "known", "flat"),
    [
        # GL(4) acts freely on two layers of full rank: 16 of 40.
        ((5, 4, 5), None, 16, 16),
        ((3, 2, 3), None, 4, 4),
        ((3, 4, 3), None, None, None),
        ((4, 3, 3, 4), None, 18, 18),
        ((5, 4, 5), 2, None, None),
        ((2, 1, 2), 0, 0, 4),
    ],
)
def test_directions_of_linear_nets(widths, rank, known, flat):
    toy = linear_task(widths, rank=rank)
    counted = llc.count_directions(toy)
    # Brute force: the Jacobian in full, and every generator's move by finite differences.
    objective, _ = precise_objective(toy, False, Execution(None, "off"))
    jacobian = torch.cat(list(output_factors(objective)))
    assert counted.rank == int(torch.linalg.matrix_rank(jacobian))
    assert counted.flat == counted.dimension - counted.rank
    weights = toy.model.state_dict()
    moves = []
    for spec in toy.symmetries:
        n = spec.size(weights)
        for number in range(n * n):
            generator = torch.zeros(n * n, dtype=torch.float64)
            generator[number] = 1e-6
            matrix = torch.linalg.matrix_exp(generator.reshape(n, n))
            there = spec.apply(weights, matrix)
            moves.append(torch.cat([(there[k] - weights[k]).flatten() for k in weights]) / 1e-6)
    values = torch.linalg.svdvals(torch.stack(moves))
    assert counted.known == int((values > 1e-4 * max(float(values[0]), 1e-9)).sum())
    assert known is None or counted.known == known
    assert flat is None or counted.flat == flat
    assert counted.leak < 1e-12
    if rank is not None and rank > 0:
        # A singular point: flat directions that no gauge explains.
        assert counted.flat > counted.known
        assert "are of no symmetry declared" in str(counted)


def test_the_sketch_has_the_singular_values_of_the_jacobian():
    toy = task(nn.Tanh())
    objective, _ = precise_objective(toy, False, Execution(None, "off"))
    sketch = outputs_sketch(objective)
    jacobian = torch.cat(list(output_factors(objective)))  # mse: 2/outputs of the identity
    assert int(torch.linalg.matrix_rank(sketch)) == int(torch.linalg.matrix_rank(jacobian))
    # Its expected Gram matrix is JᵀJ: rows in the same space.
    rest = sketch - sketch @ torch.linalg.pinv(jacobian) @ jacobian
    assert float(rest.abs().max()) < 1e-10 * float(sketch.abs().max())
    with pytest.raises(llc.InputError, match="no outputs"):
        outputs_sketch(
            precise_objective(
                llc.Task(toy.model, potential=lambda m: m[0].weight.square().sum()), False,
                Execution(None, "off"),
            )[0]
        )  # fmt: skip


def test_a_false_declaration_leaks_out_of_the_null_space():
    counted = llc.count_directions(task(nn.GELU()), [Units(HIDDEN, ["2.weight"], "relu")])
    assert counted.leak > 1e-3
    assert "one of them is none" in str(counted)


def test_frozen_weights_have_no_directions():
    toy = task(nn.ReLU())
    toy.model[2].weight.requires_grad_(False)
    counted = llc.count_directions(toy)
    assert (counted.known, counted.dropped) == (0, 4)
    assert counted.dimension == 4 * 3 + 4 + 2
    assert "not sampled" in str(counted)


def test_large_models_are_counted_without_a_rank():
    counted = llc.count_directions(task(nn.ReLU()), most=10)
    assert (counted.known, counted.rank, counted.flat) == (4, None, None)
    assert "was not measured" in str(counted)


def test_built_in_tasks_know_their_symmetries():
    net = linear_net.task((4, 3, 4))
    check = check_symmetries(net, sample=False)
    assert check.passed
    assert [row.part for row in check.rows] == ["rotation", "gauge"]
    # Six features in a plane: a rotation, and features that change places with their data.
    toy = superposition.task()
    weights = {"w": torch.randn(2, 6, generator=torch.Generator().manual_seed(0)),
               "b": torch.full((6,), 0.1)}  # fmt: skip
    check = check_symmetries(toy.at(weights), sample=False)
    assert check.passed, str(check)
    assert [(row.symmetry, row.part) for row in check.rows] == [
        ("hidden plane", "rotation"),
        ("features", "permutation"),
    ]
    assert check.directions is not None
    assert check.directions.known == 1
    assert llc.Task(net.model, net.data, "mse").symmetries is None
    assert toy.at(weights).symmetries == toy.symmetries


def test_saved_and_loaded(tmp_path):
    broken = Units(HIDDEN, ["2.weight"], "odd")
    good = Units(HIDDEN, ["2.weight"], "relu")
    for sample in (True, False):
        check = check_symmetries(
            task(nn.ReLU()), [good, broken], settings=QUICK, sample=sample, most=50 * sample
        )
        path = check.save(tmp_path / "check.json")
        json.loads(path.read_text(), parse_constant=pytest.fail)
        again = SymmetryCheck.load(path)
        assert str(again) == str(check)
        assert again.to_dict() == check.to_dict()
        assert isinstance(again.directions, Directions)
        assert all(isinstance(row, Invariance) for row in again.rows)
    assert "not a saved check" in refusal(lambda: SymmetryCheck.load(tmp_path / "no.json"))
    (tmp_path / "other.json").write_text('{"rows": 3}')
    assert "not a saved check" in refusal(lambda: SymmetryCheck.load(tmp_path / "other.json"))


def test_the_same_call_gives_the_same_check_and_touches_nothing():
    toy = task(nn.ReLU())
    toy.model.train()
    copies = {name: w.clone() for name, w in toy.model.state_dict().items()}
    state = torch.random.get_rng_state()
    first, second = (check_symmetries(toy, settings=QUICK, count=False) for _ in range(2))
    assert [row.llc for row in first.rows] == [row.llc for row in second.rows]
    assert toy.model.training
    assert all(torch.equal(copies[k], w) for k, w in toy.model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    other = check_symmetries(toy, settings=QUICK, count=False, seed=1)
    assert [row.llc for row in first.rows] != [row.llc for row in other.rows]


def test_a_potential_has_a_loss_and_no_outputs():
    model = LinearNet([torch.eye(2), torch.eye(2)])

    def potential(m):
        return (m.product() - torch.eye(2).to(m.layers[0])).square().sum()

    symmetries = [Units(["layers.0"], ["layers.1"], "linear")]
    toy = llc.Task(model, potential=potential, symmetries=symmetries)
    check = check_symmetries(toy, sample=False)
    assert check.passed
    assert all(math.isnan(row.outputs_change) for row in check.rows)
    assert check.directions is not None
    assert (check.directions.known, check.directions.rank) == (4, None)


@pytest.mark.parametrize("strength", [0, -1, True, 30.0])
def test_strengths_out_of_range_are_refused(strength):
    words = refusal(lambda: check_symmetries(task(nn.ReLU()), strength=strength))
    assert "between 0 and 20" in words


def test_tasks_refuse_what_is_no_symmetry():
    data = task(nn.ReLU()).data
    assert "holds a str" in refusal(lambda: llc.Task(nn.Linear(3, 2), data, "mse", symmetries="x"))


COMMAND = '''
import torch
import llc
from llc.symmetry import Units

def task(kind="relu"):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GELU(), torch.nn.Linear(4, 2))
    x = torch.randn(60, 3)
    symmetries = [Units(["0.weight", "0.bias"], ["2.weight"], kind)]
    return llc.Task(model, (x, torch.zeros(60, 2)), "mse", name="mine", symmetries=symmetries)

def good():
    return task("any")
'''  # fmt: skip


def test_from_the_command_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "sym_task.py").write_text(COMMAND)
    monkeypatch.chdir(tmp_path)
    torch.save(task(nn.GELU()).model.state_dict(), "step_1.pt")
    fast = ["--gamma", "10", "--chains", "2", "--draws", "60", "--burn-in", "40", "--behavioural"]
    arguments = ["symmetries", "step_1.pt", "--task", "sym_task.py:good", *fast]
    assert main([*arguments, "--strict"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "permutation" in out
    assert "24" in out
    assert main([*arguments, "--json", "--no-count"]) == 0
    record = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert record["checkpoint"] == "step_1.pt"
    assert record["rows"][0]["mcse"] > 0
    assert record["passed"] is True
    broken = ["symmetries", "step_1.pt", "--task", "sym_task.py:task", "--no-llc", "--no-count"]
    assert main(broken) == 0
    assert "no symmetry of this model as declared" in capsys.readouterr().out
    assert main([*broken, "--strict"]) == 1
    capsys.readouterr()
    assert main([*broken, "--strength", "0"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "strength is 0" in err
