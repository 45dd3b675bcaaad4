"""Full disks, kills, interrupts, jumping clocks, two processes: no run is lost or corrupted."""

import errno
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import tally
import torch
from tiny import FAST, labelled, linear, run

import llc
from llc import files
from llc.cli.main import main
from llc.progress import Bar

TASK = """
import torch
import llc

def task():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=g)
    y = torch.randint(2, (40,), generator=g)
    return llc.Task(torch.nn.Linear(3, 2), (x, y), "cross_entropy", name="mine")
"""
QUICK = ["--gamma", "1", "--chains", "2", "--draws", "600", "--burn-in", "20"]
TRACE = ["trace", "steps", "--task", "cut_task.py:task", *QUICK, "--workers", "1"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "cut_task.py").write_text(TASK)
    (tmp_path / "steps").mkdir()
    for step in range(1, 9):
        torch.save(linear(step).state_dict(), tmp_path / "steps" / f"step_{step}.pt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("cut_task", None)


def task():
    return llc.Task(linear(), labelled(), "cross_entropy")


def content(folder):
    """What a trace found, byte for byte, but for the time that it took."""
    found = {}
    for path in sorted((folder / "estimates").glob("*.json")):
        values = json.loads(path.read_text())
        del values["seconds"]
        found[path.name] = values
    for path in sorted((folder / "estimates").glob("*.npz")):
        found[path.name] = path.read_bytes()
    return found


def started(*line):
    return subprocess.Popen(
        [sys.executable, "-m", "llc", *line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # What a shell starts in the background ignores interrupts, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def wait_for(path, count, process):
    """Until a run folder holds so many finished estimates, or its process has ended."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        if len(list(path.glob("estimates/*.fingerprint"))) >= count:
            return
        time.sleep(0.01)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_is_full_at_any_write(tmp_path, monkeypatch, code):
    """Each write fails in its turn; the same call then ends as a run undisturbed."""
    whole = llc.trace(task(), run(), out=tmp_path / "whole", **FAST)
    write, left = files.os.fsync, [0]

    def short(handle):
        left[0] -= 1
        if left[0] == 0:
            raise OSError(code, os.strerror(code))
        write(handle)

    monkeypatch.setattr(files.os, "fsync", short)
    number, failed = 0, 0
    out = tmp_path / "cut"
    while True:
        number += 1
        left[0] = number
        try:
            found = llc.trace(task(), run(), out=out, **FAST)
        except llc.InputError as error:
            failed += 1
            said = str(error)
        else:
            said = None
        if said is not None:
            assert os.strerror(code) in said
            assert not [p for p in out.rglob(".*") if p.name != ".lock"], "half a file is left"
            continue
        if left[0] > 0:
            break
    same = list(found.llc) == list(whole.llc) and content(out) == content(tmp_path / "whole")
    tally.count("writes", bad=not same)
    tally.TRIED["writes"] += failed - 1
    assert failed >= 3
    assert same


def test_output_onto_a_full_device(folder):
    torch.save(linear().state_dict(), "step_1.pt")
    for line in (["estimate", "step_1.pt", *TRACE[2:-2]], ["--version"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "llc", *line], stdout=full, stderr=subprocess.PIPE,
                text=True, timeout=120, check=False,
            )  # fmt: skip
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert "No space left" in done.stderr


@pytest.mark.parametrize("out", ["page.html", "settings.json"])
def test_results_that_cannot_be_written_are_told_in_a_sentence(folder, monkeypatch, out, capsys):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), out)

    torch.save(linear().state_dict(), "step_1.pt")
    monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    line = ["calibrate", "step_1.pt", *TRACE[2:-2], "--out", out]
    assert main(line) == 2
    said = capsys.readouterr().err
    assert out in said
    assert len(said.splitlines()) == 1


def test_killed_at_random_moments_it_loses_nothing(folder):
    with redirect_stdout(io.StringIO()):
        assert main([*TRACE, "--out", "whole"]) == 0
    generator, out, kills = random.Random(5), folder / "run", 0
    for _ in range(3):
        process = started(*TRACE, "--out", "run")
        wait_for(out, kills * 2 + 1, process)
        time.sleep(generator.random() * 0.1)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    with redirect_stdout(io.StringIO()):
        assert main([*TRACE, "--out", "run"]) == 0
    same = content(out) == content(folder / "whole")
    tally.TRIED["kills"] += kills
    tally.BAD["kills"] += not same
    assert kills >= 1
    assert same
    assert not [p for p in out.rglob(".*") if p.name != ".lock"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_interrupted_it_says_how_to_go_on(folder, workers):
    # Long enough that a quick machine is not done first.
    longer = ["2400" if word == "600" else word for word in TRACE[:-1]]
    line = [*longer, workers, "--out", "run"]
    process = started(*line)
    wait_for(folder / "run", 1, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: workers hear it too
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command goes on" in err
    assert "Traceback" not in err
    kept = len(list((folder / "run").glob("estimates/*.fingerprint")))
    assert kept >= 1
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        assert main([*longer, "1", "--out", "run"]) == 0
    assert len(content(folder / "run")) == 16


def test_two_at_once_leave_one_whole_run(folder):
    with redirect_stdout(io.StringIO()):
        assert main([*TRACE, "--out", "whole"]) == 0
    both = [started(*TRACE, "--out", "run") for _ in range(2)]
    said = [process.communicate(timeout=200) for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 2], [0, 0]), said  # the second may have come when the first was done
    for (_, err), process in zip(said, both, strict=True):
        if process.returncode == 2:
            assert "being written by another" in err
    assert content(folder / "run") == content(folder / "whole")


def test_a_clock_that_jumps_changes_nothing(monkeypatch, capsys):
    """Time is measured by clocks that only go forward; the wall's may go anywhere."""
    steady = llc.estimate(task(), **FAST)
    moments = iter(lambda: random.choice((0.0, -1e9, 1e12, 1.7e9)), None)
    monkeypatch.setattr(time, "time", lambda: next(moments))
    monkeypatch.setattr(time, "time_ns", lambda: int(next(moments)))
    found = llc.estimate(task(), seconds=100.0, progress=True, **FAST)
    with Bar("jumping") as report:
        for done in range(20):
            report("x", done, 20)
    capsys.readouterr()
    assert found.trace.tobytes() == steady.trace.tobytes()
    assert 0 <= found.seconds < 100


def test_no_result_reads_the_clock_on_the_wall():
    from pathlib import Path

    for path in Path(llc.__file__).parent.rglob("*.py"):
        text = path.read_text()
        assert "time.time(" not in text, path
        assert "datetime.now(" not in text, path


def test_the_same_seed_gives_the_same_bytes_in_another_process(folder):
    torch.save(linear().state_dict(), "step_1.pt")
    line = ["estimate", "step_1.pt", *TRACE[2:-2], "--json", "--batch-size", "16", "--seed", "3"]
    found = []
    for hashing in ("0", "17"):
        done = subprocess.run(
            [sys.executable, "-m", "llc", *line], capture_output=True, text=True, timeout=120,
            check=True, env={**os.environ, "PYTHONHASHSEED": hashing},
        )  # fmt: skip
        found.append({k: v for k, v in json.loads(done.stdout).items() if k != "seconds"})
    with redirect_stdout(io.StringIO()) as out:
        assert main(line) == 0
    found.append({k: v for k, v in json.loads(out.getvalue()).items() if k != "seconds"})
    assert found[0] == found[1] == found[2]


def memory():
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def grows_by(steps):
    """Bytes that a run of so many steps leaves, over what its own draws take."""
    import gc

    fixed = {"gamma": 10.0, "chains": 1, "burn_in": 10, "step_size": 0.01}
    llc.estimate(task(), draws=2000, **fixed)
    gc.collect()
    before, found = memory(), llc.estimate(task(), draws=steps, **fixed)
    gc.collect()
    held = found.trace.nbytes + found.virial_trace.nbytes + found.burn_in_trace.nbytes
    return memory() - before - held


def grows_alone_by(steps):
    """The same in a process of its own: in this one, other tests left holes in the heap."""
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path]
    code = f"import sys; sys.path[:] = {paths!r}\n"
    code += f"import test_interrupted; print(test_interrupted.grows_by({steps}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_memory_stays_flat():
    # Draws are kept, seven numbers each while they are looked at; nothing else may grow.
    assert grows_alone_by(20_000) < 20_000 * 7 * 8 * 3 + 30 * 2**20


@pytest.mark.slow
def test_memory_stays_flat_over_a_million_steps():
    assert grows_alone_by(1_000_000) < 1_000_000 * 7 * 8 * 3 + 30 * 2**20
