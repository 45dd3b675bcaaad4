"""One call of `llc.trace` as the flags of ``rlct trace`` say; in this process, or in a job."""

import os
import re
from functools import partial
from typing import TYPE_CHECKING

import torch

from llc.cli.choices import execution_of, settings_of
from llc.cli.drawing import Drawing
from llc.cli.tasks import arguments_of, load_task
from llc.errors import InputError
from llc.trajectory import Trajectory, trace
from llc.trajectory.sameness import Blueprint

if TYPE_CHECKING:
    from llc.cli.options import Refine, Trace, Variants

__all__ = ["blueprint_of", "shard_of", "traced", "workers_of"]

MOST_WORKERS = 8


def blueprint_of(options: "Trace | Variants") -> Blueprint:
    """Return what builds the task of a command, once in each process."""
    return Blueprint(partial(load_task, options.task, arguments_of(options)))


def traced(options: "Trace", blueprint: Blueprint | None = None) -> Trajectory:
    """Trace in this process."""
    places = options.checkpoints
    return trace(
        blueprint or blueprint_of(options),
        places[0] if len(places) == 1 else list(places),
        out=options.out,
        settings=settings_of(options),
        freeze=options.freeze,
        n_eff=options.n_eff,
        step_from=options.step_from,
        workers=workers_of(options),
        shard=shard_of(options.shard),
        stack=options.stack,
        follow=options.follow,
        follow_for=options.follow_for,
        execution=execution_of(options),
        entry=options.entry,
        drop=options.drop,
        # Of a shard the folder, and with it the figure, is shared.
        progress=Drawing(options.out) if options.shard is None else True,
    )


def shard_of(text: str | None) -> tuple[int, int] | None:
    """Read ``i/N``."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if found is None:
        raise InputError(f"--shard is {text!r}, expected i/N with i from 1 to N, such as 1/2")
    return int(found.group(1)), int(found.group(2))


def workers_of(options: "Trace | Refine | Variants") -> int:
    """Return the number of processes: as asked, one a core on a CPU, or one a GPU.

    Raises:
        InputError: fewer than one is asked for.
    """
    if options.workers is not None and options.workers < 1:
        raise InputError(f"--workers is {options.workers}, expected a whole number of at least 1")
    if options.workers is not None:
        return options.workers
    if options.device == "cuda":
        return max(torch.cuda.device_count(), 1)
    if str(options.device or "cpu") != "cpu" or torch.cuda.is_available():
        return 1
    return min(MOST_WORKERS, os.cpu_count() or 1)
