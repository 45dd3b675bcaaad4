"""Flags that commands share: what every command that samples takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

__all__ = [
    "Flag",
    "OptionalFile",
    "OptionalFloat",
    "OptionalFloats",
    "OptionalInt",
    "OptionalInts",
    "OptionalPath",
    "OptionalPlace",
    "OptionalSampler",
    "OptionalShard",
    "OptionalText",
    "OptionalTexts",
    "OptionalWeighting",
    "Patterns",
    "Sampled",
    "Sampler",
    "Sampling",
    "TaskName",
    "Weighting",
]


def _left_out(metavar: str) -> Any:
    """An option whose help says what happens without it: "(default: None)" would say nothing."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


Flag = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]
TaskName = Annotated[str, tyro.conf.arg(metavar="TASK")]
OptionalFloat = Annotated[float | None, _left_out("FLOAT")]
OptionalInt = Annotated[int | None, _left_out("INT")]
OptionalText = Annotated[str | None, _left_out("TEXT")]
OptionalFile = Annotated[Path | None, _left_out("FILE")]
OptionalPlace = Annotated[Path | None, _left_out("PATH")]
OptionalFloats = Annotated[tuple[float, ...] | None, _left_out("FLOAT [FLOAT ...]")]
OptionalPath = Annotated[Path | None, _left_out("FOLDER")]
OptionalInts = Annotated[tuple[int, ...] | None, _left_out("INT [INT ...]")]
OptionalTexts = Annotated[tuple[str, ...] | None, _left_out("TEXT [TEXT ...]")]
Patterns = Annotated[
    tuple[str, ...],
    tyro.conf.UseAppendAction,
    tyro.conf.arg(metavar="PATTERN", help_behavior_hint=""),
]
OptionalShard = Annotated[str | None, _left_out("i/N")]
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
Weighting = Literal["token", "sequence"]
OptionalWeighting = Annotated[Weighting | None, _left_out("{token,sequence}")]
OptionalSampler = Annotated[Sampler | None, _left_out("SAMPLER")]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What every command that samples by settings takes."""

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
    settings: OptionalFile = None
    """Settings as rlct calibrate --out wrote them; flags given beside them win."""
    preset: OptionalText = None
    """Settings of published work: rllc, icl, pythia-14m or pythia-6.9b; flags win."""
    n_beta: OptionalFloat = None
    """How small a rise of the loss counts: number of examples times inverse temperature; n/ln n if
    left out, n the size of the data set."""
    gamma: OptionalFloat = None
    """How far from the checkpoint counts as near: strength of the prior (gamma/2)·‖w − w*‖² that
    holds the chains; chosen if left out."""
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
    """Sample until the 95 % interval is within this share of the LLC; 0.05 if left out. Draws that
    --settings fixed are open again."""
    budget: OptionalInt = None
    """Most gradient evaluations, all chains together (100,000 a chain if left out)."""
    seconds: OptionalFloat = None
    """Time an estimate may take; it ends with what it has by then, and says so."""
    seed: OptionalInt = None
    """Seeds every random stream; 0 if left out."""
    sampler: OptionalSampler = None
    """How chains move: auto (kinetic Langevin), if left out, or kinetic, sgld-lm, sgld,
    sgld-rmsprop, sgld-rmsprop-frozen, sgnht, mala, hmc, malt, devinterp-sgld, devinterp-rmsprop."""
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


@dataclass(frozen=True, kw_only=True)
class Sampled(Sampling):
    """What every command that samples one checkpoint takes."""

    checkpoint: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CKPT")]
    """Weights: .safetensors, .pt/.pth/.ckpt that hold a state dict, a folder that is one model, or
    hf:NAME@REVISION."""
