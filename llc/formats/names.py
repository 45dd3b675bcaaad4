"""Names of a checkpoint's tensors as the model has them: wrappers' parts taken out or put in."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.nn.parameter import is_lazy

from llc.formats.entries import relabelled
from llc.formats.memory import Held
from llc.formats.weights import LOG, WRAPPERS

__all__ = ["renamings", "usual_prefixes"]

# What wrappers put between the parts of a name, wherever they wrap: compiled and checkpointed
# modules, sharded ones, and adapters under the name that PEFT gives them.
WRAPPING = {
    "module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "modules_to_save",
    "default",
}  # fmt: skip
ADAPTER = re.compile(r"lora_\w+")
LEAVES = ("weight", "bias")


def usual_prefixes(weights: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put back a prefix that `load_weights` took for a wrapper's and that the model itself has.

    Or take off one that the model does not have, as Lightning's modules put before the weights of
    the network that they train; what else they hold, as a metric's state, is left out.
    """
    for prefix in WRAPPERS:
        named = all(key.startswith(prefix) for key in own)
        if named and not any(key.startswith(prefix) for key in weights):
            renamed = relabelled(weights, {key: prefix + key for key in weights})
            return _without_prefix(renamed, own, prefix) or renamed
    return _without_prefix(weights, own, "") or weights


def _without_prefix(
    weights: Mapping[str, Any], own: Mapping[str, Any], before: str
) -> dict[str, Any] | None:
    """Take the prefix off under which alone all of the model's weights stand; None if none is."""
    if not own or any(key in weights for key in own):
        return None
    first = next(iter(own)).removeprefix(before)
    found = []
    for key in weights:
        prefix = key.removeprefix(before).removesuffix(first)
        if prefix.endswith(".") and key.endswith("." + first):
            inside = {
                k: before + k.removeprefix(before + prefix)
                for k in weights
                if k.startswith(before + prefix)
            }
            if set(own) <= set(inside.values()):
                found.append((prefix, inside))
    if len(found) != 1:
        return None
    prefix, inside = found[0]
    rest = len(weights) - len(inside)
    LOG.info(
        "prefix %r of the checkpoint's names taken off%s",
        prefix, f", {rest} tensors without it left out" if rest else "",
    )  # fmt: skip
    return relabelled(weights, inside)


def renamings(
    weights: Mapping[str, Any], own: Mapping[str, Any], needed: set[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the ways in which all of a checkpoint's names become the model's, each with a sentence.

    Wrappers' parts are taken out of both, wherever they stand, and a single prefix is then added
    or removed. Every tensor of the checkpoint has to find its place with its shape, and all that
    the model needs has to be there.
    """
    inner, outer = _by_core(weights), _by_core(own)
    if not inner or not outer:
        return
    first = next(iter(inner))
    pieces = first.split(".")
    added = [core.removesuffix(first) for core in outer if core.endswith("." + first)]
    added = [prefix for prefix in added if all(core.startswith(prefix) for core in outer)]
    removed = [".".join(pieces[:count]) + "." for count in range(1, len(pieces))]
    for add, remove in (("", ""), *((p, "") for p in added), *(("", p) for p in removed)):
        if not all(core.startswith(remove) for core in inner):
            continue
        moved = {add + core.removeprefix(remove): key for core, key in inner.items()}
        names = {key: outer[core] for core, key in moved.items() if core in outer}
        changed = [pair for pair in names.items() if pair[0] != pair[1]]
        if len(names) < len(weights) or not changed or not _fits(weights, own, names, needed):
            continue
        said = f"prefix {add!r} added to" if add else f"prefix {remove!r} taken off"
        if not add and not remove:
            said = f"{changed[0][0]} is {changed[0][1]} in the model, and so on with"
        yield f"{said} the checkpoint's names", relabelled(weights, names)


def _by_core(weights: Mapping[str, Any]) -> dict[str, str]:
    """Core → name; nothing where two names have one core."""
    found = {_core(key): key for key in weights}
    return found if len(found) == len(weights) else {}


def _core(name: str) -> str:
    kept: list[str] = []
    for part in name.split("."):
        adapter = kept and ADAPTER.fullmatch(kept[-1]) and part not in LEAVES
        if part not in WRAPPING and not adapter:
            kept.append(part)
    return ".".join(kept)


def _fits(
    weights: Mapping[str, Any], own: Mapping[str, Any], names: Mapping[str, str], needed: set[str]
) -> bool:
    for key, name in names.items():
        given, here = weights[key], own[name]
        both = isinstance(given, Tensor) and isinstance(here, Tensor)
        lazy = is_lazy(here)
        if both and not lazy and given.shape != here.shape:
            return False
    there = set(names.values())
    held = Held(own[name] for name in there)
    return all(name in there or held.covers(own[name]) for name in needed)
