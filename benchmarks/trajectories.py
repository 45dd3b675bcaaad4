"""Traces that are killed, long, large and shared: what they survive and what they cost.

Parts, each a command (python benchmarks/trajectories.py PART):

    kill      a trace with 2 workers is killed (SIGKILL to the command, as a scheduler does) at 50
              random moments and started again each time; the folder is then compared with that of
              a trace left alone, byte for byte. Excluded from the comparison: the value of
              "seconds" in estimates/STEP.json, which is wall time, and .lock, which is empty.
              Every second moment is drawn from all of the command's time, start and figures
              included; the others from the time in which estimates are finished, beginning with
              the first. Each run up to its kill has a folder of its own and has to finish once
              started again: 50 comparisons. With --chain all kills go to one folder, one after
              another, until it is finished.
    overhead  1,000 synthetic checkpoints of a linear model: seconds a checkpoint apart from
              sampling (wall time of the trace less the sum of Estimate.seconds), from an iterator
              and from files, first and second time; resident memory along the way.
    grokking  100 checkpoints x 4 chains of the p = 53 network, trained here unless --checkpoints
              names a folder, with --workers processes.
    workers   the same on a part of the checkpoints with one worker and with two, alternately.
    frozen    what freezing settings does on these checkpoints: gradients, verdicts, and the
              correlation of Monte-Carlo errors between neighbouring checkpoints.

Machine: 2 cores of an AMD EPYC, torch 2.13 CPU
Date: 2026-11-23
Result, with other programs on the machine (load 6 to 8 on two cores, which stretches wall times
three- to fivefold) but where it says quiet:

    overhead   iterator 32.2 ms a checkpoint beside the estimates (Estimate.seconds, set-up and
               recording of steps included), files 36.6, everything reused 5.1; resident memory
               495, 499, 500, 504 MB at 10, 25, 50, 100 % of 1,000 checkpoints (iterator). Before
               torch was made to forget the text of its graphs: 498, 506, 518, 538.
    frozen     --every 3 --seeds 6 on 21 checkpoints up to step 6,000, seven used: free 1,331
               gradients a checkpoint, 12 of 42 verdicts warn (the prior dominates), errors of
               neighbours correlate by .85; frozen 2,931 gradients, 12 of 42 warn, .83
    kill       --checkpoints-per-run 12: 50 kills between .01 and 10.8 s, with 0 to 12 checkpoints
               finished (15 times none, 35 times some): 50 restarts gave the same bytes, no process
               left behind
    grokking   quiet: 84 s for 100 checkpoints x 4 chains with 2 workers, 124,348 gradients, 79 ok
               and 21 warn
    workers    quiet, --every 1 --repeats 1: 100 checkpoints 1.90 times as fast with two workers as
               with one; --every 5 (20 checkpoints): 1.50, 1.43, 1.49, since starting takes seconds
"""

import argparse
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import llc
from llc.checkpoints import save_checkpoint
from llc.tasks import modular_addition

SECONDS = re.compile(rb'\n "seconds": [^\n]*')
TASK = """
import torch
import llc

def task():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 8, generator=generator)
    model = torch.nn.Linear(8, 4)
    targets = inputs[:, :4] + 0.1 * torch.randn(200, 4, generator=generator)
    return llc.Task(model, (inputs, targets), "mse", name="linear",
                    readings={"test": (inputs[:50], targets[:50])})
"""


def synthetic(count):
    """Yield (step, state dict) of a linear model that nears its target."""
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        noise = torch.randn(4, 8, generator=generator) * (1 - number / count)
        yield 10 * (number + 1), {"weight": torch.eye(4, 8) + 0.2 * noise, "bias": torch.zeros(4)}


def digest(folder):
    """Name of each file of a run folder → hash of what it holds, wall times left out."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_dir() or path.name == ".lock":
            continue
        content = path.read_bytes()
        if path.suffix == ".json" and path.parent.name == "estimates":
            content, count = SECONDS.subn(b"", content)
            assert count == 1, path
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def kill(arguments):
    work = Path(tempfile.mkdtemp(prefix="llc-kill-"))
    (work / "my_task.py").write_text(TASK)
    (work / "in").mkdir()
    for step, weights in synthetic(arguments.checkpoints_per_run):
        save_checkpoint(work / "in", step, weights, {})
    chance = random.Random(arguments.seed)

    def start(out):
        command = [
            sys.executable, "-m", "llc", "trace", work / "in", "--task", f"{work}/my_task.py:task",
            "--out", out, "--workers", "2", "--gamma", "10", "--chains", "2",
        ]  # fmt: skip
        return subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def finish(out):
        process = start(out)
        said, complained = process.communicate(timeout=300)
        assert process.returncode == 0, (process.returncode, said, complained)
        assert complained == "", complained

    def finished(out):
        return len(list((out / "estimates").glob("*.fingerprint")))

    began = time.perf_counter()
    finish(work / "whole")
    usual = time.perf_counter() - began
    want = digest(work / "whole")
    finish(work / "again")
    assert digest(work / "again") == want, "two traces left alone differ"
    at = sorted(p.stat().st_mtime for p in (work / "whole" / "estimates").glob("*.fingerprint"))
    busy = at[-1] - at[0]
    print(f"left alone: {usual:.1f} s, {busy:.1f} s of it from first estimate to last, "
          f"{len(want)} files", flush=True)  # fmt: skip
    moments, partial, same = [], [], 0
    out = work / "killed"
    for number in range(arguments.kills):
        begun = time.perf_counter()
        process = start(out)
        moment = chance.uniform(0, busy if number % 2 else usual)
        while number % 2 and process.poll() is None and not finished(out):
            time.sleep(0.001)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        moment = time.perf_counter() - begun
        process.communicate()
        moments.append(moment)
        partial.append(finished(out))
        if arguments.chain and partial[-1] < arguments.checkpoints_per_run:
            continue
        finish(out)
        got = digest(out)
        different = {name for name in {*got, *want} if got.get(name) != want.get(name)}
        same += not different
        print(f"{number}: killed at {moment:.2f} s with {partial[-1]} finished; "
              f"{'same' if not different else sorted(different)}", flush=True)  # fmt: skip
        shutil.rmtree(out)
    time.sleep(1)
    orphans = subprocess.run(
        ["pgrep", "-f", str(work)], capture_output=True, text=True, check=False
    )
    print(f"{arguments.kills} kills between {min(moments):.2f} and {max(moments):.2f} s, with "
          f"{sorted(set(partial))} finished; same bytes after a restart: {same}; "
          f"processes left behind: {len(orphans.stdout.split())}")  # fmt: skip
    shutil.rmtree(work)


def resident():
    """Resident memory of this process now, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def overhead(arguments):
    torch.set_num_threads(1)
    count = arguments.count
    work = Path(tempfile.mkdtemp(prefix="llc-long-"))
    (work / "my_task.py").write_text(TASK)
    sys.path.insert(0, str(work))
    import my_task

    task = my_task.task()
    for step, weights in synthetic(count):
        save_checkpoint(work / "in", step, weights, {})
    fast = {"gamma": 10.0, "chains": 2, "draws": 50, "burn_in": 50}
    llc.trace(task, synthetic(20), **fast)
    sources = {
        "iterator": lambda: synthetic(count), "files": lambda: work / "in", "again": None
    }  # fmt: skip
    for name, source in sources.items():
        if arguments.sources and name not in arguments.sources:
            continue
        seen, sampled = [], 0.0

        def look(_, estimate, seen=seen):
            nonlocal sampled
            sampled += estimate.seconds
            seen.append(resident())

        out = work / "out" / ("files" if source is None else name)
        began = time.perf_counter()
        result = llc.trace(
            task, source() if source else work / "in", out=out, progress=look, **fast
        )
        wall = time.perf_counter() - began
        sampled = 0.0 if source is None else sampled
        each = (wall - sampled) / count * 1e3
        marks = [f"{seen[k - 1]:.0f}" for k in (count // 10, count // 4, count // 2, count)]
        print(f"{name:<9} {len(result.points)} checkpoints in {wall:.0f} s, sampling {sampled:.0f} "
              f"s, {each:.1f} ms a checkpoint beside it; MB at 10, 25, 50, 100 %: "
              f"{', '.join(marks)}", flush=True)  # fmt: skip
    shutil.rmtree(work)


def trained(arguments, count):
    """Return a folder of about ``count`` checkpoints of the p = 53 network."""
    folder = Path(arguments.checkpoints or Path(tempfile.gettempdir()) / f"llc-p53-{count}")
    done = folder / "done"
    if arguments.checkpoints is None and not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        steps = 40_000
        at = [round(float(step)) for step in np.geomspace(10, steps, count // 2)]
        at += [round(float(step)) for step in np.linspace(steps / count, steps, count - len(at))]
        number = 0
        while len(set(at)) < count:  # where both grids meet
            number += 1
            at.append(steps * (2 * number - 1) // (2 * count))
        torch.set_num_threads(1)
        modular_addition.train(folder, steps=steps, save_at=sorted(set(at)), follow_change=False)
        done.write_text("")
    return folder


def command(folder, out, workers, more=()):
    began = time.perf_counter()
    said = subprocess.run(
        [sys.executable, "-m", "llc", "trace", str(folder), "--task", "modular-addition",
         "--out", str(out), "--workers", str(workers), "--gamma", "100", "--n-beta", "1123",
         "--behavioural", "--json", *more],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if said.returncode:
        sys.exit(said.stderr)
    return time.perf_counter() - began, json.loads(said.stdout)


def grokking(arguments):
    folder = trained(arguments, 100)
    out = Path(tempfile.mkdtemp(prefix="llc-grok-"))
    wall, record = command(folder, out, arguments.workers)
    points = record["points"]
    gradients = sum(point["gradient_evaluations"] for point in points)
    print(
        f"{len(points)} checkpoints x 4 chains, {arguments.workers} workers: {wall:.0f} s, "
        f"{gradients:,} gradients, verdicts {record['verdicts']}, load {os.getloadavg()[0]:.1f}"
    )
    shutil.rmtree(out)


def workers(arguments):
    folder = trained(arguments, 100)
    every = sorted(folder.glob("*.safetensors"))[:: arguments.every]
    ratios = []
    for _ in range(arguments.repeats):
        walls = []
        for count in (1, 2):
            part = Path(tempfile.mkdtemp(prefix="llc-part-"))
            for path in every:
                (part / path.name).symlink_to(path)
            # One thread each, as with two.
            os.environ["OMP_NUM_THREADS"] = "1"
            out = part / "out"
            walls.append(command(part, out, count)[0])
            shutil.rmtree(part)
        ratios.append(walls[0] / walls[1])
        print(f"{len(every)} checkpoints: 1 worker {walls[0]:.1f} s, 2 workers {walls[1]:.1f} s, "
              f"ratio {ratios[-1]:.2f}, load {os.getloadavg()[0]:.1f}", flush=True)  # fmt: skip
    print(f"median ratio {np.median(ratios):.2f}")


def frozen(arguments):
    folder = trained(arguments, 100)
    every = sorted(folder.glob("*.safetensors"))[:: arguments.every]
    torch.set_num_threads(1)
    task = modular_addition.task()
    for freeze in (False, True):
        runs = []
        for seed in range(arguments.seeds):
            result = llc.trace(
                task, every, freeze=freeze, gamma=100.0, n_beta=1123.0, behavioural=True, seed=seed
            )
            runs.append(result)
        verdicts = [p.estimate.verdict for run in runs for p in run.points]
        counts = {s: sum(v.status == s for v in verdicts) for s in ("ok", "warn", "fail")}
        reasons = sorted({reason.name for v in verdicts for reason in v.reasons})
        spent = [p.estimate.gradient_evaluations for run in runs for p in run.points]
        errors = np.array([run.llc for run in runs])
        errors = errors - errors.mean(0)
        same = [np.corrcoef(errors[:, k], errors[:, k + 1])[0, 1] for k in range(len(every) - 1)]
        relative = np.mean([run.mcse / run.llc for run in runs])
        print(f"{'frozen' if freeze else 'free':<7} {np.mean(spent):,.0f} gradients a checkpoint, "
              f"relative mcse {relative:.2%}, verdicts {counts} {reasons}, correlation of errors "
              f"of neighbours over {arguments.seeds} seeds {np.mean(same):+.2f}")  # fmt: skip
        if freeze:
            print(runs[0].settings)


PARTS = {
    "kill": kill, "overhead": overhead, "grokking": grokking, "workers": workers, "frozen": frozen
}  # fmt: skip

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--chain", action="store_true")
    parser.add_argument("--checkpoints-per-run", type=int, default=24)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--sources", nargs="*", help="of overhead: iterator, files, again")
    parser.add_argument("--checkpoints", help="folder of p = 53 checkpoints")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    PARTS[chosen.part](chosen)
