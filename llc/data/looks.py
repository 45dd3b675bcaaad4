"""What can be seen of data before anything is sampled: repeats, padding, kinds of numbers."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

__all__ = ["padded", "repeated", "unsuited"]

LOOK = 4096
MOST_NUMBERS = 2**24
STANDS_OUT = 3
LEAST_ENDING = 0.1


def repeated(data: Any) -> float:
    """Share of examples equal to the most common one, where that one stands out; else 0.

    It stands out where it is at least three times as common as the next: discrete data repeat
    themselves, but under Zipf's law, uneven as that is, only twice as often. Large data are looked
    at in 4,096 places spread over them, fewer where examples are large.
    """
    size = len(tree_flatten(data)[0][0])
    width = sum(leaf[0].numel() for leaf in tree_flatten(data)[0])
    count = min(size, LOOK, max(2, MOST_NUMBERS // max(width, 1)))
    index = torch.arange(count) * size // count
    leaves = [leaf.detach()[index.to(leaf.device)].cpu() for leaf in tree_flatten(data)[0]]
    rows = [_numbers(leaf).reshape(len(index), -1).numpy() for leaf in leaves]
    counts = Counter(b"".join(part[i].tobytes() for part in rows) for i in range(len(index)))
    ranked = counts.most_common(2)
    if len(ranked) < 2 or ranked[0][1] < STANDS_OUT * ranked[1][1]:
        return 0.0
    return ranked[0][1] / len(index)


def padded(tokens: Tensor) -> float:
    """Share of positions that look like padding of token sequences ``(examples, positions)``.

    A token is padding if it stands only in an unbroken run at the sequences' ends, or only at
    their beginnings. The first of each run does not count: end and start markers are part of the
    text, and a token that ends fewer than a tenth of the sequences cannot fill a tenth of the
    positions. 0 for anything but whole numbers in two dimensions.
    """
    if tokens.ndim != 2 or tokens.is_floating_point() or tokens.shape[1] < 2:
        return 0.0
    step = -(-len(tokens) // LOOK)
    return max(_run_at_the_end(side) for side in (tokens[::step], tokens[::step].flip(1)))


def _run_at_the_end(tokens: Tensor) -> float:
    most = 0.0
    last, count = tokens[:, -1].unique(return_counts=True)
    for token in last[count >= LEAST_ENDING * len(tokens)]:
        same = tokens == token
        run = same.flip(1).cumprod(1).sum(1)
        if bool((run == same.sum(1)).all()):
            most = max(most, ((run - 1).clamp(min=0).sum() / tokens.numel()).item())
    return most


def _numbers(leaf: Tensor) -> Tensor:
    # NumPy has no bfloat16, and doubles keep every other kind of number apart.
    return torch.view_as_real(leaf).double() if leaf.is_complex() else leaf.double()


def unsuited(data: Any, weights: torch.dtype, said: str) -> str:
    """Say why a model with weights of a kind may not take data as they are; "" if unknown.

    Not to be asked unless it failed, and ``said`` why: models may well convert what they are given.
    """
    leaves = tree_flatten(data)[0]
    inputs, targets = leaves[0], leaves[-1]
    if len(leaves) > 1 and targets.is_floating_point() and "Long" in said:
        return (
            f"its targets are {str(targets.dtype).removeprefix('torch.')} of shape "
            f"{tuple(targets.shape)}, and its loss wants class numbers: give targets.long()"
        )
    if inputs.dtype == torch.uint8:
        return (
            f"its inputs are uint8 of shape {tuple(inputs.shape)}, as images are before they are "
            "scaled: give floats, images.float() / 255, normalised as in training"
        )
    if inputs.is_floating_point() and inputs.dtype != weights:
        kind = str(weights).removeprefix("torch.")
        found = str(inputs.dtype).removeprefix("torch.")
        return f"its inputs are {found} and its weights {kind}: give inputs.to(torch.{kind})"
    return ""
