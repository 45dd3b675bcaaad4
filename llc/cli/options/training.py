"""Flags of the commands that look at many checkpoints."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from llc.cli.options.sampling import (
    Flag,
    OptionalFloat,
    OptionalInt,
    OptionalInts,
    OptionalPath,
    OptionalShard,
    OptionalText,
    OptionalTexts,
    Patterns,
    Sampling,
    TaskName,
)

__all__ = ["Basins", "Fourier", "Mix", "Plant", "Refine", "Trace", "Variants"]

OptionalCluster = Annotated[
    Literal["slurm", "local"] | None,
    tyro.conf.arg(metavar="{slurm,local}", help_behavior_hint=""),
]


@dataclass(frozen=True, kw_only=True)
class Trace(Sampling):
    """Estimate every checkpoint of a training run; a killed trace goes on where it was.

    Prints what was found in words; the run folder holds estimates, table and figure.
    """

    checkpoints: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="CKPTS", help_behavior_hint="(required)"),
    ]
    """A folder, files, a pattern in quotes such as 'run/step_*.pt', or revisions of a language
    model, 'hf:NAME@step{0,1,2}'."""
    out: Annotated[Path, tyro.conf.arg(metavar="RUN")]
    """Run folder; what is finished there is reused."""
    step_from: OptionalText = None
    """Where the training step stands: file, name, a key in the files such as global_step, a word in
    the names such as epoch, or 2 for their second number; found out if left out."""
    freeze: Flag = False
    """Sample all checkpoints with one step size, burn-in and number of draws: the safest of three
    checkpoints' own."""
    workers: OptionalInt = None
    """Processes, one thread each; one a core, eight at most, on a CPU, if left out."""
    shard: OptionalShard = None
    """Only every N-th checkpoint from the i-th on, so that N machines share a run."""
    submit: OptionalCluster = None
    """Share the checkpoints out among jobs, requeued when preempted, and collect: slurm, or
    local for processes of this machine; needs the extra slurm."""
    jobs: int = 4
    """With --submit, number of jobs."""
    partition: OptionalText = None
    """With --submit slurm, where."""
    time: OptionalInt = None
    """With --submit, minutes of a job, after which it is requeued and goes on; 60 if left out."""
    gpus: OptionalInt = None
    """With --submit, GPUs of a job, with a process each; also give --device cuda."""
    slurm: OptionalTexts = None
    """With --submit slurm, further parameters of submitit, such as account=mine qos=low."""
    detach: Flag = False
    """With --submit, return at once; the same command again waits and collects."""
    stack: int = 1
    """Checkpoints to sample side by side in one process; needs --freeze, or step size, burn-in and
    draws."""
    follow: Flag = False
    """Go on looking for checkpoints as a training run writes them; Ctrl-C ends it."""
    follow_for: OptionalFloat = None
    """With --follow, end it also after so many seconds without a new checkpoint."""
    n_eff: Flag = False
    """Measure the curvature's effective dimension too; some hundred passes over the data."""
    scales: Flag = False
    """Measure the whole scale curve at every checkpoint too, for a map of step and gamma."""
    strict: Flag = False
    """Exit with 1 if a verdict is fail, or a checkpoint could not be estimated."""


@dataclass(frozen=True, kw_only=True)
class Refine(Sampling):
    """Estimate the LLC of each part of a network over training: heads, layers, any weights.

    Only the part's weights are sampled, the rest stays as saved; one n_beta and one gamma serve
    all parts. Prints a table of parts by steps; a killed run goes on where it was.
    """

    checkpoints: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="CKPTS", help_behavior_hint="(required)"),
    ]
    """A folder, files, or a pattern in quotes such as 'run/step_*.pt'."""
    out: Annotated[Path, tyro.conf.arg(metavar="RUN")]
    """Folder for a run folder of each part, table and figure; what is finished there is reused."""
    step_from: OptionalText = None
    """Where the training step stands: file, name, a key in the files such as global_step, a word in
    the names such as epoch, or 2 for their second number; found out if left out."""
    parts: OptionalTexts = None
    """Words as after --only, NAME=WORD+WORD, or all; heads and layers if left out; after CKPTS."""
    workers: OptionalInt = None
    """Processes, one thread each; one a core, eight at most, on a CPU, if left out."""
    strict: Flag = False
    """Exit with 1 if a verdict is fail, or a checkpoint could not be estimated."""


@dataclass(frozen=True, kw_only=True)
class Variants(Sampling):
    """What commands take that make checkpoints from checkpoints and estimate all of them.

    The loss is always behavioural: what was made has no data set in common to be a minimum of.
    """

    out: Annotated[Path, tyro.conf.arg(metavar="RUN")]
    """Run folder; what is finished there is reused."""
    workers: OptionalInt = None
    """Processes, one thread each; one a core, eight at most, on a CPU, if left out."""
    strict: Flag = False
    """Exit with 1 if a verdict is fail, or a checkpoint could not be estimated."""


@dataclass(frozen=True, kw_only=True)
class Plant(Variants):
    """Fine-tune a checkpoint on k relabelled examples, for several k, and chart the LLC against k.

    Each run goes on until all examples are fitted, exceptions too; k = 0 is the control. Sampling
    is behavioural, at one n_beta and one gamma for all k.
    """

    checkpoint: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CKPT")]
    """Weights: .safetensors, .pt/.pth/.ckpt that hold a state dict, a folder that is one model, or
    hf:NAME@REVISION."""
    exceptions: Annotated[tuple[int, ...], tyro.conf.arg(metavar="K [K ...]")] = (0, 5, 20, 60)
    """Numbers of relabelled examples; smaller sets lie in larger ones."""
    steps: int = 2000
    """Steps of Adam at least, at every k."""
    most_steps: int = 20_000
    """Steps of Adam at most, where not everything is fitted by then."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    weight_decay: float = 0.0
    """Weight decay of Adam: this times w is added to the gradient."""
    train_batch: int = 128
    """Examples a training step, drawn with replacement; all if there are fewer."""
    loss_below: OptionalFloat = None
    """Mean loss at which examples count as fitted, where targets are no classes."""


@dataclass(frozen=True, kw_only=True)
class Mix(Variants):
    """Mix the weights of two checkpoints, (1 - m) A + m B, and chart the LLC against m.

    The table also shows the loss on the way: a barrier, or none. Sampling is behavioural, at one
    n_beta and one gamma for all m.
    """

    checkpoints: Annotated[
        tyro.conf.Positional[tuple[Path, Path]], tyro.conf.arg(metavar="CKPT_A CKPT_B")
    ]
    """Weights at m = 0 and at m = 1, of one model."""
    weights: Annotated[tuple[float, ...], tyro.conf.arg(metavar="M [M ...]")] = (
        0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0,
    )  # fmt: skip
    """Mixing weights m, from 0 to 1."""


@dataclass(frozen=True)
class Basins:
    """Find out which checkpoints of a run lie in one basin: loss barriers, likeness of layers.

    Between every pair: the rise of the loss on the straight line, before and after alignment by
    the symmetries that are known, and how alike the layers' outputs are. Writes table, JSON and
    figures; a killed run goes on where it was.
    """

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """Run folder of rlct trace or a demo, a folder of checkpoints, or a pattern in quotes."""
    task: OptionalText = None
    """What returns an llc.Task, as for rlct trace; that of the run folder if left out."""
    count: int = 12
    """Checkpoints to compare, evenly spaced, first and last included."""
    steps: OptionalInts = None
    """Training steps to compare instead."""
    step_from: OptionalText = None
    """Where the training step stands: file, name, a key in the files such as global_step, a word in
    the names such as epoch, or 2 for their second number; as the run folder says, or found out,
    if left out."""
    no_align: Flag = False
    """Leave out barriers after alignment."""
    curves: Flag = False
    """Also look for curves of low loss, between neighbours and to the last."""
    layers: OptionalTexts = None
    """Modules whose outputs to compare, or patterns in quotes; all if left out."""
    data: OptionalText = None
    """Evaluate on held-out data: the name of a data set among the task's readings."""
    points: int = 25
    """Points of each path at which the loss is evaluated, ends included."""
    bends: int = 2
    """Control points of a curve between its ends."""
    budget: int = 2000
    """Most gradients of a curve."""
    batch_size: OptionalInt = None
    """Examples of a gradient of a curve; all up to 4096, else 512, if left out."""
    examples: int = 512
    """Examples on which layers are compared."""
    seed: int = 0
    """Seeds curves and the choice of examples."""
    device: OptionalText = None
    """Where to compute, cpu or cuda; the model's own if left out."""
    out: OptionalPath = None
    """Folder for table, JSON and figures; RUN if left out."""
    entry: OptionalText = None
    """Name of the state dict to read from files that hold several, such as model_ema or ema.shadow;
    the only one there is unless given."""
    drop: Patterns = ()
    """Leave out the tensors of a file whose names fit this pattern, such as 'head.*'; may be given
    several times."""
    allow_globals: OptionalTexts = None
    """Names (module.name) that pickled files may ask for; none is run; after RUN."""
    json: Flag = False
    """Print JSON instead of words."""
    debug: Flag = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class Fourier:
    """Measure a network that adds modulo p in the Fourier basis, at every checkpoint.

    Names the key frequencies, when each was born, and the losses with and without them.
    """

    checkpoints: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CHECKPOINTS")]
    """Folder, or pattern in quotes, of weights with the training step in their names."""
    task: TaskName
    """What returns an llc.Task of pairs of numbers and their sums: modular-addition,
    modular-addition-transformer, file.py:function or module:function."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("runs/fourier")
    """Folder for fourier.json and the figure."""
    step_from: OptionalText = None
    """Where the training step stands: file, name, a key in the files such as global_step, a word in
    the names such as epoch, or 2 for their second number; found out if left out."""
    frequencies: Annotated[
        tuple[int, ...] | None, tyro.conf.arg(metavar="INT [INT ...]", help_behavior_hint="")
    ] = None
    """Key frequencies; those of the last checkpoint if left out."""
    entry: OptionalText = None
    """Name of the state dict to read from files that hold several, such as model_ema or ema.shadow;
    the only one there is unless given."""
    drop: Patterns = ()
    """Leave out the tensors of a file whose names fit this pattern, such as 'head.*'; may be given
    several times."""
    allow_globals: OptionalTexts = None
    """Names (module.name) that pickled files may ask for; none is run; after CHECKPOINTS."""
    json: Flag = False
    """Print JSON instead of the table."""
    debug: Flag = False
    """Show the traceback of an error."""
