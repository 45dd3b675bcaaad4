"""Attention heads: their order, and a basis of its own inside each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from llc.errors import InputError
from llc.symmetry.base import PRESERVED, Moved, Part, Symmetry, joined
from llc.symmetry.legs import Entry, Leg, as_legs
from llc.symmetry.offset import Offset
from llc.symmetry.units import Units

__all__ = ["Heads"]

ENTRIES = (
    "query", "key", "value", "output", "query_bias", "key_bias", "value_bias", "output_bias",
)  # fmt: skip

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Heads(Symmetry):
    """h heads of attention, Σ_h O_h softmax(Q_h x · K_h x) V_h x.

    They can change places; V_h → M·V_h with O_h → O_h·M⁻¹, and Q_h → M·Q_h with K_h → M⁻ᵀ·K_h, for
    M of GL(head size) leave the outputs as they are (Elhage et al. 2021, "A mathematical framework
    for transformer circuits"). A key bias shifts all scores of a query alike, which its softmax
    does not see; a value bias arrives as a constant, since attention adds up to one, and can go
    into the output's bias.

    Args:
        query: weight as nn.Linear has it, ``(heads·size, model)``; or a pair (name, axis) or a leg
            whose axis counts heads·size, head by head. For ``(heads, size, model)`` give
            (name, (0, 1)), for ``(heads, model, size)`` (name, (0, 2)).
        key: the same.
        value: the same.
        output: ``(model, heads·size)``; axis 1 unless given.
        heads: h.
        query_bias: of ``heads·size`` entries, or None.
        key_bias: the same.
        value_bias: the same.
        output_bias: of the model's size, or None.
        rotary: queries and keys are rotated by position or normalised in between, so that their
            basis and the key bias are not free.
        name: what tables call it.
        preserves: ``"outputs"`` or ``"loss"``.

    Raises:
        InputError: no heads.
    """

    query: Entry
    key: Entry
    value: Entry
    output: Entry
    heads: int
    query_bias: Entry | None = None
    key_bias: Entry | None = None
    value_bias: Entry | None = None
    output_bias: Entry | None = None
    rotary: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.heads, bool) or not isinstance(self.heads, int) or self.heads < 1:
            raise InputError(f"heads is {self.heads!r}, expected a whole number of at least 1")
        if self.preserves not in PRESERVED:
            raise InputError(f"preserves is {self.preserves!r}, expected 'outputs' or 'loss'")
        for name in ENTRIES:
            entry = getattr(self, name)
            if entry is not None:
                axis = 1 if name == "output" else 0
                object.__setattr__(self, name, as_legs(entry, axis, name)[0])
        object.__setattr__(self, "name", self.name or "heads")

    @classmethod
    def packed(cls, prefix: str, heads: int, size: int, *, bias: bool = True) -> "Heads":
        """Describe an ``nn.MultiheadAttention``, whose query, key and value share one tensor.

        Args:
            prefix: of its tensors' names, as ``"attention."``.
            heads: number of heads.
            size: of the model, ``embed_dim``.
            bias: whether it has biases.
        """
        rows = [(k * size, (k + 1) * size) for k in range(3)]
        query, key, value = (Leg(f"{prefix}in_proj_weight", 0, *pair) for pair in rows)
        output, name = f"{prefix}out_proj.weight", prefix.rstrip(".")
        if not bias:
            return cls(query, key, value, output, heads, name=name)
        biases = [Leg(f"{prefix}in_proj_bias", 0, *pair) for pair in rows]
        last = f"{prefix}out_proj.bias"
        return cls(query, key, value, output, heads, biases[0], biases[1], biases[2], last,
                   name=name)  # fmt: skip

    @property
    def tensors(self) -> frozenset[str]:
        """Names of the tensors it moves."""
        legs = [getattr(self, name) for name in ENTRIES]
        return frozenset(leg.name for leg in legs if isinstance(leg, Leg))

    def parts(self, weights: Weights) -> tuple[Part, ...]:
        """Return the kinds of moves: order, rotation and gauge of each pair, shifts of biases."""
        self._check(weights)
        order = self._order(weights)
        found = [replace(part, label=f"{part.label} of heads") for part in order.parts(weights)]
        for label, units in self._gauges(weights):
            of_each = [unit.parts(weights) for unit in units]
            found += [_together(f"{label} {kinds[0].label}", kinds, weights)
                      for kinds in zip(*of_each, strict=True)]  # fmt: skip
        for label, offset in self._offsets:
            found += [replace(part, label=label) for part in offset.parts(weights)]
        return tuple(found)

    def nearest(
        self, reference: Weights, weights: Weights, without: frozenset[str] = frozenset()
    ) -> dict[str, Tensor]:
        """Match heads by their weights, and by the products that no gauge changes; then align each.

        The better of the two ends is kept.
        """
        self._check(weights)
        order = self._order(weights)
        starts = [order.nearest(reference, weights, without)]
        starts.append(order.rearrange(weights, self._by_products(reference, weights)))
        ends = [self._inside(reference, start, without) for start in starts]
        return min(ends, key=lambda end: self._gap(reference, end, without))

    def _inside(
        self, reference: Weights, weights: Weights, without: frozenset[str]
    ) -> dict[str, Tensor]:
        moved = dict(weights)
        for _, offset in self._offsets:
            moved = offset.nearest(reference, moved, without)
        for _, units in self._gauges(weights):
            for unit in units:
                moved = unit.nearest(reference, moved, without)
        for _, offset in self._offsets:
            moved = offset.nearest(reference, moved, without)
        return moved

    def _by_products(self, reference: Weights, weights: Weights) -> Tensor:
        """Order of heads whose O·V and QᵀK are most like the reference's."""
        gain = torch.zeros((self.heads, self.heads), dtype=torch.float64)
        for left, right in ((self.value, self.output), (self.query, self.key)):
            if self.rotary and left is self.query:
                continue
            a, r = (self._by_head(left, w) for w in (weights, reference))
            b, q = (self._by_head(right, w) for w in (weights, reference))
            # ⟨q_iᵀ r_i, b_jᵀ a_j⟩ without forming the products.
            gain += torch.einsum("ikf,jlf,ikg,jlg->ij", r, a, q, b)
        best = linear_sum_assignment(gain.numpy(), maximize=True)[1]
        return torch.from_numpy(best)

    def _by_head(self, entry: Entry, weights: Weights) -> Tensor:
        assert isinstance(entry, Leg)
        values = entry.read(weights)
        return values.reshape(self.heads, -1, values.shape[1])

    def _gap(self, reference: Weights, weights: Weights, without: frozenset[str]) -> float:
        heard = (self.tensors - without) or self.tensors
        return sum(
            float((weights[name].double() - reference[name].double()).square().sum())
            for name in heard
        )

    def _order(self, weights: Weights) -> Units:
        """The heads as units, each a block of its rows."""
        block = self._size(weights)
        written = (self.query, self.key, self.value, *self._biases)
        inputs = [replace(leg, block=block) for leg in written]  # type: ignore[type-var]
        return Units(inputs, [replace(self.output, block=block)], name=self.name)  # type: ignore

    def _gauges(self, weights: Weights) -> list[tuple[str, list[Units]]]:
        """Bases inside the heads: pairs of what writes and what reads, head by head."""
        found = [("value–output", self._pairs(weights, "value", self.output))]
        if not self.rotary:
            keys = [self.key, *([] if self.key_bias is None else [self.key_bias])]
            found.append(("query–key", self._pairs(weights, "query", *keys)))
        return found

    def _pairs(self, weights: Weights, what: str, *readers: Entry) -> list[Units]:
        bias = getattr(self, f"{what}_bias")
        writers = [getattr(self, what), *([] if bias is None else [bias])]
        size = self._size(weights)
        return [
            Units(
                [_rows(leg, head, size) for leg in writers],
                [_rows(leg, head, size) for leg in readers],
                "linear",
                name=f"{self.name} {what} {head}",
            )
            for head in range(self.heads)
        ]

    @cached_property
    def _offsets(self) -> list[tuple[str, Offset]]:
        found = []
        if self.key_bias is not None and not self.rotary:
            found.append(("key bias shift", Offset(self.key_bias)))
        if self.value_bias is not None and self.output_bias is not None:
            into = ((self.output, self.output_bias),)
            found.append(("value bias shift", Offset(self.value_bias, into)))
        return found

    @property
    def _biases(self) -> list[Leg]:
        biases = (self.query_bias, self.key_bias, self.value_bias)
        return [bias for bias in biases if isinstance(bias, Leg)]

    def _size(self, weights: Weights) -> int:
        assert isinstance(self.value, Leg)
        return self.value.units(weights) // self.heads

    def _check(self, weights: Weights) -> None:
        legs = (self.query, self.key, self.value, self.output, *self._biases)
        rows = {leg.name: leg.units(weights) for leg in legs if isinstance(leg, Leg)}
        for name, count in rows.items():
            if count % self.heads or count != self._size(weights) * self.heads:
                raise InputError(
                    f"{self.name}: {name} has {count} rows, expected the same number for queries, "
                    f"keys, values and output, a multiple of {self.heads} heads; keys shared by "
                    "several heads are not covered"
                )


def _rows(entry: Entry, head: int, size: int) -> Leg:
    assert isinstance(entry, Leg)
    start = entry.start + head * size
    return replace(entry, start=start, stop=start + size)


def _together(label: str, parts: Sequence[Part], weights: Weights) -> Part:
    """The same kind of move in every head at once."""

    def move(weights: Weights, generator: torch.Generator, strength: float) -> Moved:
        moved, stretch = dict(weights), 0.0
        for part in parts:
            moved, one = part.move(moved, generator, strength)
            stretch = max(stretch, one)
        return Moved(moved, stretch)

    directions: Callable[[Weights], dict[str, Tensor]] = lambda weights: joined(
        [part.directions(weights) for part in parts], weights
    )
    dimension = sum(part.dimension for part in parts)
    return Part(label, all(p.isometry for p in parts), 1, dimension, move, directions)
