"""Parts of a network: names, patterns, slices and masks that say which weights are sampled.

What is sampled is one flat vector of the chosen entries; everything else stays at w*. A choice is
a tuple of strings, so that settings that hold one can be printed, compared and kept as JSON:

- ``"embedding.weight"``: a parameter; ``"blocks.0.attention"``: all parameters of a module;
- ``"blocks.*.mlp"``: a pattern, ``*`` for anything, ``?`` for one character;
- ``"query.weight[0:32]"``, ``"output.weight[:, 0:32]"``: rows, columns, as Python slices them;
- ``"!*.bias"``: all but these, of what the others choose, or of everything;
- ``"query.weight@128x128:eNp…"``: a boolean mask, packed; written by
  `llc.parts.as_strings` from tensors.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from llc.errors import InputError
from llc.parts.masks import PACKED, shown, unpacked

__all__ = ["Chosen", "choose", "united"]

Chosen = dict[str, Tensor | None]
"""Parameter → boolean mask of its sampled entries, None where all of them are."""

SLICE = re.compile(r"(?P<name>.+?)\[(?P<ranges>[\d:,\s]+)\]$")
RANGE = re.compile(r"(\d*):(\d*)$")
WRAPPER = "module."
EXCEPT = "!"


def choose(
    shapes: Mapping[str, torch.Size],
    only: Iterable[str],
    known: Callable[[str], Mapping[str, Tensor | None] | None] = lambda _: None,
    frozen: Iterable[str] = (),
) -> Chosen:
    """Find the entries that a choice names.

    Args:
        shapes: of the parameters that can be sampled, by name.
        only: as `as_strings` returns it.
        known: other words for parts, such as ``"heads[0]"``: a word → its masks, or None.
        frozen: parameters that cannot be sampled, for the message.

    Returns:
        Masks by parameter, in the order of ``shapes``; None where a whole parameter is sampled.

    Raises:
        InputError: a word that names nothing, a slice or mask that does not fit, or nothing left.
    """
    items = list(only)
    wanted = [item for item in items if not item.startswith(EXCEPT)]
    unwanted = [item[len(EXCEPT) :].strip() for item in items if item.startswith(EXCEPT)]
    frozen = tuple(frozen)
    found: Chosen = {} if wanted else dict.fromkeys(shapes)
    for item in wanted:
        found = united(found, _one(shapes, item, known, frozen))
    for item in unwanted:
        found = _without(shapes, found, _one(shapes, item, known, frozen))
    if not found:
        raise InputError(
            f"only={shown(items)!r} leaves nothing to sample: its exceptions take away all it names"
        )
    return {name: _whole(found[name]) for name in shapes if name in found}


def united(first: Mapping[str, Tensor | None], second: Mapping[str, Tensor | None]) -> Chosen:
    """Return the entries that are in either choice."""
    found = dict(first)
    for name, mask in second.items():
        if name not in found:
            found[name] = mask
            continue
        before = found[name]
        found[name] = None if before is None or mask is None else before | mask
    return found


def _without(
    shapes: Mapping[str, torch.Size], first: Chosen, second: Mapping[str, Tensor | None]
) -> Chosen:
    found: Chosen = {}
    for name, mask in first.items():
        if name not in second:
            found[name] = mask
            continue
        gone = second[name]
        if gone is None:
            continue
        left = (torch.ones(shapes[name], dtype=torch.bool) if mask is None else mask) & ~gone
        if left.any():
            found[name] = left
    return found


def _whole(mask: Tensor | None) -> Tensor | None:
    """None for a mask of everything, so that it is the same thing as no mask."""
    return None if mask is None or bool(mask.all()) else mask


def _one(
    shapes: Mapping[str, torch.Size],
    item: str,
    known: Callable[[str], Mapping[str, Tensor | None] | None],
    frozen: tuple[str, ...],
) -> Mapping[str, Tensor | None]:
    if item in shapes:
        return {item: None}
    packed = PACKED.match(item)
    if packed is not None:
        return {packed["name"]: _fitting(shapes, packed)}
    # Other words come before slices, as "heads[0]" reads like one.
    word = known(item)
    if word is not None:
        return word
    sliced = SLICE.match(item)
    name = item if sliced is None else sliced["name"]
    names = [n for n in shapes if _matches(n, name)]
    # Of a wrapped model, as language models are here, the names that its user knows.
    names = names or [n for n in shapes if _matches(n.removeprefix(WRAPPER), name)]
    if not names:
        raise InputError(_unknown(item, name, shapes, frozen))
    if sliced is None:
        return dict.fromkeys(names)
    return {n: _sliced(n, shapes[n], sliced["ranges"], item) for n in names}


def _matches(name: str, pattern: str) -> bool:
    """Whether a pattern is a parameter's name, or that of a module it belongs to."""
    pattern = pattern.replace("[", "[[]")  # only * and ? are special here
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def _sliced(name: str, shape: torch.Size, ranges: str, item: str) -> Tensor:
    parts = [part.strip() for part in ranges.split(",")]
    if len(parts) > len(shape):
        raise InputError(
            f"{item!r} slices {len(parts)} dimensions, but {name} has shape {tuple(shape)}: give "
            f"at most {len(shape)}"
        )
    where = []
    for axis, part in enumerate(parts):
        found = RANGE.match(part)
        if found is None and not part.isdigit():
            raise InputError(
                f"{item!r} holds {part!r}, expected ranges such as [0:32] or [:, 0:32]"
            )
        start, stop = (int(part), int(part) + 1) if found is None else (
            int(found[1] or 0), int(found[2] or shape[axis])
        )  # fmt: skip
        if not start < stop <= shape[axis]:
            raise InputError(
                f"{item!r} asks for {start} to {stop} of dimension {axis} of {name}, expected a "
                f"range within 0:{shape[axis]}"
            )
        where.append(slice(start, stop))
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[tuple(where)] = True
    return mask


def _fitting(shapes: Mapping[str, torch.Size], packed: re.Match[str]) -> Tensor:
    name, mask = packed["name"], unpacked(packed)
    if name not in shapes:
        raise InputError(_unknown(name, name, shapes, ()))
    if mask.shape != shapes[name]:
        raise InputError(
            f"the mask of {name} has shape {tuple(mask.shape)}, expected the parameter's own, "
            f"{tuple(shapes[name])}"
        )
    return mask


def _unknown(
    item: str, name: str, shapes: Mapping[str, torch.Size], frozen: tuple[str, ...]
) -> str:
    still = [n for n in frozen if _matches(n, name)]
    if still:
        return (
            f"only={item!r} names {still[0]}, which is frozen: set requires_grad=True on it, or "
            "name another"
        )
    modules = {n[:k] for n in shapes for k in range(len(n)) if n[k] == "."}
    near = difflib.get_close_matches(name, [*shapes, *sorted(modules)], 3, 0.5)
    names = near or list(shapes)[:3]
    return (
        f"only={item!r} matches no parameter, expected names or patterns such as {', '.join(names)}"
    )
