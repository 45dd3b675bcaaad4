"""Data in, tensors whose first dimension counts examples out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
)

from llc.data.reading import check, read
from llc.errors import InputError

__all__ = ["materialise", "number_of_examples", "take"]


def materialise(data: Any) -> Any:
    """Turn data into tensors whose first dimension counts examples.

    Args:
        data: a tensor, a pair (any tuple, list or dict) of tensors, a map-style ``Dataset``
            (``Subset``, ``ConcatDataset``, or whatever has a length and gives examples by number),
            or a ``DataLoader``, of which the data set and the ``collate_fn`` are used, and the
            examples that a ``SubsetRandomSampler`` names; its order and batch size are not, since
            samplers draw their own batches.

    Returns:
        The same structure with tensors of equal first dimension.

    Raises:
        InputError: the data are empty, of unequal lengths, of another kind, too large for memory,
            or change when read twice.
    """
    collate: Callable[[list[Any]], Any] = default_collate
    if isinstance(data, DataLoader):
        collate, data = data.collate_fn, _of_loader(data)
    if isinstance(data, TensorDataset):
        data = tuple(data.tensors)
    if isinstance(data, IterableDataset) or (
        isinstance(data, Dataset) and not hasattr(data, "__len__")
    ):
        raise InputError(
            f"data is a {type(data).__name__}, which can only be read in order, but samplers "
            "draw examples at random: give a map-style Dataset or a pair of tensors instead"
        )
    if _is_map_style(data):
        return read(data, collate)
    check(data)
    return data


def number_of_examples(data: Any) -> int:
    """Return n, the number of examples of materialised data."""
    return len(tree_flatten(data)[0][0])


def take(data: Any, index: Tensor | slice) -> Any:
    """Pick examples: an index of shape ``(..., batch)`` gives leaves ``(..., batch, *shape)``."""
    return tree_map(lambda leaf: leaf[index], data)


def _is_map_style(data: Any) -> bool:
    """Whether it is a ``Dataset``, or gives examples by number as one does."""
    if isinstance(data, Dataset):
        return True
    nests = (Tensor, np.ndarray, Sequence, Mapping)
    alike = hasattr(data, "__len__") and hasattr(data, "__getitem__")
    # Tables have columns for items.
    return alike and not isinstance(data, nests) and not hasattr(data, "iloc")


def _of_loader(loader: DataLoader) -> Any:
    """Return the data set of a loader, or the part of it that the loader draws from."""
    dataset, sampler = loader.dataset, loader.sampler
    if isinstance(dataset, IterableDataset):
        return dataset
    if isinstance(sampler, SubsetRandomSampler):
        return Subset(dataset, [int(k) for k in sampler.indices])
    if isinstance(sampler, RandomSampler | SequentialSampler):
        return dataset
    raise InputError(
        f"the DataLoader draws examples by a {type(sampler).__name__}, but samplers draw their "
        "own batches, all examples alike: give the data set, or a Subset of it, instead"
    )
