"""Every flag of every command, as frozen dataclasses; names are those of the Python API."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

__all__ = [
    "Basins",
    "Calibrate",
    "Command",
    "Demo",
    "Estimate",
    "Fourier",
    "Mix",
    "Plant",
    "Plot",
    "Report",
    "Sampled",
    "Sampling",
    "Scale",
    "Symmetries",
    "Trace",
    "Transitions",
    "Validate",
    "Variants",
]

OptionalFloat = Annotated[float | None, tyro.conf.arg(metavar="FLOAT")]
OptionalInt = Annotated[int | None, tyro.conf.arg(metavar="INT")]
OptionalText = Annotated[str | None, tyro.conf.arg(metavar="TEXT")]
OptionalFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
OptionalPlace = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]
OptionalFloats = Annotated[tuple[float, ...] | None, tyro.conf.arg(metavar="FLOAT [FLOAT ...]")]
OptionalPath = Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")]
OptionalInts = Annotated[tuple[int, ...] | None, tyro.conf.arg(metavar="INT [INT ...]")]
OptionalTexts = Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="TEXT [TEXT ...]")]
OptionalShard = Annotated[str | None, tyro.conf.arg(metavar="i/N")]
Sampler = Literal[
    "auto",
    "kinetic",
    "sgld-lm",
    "sgld",
    "sgld-rmsprop",
    "sgld-rmsprop-frozen",
    "sgnht",
    "mala",
    "hmc",
    "malt",
    "devinterp-sgld",
    "devinterp-rmsprop",
]
OptionalSampler = Annotated[Sampler | None, tyro.conf.arg(metavar="SAMPLER")]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What every command that samples by settings takes."""

    task: str
    """What returns an llc.Task: file.py:function, module:function, or a
    built-in name such as modular-addition."""
    settings: OptionalFile = None
    """Settings as rlct calibrate --out wrote them; flags given beside them win."""
    preset: OptionalText = None
    """Settings of published work: rllc, icl, pythia-14m or pythia-6.9b; flags win."""
    n_beta: OptionalFloat = None
    """Number of examples times inverse temperature; n/ln n if left out."""
    gamma: OptionalFloat = None
    """Strength of the localising prior; chosen if left out."""
    step_size: OptionalFloat = None
    """Step of the sampler; follows the curvature along the chains if left out."""
    chains: OptionalInt = None
    """Chains, all started at the checkpoint; 4 if left out."""
    draws: OptionalInt = None
    """Kept draws a chain; as many as the precision takes if left out."""
    burn_in: OptionalInt = None
    """Discarded steps a chain; until the virial is 1 if left out."""
    batch_size: OptionalInt = None
    """Examples a gradient; all up to 4096, else 512, if left out."""
    precision: OptionalFloat = None
    """Relative half-width of the 95 % interval, 0.05 if left out; reopens draws of settings."""
    budget: OptionalInt = None
    """Most gradient evaluations, all chains together (100,000 a chain if left out)."""
    seconds: OptionalFloat = None
    """Time an estimate may take; it ends with what it has by then, and says so."""
    seed: OptionalInt = None
    """Seeds every random stream; 0 if left out."""
    sampler: OptionalSampler = None
    """Sampler; auto, which is kinetic Langevin, if left out."""
    behavioural: bool = False
    """Measure towards the checkpoint's own outputs, which makes it a minimum."""
    control_variate: bool = False
    """Correct each minibatch's gradient by its error at the checkpoint; twice the gradients."""
    device: OptionalText = None
    """Where to compute, cpu or cuda; the model's own if left out."""
    compile: Literal["auto", "off", "trace", "inductor"] = "auto"
    """How steps are run; changes speed, and numbers by no more than rounding."""
    memory: OptionalFloat = None
    """GiB that chains may take; 80 % of what is free if left out."""
    autocast: bool = False
    """Evaluate the model in bfloat16 where torch's autocast does."""
    json: bool = False
    """Print JSON instead of the table."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True, kw_only=True)
class Sampled(Sampling):
    """What every command that samples one checkpoint takes."""

    checkpoint: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CKPT")]
    """Weights: .safetensors, or .pt/.pth with a state dict or a dictionary that holds one."""


@dataclass(frozen=True, kw_only=True)
class Estimate(Sampled):
    """Estimate the local learning coefficient of one checkpoint.

    Prints the LLC with its error bar, diagnostics, settings and a verdict in words.
    """

    audit: bool = False
    """Estimate again at half the step, for twice the gradients: what the step adds to the LLC."""
    strict: bool = False
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
    sweep: bool = False
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
    """Of continuous moves: ln of the largest factor of a rescaling; ln 2 unless given."""
    no_llc: bool = False
    """Compare outputs and loss alone."""
    no_count: bool = False
    """Leave the flat directions uncounted, which takes minutes for thousands of parameters."""
    strict: bool = False
    """Exit with 1 if a symmetry does not hold."""


@dataclass(frozen=True, kw_only=True)
class Trace(Sampling):
    """Estimate every checkpoint of a training run; a killed trace goes on where it was.

    Prints what was found in words; the run folder holds estimates, table and figure.
    """

    checkpoints: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="CKPTS")]
    """A folder, files, or a pattern in quotes such as 'run/step_*.pt'."""
    out: Annotated[Path, tyro.conf.arg(metavar="RUN")]
    """Run folder; what is finished there is reused."""
    freeze: bool = False
    """Share step size, burn-in and draws too: the safest of three checkpoints'."""
    workers: OptionalInt = None
    """Processes, one thread each; one a core, eight at most, on a CPU, if left out."""
    shard: OptionalShard = None
    """Only every N-th checkpoint from the i-th on, so that N machines share a run."""
    stack: int = 1
    """Checkpoints that share a run; needs --freeze, or step size, burn-in and draws."""
    follow: bool = False
    """Go on looking for checkpoints as a training run writes them; Ctrl-C ends it."""
    follow_for: OptionalFloat = None
    """With --follow, end it also after so many seconds without a new checkpoint."""
    n_eff: bool = False
    """Measure the curvature's effective dimension too; some hundred passes over the data."""
    scales: bool = False
    """Measure the whole scale curve at every checkpoint too, for a map of step and gamma."""
    strict: bool = False
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
    strict: bool = False
    """Exit with 1 if a verdict is fail, or a checkpoint could not be estimated."""


@dataclass(frozen=True, kw_only=True)
class Plant(Variants):
    """Fine-tune a checkpoint on k relabelled examples, for several k, and chart the LLC against k.

    Each run goes on until all examples are fitted, exceptions too; k = 0 is the control. Sampling
    is behavioural, at one n_beta and one gamma for all k.
    """

    checkpoint: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CKPT")]
    """Weights: .safetensors, or .pt/.pth with a state dict or a dictionary that holds one."""
    exceptions: Annotated[tuple[int, ...], tyro.conf.arg(metavar="K [K ...]")] = (0, 5, 20, 60)
    """Numbers of relabelled examples; smaller sets lie in larger ones."""
    steps: int = 2000
    """Steps of Adam at least, at every k."""
    most_steps: int = 20_000
    """Steps of Adam at most, where not everything is fitted by then."""
    learning_rate: float = 1e-3
    """Of Adam."""
    weight_decay: float = 0.0
    """Added to the gradient as weight_decay times w."""
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
    no_align: bool = False
    """Leave out barriers after alignment."""
    curves: bool = False
    """Also look for curves of low loss, between neighbours and to the last."""
    layers: OptionalTexts = None
    """Modules whose outputs to compare, or patterns in quotes; all if left out."""
    data: OptionalText = None
    """Evaluate on held-out data: the name of a data set among the task's readings."""
    points: int = 25
    """Points of each path, ends included."""
    bends: int = 2
    """Control points of a curve between its ends."""
    budget: int = 2000
    """Most gradients of a curve."""
    batch_size: OptionalInt = None
    """Examples of such a gradient; all up to 4096, else 512, if left out."""
    examples: int = 512
    """Examples on which layers are compared."""
    seed: int = 0
    """Seeds curves and the choice of examples."""
    device: OptionalText = None
    """Where to compute, cpu or cuda; the model's own if left out."""
    out: OptionalPath = None
    """Folder for table, JSON and figures; RUN if left out."""
    json: bool = False
    """Print JSON instead of words."""
    debug: bool = False
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
    """Which demo."""
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
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class Scale:
    """Measure the effective dimension against gamma for one checkpoint, in one annealed run.

    Prints the LLC at every gamma with error bar, controls and verdict, and the plateaus.
    """

    checkpoint: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CKPT")]
    """Weights: .safetensors, or .pt/.pth with a state dict or a dictionary that holds one."""
    task: str
    """What returns an llc.Task: file.py:function, module:function, or a
    built-in name such as modular-addition."""
    gammas: OptionalText = None
    """Values between commas; two a decade from 1000·D/‖w*‖² downwards if left out."""
    n_beta: OptionalFloat = None
    """Number of examples times inverse temperature; n/ln n if left out."""
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
    behavioural: bool = False
    """Measure towards the checkpoint's own outputs, which makes it a minimum."""
    control_variate: bool = False
    """Correct each minibatch's gradient by its error at the checkpoint; twice the gradients."""
    device: OptionalText = None
    """Where to compute, cpu or cuda; the model's own if left out."""
    compile: Literal["auto", "off", "trace", "inductor"] = "auto"
    """How steps are run; changes speed, and numbers by no more than rounding."""
    memory: OptionalFloat = None
    """GiB that chains may take; 80 % of what is free if left out."""
    autocast: bool = False
    """Evaluate the model in bfloat16 where torch's autocast does."""
    out: OptionalPath = None
    """Folder for table, JSON and figure."""
    json: bool = False
    """Print JSON instead of the table."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class Fourier:
    """Measure a network that adds modulo p in the Fourier basis, at every checkpoint.

    Names the key frequencies, when each was born, and the losses with and without them.
    """

    checkpoints: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CHECKPOINTS")]
    """Folder, or pattern in quotes, of weights with the training step in their names."""
    task: str
    """What returns an llc.Task of pairs of numbers and their sums: modular-addition,
    modular-addition-transformer, file.py:function or module:function."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("runs/fourier")
    """Folder for fourier.json and the figure."""
    frequencies: Annotated[tuple[int, ...] | None, tyro.conf.arg(metavar="INT [INT ...]")] = None
    """Key frequencies; those of the last checkpoint if left out."""
    json: bool = False
    """Print JSON instead of the table."""
    debug: bool = False
    """Show the traceback of an error."""


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
    """Over training; against loss; beside N_eff; by scale; a checkpoint's chains; several runs;
    against any number saved with the checkpoints."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", aliases=["-o"])] = None
    """File, its ending says which kind, or without one all three; in RUN/figures if left out."""
    control: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN [RUN ...]")] = ()
    """Other runs, drawn beside this one."""
    step: OptionalInt = None
    """Checkpoint of --figure chains; the last if left out."""
    x: str = "planted"
    """Number of --figure against: planted, mixing_weight, or a column of trajectory.csv."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class Report:
    """Write a run as one HTML page: figures, transitions, checkpoints, verdicts, settings.

    It holds everything itself, reads without a network, and runs no script.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder, as rlct trace or a demo wrote it."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", aliases=["-o"])] = None
    """The page; RUN/report.html if left out."""
    control: OptionalPath = None
    """Another run, drawn beside this one."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class Validate:
    """Estimate cases with known answers; print the table of what was found.

    A is the coefficient λ, B the exact expectation at the settings used, C the estimate.
    """

    full: bool = False
    """More cases, eight seeds each; without it, the quick suite."""
    quick: bool = False
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
    json: bool = False
    """Print JSON instead of the table."""
    debug: bool = False
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
    keep_failed: bool = False
    """Believe checkpoints whose verdict is fail like the others."""
    json: bool = False
    """Print JSON instead of the table."""
    debug: bool = False
    """Show the traceback of an error."""


Command = (
    Annotated[Estimate, tyro.conf.subcommand("estimate")]
    | Annotated[Basins, tyro.conf.subcommand("basins")]
    | Annotated[Calibrate, tyro.conf.subcommand("calibrate")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Fourier, tyro.conf.subcommand("fourier")]
    | Annotated[Mix, tyro.conf.subcommand("mix")]
    | Annotated[Plant, tyro.conf.subcommand("plant")]
    | Annotated[Plot, tyro.conf.subcommand("plot")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Scale, tyro.conf.subcommand("scale")]
    | Annotated[Symmetries, tyro.conf.subcommand("symmetries")]
    | Annotated[Trace, tyro.conf.subcommand("trace")]
    | Annotated[Transitions, tyro.conf.subcommand("transitions")]
    | Annotated[Validate, tyro.conf.subcommand("validate")]
)
