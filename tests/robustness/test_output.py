"""What commands print and write stays what it is, whatever tasks, checkpoints and libraries add."""

import csv
import json
import math
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn

import llc
from llc.cli.main import main
from llc.errors import LONGEST, brief, some
from llc.trajectory.columns import kept_apart

QUICK = {"gamma": 1.0, "chains": 2, "draws": 8, "burn_in": 4, "step_size": 0.01}
FLAGS = ["--gamma", "1", "--chains", "2", "--draws", "8", "--burn-in", "4", "--step-size", "0.01"]
NOISY = """
import atexit, ctypes, os, subprocess, sys
import torch
import llc

print("at import")
atexit.register(print, "at exit")

def task():
    print("at the call")
    ctypes.CDLL(None).printf(b"from C\\n")
    os.write(1, b"to the descriptor\\n")
    sys.__stdout__.write("past sys.stdout\\n")
    subprocess.run([sys.executable, "-c", "print('from a process')"], check=True)
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=g)

    def loss(outputs, targets):
        print("in the loss")
        return (outputs - targets).square().mean(1)

    def spread(model):
        print("in a reading")
        return model(x).std()

    return llc.Task(torch.nn.Linear(3, 1, bias=False), (x, x.sum(1, keepdim=True)), loss,
                    readings={"spread": spread})
"""
SAID = ["at import", "at exit", "at the call", "from C", "to the descriptor", "past sys.stdout",
        "from a process", "in the loss"]  # fmt: skip
COMMANDS = {
    "estimate": ["estimate", "steps/step_1.pt", *FLAGS],
    "trace": ["trace", "steps", "--out", "run", "--workers", "2", *FLAGS],
    "calibrate": ["calibrate", "steps/step_1.pt", *FLAGS],
    "scale": ["scale", "steps/step_1.pt", "--gammas", "9,3", "--chains", "2", "--budget", "200"],
    "refine": ["refine", "steps", "--parts", "weight", "--out", "parts", "--workers", "1", *FLAGS],
    "basins": ["basins", "steps", "--out", "basins", "--points", "3"],
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with three checkpoints, to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "steps").mkdir()
    for step in range(1, 4):
        torch.save({"weight": torch.ones(1, 3) * step}, tmp_path / "steps" / f"step_{step}.pt")
    (tmp_path / "noisy.py").write_text(NOISY)
    yield tmp_path
    sys.modules.pop("noisy", None)


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_all_of_standard_output(here, command):
    line = [*COMMANDS[command], "--task", "noisy.py:task", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "llc", *line], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), dict)
    for said in SAID:
        assert said in done.stderr


def test_standard_output_is_given_back(here, capfd):
    line = [*COMMANDS["estimate"], "--task", "noisy.py:task"]
    assert main([*line, "--json"]) == 0
    sys.stdout.write("and after\n")
    said = capfd.readouterr()
    assert said.out.endswith("}\nand after\n")
    json.loads(said.out.removesuffix("and after\n"))
    # Without --json prints go where they went.
    sys.modules.pop("noisy", None)
    assert main(line) == 0
    assert "at the call" in capfd.readouterr().out


def test_a_refusal_leaves_standard_output_empty(here, capfd):
    line = [*COMMANDS["estimate"], "--task", "noisy.py:task", "--json", "--batch-size", "99"]
    assert main(line) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert "batch_size is 99" in said.err
    sys.stdout.write("still there\n")
    assert capfd.readouterr().out == "still there\n"


def linear():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    return llc.Task(nn.Linear(3, 1, bias=False), (x, x.sum(1, keepdim=True)), "mse")


SAVED = {"llc": 5.0, "mcse": 6.0, "verdict": 7.0, "gamma": 8.0, "seconds": 9.0, "reasons": 1.0,
         "step": 4.0, "n_eff": 2.0}  # fmt: skip


@pytest.mark.parametrize("kept", [False, True])
def test_saved_numbers_have_names_of_their_own(here, kept):
    for step in (1, 2):
        content = {"model": {"weight": torch.ones(1, 3)}, **SAVED, "val_loss": 3.0}
        torch.save(content, here / "steps" / f"step_{step}.pt")
    files = [here / "steps" / f"step_{step}.pt" for step in (1, 2)]
    result = llc.trace(linear(), files, out="run", **QUICK)
    if kept:
        result = llc.Trajectory.load("run")
        result.to_csv("run/trajectory.csv")
    with open("run/trajectory.csv", newline="") as file:
        header = next(csv.reader(file))
        rows = list(csv.DictReader(file, header))
    assert len(set(header)) == len(header)
    plain = llc.trace(linear(), [(k, {"weight": torch.ones(1, 3)}) for k in (1, 2)], **QUICK)
    for row, point in zip(rows, plain.points, strict=True):
        assert float(row["llc"]) == pytest.approx(point.estimate.llc, rel=1e-6)
        assert row["verdict"] == point.estimate.verdict.status
        for name in SAVED.keys() - {"step", "n_eff"}:
            assert float(row[f"saved_{name}"]) == SAVED[name]
        assert (float(row["val_loss"]), float(row["n_eff"])) == (3.0, 2.0)
    assert result.llc.tolist() == plain.llc.tolist()
    assert result.column("saved_llc").tolist() == [5.0, 5.0]
    assert result.column("seconds").tolist() != [9.0, 9.0]
    assert result.column("saved_gamma").tolist() == [8.0, 8.0]
    assert math.isnan(result.column("gamma")[0])
    assert "saved_verdict" in result.metadata_names


def test_what_is_measured_is_not_mixed_with_what_was_saved():
    given = [(1, {"weight": torch.ones(1, 3)}, {"n_eff": 77.0})]
    found = llc.trace(linear(), given, n_eff=True, **QUICK)
    assert found.column("saved_n_eff").tolist() == [77.0]
    assert found.column("n_eff")[0] < 3


def test_json_of_a_trace_has_the_same_names(here, capfd):
    torch.save({"model": {"weight": torch.ones(1, 3)}, "llc": 5.0}, here / "steps" / "step_1.pt")
    assert main([*COMMANDS["trace"], "--task", "noisy.py:task", "--json", "--workers", "1"]) == 0
    point = json.loads(capfd.readouterr().out)["points"][0]
    assert point["readings"]["saved_llc"] == 5.0
    assert "llc" not in point["readings"]
    assert point["llc"] != 5.0


@pytest.mark.parametrize("name", ["a,b", 'a "quoted" one', "größe ∂L", "two\nlines", "\udc80", ""])
def test_odd_names_are_columns_too(tmp_path, name):
    given = [(1, {"weight": torch.ones(1, 3)}, {name: 2.5, "plain": 1.0})]
    llc.trace(linear(), given, out=tmp_path, **QUICK)
    with (tmp_path / "trajectory.csv").open(newline="", encoding="utf-8") as file:
        text = file.read()
    assert len(text.splitlines()) == 2
    (row,) = csv.DictReader(text.splitlines())
    (column,) = set(kept_apart({name: 2.5}))
    assert (row[column], row["plain"]) == ("2.5", "1")
    assert llc.Trajectory.load(tmp_path).column(column).tolist() == [2.5]


def test_names_that_meet_stay_apart():
    assert kept_apart({"llc": 1.0, "saved_llc": 2.0}) == {"saved_saved_llc": 1.0, "saved_llc": 2.0}
    assert kept_apart({"a b": 1.0, "a\nb": 2.0}) == {"a b": 1.0, "saved_a b": 2.0}
    once = kept_apart({"mcse": 1.0, "x": 2.0})
    assert kept_apart(once) == once == {"saved_mcse": 1.0, "x": 2.0}


@pytest.mark.parametrize("readings", [{"llc": lambda m: 1.0}, {"sampled": linear().data}])
def test_readings_may_not_have_names_of_ours(readings):
    with pytest.raises(llc.InputError, match="as a number of every estimate is"):
        llc.trace(linear(), [(1, {"weight": torch.ones(1, 3)})], readings=readings, **QUICK)


class Empty(nn.Module):
    """A linear map beside parameters without numbers."""

    def __init__(self, sizes):
        super().__init__()
        self.line = nn.Linear(3, 1, bias=False)
        for number, size in enumerate(sizes):
            self.register_parameter(f"empty_{number}", nn.Parameter(torch.zeros(size)))

    def forward(self, x):
        return self.line(x) + sum(p.sum() for n, p in self.named_parameters() if "empty" in n)


@pytest.mark.parametrize("sizes", [[(0,)], [(0, 4), (3, 0)]])
def test_parameters_without_numbers_raise_no_warnings(sizes):
    model = Empty(sizes)
    nn.init.ones_(model.line.weight)
    x, y = linear().data
    settings = {"gamma": 1.0, "budget": 3000, "seed": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = llc.estimate(model, (x, y), "mse", **settings)
    assert abs(found.llc - 1.5) < 5 * found.mcse + 0.1
    assert found.dimension == 3


@pytest.mark.parametrize("inside", [False, True])
def test_scripts_raise_no_warnings_and_give_what_plain_modules_give(inside):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))
    plain[0].bias.requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(plain)
    model = nn.Sequential(script) if inside else script
    x = linear().data[0]
    data = (x, plain(x).detach())
    before = [p.clone() for p in script.parameters()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = llc.estimate(model, data, "mse", **QUICK)
    alone = llc.estimate(plain, data, "mse", **QUICK)
    assert found.dimension == alone.dimension == 9
    assert found.llc == pytest.approx(alone.llc, rel=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(before, script.parameters(), strict=True))
    assert [p.requires_grad for p in script.parameters()] == [True, False, True, True]


def test_messages_are_bounded_and_keep_their_end():
    long = llc.InputError(f"data give {'3 and 1 and ' * 400}things: give pairs of tensors instead")
    assert len(str(long)) <= LONGEST
    assert str(long).startswith("data give 3 and 1")
    assert str(long).endswith("give pairs of tensors instead")
    short = "one sentence: do this"
    assert str(llc.InputError(short)) == short
    assert brief("two\n  lines") == "two lines"
    assert len(brief("x" * 999)) == 200
    assert some("abcd") == "a, b, c, d"
    assert some("abcdefgh") == "a, b, c and 5 more"
    assert len(some(["x" * 999] * 999)) < 300


def test_what_a_task_says_at_length_is_shortened(here, capsys):
    (here / "long.py").write_text("def task():\n    raise ValueError('many words ' * 1000)\n")
    assert main(["estimate", "steps/step_1.pt", "--task", "long.py:task"]) == 2
    said = capsys.readouterr().err
    assert len(said) < 500
    assert len(said.splitlines()) == 1
    assert said.endswith("it is called without arguments and must return an llc.Task (--debug "
                         "shows the traceback)\n")  # fmt: skip


def test_a_checkpoint_with_many_names_is_told_in_short(here, capsys):
    many = {f"layers.{k}.weight": torch.ones(1) for k in range(2000)}
    torch.save(many, here / "steps" / "step_1.pt")
    (here / "plain.py").write_text(
        "import torch, llc\nx = torch.ones(9, 3)\n"
        "def task(): return llc.Task(torch.nn.Linear(3, 1), (x, x[:, :1]), 'mse')\n"
    )
    assert main(["estimate", "steps/step_1.pt", "--task", "plain.py:task"]) == 2
    assert len(capsys.readouterr().err) < 600
    torch.save({f"part {k}": {"w": torch.ones(1)} for k in range(900)}, here / "steps/step_2.pt")
    assert main(["estimate", "steps/step_2.pt", "--task", "plain.py:task"]) == 2
    assert len(capsys.readouterr().err) < 600
