"""Flags of the commands that look at one checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from llc.cli.options.sampling import (
    Flag,
    OptionalFloat,
    OptionalFloats,
    OptionalInt,
    OptionalPath,
    OptionalPlace,
    OptionalText,
    OptionalTexts,
    OptionalWeighting,
    Patterns,
    Sampled,
    TaskName,
)

__all__ = ["Calibrate", "Estimate", "Scale", "Symmetries"]


@dataclass(frozen=True, kw_only=True)
class Estimate(Sampled):
    """Estimate the local learning coefficient of one checkpoint.

    Prints the LLC with its error bar, diagnostics, settings and a verdict in words.
    """

    audit: Flag = False
    """Estimate again at half the step, for twice the gradients: what the step adds to the LLC."""
    strict: Flag = False
    """Exit with 1 if the verdict is fail."""


@dataclass(frozen=True, kw_only=True)
class Calibrate(Sampled):
    """Choose settings for a checkpoint, each with its reason, and say what they cost.

    A pilot at the chosen gamma settles step size, burn-in and draws; rlct estimate then samples by
    the file of settings unchanged, at this checkpoint or at others. Short runs on a grid around
    them (--sweep) show what the LLC depends on.
    """

    out: OptionalPlace = None
    """File for the settings (JSON); with --sweep a folder, where finished cells are reused."""
    sweep: Flag = False
    """Also run the grid; its sampler is sgld unless one is named."""
    step_sizes: OptionalFloats = None
    """Step sizes of the grid; half-decades around the chosen one if left out."""
    gammas: OptionalFloats = None
    """Gammas of the grid; half-decades around the chosen one if left out."""
    n_betas: OptionalFloats = None
    """Values of n_beta of the grid; half-decades around the chosen one if left out."""
    cell_budget: OptionalInt = None
    """Most gradient evaluations of a cell, all chains together; 2000 a chain if left out."""


@dataclass(frozen=True, kw_only=True)
class Symmetries(Sampled):
    """Move a checkpoint by its known symmetries, and look what outputs, loss and LLC do.

    Prints a table of every kind of move, and how many of the flat directions are symmetries. They
    are the task's own, or those that can be read off a chain of layers.
    """

    strength: float = 0.693
    """Size of continuous moves: ln of the largest factor by which a unit is rescaled."""
    no_llc: Flag = False
    """Compare outputs and loss alone; sample nothing."""
    no_count: Flag = False
    """Leave the flat directions uncounted, which takes minutes for thousands of parameters."""
    strict: Flag = False
    """Exit with 1 if a symmetry does not hold."""


@dataclass(frozen=True)
class Scale:
    """Measure the effective dimension against gamma for one checkpoint, in one annealed run.

    Prints the LLC at every gamma with error bar, controls and verdict, and the plateaus.
    """

    checkpoint: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CKPT")]
    """Weights: .safetensors, .pt/.pth/.ckpt that hold a state dict, a folder that is one model, or
    hf:NAME@REVISION."""
    task: TaskName
    """Where model, data and loss come from: a function that returns an llc.Task, FILE.py:FUNCTION
    or MODULE:FUNCTION; a built-in task such as modular-addition; or a language model, hf:NAME or
    hf:FOLDER, with --data."""
    data: OptionalText = None
    """Tokens for a language model: .npy, .npz, .jsonl, .txt, or a folder of datasets."""
    length: OptionalInt = None
    """Tokens a sequence of such data; 128, or rows of an array as they are, if left out."""
    weighting: OptionalWeighting = None
    """What weighs the same in a language model's loss, every token or every sequence; token if left
    out."""
    gammas: OptionalText = None
    """Values between commas; two a decade from 1000·D/‖w*‖² downwards if left out."""
    n_beta: OptionalFloat = None
    """How small a rise of the loss counts: number of examples times inverse temperature; n/ln n if
    left out, n the size of the data set."""
    chains: int = 4
    """Chains, all started at the checkpoint."""
    precision: float = 0.05
    """Relative half-width of the 95 % interval to reach at each gamma."""
    budget: OptionalInt = None
    """Most gradient evaluations of the whole curve (100,000 a chain if left out)."""
    batch_size: OptionalInt = None
    """Examples a gradient; all up to 4096, else 512, if left out."""
    seed: int = 0
    """Seeds every random stream."""
    only: OptionalTexts = None
    """Sample these weights alone, the rest stays: names of parameters, patterns in quotes, slices,
    'heads[0]'; put it after the checkpoints."""
    behavioural: Flag = False
    """Take the checkpoint's own outputs as targets, which makes it a minimum of the loss: for
    checkpoints from the middle of training."""
    control_variate: Flag = False
    """Correct each minibatch's gradient by its error at the checkpoint; twice the gradients."""
    device: OptionalText = None
    """Where to compute, cpu or cuda; the model's own if left out."""
    compile: Literal["auto", "off", "trace", "inductor"] = "auto"
    """How steps are run: recorded and replayed (trace), compiled (inductor), plainly (off), or as
    suits; changes speed, and numbers by no more than rounding."""
    memory: OptionalFloat = None
    """GiB that chains may take; 80 % of what is free if left out."""
    autocast: Flag = False
    """Evaluate the model in bfloat16 where torch's autocast does."""
    out: OptionalPath = None
    """Folder for table, JSON and figure."""
    entry: OptionalText = None
    """Name of the state dict to read from files that hold several, such as model_ema or ema.shadow;
    the only one there is unless given."""
    drop: Patterns = ()
    """Leave out the tensors of a file whose names fit this pattern, such as 'head.*'; may be given
    several times."""
    allow_globals: OptionalTexts = None
    """Names (module.name) that pickled files may ask for; none is run; after CKPT."""
    json: Flag = False
    """Print JSON instead of the table."""
    debug: Flag = False
    """Show the traceback of an error."""
