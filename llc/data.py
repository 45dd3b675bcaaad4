"""Every kind of data a user holds, turned into tensors that stay on the device."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from llc.errors import InputError

__all__ = ["materialise", "number_of_examples", "take"]

CHUNK = 1024
REREAD = 32


def materialise(data: Any) -> Any:
    """Turn data into tensors whose first dimension counts examples.

    Args:
        data: a tensor, a pair (any tuple, list or dict) of tensors, a map-style
            ``Dataset``, or a ``DataLoader``, of which the data set and the ``collate_fn``
            are used; its order and batch size are not, since samplers draw their own batches.

    Returns:
        The same structure with tensors of equal first dimension.

    Raises:
        InputError: the data are empty, of unequal lengths, of another kind, or change
            when read twice.
    """
    collate: Callable[[list[Any]], Any] = default_collate
    if isinstance(data, DataLoader):
        collate, data = data.collate_fn, data.dataset
    if isinstance(data, TensorDataset):
        data = tuple(data.tensors)
    if isinstance(data, IterableDataset) or (
        isinstance(data, Dataset) and not hasattr(data, "__len__")
    ):
        raise InputError(
            f"data is a {type(data).__name__}, which can only be read in order, but samplers "
            "draw examples at random: give a map-style Dataset or a pair of tensors instead"
        )
    if isinstance(data, Dataset):
        data = _read_dataset(data, collate)
    _check(data)
    return data


def number_of_examples(data: Any) -> int:
    """Return n, the number of examples of materialised data."""
    return len(tree_flatten(data)[0][0])


def take(data: Any, index: Tensor | slice) -> Any:
    """Pick examples: an index of shape ``(..., batch)`` gives leaves ``(..., batch, *shape)``."""
    return tree_map(lambda leaf: leaf[index], data)


def _read_dataset(dataset: Any, collate: Callable[[list[Any]], Any]) -> Any:
    size = len(dataset)
    if size == 0:
        raise InputError("data is an empty data set: give at least one example")
    chunks = []
    for start in range(0, size, CHUNK):
        chunk = _stack(collate, [dataset[i] for i in range(start, min(start + CHUNK, size))])
        chunks.append(tuple(chunk) if isinstance(chunk, list) else chunk)
        _check(chunks[-1])
    again = _stack(collate, [dataset[i] for i in range(min(REREAD, size))])
    for first, second in zip(_leaves(take(chunks[0], slice(REREAD))), _leaves(again), strict=True):
        if not torch.equal(first, second):
            raise InputError(
                "data gives other values when the same examples are read twice, as shuffling or "
                "random augmentation does: give the data set without augmentation"
            )
    return _stack(lambda parts: tree_map(lambda *leaves: torch.cat(leaves), *parts), chunks)


def _stack(collate: Callable[[list[Any]], Any], parts: list[Any]) -> Any:
    try:
        return collate(parts)
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            f"the examples of data do not stack into tensors of one shape "
            f"({' '.join(str(error).split())[:200]}): pad them to one length, or give tensors"
        ) from error


def _leaves(data: Any) -> Sequence[Any]:
    return tree_flatten(data)[0]


def _check(data: Any) -> None:
    leaves = _leaves(data)
    wrong = [type(leaf).__name__ for leaf in leaves if not isinstance(leaf, Tensor)]
    if wrong or not leaves:
        raise InputError(
            f"data holds {wrong[0] if wrong else 'nothing'}, expected tensors: give a pair "
            "(inputs, targets) of tensors, a map-style Dataset, or a DataLoader"
        )
    scalars = sum(leaf.ndim == 0 for leaf in leaves)
    if scalars:
        raise InputError(
            "data holds a tensor without dimensions, expected one example a row: give tensors "
            "of shape (examples, ...)"
        )
    lengths = [len(leaf) for leaf in leaves]
    if len(set(lengths)) > 1:
        raise InputError(
            f"data holds tensors of {' and '.join(map(str, lengths))} examples, expected equal "
            "numbers: inputs and targets must have the same first dimension"
        )
    if lengths[0] == 0:
        raise InputError("data is empty (0 examples): give at least one example")
