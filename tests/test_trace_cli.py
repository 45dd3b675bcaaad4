"""``rlct trace`` as a user types it: words, figures, exit codes, and a kill in the middle."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from test_trajectory import contents
from tiny import complaints, rlct, run

from llc.checkpoints import save_checkpoint
from llc.cli.main import main

TASK = '''
import torch
import llc

generator = torch.Generator().manual_seed(0)
inputs = torch.randn(40, 3, generator=generator)
targets = inputs[:, :2] + 0.1 * torch.randn(40, 2, generator=generator)

def task():
    # A function without a name can be sent nowhere; every process makes its own.
    loss = lambda outputs, targets: ((outputs - targets) ** 2).mean(1)
    return llc.Task(torch.nn.Linear(3, 2), (inputs, targets), loss, name="toy",
                    readings={"test": (inputs[:9], targets[:9])})

def other():
    return llc.Task(torch.nn.Linear(3, 2), (inputs, targets), "mse", name="toy")
'''  # fmt: skip
FAST = ["--gamma", "10", "--chains", "2", "--draws", "60", "--burn-in", "40"]
TRACE = ["trace", "in", "--task", "toy_task.py:task", "--out", "out", "--workers", "1", *FAST]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's folder: a task file and four checkpoints."""
    (tmp_path / "toy_task.py").write_text(TASK)
    for step, weights in run():
        save_checkpoint(tmp_path / "in", step, weights, {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("toy_task", None)


def refused(code, capsys):
    out, err = capsys.readouterr()
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert err.startswith("rlct: ")
    return err


def without_seconds(folder):
    """Every file's bytes; of estimates all but the wall time."""
    found = {}
    for name, (content, _) in contents(folder).items():
        estimate = name.endswith(".json") and name.startswith("estimates")
        found[name] = re.sub(rb'"seconds": .*', b"", content) if estimate else content
    return found


def children(process):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == process:
            found.append(int(path.parent.name))
    return found


def test_from_a_folder_of_checkpoints_to_words_table_and_figure(folder, capsys):
    torch.save({"weight": torch.zeros(5)}, folder / "in" / "step_50.pt")
    assert main(TRACE) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in (
        "toy: 4 checkpoints, steps 10 … 40, 8 parameters", "gamma        10", "LLC  ", "null  ",
        "verdicts  ", "skipped   1", "step 50: the checkpoint's tensors do not fit",
        str(Path("out") / "trajectory.csv"), "trajectory.pdf",
    ):  # fmt: skip
        assert word in out, out
    assert (folder / "out" / "figures" / "trajectory.pdf").read_bytes().startswith(b"%PDF")
    header = (folder / "out" / "trajectory.csv").read_text().splitlines()[0]
    assert header.endswith("verdict,reasons,train_loss,test_loss,weight_norm")
    before = contents(folder / "out")
    assert main([*TRACE, "--json"]) == 0
    record = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert [point["step"] for point in record["points"]] == [10, 20, 30, 40]
    assert list(record["skipped"]) == ["50"]
    assert sum(record["verdicts"].values()) == 4
    assert record["points"][0]["readings"]["test_loss"] > 0
    estimates = [name for name in before if name.endswith((".json", ".npz", ".fingerprint"))]
    after = contents(folder / "out")
    assert [name for name in estimates if after[name] != before[name]] == []
    assert main([*TRACE, "--strict"]) == 1


def test_killed_with_two_workers_it_goes_on_to_the_same_bytes(folder):
    for step, weights in run(8):
        save_checkpoint(folder / "in", step, weights, {})
    arguments = [*TRACE[:6], "--workers", "2", "--gamma", "10", "--draws", "300"]
    whole = rlct(*[*arguments[:5], "whole", *arguments[6:]], cwd=folder, timeout=600)
    assert (whole.returncode, complaints(whole.stderr)) == (0, [])
    process = subprocess.Popen(
        [sys.executable, "-m", "llc", *arguments], cwd=folder, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    finished = (folder / "out" / "estimates").glob
    while not list(finished("*.fingerprint")) and time.monotonic() < deadline:
        time.sleep(0.01)
    helpers = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    assert 1 <= len(list(finished("*.fingerprint"))) < 8
    assert helpers
    while any(Path(f"/proc/{pid}").exists() for pid in helpers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in helpers)
    again = rlct(*arguments, cwd=folder, timeout=600)
    assert (again.returncode, complaints(again.stderr)) == (0, [])
    assert without_seconds(folder / "out") == without_seconds(folder / "whole")


def test_shards_from_the_command_line(folder, capsys):
    assert main([*TRACE, "--shard", "1/2"]) == 0
    assert "2 checkpoints, steps 10 … 30" in capsys.readouterr().out
    assert main([*TRACE, "--shard", "2/2"]) == 0
    assert "4 checkpoints, steps 10 … 40" in capsys.readouterr().out


def test_follow_from_the_command_line(folder, capsys):
    assert main([*TRACE, "--follow", "--follow-for", "0.5"]) == 0
    assert "4 checkpoints" in capsys.readouterr().out


def test_bad_input_is_one_sentence_and_changes_nothing(folder, capsys):
    assert main(TRACE) == 0
    capsys.readouterr()
    before = contents(folder)
    (folder / "empty").mkdir()
    start, rest = TRACE[:1], TRACE[2:]
    with_task = [*TRACE[:3], "toy_task.py:other", *TRACE[4:]]
    for arguments, words in [
        ([*start, "empty", *rest], ["empty holds no checkpoint"]),
        ([*start, "nowhere", *rest], ["nowhere does not exist"]),
        ([*start, "in/*.pt", *rest], ["no file fits in/*.pt"]),
        ([*TRACE, "--gamma", "11"], ["out holds a trace made otherwise", "gamma 10 (now 11)"]),
        ([*TRACE, "--behavioural", "--seed", "3"], ["behavioural False (now True)", "seed 0"]),
        (with_task, ["another loss"]),
        ([*TRACE, "--shard", "3/2"], ["3/2"]),
        ([*TRACE, "--shard", "half"], ["'half'", "1/2"]),
        ([*TRACE, "--workers", "0"], ["workers is 0"]),
        ([*TRACE, "--stack", "2"], ["step_size"]),
        ([*TRACE, "--follow-for", "2"], ["without follow"]),
        ([*start, "in", "in", *rest, "--follow"], ["--follow", "quotes"]),
        ([*start, "in", "in", *rest], ["both step 10"]),
        ([*TRACE, "--freze"], ["--freeze"]),
        (["trace", "in", "--task", "toy_task.py:task"], ["--out"]),
        ([*TRACE, "--settings", "a", "--preset", "b"], ["--settings", "--preset"]),
    ]:
        message = refused(main(arguments), capsys)
        assert all(word in message for word in words), message
        assert contents(folder) == before, arguments
