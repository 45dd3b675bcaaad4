"""``rlct basins`` as a user types it: run folders, task and checkpoints remembered, mistakes."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from tiny import run

import llc
from llc.checkpoints import save_checkpoint
from llc.cli.commands import recall, remember
from llc.cli.main import main

TASK = """
import torch
import llc

generator = torch.Generator().manual_seed(0)
inputs = torch.randn(40, 3, generator=generator)
targets = inputs[:, :2]

def task():
    return llc.Task(torch.nn.Linear(3, 2), (inputs, targets), "mse", name="toy",
                    readings={"test": (inputs[:9] + 1, targets[:9]), "norm": norm})

def norm(model):
    return model.weight.norm()
"""
FAST = ["--points", "5", "--count", "3"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "basin_task.py").write_text(TASK)
    for step, weights in run():
        save_checkpoint(tmp_path / "in", step, weights, {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("basin_task", None)


def refused(arguments, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1), err
    return err


def test_a_folder_of_checkpoints(folder, capsys):
    arguments = ["basins", "in", "--task", "basin_task.py:task", "--out", "out", *FAST]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for words in ("toy: 3 checkpoints, steps 10 … 40", "no barrier to the last", "basins.csv"):
        assert words in out, out
    files = {path.relative_to("out").as_posix() for path in Path("out").rglob("*.*")}
    assert {"basins.json", "basins.csv", "figures/basins.pdf", "figures/barriers.svg"} <= files
    assert main([*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert record["steps"] == [10, 30, 40]
    assert record == llc.Basins.load("out").to_dict()
    assert main([*arguments, "--steps", "10", "20", "--no-align", "--curves", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["steps"] == [10, 20]
    assert record["barrier_aligned"] is None
    assert record["barrier_curve"] is not None


def test_a_run_folder_knows_its_task_and_checkpoints(folder, capsys, monkeypatch):
    trace = ["trace", "in", "--task", "basin_task.py:task", "--out", "out", "--workers", "1",
             "--gamma", "10", "--chains", "2", "--draws", "30", "--burn-in", "20"]  # fmt: skip
    assert main(trace) == 0
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    capsys.readouterr()
    assert main(["basins", "../out", *FAST, "--json"]) == 0
    own = json.loads(capsys.readouterr().out)
    assert own["steps"] == [10, 30, 40]
    assert main(["basins", "../out", *FAST, "--json", "--data", "test"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] != own["loss"]
    assert "--data is 'norm', expected a data set among the task's readings: test" in refused(
        ["basins", "../out", "--data", "norm"], capsys
    )
    # Moved together, what lies in the run folder does; gone, they are missed.
    shutil.move("../in", "../out/checkpoints")
    assert main(["basins", "../out", *FAST, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == own
    shutil.rmtree("../out/checkpoints")
    assert "not to be found" in refused(["basins", "../out"], capsys)


def test_a_demo_is_remembered_with_its_arguments(tmp_path):
    given = {"prime": 7, "seed": 3, "random_labels": True}
    remember(tmp_path, "modular-addition", [tmp_path / "checkpoints"], given)
    known = recall(tmp_path)
    assert known.task == "modular-addition"
    assert known.arguments == given
    assert known.checkpoints == (str(tmp_path / "checkpoints"),)
    (tmp_path / "command.json").write_text("[")
    assert recall(tmp_path) is None


def test_a_demos_run_needs_nothing_more(tmp_path, capsys):
    from llc.tasks import superposition

    given = {"seed": 2}
    superposition.train(
        tmp_path / "checkpoints", features=superposition.FEATURES, steps=20, seed=2,
        save_at=[5, 10, 20],
    )  # fmt: skip
    remember(tmp_path, "superposition", [tmp_path / "checkpoints"], given)
    assert main(["basins", str(tmp_path), "--points", "3"]) == 0
    assert "3 checkpoints, steps 5 … 20" in capsys.readouterr().out


def test_mistakes_are_told_in_one_line(folder, capsys):
    assert "give it as --task" in refused(["basins", "in"], capsys)
    assert "say as --out" in refused(["basins", "in/*", "--task", "basin_task.py:task"], capsys)
    task = ["--task", "basin_task.py:task"]
    assert "nearest is 40" in refused(["basins", "in", *task, "--steps", "10", "99"], capsys)
    assert "no layer" in refused(["basins", "in", *task, "--layers", "first"], capsys)
    assert "points is 1" in refused(["basins", "in", *task, "--points", "1"], capsys)
    assert "is a file" in refused(["basins", "in", *task, "--out", "basin_task.py"], capsys)
    assert "did you mean --curves" in refused(["basins", "in", "--curve"], capsys)
