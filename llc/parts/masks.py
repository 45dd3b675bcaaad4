"""A choice of weights in its one form, a tuple of strings; boolean masks packed into them."""

import base64
import binascii
import math
import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from llc.errors import InputError, brief

__all__ = ["PACKED", "as_strings", "shown", "unpacked"]

PACKED = re.compile(r"(?P<name>[^@]+)@(?P<shape>\d+(?:x\d+)*|-):(?P<bits>[A-Za-z0-9+/=]+)$")


def as_strings(only: Any) -> tuple[str, ...] | None:
    """Bring what a user may give for ``only`` into its one form, a tuple of strings.

    Args:
        only: None for everything; a string or several; or a dictionary of parameter → boolean
            mask of its shape, or None for the whole parameter.

    Raises:
        InputError: it is empty, or holds what is neither a string nor a mask.
    """
    if only is None:
        return None
    if isinstance(only, str):
        only = (only,)
    if isinstance(only, Mapping):
        only = [_packed(name, mask) for name, mask in only.items()]
    elif not isinstance(only, Iterable):
        raise InputError(
            f"only is a {type(only).__name__}, expected names or patterns of parameters, or a "
            "dictionary of masks"
        )
    found = tuple(only)
    odd = [item for item in found if not isinstance(item, str)]
    if odd:
        raise InputError(
            f"only holds a {type(odd[0]).__name__}, expected names or patterns of parameters: "
            "give masks in a dictionary such as {'query.weight': mask}"
        )
    found = tuple(item.strip() for item in found)
    if not found or not all(found):
        raise InputError(
            "only is empty, which leaves nothing to sample: name parameters, or leave it out"
        )
    return found


def shown(only: Iterable[str] | None) -> str:
    """Write a choice for people; masks by their number of entries."""
    if only is None:
        return "all"
    words = []
    for item in only:
        packed = PACKED.match(item)
        if packed is None:
            words.append(item)
            continue
        mask = unpacked(packed)
        words.append(f"{packed['name']} ({int(mask.sum()):,} of {mask.numel():,} entries)")
    return ", ".join(words)


def _packed(name: Any, mask: Any) -> str:
    if not isinstance(name, str):
        raise InputError(f"only has a {type(name).__name__} as a key, expected a parameter's name")
    if mask is None:
        return name
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = f"{mask.dtype} tensor" if isinstance(mask, Tensor) else type(mask).__name__
        raise InputError(
            f"only[{name!r}] is a {kind}, expected a boolean mask of the parameter's shape: write "
            "mask.bool(), or None for the whole parameter"
        )
    if not mask.any():
        raise InputError(
            f"only[{name!r}] is False everywhere, which leaves nothing of it to sample: leave it "
            "out"
        )
    bits = torch.nn.functional.pad(mask.cpu().reshape(-1), (0, -mask.numel() % 8)).view(-1, 8)
    weights = 2 ** torch.arange(8, dtype=torch.uint8)
    packed = (bits * weights).sum(1, dtype=torch.uint8).numpy().tobytes()
    shape = "x".join(map(str, mask.shape)) or "-"
    return f"{name}@{shape}:{base64.b64encode(zlib.compress(packed, 9)).decode()}"


def unpacked(packed: re.Match[str]) -> Tensor:
    """Return the mask that a match of ``PACKED`` holds."""
    shape = [] if packed["shape"] == "-" else [int(size) for size in packed["shape"].split("x")]
    count = math.prod(shape)
    try:
        content = bytearray(zlib.decompress(base64.b64decode(packed["bits"], validate=True)))
        if len(content) != -(-count // 8):
            raise ValueError("of another length")
    except (binascii.Error, zlib.error, ValueError) as error:
        raise InputError(
            f"the packed mask of {packed['name']} cannot be read ({brief(error)}): give masks "
            "as boolean "
            "tensors"
        ) from error
    bits = torch.frombuffer(content, dtype=torch.uint8)
    ones = bits[:, None].bitwise_right_shift(torch.arange(8, dtype=torch.uint8)).bitwise_and(1)
    return ones.reshape(-1)[:count].bool().reshape(shape)
