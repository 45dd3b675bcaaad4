"""Pictures from the command line: a file with a Dataset and a net with batch norm."""

import json
import sys
from pathlib import Path

import pytest
from pictures import images, residual

import llc
from llc.checkpoints import save_checkpoint
from llc.cli.main import main

FILE = """
from pictures import Pictures, residual
from torch.utils.data import Subset

import llc


def task():
    return llc.Task(residual(1), Subset(Pictures(), range(200)), "cross_entropy")


def augmented():
    import torch

    noisy = Pictures(transform=lambda x: x + torch.rand(()))
    return llc.Task(residual(1), noisy, "cross_entropy")
"""
FLAGS = ["--gamma", "30", "--chains", "2", "--draws", "30", "--burn-in", "10",
         "--step-size", "0.01"]  # fmt: skip


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_pictures.py").write_text(FILE)
    before = set(sys.modules)
    yield save_checkpoint(tmp_path, 20, residual(20).state_dict(), {})
    for name in set(sys.modules) - before:
        if name == "my_pictures":
            del sys.modules[name]


def test_an_estimate_has_the_statistics_of_its_checkpoint(checkpoint, tmp_path, capsys):
    (path,) = Path(tmp_path).glob("step_*")
    assert main(["estimate", str(path), "--task", "my_pictures.py:task", "--json", *FLAGS]) == 0
    record = json.loads(capsys.readouterr().out)
    given = {"gamma": 30.0, "chains": 2, "draws": 30, "burn_in": 10, "step_size": 0.01}
    data = tuple(part[:200] for part in images())
    expected = llc.estimate(residual(20), data, "cross_entropy", **given)
    assert record["llc"] == expected.llc
    assert expected.llc != llc.estimate(residual(1), data, "cross_entropy", **given).llc


def test_augmentation_is_told_in_a_sentence(checkpoint, tmp_path, capsys):
    (path,) = Path(tmp_path).glob("step_*")
    assert main(["estimate", str(path), "--task", "my_pictures.py:augmented"]) == 2
    error = capsys.readouterr().err
    assert "random augmentation" in error
    assert "Traceback" not in error
