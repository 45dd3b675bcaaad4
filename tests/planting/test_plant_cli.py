"""``rlct plant`` and ``rlct mix``: from checkpoints to table, figure and exit code."""

import csv
import json

import pytest
import torch
from tiny import linear

import llc
from llc.cli.main import main
from llc.planting import interpolants

TASK = """
import torch
import llc
from torch import nn

def task():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(30, 3, generator=generator)
    model = nn.Sequential(nn.Linear(3, 24), nn.GELU(), nn.Linear(24, 3))
    return llc.Task(model, (inputs, inputs.argmax(1)), "cross_entropy", name="largest")
"""
FAST = ["--gamma", "10", "--chains", "2", "--draws", "40", "--burn-in", "20", "--workers", "1"]
TRAIN = ["--steps", "50", "--most-steps", "4000", "--learning-rate", "0.02"]
PLANT = [
    "plant", "a.pt", "--task", "my_task.py:task", "--exceptions", "3", "0", "--out", "out",
    *FAST, *TRAIN,
]  # fmt: skip
MIX = ["mix", "a.pt", "b.pt", "--task", "my_task.py:task", "--out", "mixed", *FAST]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_task.py").write_text(TASK)
    with torch.random.fork_rng(devices=[]):
        for seed, name in enumerate(("a.pt", "b.pt")):
            torch.manual_seed(seed)
            layers = torch.nn.Linear(3, 24), torch.nn.GELU(), torch.nn.Linear(24, 3)
            torch.save(torch.nn.Sequential(*layers).state_dict(), name)
    torch.save(linear().state_dict(), "other.pt")
    return tmp_path


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_plant_prints_a_row_for_each_number_and_draws_it(folder, capsys):
    assert main(PLANT) == 0
    out, err = capsys.readouterr()
    assert err == ""
    table = rows(folder / "out" / "trajectory.csv")
    assert [(row["step"], row["planted"]) for row in table] == [("0", "0"), ("3", "3")]
    assert [float(row["examples_fitted"]) for row in table] == [1, 1]
    assert float(table[1]["train_accuracy"]) == pytest.approx(0.9)
    result = llc.Trajectory.load("out")
    assert result.settings.behavioural is True
    for point in result.points:
        line = next(line for line in out.splitlines() if line.split()[:1] == [str(point.step)])
        assert abs(float(line.split()[1]) - point.estimate.llc) <= point.estimate.mcse
    assert (folder / "out" / "figures" / "against.svg").exists()
    assert "planted exceptions" in (folder / "out/figures/against.caption.txt").read_text()


def test_plant_goes_on_with_more_and_refuses_another_recipe(folder, capsys):
    assert main(PLANT) == 0
    made = folder / "out" / "checkpoints" / "step_0000003.safetensors"
    before = made.stat().st_mtime_ns
    more = [*PLANT[:5], "5", *PLANT[5:]]
    assert main([*more, "--json"]) == 0
    out = capsys.readouterr().out
    record = json.loads(out[out.index("{") :], parse_constant=pytest.fail)
    assert [point["planted"] for point in record["points"]] == [0, 3, 5]
    assert [p["readings"].get("exceptions_fitted") for p in record["points"]] == [None, 1, 1]
    assert made.stat().st_mtime_ns == before
    assert main([*PLANT, "--weight-decay", "0.1"]) == 2
    assert "weight_decay 0.0 (now 0.1)" in capsys.readouterr().err


def test_mix_traces_what_lies_between(folder, capsys):
    assert main([*MIX, "--weights", "0", "0.5", "1"]) == 0
    assert "mixing weight" in capsys.readouterr().out
    table = rows(folder / "mixed" / "trajectory.csv")
    assert [row["mixing_weight"] for row in table] == ["0", "0.5", "1"]
    one, other = torch.load("a.pt"), torch.load("b.pt")
    half = llc.load_weights("mixed/checkpoints/step_0000500.safetensors")
    (expected,) = interpolants(one, other, [0.5])
    assert all(torch.equal(half[name], expected.weights[name]) for name in half)
    # The loss on the way is that of the mixture, on the task's own targets.
    model = torch.nn.Sequential(torch.nn.Linear(3, 24), torch.nn.GELU(), torch.nn.Linear(24, 3))
    model.load_state_dict(half)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(30, 3, generator=generator)
    loss = torch.nn.functional.cross_entropy(model(inputs), inputs.argmax(1)).item()
    assert float(table[1]["train_loss"]) == pytest.approx(loss, rel=1e-5)


def test_strict_is_an_exit_code(folder):
    # Chains that do not move have a virial of 0, which no verdict lets pass.
    stuck = [*MIX, "--weights", "0", "--step-size", "0", "--strict"]
    assert main(stuck) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*PLANT[:5], "99", *PLANT[6:]], "99 exceptions"),
        ([*PLANT, "--most-steps", "5"], "most_steps is 5"),
        ([*PLANT, "--learning-rate", "-1"], "learning_rate is -1"),
        ([*PLANT[:1], "other.pt", *PLANT[2:]], "do not fit"),
        ([*PLANT[:8], "a.pt", *PLANT[9:]], "--out a.pt is a file"),
        ([*MIX, "--weights", "2"], "from 0 to 1"),
        ([*MIX[:2], "other.pt", *MIX[3:]], "in one of the two"),
        ([*MIX[:1], *MIX[2:]], "see rlct mix --help"),
        ([*MIX, "--wieghts", "1"], "did you mean --weights?"),
    ],
)
def test_refused_in_one_line(folder, capsys, arguments, words):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert words in err
    assert len(err.splitlines()) == 1
    assert not list(folder.glob("*/checkpoints/step*"))
