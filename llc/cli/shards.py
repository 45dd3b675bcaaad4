"""``rlct trace --submit``: the checkpoints of a run shared out among jobs of a cluster."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from llc.cli.choices import execution_of, settings_of
from llc.cli.submit import Jobs, Limits
from llc.cli.tasks import arguments_of
from llc.cli.tracing import traced
from llc.errors import InputError
from llc.trajectory.sources import as_items

if TYPE_CHECKING:
    from llc.cli.options import Trace

__all__ = ["refuse_limits", "submitted"]

TIME_OF_OURS = ("partition", "time", "gpus", "cpus_per_task")


def submitted(options: "Trace") -> bool:
    """Submit shards, or take up those under way, and wait; tell whether all are done.

    Raises:
        InputError: flags that exclude each other, no such cluster, or a job that failed.
    """
    assert options.submit is not None
    _check(options)
    places = options.checkpoints
    source = places[0] if len(places) == 1 else list(places)
    steps = [item.step for item in as_items(source, options.step_from)]
    jobs = Jobs(options.out / "jobs", options.submit)
    if jobs.recall():
        _say(options, f"{len(jobs.jobs)} jobs submitted before are taken up")
    else:
        count = min(options.jobs, len(steps))
        calls = [partial(_work, _part(options, i, count)) for i in range(1, count + 1)]
        jobs.submit(calls, _limits(options))
        _say(options, f"{count} jobs submitted: {', '.join(j.job_id for j in jobs.jobs)}")
    if options.detach and not jobs.done():
        _say(options, f"{_finished(options.out, steps)} of {len(steps)} checkpoints are finished; "
             "the same command without --detach waits for the rest")  # fmt: skip
        return False
    shown = sys.stderr.isatty()
    with tqdm(total=len(steps), desc="jobs", unit="checkpoint", disable=not shown) as bar:

        def look() -> None:
            bar.update(_finished(options.out, steps) - bar.n)

        jobs.wait(look)
    return True


def refuse_limits(options: "Trace") -> None:
    """Refuse what only jobs can have where no job is asked for.

    Raises:
        InputError: one of the flags is given.
    """
    given = {
        "--partition": options.partition, "--time": options.time, "--gpus": options.gpus,
        "--slurm": options.slurm, "--detach": options.detach or None,
    }  # fmt: skip
    for flag, value in given.items():
        if value is not None:
            raise InputError(
                f"{flag} is given without --submit: add --submit slurm, or drop {flag}"
            )


def _check(options: "Trace") -> None:
    for flag in ("shard", "follow", "scales"):
        if getattr(options, flag):
            why = {
                "shard": "the jobs are the shards",
                "follow": "jobs do not wait for checkpoints",
                "scales": "it computes here; give it once the jobs are done, without --submit",
            }[flag]
            raise InputError(f"--submit and --{flag} given, expected one of them: {why}")
    for name in ("jobs", "time", "gpus"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} is {value}, expected a whole number of at least 1")
    # What else can be wrong on the command line is told here, not by a job tomorrow.
    settings_of(options), execution_of(options), arguments_of(options), _limits(options)


def _limits(options: "Trace") -> Limits:
    more = []
    for text in options.slurm or ():
        name, equals, value = text.partition("=")
        name = name.replace("-", "_")
        if not equals or name in TIME_OF_OURS:
            raise InputError(
                f"--slurm holds {text!r}, expected name=value such as account=mine or qos=low, and "
                "not what has a flag of its own (--partition, --time, --gpus, --workers)"
            )
        more.append((name, value))
    return Limits(options.partition, options.time, options.gpus, options.workers, tuple(more))


def _part(options: "Trace", i: int, count: int) -> "Trace":
    """Options of one job: it is given its cores and GPUs, and counts on no others."""
    workers = options.workers or options.gpus or 1
    return replace(
        options, submit=None, detach=False, partition=None, time=None, gpus=None, slurm=None,
        shard=f"{i}/{count}", workers=workers, json=False,
    )  # fmt: skip


def _work(options: "Trace") -> None:
    traced(options)


def _finished(folder: Path, steps: list[int]) -> int:
    """Count checkpoints that are estimated or skipped."""
    known = set(steps)
    ends = (".fingerprint", ".skipped")
    paths = [p for p in (folder / "estimates").glob("[0-9]*") if p.suffix in ends]
    return len(known & {int(p.stem) for p in paths})


def _say(options: "Trace", text: str) -> None:
    print(f"{options.out}: {text}", file=sys.stderr)
