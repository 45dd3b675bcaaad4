"""Which tensors share memory, so that a value written to one of them is there in the other."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Held", "Place", "overlap", "place_of", "shared"]


class Place(NamedTuple):
    """Where a tensor lies: its storage, its first and last byte, and how it walks between."""

    storage: int
    start: int
    end: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @property
    def is_dense(self) -> bool:
        """Whether every byte from first to last is the tensor's."""
        count = torch.Size(self.shape).numel()
        return self.end - self.start == count * self.dtype.itemsize


def place_of(tensor: Any) -> Place | None:
    """Return where a tensor lies; None where it has no memory that could be shared."""
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
        return None
    try:
        storage, start = tensor.untyped_storage().data_ptr(), tensor.data_ptr()
        shape, stride = tuple(tensor.shape), tuple(tensor.stride())
    except (RuntimeError, ValueError, NotImplementedError, AttributeError):
        # Lazy and packed tensors, and those of other libraries.
        return None
    if not storage or not tensor.numel():
        return None
    last = sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    end = start + (last + 1) * tensor.element_size()
    return Place(storage, start, end, shape, stride, tensor.dtype)


def shared(one: Any, other: Any) -> bool:
    """Whether two tensors have at least one number in common."""
    a, b = place_of(one), place_of(other)
    return a is not None and b is not None and _meet(a, b)


def _meet(a: Place, b: Place) -> bool:
    if a.storage != b.storage or a.start >= b.end or b.start >= a.end:
        return False
    if a.is_dense or b.is_dense or a.dtype != b.dtype:
        return True
    # Columns of one matrix lie between one another, and share nothing.
    low, size = min(a.start, b.start), a.dtype.itemsize
    seen = torch.zeros((max(a.end, b.end) - low) // size, dtype=torch.bool)
    seen.as_strided(a.shape, a.stride, (a.start - low) // size).fill_(True)
    return bool(seen.as_strided(b.shape, b.stride, (b.start - low) // size).any())


class Held:
    """Tensors whose values are known.

    Args:
        tensors: these.
    """

    def __init__(self, tensors: Iterable[Any]) -> None:
        self._places: dict[int, list[Place]] = {}
        for each in map(place_of, tensors):
            if each is not None:
                self._places.setdefault(each.storage, []).append(each)

    def covers(self, tensor: Any) -> bool:
        """Whether all of a tensor's numbers are those of one that is known, or it has none."""
        if isinstance(tensor, Tensor) and tensor.layout == torch.strided and not tensor.numel():
            return True
        place = place_of(tensor)
        if place is None:
            return False
        return any(
            place == each or (each.is_dense and each.start <= place.start and place.end <= each.end)
            for each in self._places.get(place.storage, ())
        )


def overlap(model: nn.Module) -> tuple[str, str] | None:
    """Return the names of a weight to be trained and of another tensor in the same memory.

    One parameter under several names is one tensor, and no overlap; frozen weights and buffers may
    overlap among themselves.
    """
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    found: dict[int, list[tuple[Place, str]]] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        place = place_of(tensor)
        if place is not None:
            found.setdefault(place.storage, []).append((place, name))
    for places in found.values():
        active: list[tuple[Place, str]] = []
        for place, name in sorted(places, key=lambda each: each[0].start):
            active = [each for each in active if each[0].end > place.start]
            for other, before in active:
                if (name in trained or before in trained) and _meet(other, place):
                    return before, name
            active.append((place, name))
    return None
