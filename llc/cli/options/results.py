"""Flags of the commands that start from a run folder, or from nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from llc.cli.options.sampling import Flag, OptionalInt, OptionalPath, OptionalPlace, Sampler

__all__ = ["Demo", "Doctor", "Export", "Plot", "Report", "Transitions", "Validate"]


@dataclass(frozen=True)
class Plot:
    """Draw a figure of a run folder: PDF, SVG, PNG and the caption as text.

    The trajectory shows transitions, learning curves and the prior-only null as far as they are
    known.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder, as rlct trace or a demo wrote it."""
    figure: Literal[
        "trajectory", "portrait", "dimension", "scales", "chains", "runs", "against"
    ] = "trajectory"
    """What to draw: trajectory, the LLC over training; portrait, against the loss; dimension,
    beside N_eff (rlct trace --n-eff); scales, by gamma (--scales); chains, draws of one checkpoint;
    runs, several runs; against, any number saved with the checkpoints (--x)."""
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", aliases=["-o"], help_behavior_hint="")
    ] = None
    """File; its ending says which kind, without one all three are written; RUN/figures/NAME if left
    out."""
    control: Annotated[
        tuple[Path, ...], tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="")
    ] = ()
    """Other runs, drawn beside this one."""
    step: OptionalInt = None
    """Checkpoint of --figure chains; the last if left out."""
    x: Annotated[str, tyro.conf.arg(metavar="NAME")] = "planted"
    """Number of --figure against: planted, mixing_weight, or a column of trajectory.csv."""
    debug: Flag = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class Export:
    """Write a run for other programs: draws, controls and numbers of every checkpoint.

    netcdf and zarr hold an xarray DataTree as ArviZ reads it, csv one row a checkpoint, devinterp a
    Zarr folder a checkpoint that devinterp 2 reads as its own.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder, as rlct trace or a demo wrote it."""
    format: Literal["netcdf", "zarr", "csv", "devinterp"]
    """What to write; netcdf takes h5netcdf, of the extra arviz."""
    out: OptionalPlace = None
    """File or folder; in RUN/export if left out. An older one is replaced."""
    debug: Flag = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class Report:
    """Write a run as one HTML page: figures, transitions, checkpoints, verdicts, settings.

    It holds everything itself, reads without a network, and runs no script.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder, as rlct trace or a demo wrote it."""
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="FILE", aliases=["-o"], help_behavior_hint="")
    ] = None
    """The page; RUN/report.html if left out."""
    control: OptionalPath = None
    """Another run, drawn beside this one."""
    debug: Flag = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class Transitions:
    """Find abrupt changes of the LLC over a run, or say that a smooth curve explains it better.

    Each has a step with its interval, a height with its error, a direction, and the share of
    resampled chains in which it is found. Also written to transitions.json in the run folder.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder, as rlct trace or a demo wrote it."""
    resamples: int = 200
    """Resamples of the chains, for intervals and standard errors."""
    seed: int = 0
    """Seeds the resampling."""
    keep_failed: Flag = False
    """Believe checkpoints whose verdict is fail like the others."""
    json: Flag = False
    """Print JSON instead of the table."""
    debug: Flag = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class Demo:
    """Train a small network, estimate every checkpoint, chart and report.

    A network that groks modular addition, with a random-label control; a linear net through a
    bottleneck, whose every rank has a known LLC; the toy model of superposition, whose polygons
    have one; or a transformer that learns linear regression in context.
    """

    name: Annotated[
        tyro.conf.Positional[Literal["grokking", "linear-net", "superposition", "in-context"]],
        tyro.conf.arg(metavar="grokking|linear-net|superposition|in-context"),
    ]
    """Which demo to run."""
    out: OptionalPath = None
    """Run folder, runs/NAME if left out; what is already there is reused."""
    seed: int = 0
    """Seeds data, initialisation, batches and chains."""
    steps: OptionalInt = None
    """Training steps; the demo's own if left out."""
    prime: int = 53
    """Addition modulo this number; grokking alone."""
    workers: OptionalInt = None
    """Processes; one a core, eight at most, if left out."""
    debug: Flag = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class Validate:
    """Estimate cases with known answers; print the table of what was found.

    A is the coefficient λ, B the exact expectation at the settings used, C the estimate.
    """

    full: Flag = False
    """More cases, eight seeds each; without it, the quick suite."""
    quick: Flag = False
    """The quick suite, two minutes on two cores; it is what runs without flags."""
    sampler: Sampler = "auto"
    """Sampler; auto is kinetic Langevin."""
    budget: OptionalInt = None
    """Most gradients of an estimate, all chains together (100,000 a chain if left out)."""
    precision: float = 0.05
    """Relative half-width of the 95 % interval to reach."""
    chains: int = 4
    """Chains of each estimate."""
    out: OptionalPath = None
    """Folder for table, JSON and figure; what is already there is reused."""
    workers: OptionalInt = None
    """Processes; one a core, eight at most, if left out."""
    json: Flag = False
    """Print JSON instead of the table."""
    debug: Flag = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class Doctor:
    """Print versions, devices and threads, and check in seconds that estimates are right here.

    Two cases with exact answers, a sampler that does not move, the same seed twice, chains side by
    side, files and figures. Send what it prints with a report of an error.
    """

    json: Flag = False
    """Print JSON instead of words."""
    debug: Flag = False
    """Show the traceback of an error."""
