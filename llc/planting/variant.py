"""A checkpoint that was made from others, in the form in which `llc.trace` takes checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from llc.checkpoints import read_checkpoint, save_checkpoint

__all__ = ["Variant", "found", "kept"]


class Variant(NamedTuple):
    """Weights, the number they are filed under, and the numbers that say how they were made.

    Attributes:
        step: takes the place of a training step.
        weights: a state dict.
        metadata: by name.
    """

    step: int
    weights: Mapping[str, Tensor]
    metadata: Mapping[str, float]


def kept(variant: Variant, out: Path | None) -> Variant:
    """Write a variant as a checkpoint where there is a folder for it; return it as it was."""
    if out is not None:
        save_checkpoint(out, variant.step, variant.weights, variant.metadata)
    return variant


def found(step: int, out: Path | None) -> Variant | None:
    """Read what `kept` wrote, or None if there is nothing yet."""
    path = None if out is None else out / f"step_{step:07d}.safetensors"
    if path is None or not path.is_file():
        return None
    weights, metadata = read_checkpoint(path)
    return Variant(step, weights, metadata)
