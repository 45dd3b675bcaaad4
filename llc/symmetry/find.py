"""Symmetries read off a model's structure, where they can be proved from it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from llc.symmetry.base import Symmetry
from llc.symmetry.legs import Leg
from llc.symmetry.offset import Offset
from llc.symmetry.units import Units

__all__ = ["find_symmetries"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS: dict[type, type | None] = {
    nn.BatchNorm1d: None,
    nn.BatchNorm2d: nn.Conv2d,
    nn.BatchNorm3d: nn.Conv3d,
}
NOTHING = (
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout,
)  # fmt: skip
MEANS = (
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
)  # fmt: skip
HOMOGENEOUS = (
    nn.ReLU, nn.LeakyReLU, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip
ODD = (nn.Tanh, nn.Softsign, nn.Tanhshrink, nn.Hardshrink, nn.Softshrink)
ANY = (
    nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.CELU, nn.SELU, nn.Sigmoid, nn.LogSigmoid, nn.Softplus,
    nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh,
)  # fmt: skip


@dataclass(frozen=True)
class _Bond:
    """Units written and not yet read.

    Attributes:
        written: tensors to be permuted with them.
        scaled: those that scale them; a batch norm takes over from the map before it.
        size: number of units.
        layer: kind of the map that wrote them.
        kind: what acts on them, as `Units.activation`.
        flat: whether pixels have been laid out behind each other.
        bias: of the map that wrote them, where nothing has acted on it yet.
    """

    written: tuple[Leg, ...]
    scaled: tuple[Leg, ...]
    size: int
    layer: type
    kind: str = "linear"
    flat: bool = False
    bias: Leg | None = None


def find_symmetries(model: nn.Module) -> tuple[Symmetry, ...]:
    """Find the symmetries of a chain of layers.

    Known are (nested) ``nn.Sequential`` of Linear, Conv1d–3d without groups, Embedding, BatchNorm,
    LayerNorm after Linear, activations that act on single units, pooling, Flatten and Dropout.
    Hidden units between two maps give `Units`, and bare maps one after another an `Offset` too.
    What cannot be proved from the layers is left out: other modules, subclasses, hooks,
    parametrisations, tensors that appear twice. Networks with a ``forward`` of their own declare
    theirs, see `Units`, `Offset` and `Heads`.

    Args:
        model: in evaluation mode; batch norm then acts on single units by its running statistics.

    Returns:
        The symmetries, in the order of layers; none where none is found.
    """
    found: list[Symmetry] = []
    bond: _Bond | None = None
    shared = _shared(model)
    for prefix, layer in _chain("", model):
        kind = type(layer)
        if kind is nn.Linear or (kind in CONVOLUTIONS and layer.groups == 1):
            if bond is not None:
                found += _read(bond, prefix, layer)
            bond = _written(prefix, layer)
        elif kind is nn.Embedding:
            bond = None
            if layer.max_norm is None:
                leg = (Leg(f"{prefix}weight", 1),)
                bond = _Bond(leg, leg, layer.embedding_dim, nn.Linear, bias=leg[0])
        else:
            bond = None if bond is None else _acted(bond, prefix, layer)
    return tuple(symmetry for symmetry in found if not symmetry.tensors & shared)


def _chain(prefix: str, module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Leaves in the order in which they act; a module of unknown kind is one leaf."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    if type(module) is not nn.Sequential or hooks:
        yield prefix, nn.Module() if hooks else module
        return
    # Not named_children, which leaves out what comes a second time.
    for name, child in module._modules.items():
        yield from _chain(f"{prefix}{name}.", child)


def _shared(model: nn.Module) -> frozenset[str]:
    """Names of tensors that act twice in the chain."""
    leaves = [
        (f"{prefix}{name}", id(tensor))
        for prefix, leaf in _chain("", model)
        for name, tensor in (*leaf.named_parameters(), *leaf.named_buffers())
    ]
    times = Counter(tensor for _, tensor in leaves)
    return frozenset(name for name, tensor in leaves if times[tensor] > 1)


def _written(prefix: str, layer: Any) -> _Bond:
    legs = [Leg(f"{prefix}weight", 0)]
    bias = None
    if layer.bias is not None:
        bias = Leg(f"{prefix}bias", 0)
        legs.append(bias)
    return _Bond(tuple(legs), tuple(legs), layer.weight.shape[0], type(layer), bias=bias)


def _read(bond: _Bond, prefix: str, layer: Any) -> list[Symmetry]:
    """What the units between two maps allow, now that the second is known."""
    weight, width = f"{prefix}weight", layer.weight.shape[1]
    convolved = bond.layer in CONVOLUTIONS
    fits = type(layer) is nn.Linear and (bond.flat or not convolved)
    fits = fits or (type(layer) is bond.layer and convolved and not bond.flat)
    # Pixels of a channel lie together once flattened; positions of a sequence do not.
    whole = width % bond.size == 0 if bond.flat and convolved else width == bond.size
    if not fits or not whole:
        return []
    reader = Leg(weight, 1, block=width // bond.size)
    name = f"units of {bond.written[0].name.removesuffix('.weight')}"
    if bond.scaled != bond.written:
        # A norm stands between the map and the units: places of all, scales of the norm's own.
        found: list[Symmetry] = [Units(bond.written, (reader,), "any", name=name)]
        if bond.scaled and bond.kind in ("relu", "linear"):
            found.append(
                Units(bond.scaled, (reader,), "relu", permutes=False, name=f"{name}, scale")
            )
        return found
    found = [Units(bond.written, (reader,), bond.kind, name=name)]
    plain = type(layer) is nn.Linear and reader.block == 1 and layer.bias is not None
    if bond.kind == "linear" and plain and bond.bias is not None and not convolved:
        found.append(Offset(bond.bias, ((reader, f"{prefix}bias"),), name=f"{name}, offset"))
    return found


def _acted(bond: _Bond, prefix: str, layer: Any) -> _Bond | None:
    """The bond after a layer that writes no units of its own; None where it ends here."""
    kind = type(layer)
    in_place = bond.layer in CONVOLUTIONS and not bond.flat
    after = _after(bond.kind, kind, layer)
    if kind in NOTHING or (kind in MEANS and in_place):
        return bond
    if kind is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1):
        return replace(bond, flat=True)
    if kind in NORMS or kind is nn.LayerNorm:
        return _normed(bond, prefix, layer)
    if after is None or ("Pool" in kind.__name__ and not in_place):
        return None
    return replace(bond, kind=after)


def _after(before: str, kind: type, layer: Any) -> str | None:
    """What the units allow after an activation or a maximum; None if it is neither."""
    if kind in HOMOGENEOUS or (kind is nn.PReLU and layer.num_parameters == 1):
        return _common(before, "relu")
    if kind in ODD or (kind is nn.Hardtanh and layer.min_val == -layer.max_val):
        return _common(before, "odd")
    return "any" if kind in ANY else None


def _common(before: str, now: str) -> str:
    """What commutes with both of two functions in a row."""
    if before in ("linear", now):
        return now
    return "any"


def _normed(bond: _Bond, prefix: str, layer: Any) -> _Bond | None:
    """A norm's own tensors move along with the units, and its weight and bias scale them."""
    own = tuple(Leg(f"{prefix}{name}") for name in ("weight", "bias") if _has(layer, name))
    statistics = ()
    if type(layer) is nn.LayerNorm:
        if bond.layer is not nn.Linear or tuple(layer.normalized_shape) != (bond.size,):
            return None
    else:
        before = NORMS[type(layer)]
        either = (nn.Linear, nn.Conv1d) if before is None else (before,)
        if bond.flat or bond.layer not in either or layer.num_features != bond.size:
            return None
        if layer.running_mean is None:
            return None
        statistics = (Leg(f"{prefix}running_mean"), Leg(f"{prefix}running_var"))
    written = (*bond.written, *own, *statistics)
    kind = "linear" if own else "any"
    return replace(bond, written=written, scaled=own, kind=kind)


def _has(layer: nn.Module, name: str) -> bool:
    return getattr(layer, name, None) is not None
