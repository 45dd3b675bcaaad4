"""Flags that commands share: what every command that samples takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

__all__ = [
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
    "Sampled",
    "Sampler",
    "Sampling",
    "Weighting",
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
Weighting = Literal["token", "sequence"]
OptionalWeighting = Annotated[Weighting | None, tyro.conf.arg(metavar="WEIGHTING")]
OptionalSampler = Annotated[Sampler | None, tyro.conf.arg(metavar="SAMPLER")]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What every command that samples by settings takes."""

    task: str
    """What returns an llc.Task: file.py:function, module:function, a built-in name such as
    modular-addition, or a language model, hf:NAME or hf:FOLDER, with --data."""
    data: OptionalText = None
    """Tokens for a language model: .npy, .npz, .jsonl, .txt, or a folder of datasets."""
    length: OptionalInt = None
    """Tokens a sequence of such data; 128, or rows of an array as they are, if left out."""
    weighting: OptionalWeighting = None
    """What weighs the same in a language model's loss: every token, if left out, or sequence."""
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
    only: OptionalTexts = None
    """Sample these parameters alone: names, patterns in quotes, slices, heads[0]; after CKPT."""
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
    allow_globals: OptionalTexts = None
    """Names (module.name) that pickled files may ask for; none is run; after CKPT."""
    json: bool = False
    """Print JSON instead of the table."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True, kw_only=True)
class Sampled(Sampling):
    """What every command that samples one checkpoint takes."""

    checkpoint: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CKPT")]
    """Weights: .safetensors, .pt/.pth/.ckpt that hold a state dict, a folder that is one model, or
    hf:NAME@REVISION."""
