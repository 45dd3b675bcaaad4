"""Weights as one flat vector, chains as its leading dimension, noise from explicit streams.

A model of T tensors updated tensor by tensor costs T small operations for every term of
a sampler's update; as one vector of D numbers it costs one. So samplers see a ``Tensor``
of shape ``(chains, D)`` that holds *displacements* from the centre w*, and `Layout`
turns a displacement into the named weights that the model needs. Displacements rather
than weights keep the localising force γ(w − w*) free of cancellation in float32.
"""

import copy
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Fill", "Layout", "NoiseStreams", "PartialLayout", "stream_seed"]

Fill = Callable[[int, Tensor], None]
"""Called with a chain and a tensor, to be filled with that chain's next numbers."""

BLOCK = 65_536
MOST_ROWS = 32


@dataclass(frozen=True)
class Layout:
    """Names, shapes and dtypes of the sampled weights, in the order they are laid flat."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    dtypes: tuple[torch.dtype, ...]

    @classmethod
    def of(cls, params: Mapping[str, Tensor]) -> "Layout":
        """Read the layout off named tensors."""
        return cls(
            tuple(params),
            tuple(p.shape for p in params.values()),
            tuple(p.dtype for p in params.values()),
        )

    @property
    def sizes(self) -> list[int]:
        """Number of entries of each tensor."""
        return [math.prod(shape) for shape in self.shapes]

    @property
    def total(self) -> int:
        """D, the number of sampled parameters."""
        return sum(self.sizes)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the flat vector: float32, or float64 if any weight is float64.

        Half-precision weights are sampled through float32 master copies: a Langevin step
        is far below the rounding of bfloat16.
        """
        return torch.float64 if torch.float64 in self.dtypes else torch.float32

    @property
    def is_half(self) -> bool:
        """Whether any weight has less than single precision."""
        return any(dtype.itemsize < 4 for dtype in self.dtypes)

    def flatten(self, params: Mapping[str, Tensor]) -> Tensor:
        """Lay named tensors out as one vector of shape ``(D,)``."""
        return torch.cat([params[name].detach().reshape(-1).to(self.dtype) for name in self.names])

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Turn a vector of shape ``(D,)`` back into named tensors (differentiable, vmap-safe)."""
        pieces = vector.split(self.sizes)
        return {
            name: piece.reshape(shape).to(dtype)
            for name, piece, shape, dtype in zip(
                self.names, pieces, self.shapes, self.dtypes, strict=True
            )
        }


@dataclass(frozen=True, eq=False)
class PartialLayout(Layout):
    """A layout of chosen entries; the others keep the values they have at w*.

    Attributes:
        index: of each tensor's chosen entries, counted along its flat values; None for all.
        rest: the values at w*, flat; None where all are chosen.
    """

    index: tuple[Tensor | None, ...] = ()
    rest: tuple[Tensor | None, ...] = ()

    # Two that hold other values fixed are not the same.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @classmethod
    def of(
        cls, params: Mapping[str, Tensor], masks: Mapping[str, Tensor | None] | None = None
    ) -> "PartialLayout":
        """Read the layout off named tensors and masks of their shapes, on their device."""
        whole = Layout.of(params)
        masks = masks or {}
        index, rest = [], []
        for name, tensor in params.items():
            mask = masks.get(name)
            chosen = None if mask is None else mask.reshape(-1).nonzero()[:, 0].to(tensor.device)
            index.append(chosen)
            rest.append(None if mask is None else tensor.detach().reshape(-1).clone())
        return cls(whole.names, whole.shapes, whole.dtypes, tuple(index), tuple(rest))

    @property
    def sizes(self) -> list[int]:
        """Number of chosen entries of each tensor."""
        pairs = zip(self.index, super().sizes, strict=True)
        return [size if index is None else len(index) for index, size in pairs]

    def flatten(self, params: Mapping[str, Tensor]) -> Tensor:
        """Lay the chosen entries of named tensors out as one vector of shape ``(D,)``."""
        flat = [params[name].detach().reshape(-1).to(self.dtype) for name in self.names]
        pairs = zip(flat, self.index, strict=True)
        return torch.cat([piece if index is None else piece[index] for piece, index in pairs])

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Turn a vector of shape ``(D,)`` into whole named tensors (differentiable, vmap-safe)."""
        found = {}
        for name, piece, shape, dtype, index, rest in zip(
            self.names, vector.split(self.sizes), self.shapes, self.dtypes, self.index, self.rest,
            strict=True,
        ):  # fmt: skip
            flat = piece.to(dtype)
            if index is not None and rest is not None:
                flat = rest.index_put((index,), flat)
            found[name] = flat.reshape(shape)
        return found


def stream_seed(seed: int, purpose: str, chain: int) -> int:
    """Derive the seed of one chain's stream for one purpose.

    A hash keeps streams of different chains, purposes and user seeds apart, which
    ``seed + chain`` does not: chain 1 of seed 0 would be chain 0 of seed 1.
    """
    digest = hashlib.blake2b(f"{seed}/{purpose}/{chain}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") & (2**63 - 1)


class NoiseStreams:
    """One random generator per chain, so that a chain's noise never depends on its company.

    Chain 0 of 4 draws the same numbers as chain 0 of 1, bit for bit. Nothing global is read
    or written.

    Args:
        seed: the user's seed.
        purpose: what the numbers are for; streams of different purposes are independent.
        chains: number of chains C.
        device: where the numbers are drawn.
        copies: groups of chains that see the same numbers: chain c of each sees those of chain c.
        first: number of the first chain, where the others run elsewhere.
    """

    def __init__(
        self,
        seed: int,
        purpose: str,
        chains: int,
        device: torch.device | str = "cpu",
        copies: int = 1,
        first: int = 0,
    ) -> None:
        self.device = torch.device(device)
        self._copies = copies
        self._generators = []
        for chain in range(first, first + chains // copies):
            generator = torch.Generator(device=self.device)
            generator.manual_seed(stream_seed(seed, purpose, chain))
            self._generators.append(generator)
        self._kind: tuple[Any, ...] = ()
        self._ready: list[Tensor] = []

    def copy(self) -> "NoiseStreams":
        """Return streams of their own that will give the same numbers."""
        other = copy.copy(self)
        other._ready = list(self._ready)
        other._generators = []
        for generator in self._generators:
            twin = torch.Generator(device=self.device)
            twin.set_state(generator.get_state())
            other._generators.append(twin)
        return other

    def normal(self, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw standard normal numbers, shape ``(chains, size)``."""
        return self._next(("normal", size, dtype), lambda out, g: out.normal_(generator=g))

    def fill(self, chain: int, out: Tensor) -> None:
        """Fill a contiguous tensor with a chain's next standard normal numbers.

        A row of more than `BLOCK` numbers may be filled piece by piece, each but the last of a
        multiple of 16: on a CPU the numbers are those of `normal`, to the bit.
        """
        out.normal_(generator=self._generators[chain])

    def integers(self, high: int, size: int) -> Tensor:
        """Draw integers of [0, high) with replacement, shape ``(chains, size)``."""
        kind = ("integers", size, torch.int64, high)
        return self._next(kind, lambda out, g: out.random_(0, high, generator=g))

    def _next(
        self, kind: tuple[Any, ...], fill: Callable[[Tensor, torch.Generator], Any]
    ) -> Tensor:
        """Hand out the next of several rows drawn at once.

        A small draw costs a call rather than its numbers. The length of a block depends on
        nothing but the size of a row, so that neither chains nor the number of steps taken at a
        time change what a chain sees.
        """
        if self._kind != kind or not self._ready:
            size, dtype = kind[1], kind[2]
            rows = min(max(BLOCK // max(size, 1), 1), MOST_ROWS)
            out = torch.empty((rows, len(self._generators), size), dtype=dtype, device=self.device)
            for chain, generator in enumerate(self._generators):
                drawn = torch.empty((rows, size), dtype=dtype, device=self.device)
                fill(drawn, generator)
                out[:, chain] = drawn
            out = out.repeat(1, self._copies, 1) if self._copies > 1 else out
            self._kind, self._ready = kind, list(out.unbind(0))[::-1]
        return self._ready.pop()
