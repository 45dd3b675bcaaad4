"""Interchangeable units between the maps that write to them and the maps that read them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from llc.errors import InputError
from llc.symmetry import fits
from llc.symmetry.base import PRESERVED, Moved, Part, Symmetry, added
from llc.symmetry.legs import Entry, Leg, as_legs

__all__ = ["ACTIVATIONS", "Units"]

ACTIVATIONS = ("any", "relu", "odd", "linear", "isotropic")

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Units(Symmetry):
    """n units that can change places, and more as far as what acts on them allows.

    The units are moved by a matrix M: values along the units' axis of ``inputs`` become M·x, those
    of ``outputs`` M⁻ᵀ·x, so that outputs·φ(inputs) stays as it is if φ commutes with M. Which M do:

    - ``"any"`` function of single units: permutations.
    - ``"relu"``, or any φ with φ(sx) = sφ(x) for s > 0: permutations and positive rescaling.
    - ``"odd"``, φ(−x) = −φ(x), as tanh: permutations and signs.
    - ``"linear"``, no φ at all: GL(n).
    - ``"isotropic"``, what depends on lengths and angles alone: O(n).

    (Hecht-Nielsen 1990; Chen, Lu & Hecht-Nielsen 1993; Neyshabur, Salakhutdinov & Srebro 2015.)

    Args:
        inputs: tensors that write to the units, biases and norms between included: names, pairs
            (name, axis) or legs; axis 0 unless given.
        outputs: tensors that read them; axis 1 unless given.
        activation: what acts on the units, see above.
        name: what tables call it; the first input unless given.
        preserves: ``"outputs"`` or ``"loss"``.
        permutes: False where units keep their places and are only rescaled.

    Raises:
        InputError: an unknown activation, or no inputs.
    """

    inputs: Sequence[Entry]
    outputs: Sequence[Entry] = ()
    activation: str = "any"
    permutes: bool = True

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise InputError(
                f"activation is {self.activation!r}, expected one of {', '.join(ACTIVATIONS)}"
            )
        if self.preserves not in PRESERVED:
            raise InputError(f"preserves is {self.preserves!r}, expected 'outputs' or 'loss'")
        if not self.permutes and self.activation != "relu":
            raise InputError(
                f"permutes=False with activation {self.activation!r} leaves no symmetry, expected "
                "activation='relu'"
            )
        object.__setattr__(self, "inputs", as_legs(self.inputs, 0, "inputs"))
        object.__setattr__(self, "outputs", as_legs(self.outputs, 1, "outputs"))
        if not self.inputs:
            raise InputError("inputs is empty, expected the tensors that write to the units")
        object.__setattr__(self, "name", self.name or self.legs[0].name)

    @property
    def legs(self) -> tuple[Leg, ...]:
        """All tensors it moves, inputs first."""
        written, read = self._sides
        return (*written, *read)

    @property
    def _sides(self) -> tuple[tuple[Leg, ...], tuple[Leg, ...]]:
        return tuple(self.inputs), tuple(self.outputs)  # type: ignore[return-value]

    @property
    def tensors(self) -> frozenset[str]:
        """Names of the tensors it moves."""
        return frozenset(leg.name for leg in self.legs)

    def size(self, weights: Weights) -> int:
        """Return n.

        Raises:
            InputError: a tensor is missing, or two count different units.
        """
        first = self.legs[0]
        size = first.units(weights)
        for leg in self.legs[1:]:
            if leg.units(weights) != size:
                raise InputError(
                    f"{self.name}: axis {first.axis} of {first.name} counts {size} units, axis "
                    f"{leg.axis} of {leg.name} {leg.units(weights)}: name the axes that count the "
                    "same units"
                )
        return size

    def parts(self, weights: Weights) -> tuple[Part, ...]:
        """Return the kinds of moves, each by itself."""
        n = self.size(weights)
        none = partial(self._tangents, kind="none")
        found = []
        if self.activation in ("any", "relu", "odd") and self.permutes:
            found.append(Part("permutation", True, math.factorial(n), 0, self._permute, none))
        if self.activation == "odd":
            found.append(Part("signs", True, 2**n, 0, self._flip, none))
        if self.activation == "relu":
            scales = partial(self._tangents, kind="scales")
            found.append(Part("rescaling", False, 1, n, self._rescale, scales))
        if self.activation in ("linear", "isotropic"):
            turns = partial(self._tangents, kind="turns")
            found.append(Part("rotation", True, 1, n * (n - 1) // 2, self._rotate, turns))
        if self.activation == "linear":
            gauge = partial(self._tangents, kind="gauge")
            found.append(Part("gauge", False, 1, n * n, self._gauge, gauge))
        return tuple(found)

    def apply(self, weights: Weights, matrix: Tensor) -> dict[str, Tensor]:
        """Move the units by M, ``(n, n)``: inputs by M, outputs by M⁻ᵀ."""
        inverse = torch.linalg.inv(matrix).T
        return self._each(weights, lambda x: matrix @ x, lambda x: inverse @ x)

    def rearrange(
        self, weights: Weights, order: Tensor, factors: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Put unit ``order[i]`` at place i, times ``factors[i]``, divided by it where read."""
        if factors is None:
            return self._each(weights, lambda x: x[order], lambda x: x[order])
        scale = factors.double().unsqueeze(1)
        return self._each(weights, lambda x: x[order] * scale, lambda x: x[order] / scale)

    def nearest(
        self, reference: Weights, weights: Weights, without: frozenset[str] = frozenset()
    ) -> dict[str, Tensor]:
        """Move the units as near to the reference as they can come; see `llc.symmetry.align`."""
        n = self.size(weights)
        heard = [leg for leg in self.legs if leg.name not in without] or list(self.legs)
        nothing = torch.zeros((n, 0), dtype=torch.float64)
        sides = [
            torch.cat([nothing, *(leg.read(w) for leg in legs if leg in heard)], 1)
            for legs in self._sides
            for w in (weights, reference)
        ]
        if self.activation == "linear":
            return self.apply(weights, fits.gauge(*sides))
        if self.activation == "isotropic":
            return self.apply(weights, fits.rotation(*sides))
        order, factors = fits.monomial(*sides, kind=self.activation, permutes=self.permutes)
        return self.rearrange(weights, order, factors)

    def _each(self, weights: Weights, write, read) -> dict[str, Tensor]:  # noqa: ANN001
        moved = dict(weights)
        for legs, act in zip(self._sides, (write, read), strict=True):
            for leg in legs:
                moved[leg.name] = leg.write(moved[leg.name], act(leg.read(moved)))
        return moved

    def _permute(self, weights: Weights, generator: torch.Generator, _strength: float) -> Moved:
        order = torch.randperm(self.size(weights), generator=generator)
        return Moved(self.rearrange(weights, order), 0.0)

    def _flip(self, weights: Weights, generator: torch.Generator, _strength: float) -> Moved:
        n = self.size(weights)
        signs = torch.randint(2, (n,), generator=generator) * 2 - 1
        return Moved(self.rearrange(weights, torch.arange(n), signs), 0.0)

    def _rescale(self, weights: Weights, generator: torch.Generator, strength: float) -> Moved:
        n = self.size(weights)
        logs = strength * _even(n, generator)
        moved = self.rearrange(weights, torch.arange(n), logs.exp())
        return Moved(moved, float(logs.abs().max()))

    def _rotate(self, weights: Weights, generator: torch.Generator, _strength: float) -> Moved:
        return Moved(self.apply(weights, _orthogonal(self.size(weights), generator)), 0.0)

    def _gauge(self, weights: Weights, generator: torch.Generator, strength: float) -> Moved:
        n = self.size(weights)
        left, right = _orthogonal(n, generator), _orthogonal(n, generator)
        logs = strength * _even(n, generator)
        moved = self.apply(weights, (left * logs.exp()) @ right)
        return Moved(moved, float(logs.abs().max()))

    def _tangents(self, weights: Weights, *, kind: str) -> dict[str, Tensor]:
        """Tangents of one-parameter groups exp(tX): X·x for inputs, −Xᵀ·x for outputs."""
        n = self.size(weights)
        generators = {
            "none": torch.zeros((0, n, n)),
            "scales": torch.diag_embed(torch.eye(n)),
            "gauge": torch.eye(n * n).reshape(n * n, n, n),
            "turns": torch.zeros((0, n, n)),
        }[kind].double()
        if kind == "turns":
            rows, columns = torch.triu_indices(n, n, 1)
            generators = torch.zeros((len(rows), n, n), dtype=torch.float64)
            counted = torch.arange(len(rows))
            generators[counted, rows, columns] = 1
            generators[counted, columns, rows] = -1
        written, read = self._sides
        pairs = [(leg, generators) for leg in written]
        pairs += [(leg, -generators.mT) for leg in read]
        return added(
            (leg.name, leg.spread(weights[leg.name], x @ leg.read(weights))) for leg, x in pairs
        )


def _even(n: int, generator: torch.Generator) -> Tensor:
    return 2 * torch.rand(n, generator=generator, dtype=torch.float64) - 1


def _orthogonal(n: int, generator: torch.Generator) -> Tensor:
    """Draw an orthogonal matrix from Haar's measure (Mezzadri 2007, arXiv math-ph/0609050)."""
    q, r = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    return q * r.diagonal().sign()
