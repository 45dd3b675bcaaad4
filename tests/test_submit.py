"""``rlct trace --submit``: jobs of this machine as of a cluster, preempted, failed, taken up."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_trace_cli import FAST, TRACE, folder, refused, without_seconds
from tiny import rlct

from llc.cli.main import main
from llc.cli.submit import Jobs, Limits, Requeued
from llc.errors import InputError

__all__ = ["folder"]

HERE = ["--submit", "local", "--jobs", "2"]
LONG = [*TRACE[:8], *FAST[:4], "--draws", "8000", "--burn-in", "40"]


def finished(folder):
    return sorted(p.name for p in (folder / "out" / "estimates").glob("*.fingerprint"))


def wait_for(what, seconds=300):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def submit(*arguments, cwd):
    """Submit without waiting. Into files: the jobs of this machine inherit what is written to."""
    with (cwd / "told").open("w") as told:
        command = [sys.executable, "-m", "llc", *LONG, "--submit", "local", "--detach", *arguments]
        code = subprocess.run(command, cwd=cwd, stdout=told, stderr=told, check=False).returncode
    assert code == 0
    assert "the same command without --detach waits" in (cwd / "told").read_text()
    (job,) = json.loads((cwd / "out" / "jobs" / "jobs.json").read_text())["jobs"]
    return int(job)


def task_of(job):
    """The process that works, below the one of submitit that starts it again if need be."""
    children = Path(f"/proc/{job}/task/{job}/children")
    wait_for(children.read_text)
    (task,) = children.read_text().split()
    return int(task)


@pytest.fixture
def submitit():
    return pytest.importorskip("submitit", reason="the extra slurm is not installed")


def run_folder(folder):
    """What lies in a run folder but for the logs of its jobs."""
    return {k: v for k, v in without_seconds(folder).items() if not k.startswith("jobs")}


@pytest.mark.usefixtures("submitit")
def test_jobs_leave_the_same_run_folder_as_one_process(folder):
    alone = rlct(*TRACE, cwd=folder)
    assert alone.returncode == 0
    (folder / "out").rename(folder / "alone")
    done = rlct(*TRACE, *HERE, cwd=folder, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "out: 2 jobs submitted" in done.stderr
    assert "4 checkpoints, steps 10 … 40" in done.stdout
    assert "jobs waited for" in done.stdout
    assert run_folder(folder / "out") == run_folder(folder / "alone")
    assert not (folder / "out" / "jobs" / "jobs.json").exists()
    assert len(list((folder / "out" / "jobs").glob("*_result.pkl"))) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("submitit")
def test_a_preempted_job_goes_on_and_a_second_command_takes_the_jobs_up(folder):
    job = submit("--jobs", "1", cwd=folder)
    wait_for(lambda: finished(folder))
    first = (folder / "out" / "estimates" / "0000010.json").stat().st_mtime_ns
    # As SLURM says that a job is about to be stopped: to all that runs in it.
    os.kill(task_of(job), signal.SIGUSR2)
    done = rlct(*LONG, "--submit", "local", cwd=folder, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "1 jobs submitted before are taken up" in done.stderr
    assert len(finished(folder)) == 4
    log = (folder / "out" / "jobs" / f"{job}_0_log.err").read_text()
    assert "preempted" in log + (folder / "out" / "jobs" / f"{job}_0_log.out").read_text()
    # What was finished before was not done again.
    assert (folder / "out" / "estimates" / "0000010.json").stat().st_mtime_ns == first


@pytest.mark.usefixtures("submitit")
def test_what_a_job_says_of_bad_input_is_told(folder):
    wrong = [*TRACE[:3], "toy_task.py:nothing", *TRACE[4:]]
    done = rlct(*wrong, "--submit", "local", "--jobs", "1", cwd=folder, timeout=600)
    assert (done.returncode, done.stdout) == (2, "")
    assert "1 of 1 jobs failed" in done.stderr
    assert "nothing" in done.stderr
    assert "_log.err" in done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("submitit")
def test_a_job_that_was_killed_is_told(folder):
    job = submit("--jobs", "1", cwd=folder)
    task = task_of(job)
    os.kill(job, signal.SIGKILL)
    os.kill(task, signal.SIGKILL)
    done = rlct(*LONG, "--submit", "local", cwd=folder, timeout=600)
    assert done.returncode == 2
    assert "it ended without a result" in done.stderr


def test_a_call_that_is_requeued_is_made_where_it_was_submitted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    call = Requeued(lambda: seen.append(Path.cwd()))
    monkeypatch.chdir("/")
    assert call() == ""
    assert seen == [tmp_path]

    def wrong():
        raise InputError("one sentence")

    assert Requeued(wrong)() == "one sentence"


def test_limits_by_the_names_submitit_has_for_them():
    given = Limits("gpu", 90, 2, 8, (("account", "mine"), ("nodes", "1")))
    assert given.parameters("slurm") == {
        "slurm_job_name": "rlct",
        "slurm_time": 90,
        "slurm_ntasks_per_node": 1,
        "slurm_partition": "gpu",
        "slurm_gpus_per_node": 2,
        "slurm_cpus_per_task": 8,
        "slurm_account": "mine",
        "slurm_nodes": 1,
    }
    assert Limits(minutes=3).parameters("local") == {"timeout_min": 3, "gpus_per_node": 0}


def test_submit_says_what_it_cannot_use(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    for arguments, words in [
        (["--submit", "slurm"], ["submitit", "llc-toolkit[slurm]"]),
        (["--submit", "slurm", "--shard", "1/2"], ["--submit and --shard"]),
        (["--submit", "slurm", "--follow"], ["--submit and --follow"]),
        (["--submit", "slurm", "--scales"], ["--submit and --scales"]),
        (["--submit", "slurm", "--jobs", "0"], ["--jobs is 0"]),
        (["--submit", "slurm", "--time", "0"], ["--time is 0"]),
        (["--submit", "slurm", "--slurm", "account"], ["'account'", "name=value"]),
        (["--submit", "slurm", "--slurm", "time=3"], ["'time=3'", "--time"]),
        (["--submit", "slurm", "--data", "tokens.npy"], ["--data", "language model"]),
        (["--partition", "gpu"], ["--partition", "without --submit"]),
        (["--detach"], ["--detach", "without --submit"]),
    ]:
        message = refused(main([*TRACE, *arguments]), capsys)
        assert all(word in message for word in words), message
        assert not (folder / "out").exists()


@pytest.mark.usefixtures("submitit")
def test_a_failure_is_believed_only_of_a_job_that_has_left_the_queue(tmp_path, monkeypatch):
    found, alive = RuntimeError("scontrol requeue died with SIGTERM"), True
    result = tmp_path / "result.pkl"
    result.touch()
    paths = SimpleNamespace(result_pickle=result)
    jobs = Jobs(tmp_path, "local")
    jobs.jobs = [SimpleNamespace(job_id="5", paths=paths, exception=lambda: found)]
    monkeypatch.setattr(jobs, "_alive", lambda job: alive)
    assert not jobs.done()
    found = None
    assert jobs.done()
    found, alive = RuntimeError("of its own"), False
    wait_for(jobs.done)


@pytest.mark.usefixtures("submitit")
def test_a_machine_without_slurm_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="--submit slurm does not take the jobs"):
        Jobs(tmp_path / "jobs", "slurm").submit([print], Limits())
    with pytest.raises(InputError, match="no partitions"):
        Jobs(tmp_path / "jobs", "local").submit([print], Limits(partition="gpu"))
