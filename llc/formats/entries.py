"""The state dict that is meant among everything a checkpoint holds."""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor

from llc.errors import InputError

__all__ = ["EXTRA", "dropped", "find_state_dict", "is_state_dict", "relabelled"]

EXTRA = "_extra_state"
"""What torch calls the state of a module that is neither a parameter nor a buffer."""
# What a training script saves beside the weights.
BESIDE = re.compile(r"optim|sched|rng|random_state|scaler|dataloader", re.IGNORECASE)
DEPTH = 3
MOST_IN_A_LIST = 64
SHOWN = 8


def is_state_dict(value: Any) -> bool:
    """Whether a value maps names to tensors, and to nothing else but modules' extra states."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return False
    weights = [each for key, each in value.items() if not is_extra(key)]
    return len(weights) > 0 and all(isinstance(each, Tensor) for each in weights)


def is_extra(name: str) -> bool:
    """Whether a name is that of a module's extra state."""
    return name.rpartition(".")[2] == EXTRA


def find_state_dict(content: Any, name: str, entry: str | None = None) -> Mapping[str, Tensor]:
    """Return the one state dict that a file's content is or holds.

    Args:
        content: all that the file holds.
        name: of the file, for messages.
        entry: name of the state dict, with dots between levels (``"ema.shadow"``); in a flat
            state dict, the prefix of the names that are meant. None: the only one there is.

    Raises:
        InputError: there is none, or several; or no entry of that name.
    """
    if entry is not None:
        return _entry(content, name, entry)
    if is_state_dict(content):
        return content
    if isinstance(content, Mapping):
        inside = {key: value for key, value in content.items() if is_state_dict(value)}
        # An optimiser's tensors by name look like weights, but are not what anybody means.
        inside = {k: v for k, v in inside.items() if not BESIDE.search(str(k))} or inside
        if len(inside) == 1:
            return next(iter(inside.values()))
        known = _state_dicts(content)
        if known:
            count = f"{len(known)} state dicts" if len(known) > 1 else "one state dict further in"
            raise InputError(
                f"{name} holds {count} ({_some(known)}), expected one on the first level: say "
                f"which with --entry {known[-1]} (in Python: entry={known[-1]!r})"
            )
        keys = ", ".join(str(key)[:40] for key in list(content)[:5]) or "nothing"
        raise InputError(f"{name} holds {keys}, but no state dict: save model.state_dict()")
    raise InputError(
        f"{name} holds a {type(content).__name__}, expected a state dict or a dictionary that "
        "holds one: save model.state_dict()"
    )


def dropped(weights: Mapping[str, Any], patterns: Sequence[str]) -> dict[str, Any]:
    """Leave out the tensors whose names fit a pattern, as `fnmatch` has it."""
    left = [key for key in weights if not any(fnmatchcase(key, each) for each in patterns)]
    return relabelled(weights, {key: key for key in left})


def relabelled(weights: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return the weights that have a new name, under it.

    The versions of modules that ``state_dict()`` notes in ``_metadata`` go along: modules read
    them when they load weights of an older layout.
    """
    found = {names[key]: value for key, value in weights.items() if key in names}
    versions = getattr(weights, "_metadata", None)
    if not isinstance(versions, Mapping):
        return found
    kept: dict[str, Any] = {}
    for old, new in names.items():
        # A module stands above each tensor, and others above it.
        while new:
            (old, _, last), (new, _, own) = old.rpartition("."), new.rpartition(".")  # noqa: PLW2901
            if last != own or new in kept:
                break
            if old in versions:
                kept[new] = versions[old]
    result = OrderedDict(found)
    result._metadata = {"": versions.get("", {}), **kept}  # type: ignore[attr-defined]
    return result


def _entry(content: Any, name: str, entry: str) -> Mapping[str, Tensor]:
    found = _inside(content, entry)
    if is_state_dict(found):
        return found
    known = _state_dicts(content) or ([] if not is_state_dict(content) else _prefixes(content))
    what = f"has no entry {entry!r}"
    if found is not None:
        what = f"holds a {type(found).__name__} as {entry!r}, and no state dict"
    raise InputError(f"{name} {what}, expected one of {_some(known) or 'none: it has no entries'}")


def _inside(content: Any, entry: str) -> Any:
    """Go down by a dotted name; keys may have dots of their own."""
    children = _children(content)
    if entry in children:
        return children[entry]
    for key, value in children.items():
        if entry.startswith(f"{key}.") and not isinstance(value, Tensor):
            found = _inside(value, entry[len(key) + 1 :])
            if found is not None:
                return found
    under = {key: key[len(entry) + 1 :] for key in children if key.startswith(f"{entry}.")}
    if is_state_dict(content) and under:
        return relabelled(content, under)
    return None


def _children(content: Any) -> dict[str, Any]:
    if isinstance(content, Mapping):
        return {str(key): value for key, value in content.items()}
    if isinstance(content, list | tuple) and len(content) <= MOST_IN_A_LIST:
        return {str(number): value for number, value in enumerate(content)}
    return {}


def _state_dicts(content: Any, before: str = "", depth: int = DEPTH) -> list[str]:
    """Names of the state dicts in a file, but those of optimisers and their like."""
    found = []
    for key, value in _children(content).items():
        if BESIDE.search(key):
            continue
        if is_state_dict(value):
            found.append(before + key)
        elif depth > 1:
            found += _state_dicts(value, f"{before}{key}.", depth - 1)
    return found


def _prefixes(weights: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(key.partition(".")[0] for key in weights if "." in key))


def _some(names: Sequence[str]) -> str:
    short = [each[:60] for each in names[:SHOWN]]
    return ", ".join(short) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
