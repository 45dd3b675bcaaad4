"""Data in, tensors whose first dimension counts examples out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_structure
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    TensorDataset,
    default_collate,
)

from llc.data.loaders import Collate, of_loader
from llc.data.reading import check, read
from llc.errors import InputError

__all__ = ["materialise", "number_of_examples", "take"]

# A longer list is one of examples.
MOST_PARTS = 16


def materialise(data: Any) -> Any:
    """Turn data into tensors whose first dimension counts examples.

    Args:
        data: a tensor, a pair (any tuple, list or dict) of tensors, a list of examples, a
            map-style ``Dataset`` (``Subset``, ``ConcatDataset``, or whatever has a length and gives
            examples by number), or a ``DataLoader``: the examples that each of its epochs yields,
            put together by its ``collate_fn``. Its order and batch size are not used, since
            samplers draw their own batches.

    Returns:
        The same structure with tensors of equal first dimension.

    Raises:
        InputError: the data are empty, of unequal lengths, of another kind, too large for memory,
            or change when read twice; or a loader does not yield the same examples in each epoch.
    """
    collate: Collate = default_collate
    loaded = isinstance(data, DataLoader)
    if loaded:
        data, collate = of_loader(data)
    if isinstance(data, TensorDataset) and collate is default_collate:
        data, loaded = tuple(data.tensors), False
    if isinstance(data, IterableDataset) or (
        isinstance(data, Dataset) and not hasattr(data, "__len__")
    ):
        raise InputError(
            f"data is a {type(data).__name__}, which can only be read in order, but samplers "
            "draw examples at random: give a map-style Dataset or a pair of tensors instead"
        )
    if loaded or _is_map_style(data) or _holds_examples(data):
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


def _holds_examples(data: Any) -> bool:
    """Whether a list holds one example an item, rather than one part of every example.

    Raises:
        InputError: it may be either.
    """
    if not isinstance(data, list) or len(data) < 3:
        return False
    if len(data) <= MOST_PARTS and not all(isinstance(x, tuple | list | Mapping) for x in data):
        return False
    form = tree_structure(data[0])
    if any(tree_structure(item) != form for item in data):
        return False
    leaves = tree_flatten(data)[0]
    lengths = {len(x) if isinstance(x, Tensor) and x.ndim else None for x in leaves}
    if None in lengths or len(lengths) > 1:
        return True
    raise InputError(
        f"data is a list of {len(data):,} things alike, each of which may be an example, or a "
        f"batch or a part of {lengths.pop():,}: write torch.utils.data.DataLoader(data) for "
        "examples, join batches by torch.cat, or give a tuple of parts"
    )
